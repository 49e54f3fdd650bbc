"""Samplers decide which problems a training step draws. Each implements `rlcs.samplers.base.Sampler`; one flag picks
it.
"""

from rlcs.samplers.base import DomainShares, Sampler
from rlcs.samplers.curriculum import CurriculumSampler
from rlcs.samplers.selection import balanced_subset, group_outcome
from rlcs.samplers.uniform import UniformSampler

__all__ = ["CurriculumSampler", "DomainShares", "Sampler", "UniformSampler", "balanced_subset", "group_outcome"]
