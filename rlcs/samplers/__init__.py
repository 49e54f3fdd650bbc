"""Samplers decide which problems a training step draws. Each implements `rlcs.samplers.base.Sampler`; one flag picks
it.
"""

from collections.abc import Callable

from rlcs.samplers.base import DomainShares, Sampler
from rlcs.samplers.curriculum import CurriculumSampler
from rlcs.samplers.dapo import DapoSampler
from rlcs.samplers.dps import DpsSampler
from rlcs.samplers.glm_tiers import GlmTiersSampler
from rlcs.samplers.greso import GresoSampler
from rlcs.samplers.mopps import MoppsSampler
from rlcs.samplers.outcomes import GroupOutcomes
from rlcs.samplers.pools import PoolsSampler
from rlcs.samplers.selection import balanced_subset, group_outcome
from rlcs.samplers.uniform import UniformSampler

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "uniform": UniformSampler,
    "dapo": DapoSampler,
    "glm-tiers": GlmTiersSampler,
    "pools": PoolsSampler,
    "greso": GresoSampler,
    "mopps": MoppsSampler,
    "dps": DpsSampler,
    "rlcs": CurriculumSampler,
}
"""Every sampler by its name in a configuration; called with domains, difficulty, and its options by keyword."""

__all__ = [
    "SAMPLERS",
    "CurriculumSampler",
    "DapoSampler",
    "DomainShares",
    "DpsSampler",
    "GlmTiersSampler",
    "GresoSampler",
    "GroupOutcomes",
    "MoppsSampler",
    "PoolsSampler",
    "Sampler",
    "UniformSampler",
    "balanced_subset",
    "group_outcome",
]
