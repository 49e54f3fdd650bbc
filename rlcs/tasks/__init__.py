"""Procedural problem families: seeded problems by difficulty level, with images, reference answers and reference reasoning."""

from rlcs.tasks.base import Family, Sample
from rlcs.tasks.families import FAMILIES
from rlcs.tasks.write import write_tasks

__all__ = ["FAMILIES", "Family", "Sample", "write_tasks"]
