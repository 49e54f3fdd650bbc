"""The families that `rlcs tasks` writes, by domain. A new family is one file and one line here."""

from rlcs.tasks.base import Family
from rlcs.tasks.gui import GuiFamily
from rlcs.tasks.math import MathFamily
from rlcs.tasks.ocr import OcrFamily

FAMILIES: dict[str, Family] = {family.domain: family for family in (MathFamily(), OcrFamily(), GuiFamily())}
