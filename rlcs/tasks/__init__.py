"""Procedural problem families: seeded problems by difficulty level, with images, reference answers and reference reasoning."""

from rlcs.tasks.base import Family, Sample
from rlcs.tasks.gui import GuiFamily
from rlcs.tasks.math import MathFamily
from rlcs.tasks.ocr import OcrFamily

FAMILIES: dict[str, Family] = {family.domain: family for family in (MathFamily(), OcrFamily(), GuiFamily())}

__all__ = ["FAMILIES", "Family", "Sample"]
