"""Quantities in several units ("2 hours 30 minutes"), and units whose letters could be variables ("5 m/s")."""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.mathexpr.units import Unit, read_unit

_TEXT = re.compile(r"\\(?:text|mathrm)\s*\{([^{}]*)\}")
_PART = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([A-Za-z]{1,12}|[\u4e00-\u9fff]{1,3})\.?\s*(?:,|and\b)?")
_MAX_PARTS = 4
_TRAILING = re.compile(r"([\d})])(\s*(?:\\[,;: ]\s*)?)([A-Za-zµΩμ][A-Za-zµΩμ0-9/*^{}\s-]{0,24})$")


def read_quantity(text: str) -> tuple[Fraction, Unit] | None:
    """The sum of two to four parts in ever smaller units of one dimension, in its reference unit; None for anything else."""
    if not text[:1].isdigit() or len(text) > 80:
        return None
    plain = _TEXT.sub(r"\1", text).replace("~", " ").replace("\\,", " ").replace("\\ ", " ")
    total, smallest, dimensions = Fraction(0), None, None
    at = parts = 0
    while at < len(plain):
        match = _PART.match(plain, at)
        name = match.group(2) if match else ""
        unit = read_unit({"in": "inches", "分": "分钟"}.get(name, name), known=True)
        if match is None or unit is None or parts >= _MAX_PARTS:
            return None
        if dimensions not in (None, unit.dimensions) or (smallest is not None and unit.factor >= smallest):
            return None
        total, smallest, dimensions = total + Fraction(match.group(1)) * unit.factor, unit.factor, unit.dimensions
        at, parts = match.end(), parts + 1
    return (total, Unit(dimensions, Fraction(1))) if parts > 1 and dimensions is not None else None


def split_unit(text: str) -> tuple[str, str, bool] | None:
    """(value, unit, whether the unit may as well be a product of variables) of "5 m/s"; None where no unit ends the text."""
    if not text[-1:].isalnum() and text[-1:] != "}":
        return None
    match = _TRAILING.search(text)
    if match is None:
        return None
    unit = " ".join(match.group(3).replace("{", "").replace("}", "").split())
    if read_unit(unit, known=True) is None:
        return None
    names = re.findall("[A-Za-zµΩμ]+", unit)
    sure = any(len(name) > 1 for name in names) or (bool(match.group(2)) and ("/" in unit or len(names) == 1))
    return text[: match.end(1)], unit, not sure
