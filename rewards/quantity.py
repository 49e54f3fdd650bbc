"""Numbers with units: read by a bounded grammar, compared after conversion.

    "$1.2\\times10^{5}\\,\\mathrm{Pa}$", "120 kPa", "120 kilopascals", "1.2e5 N/m^2", "120千帕"   all one pressure

pint defines the units (rewards/unit_names.py); what is kept of each is a factor, an offset and a dimension, so that a
comparison is arithmetic on three numbers. Numbers that are no plain numeral (2\\pi, \\frac{1}{2}, \\sqrt 3) are read by
`rewards.mathexpr`, under its budgets.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from rewards.mathexpr.equality import values_at
from rewards.mathexpr.exact import exact
from rewards.mathexpr.lexer import normalise, tokenise
from rewards.mathexpr.nodes import MathError, symbols
from rewards.mathexpr.parser import Parser
from rewards.units import HAN, MAX_CHARS, Unit, read_unit, simplify

MAX_PARTS = 16


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, None for a unit alone, and its unit, None for a bare number; `whole` when written as a short integer."""

    value: Fraction | None
    unit: Unit | None = None
    label: str | None = None
    direction: str | None = None
    whole: bool = False
    has_pi: bool = False

    def __str__(self) -> str:
        number = "" if self.value is None else _decimal(self.value)
        unit = self.unit
        scale = "" if unit is None else f" x {unit.factor:.12g} " + " ".join(f"{n}^{p}" for n, p in unit.dimensions)
        offset = f" + {unit.offset:g}" if unit is not None and unit.offset else ""
        return " ".join(filter(None, (self.label and f"{self.label} =", number + scale + offset, self.direction)))


def _decimal(value: Fraction) -> str:
    try:
        return f"{float(value):.12g}"
    except OverflowError:
        return "huge"


# ---- numbers

_NUMERAL = re.compile(
    r"(?P<sign>[+-]?)\s*(?:(?P<digits>\d{1,3}(?:,\d{3}){1,12}|\d{1,3}(?: \d{3}){1,12}(?!\d)|\d{1,60})(?P<decimals>\.\d{0,60})?"
    r"|(?P<fraction>\.\d{1,60}))"
    r"(?:[eE](?P<e>[+-]?\d{1,4})(?![\w.])"
    r"|\s*[\u00d7x*\u00b7]\s*10\s*(?:\^|\*\*)\s*(?P<brace>[{(])?\s*(?P<ten>[+-]?\s?\d{1,4})\s*(?(brace)[)}])"
    r"|\s?[\u00d7x]\s?10(?P<lost>-\d{1,2})(?![\d.])"  # an exponent that lost its raised place
    r"|\s*(?P<many>thousand|million|billion|trillion|万亿|[万亿])(?![A-Za-z]))?"
)
_TEN = re.compile(r"(?P<sign>[+-]?)\s*10\s*(?:\^|\*\*)\s*(?P<brace>[{(])?\s*(?P<ten>[+-]?\s?\d{1,4})\s*(?(brace)[)}])")
_MANY = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "万": 4, "亿": 8, "万亿": 12}
_MAX_EXPONENT = 2000
_IN_BRACKETS = re.compile(r"^\s*\(([^()]*)\)$")
_GOES_ON = re.compile(r"\s*[\d.,^!+*×:=<>-]|\s*/\s*[\d(]|\s*\\(?!frac)|\s*_|\s*·\s*\d|\s*%\s*\d")


def _numeral(text: str) -> tuple[Fraction, bool, int] | None:
    """The numeral `text` begins with: its value, whether it is an integer of up to three digits, and where it ends."""
    ten = _TEN.match(text)
    match = ten or _NUMERAL.match(text)
    if match is None:
        return None
    groups = match.groupdict()
    whole = re.sub(r"[ ,]", "", groups.get("digits") or "1" if ten else groups["digits"] or "0")
    decimals = (groups.get("decimals") or groups.get("fraction") or ".")[1:]
    exponent = int((groups.get("e") or groups["ten"] or groups.get("lost") or "0").replace(" ", "")) + _MANY.get(
        groups.get("many") or "", 0
    )
    if abs(exponent) > _MAX_EXPONENT:
        return None
    value = Fraction(int(whole + decimals), 10 ** len(decimals)) * Fraction(10) ** exponent
    plain = not decimals and not exponent and not ten and len(whole) <= 3
    return (-value if match["sign"] == "-" else value), plain, match.end()


_OVERFLOWN = re.compile(r"\d[eE][+-]?\d{5}")  # mathematics would read Euler's number


def constant(text: str) -> Fraction | None:
    """The value of an expression without variables, or None. Irrational values to double precision."""
    if _OVERFLOWN.search(text):
        return None
    try:
        parser = Parser(tokenise(normalise(text)))
        node = parser.relation()
        if parser.head.kind != "end" or node.op == "rel" or symbols(node):
            return None
        value = exact(node)
        if value is not None:
            return value
        numeric = values_at([node], {})
        if numeric is None or not numeric[2]:
            return None
        number = float(numeric[0][0].real)
    except MathError:
        return None
    return Fraction(number) if math.isfinite(number) else None


_STARTS = re.compile(r"(?<![A-Za-z\\])(?=[A-Za-z\u03bc\u03a9\u00c5\u00b0%\u2030])|(?=\\frac)" + rf"|(?<![{HAN}])(?=[{HAN}])")
_PI = re.compile(r"\\pi(?![a-zA-Z])|\u03c0|\bpi\b")


def _number_and_unit(text: str) -> Quantity | None:
    found = _numeral(text)
    if found is not None:
        value, whole, end = found
        rest = text[end:]
        if not rest.strip():
            return Quantity(value, whole=whole)
        unit = None if _GOES_ON.match(rest) else read_unit(_IN_BRACKETS.sub(r"\1", rest))
        if unit is not None:
            return Quantity(value, unit, whole=whole)
    value_only = constant(text)
    if value_only is not None:
        return Quantity(value_only, has_pi=bool(_PI.search(text)))
    for start in [match.start() for match in _STARTS.finditer(text)][:MAX_PARTS]:
        unit = read_unit(text[start:]) if start else None
        if unit is None:
            continue
        number = constant(text[:start].rstrip(" \u00b7\u00d7*"))
        if number is not None:
            return Quantity(number, unit, has_pi=bool(_PI.search(text[:start])))
    return None


# ---- sentences around a quantity

_LEAD = re.compile(
    r"^(?:(?:approximately|approx\.?|about|roughly|around|nearly|equal to|equals|is|only"
    r"|约等于|约为|大约|大概|等于|约|是|为|[\u2248~=:])\s*)+",
    re.IGNORECASE,
)
_STATEMENT = re.compile(
    r"^(?:[A-Za-z'_-]{1,30}\s+){1,12}?(?:is|are|was|equals)\s*:?\s+(?=\S)|^(?:[A-Za-z]{2,30}\s+){0,5}[A-Za-z]{3,30}\s*:\s*(?=\S)"
)
_CHINESE_STATEMENT = re.compile(
    rf"^(?=[A-Za-z_]{{0,24}}[{HAN}])[{HAN}A-Za-z_]{{1,24}}?(?:约为|等于|是|为|[:=\u2248])\s*(?=[约\d.+\\√-])"
)
_NEGATION = re.compile(
    r"\b(?:not|never|no|isn't|aren't|cannot|less|more|greater|than|between|or)\b|不|非|小于|大于|或", re.IGNORECASE
)
_SIDES = re.compile(r"(?<![<>!:])=|\u2248|:=")
_LOG_LABEL = re.compile(r"^(p(?:H|OH|K_?\{?[abw]\}?))\s*(?:value\s+)?(?:of|is|:)?\s*(?=[-\d.])")
_LABEL = re.compile(r"[\w\s\\{}()\[\]'\u2032.*/+^\u20d7\u00b7\u00d7-]{1,60}")
_DIRECTIONS = {
    **dict.fromkeys(("up", "upward", "upwards", "向上", "竖直向上", "vertically upward", "vertically upwards"), "up"),
    **dict.fromkeys(
        ("down", "downward", "downwards", "向下", "竖直向下", "vertically downward", "vertically downwards"), "down"
    ),
    **dict.fromkeys(("left", "to the left", "leftward", "leftwards", "向左", "水平向左"), "left"),
    **dict.fromkeys(("right", "to the right", "rightward", "rightwards", "向右", "水平向右"), "right"),
    **dict.fromkeys(("north", "due north", "northward", "向北", "北"), "north"),
    **dict.fromkeys(("south", "due south", "southward", "向南", "南"), "south"),
    **dict.fromkeys(("east", "due east", "eastward", "向东", "东"), "east"),
    **dict.fromkeys(("west", "due west", "westward", "向西", "西"), "west"),
    **dict.fromkeys(("clockwise", "顺时针"), "clockwise"),
    **dict.fromkeys(("counterclockwise", "anticlockwise", "counter-clockwise", "逆时针"), "counterclockwise"),
}
_DIRECTION = re.compile(
    r"[\s,，(]*(?:(?:directed|pointing|acting|in the|towards?|方向)\s*)*("
    + "|".join(sorted(map(re.escape, _DIRECTIONS), key=len, reverse=True))
    + r")(?:\s+direction)?\s*\)?$",
    re.IGNORECASE,
)
_NEXT_UNIT = re.compile(rf"(?<=[A-Za-z\u00b0'\"{HAN}])\s*(?=\d)")


@lru_cache(maxsize=4096)
def read_quantity(text: str) -> Quantity | None:
    """The one quantity `text` states, perhaps in a sentence, with a label (`F = ma = 10 N`) or a direction; else None."""
    if len(text) > MAX_CHARS:
        return None
    text = simplify(text)
    while text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    if text[:1].isalpha() or text[:1] in "\u00b0%\\":
        unit = read_unit(text)
        if unit is not None:
            return Quantity(None, unit)
    direction = None
    tail = _DIRECTION.search(text)
    if tail:
        direction, text = _DIRECTIONS[tail.group(1).casefold()], text[: tail.start()]
    for pattern in (_LEAD, _STATEMENT, _CHINESE_STATEMENT, _LEAD):
        match = pattern.match(text)
        if match and not _NEGATION.search(match.group()):
            text = text[match.end() :]
    label = None
    log = _LOG_LABEL.match(text)
    if log:
        label, text = _label(log.group(1)), text[log.end() :]
    sides = [side.strip() for side in _SIDES.split(text)]
    if len(sides) > 6 or not all(sides):
        return None
    found = _sum(_LEAD.sub("", sides[-1]))
    if found is None:
        return None
    for side in sides[:-1]:
        other = _sum(side)
        if other is not None and (other.unit is None) == (found.unit is None) and other.value is not None:
            if difference(other, found, rtol=5e-3) is not None:  # "3 = 7" says two things
                return None
        elif other is None or other.unit is None:
            if not _LABEL.fullmatch(side) or not any(c.isalpha() for c in side) or _NEGATION.search(side):
                return None
            label = label or (None if other is not None else _label(side))
    return replace(found, label=label, direction=direction)


def _label(side: str) -> str:
    """The symbol on the left of an equation, without its mark-up."""
    return re.sub(r"\\(?:vec|bar|hat|overline)|[\\{}\s()\u20d7]", "", side)


def _sum(text: str) -> Quantity | None:
    """A quantity, or several of falling size said together: `1 h 30 min`, `5 ft 10 in`, `2分30秒`."""
    text = text.strip()
    if text.startswith("(") and text.endswith(")") and text.count("(") == 1:
        text = text[1:-1]
    whole = _number_and_unit(text)
    if whole is not None:
        return whole
    pieces = [_number_and_unit(piece.strip()) for piece in _NEXT_UNIT.split(text)[:5]]
    if not 2 <= len(pieces) <= 4:
        return None
    total, last = Fraction(0), None
    for piece in pieces:
        if piece is None or piece.value is None or piece.unit is None or piece.unit.offset or piece.value < 0:
            return None
        if last is not None and (piece.unit.dimensions != last.dimensions or piece.unit.factor >= last.factor):
            return None
        last = piece.unit
        total += piece.value * Fraction(piece.unit.factor)
    first = pieces[0]
    if first is None or first.unit is None:
        return None
    return Quantity(total / Fraction(first.unit.factor), first.unit)


_LIST = re.compile(r"\s*[;，；、]\s*|,\s+|,(?!\d{3}(?!\d))|\s+and\s+|\s*[和及]\s*")


def read_quantities(text: str) -> tuple[Quantity, ...]:
    """The quantities of a list, () when any part is none. A single one comes first: "1,000 m" is no list."""
    one = read_quantity(text)
    if one is not None:
        return (one,)
    if len(text) > MAX_CHARS:
        return ()
    parts = _LIST.split(simplify(text).strip("()[]{}"))
    if not 2 <= len(parts) <= MAX_PARTS:
        return ()
    found = [read_quantity(part) for part in parts if part]
    return tuple(q for q in found if q is not None) if all(q is not None and q.value is not None for q in found) else ()


# ---- comparison

TEMPERATURE_SLACK = Fraction(151, 1000)
"""Kelvin between scales: 25 degrees Celsius is 298 K to whoever converts with 273."""
DEFAULT_RTOL = 0.005
_FLOAT = Fraction(1, 10**9)


def difference(
    wanted: Quantity,
    found: Quantity,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    same_unit: bool = False,
    is_interval: bool = False,
) -> str | None:
    """None when `found` is `wanted` within the tolerances, else the reason. Both have units, or neither.

    rtol: relative to the reference; None is 0.005, and short whole numbers of one unit must be the same.
    atol: in the reference's unit. is_interval: a temperature is a difference, so that scales have no zero.
    """
    a, b = wanted.unit, found.unit
    if wanted.value is None or found.value is None:
        if wanted.value is not found.value or a is None or b is None or a.dimensions != b.dimensions:
            return "different-value"
        return None if math.isclose(a.factor, b.factor, rel_tol=1e-9) and a.offset == b.offset else "different-value"
    value, slack = found.value, Fraction(0)
    same = a == b
    if a is not None and b is not None and not same:
        if a.dimensions != b.dimensions or (a.kinds and b.kinds and a.kinds != b.kinds):
            return "unit-mismatch"
        if same_unit:
            return "other-unit"
        value *= Fraction(b.factor / a.factor)
        if a.absolute_temperature and not is_interval:
            value += Fraction((b.offset - a.offset) / a.factor)
            if a.offset != b.offset:
                slack = TEMPERATURE_SLACK / Fraction(a.factor)
    gap = abs(value - wanted.value)
    size = abs(wanted.value)
    if slack and a is not None:  # the distance from absolute zero is no measure of precision on another scale
        size = abs(wanted.value + Fraction(a.offset / a.factor) - Fraction(273.15 / a.factor))
    if gap <= max(_FLOAT * abs(wanted.value), Fraction(atol or 0.0)):
        return None
    if rtol is None and same and wanted.whole and found.whole:
        return "different-value"
    return None if gap <= max(slack, Fraction(DEFAULT_RTOL if rtol is None else rtol) * size) else "different-value"
