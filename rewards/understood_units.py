"""Comparing quantities when one of them leaves its unit to be understood, and what the question says of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from rewards.quantity import Quantity, difference
from rewards.units import Unit, read_unit

QUESTION_CHARS = 4000
_PURE = Unit(1.0, 0.0, ())
_UNIT_WORD = r"[^\s,.?;!()，。？；、（）]"
_IN_UNIT = re.compile(
    rf"(?:\bin\s+(?:(?:the\s+)?units?\s+of\s+)?|单位[是为:：]?\s*|unit:\s*)({_UNIT_WORD}{{1,24}}(?:\s{_UNIT_WORD}{{1,12}}){{0,2}})"
    r"|[(（]\s*(?:in\s+|单位[是为:：]?\s*)?([^()（）]{1,24})[)）]|以\s*([^\s，。]{1,12}?)\s*为单位",
    re.IGNORECASE,
)
_NO_UNITS = frozenset(("a", "A", "in"))  # "in a box"
_TEMPERATURE_CHANGE = re.compile(
    r"temperature (?:change|difference|rise|increase|drop)|(?:change|rise|increase|drop|difference) in (?:the )?temperature"
    r"|温差|温度(?:变化|升高|降低)了?",
    re.IGNORECASE,
)
_PERCENT_ASKED = re.compile(r"per\s?cent|\bwhat\s+%|\\%|\(%\)|百分", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the question says about the answer's unit."""

    units: tuple[Unit, ...] = ()
    percent: bool = False
    temperature_change: bool = False


@lru_cache(maxsize=4096)
def read_question(question: str | None) -> Asked:
    """Units the question asks for ("in km/h", "(unit: Pa)", "以千帕为单位"), from its last 4,000 characters."""
    text = (question or "")[-QUESTION_CHARS:]
    found: list[Unit] = []
    for match in itertools.islice(_IN_UNIT.finditer(text), 32):
        words = next(group for group in match.groups() if group).split()
        for size in range(min(3, len(words)), 0, -1):
            named = " ".join(words[:size])
            unit = None if named in _NO_UNITS else read_unit(named)
            if unit is not None:
                found.append(unit)
                break
    return Asked(tuple(found), bool(_PERCENT_ASKED.search(text)), bool(_TEMPERATURE_CHANGE.search(text)))


@dataclass(frozen=True, slots=True)
class Rules:
    """How strictly quantities are compared; the fields are the `stem` verifier's arguments."""

    rtol: float | None = None
    atol: float | None = None
    same_unit: bool = False
    require_unit: bool | None = None
    asked: Asked = Asked()


def quantity_reason(wanted: Quantity, found: Quantity, rules: Rules) -> str | None:
    """None when `found` answers `wanted`, else why not."""
    if wanted.label and found.label and not _same_label(wanted.label, found.label):
        return "different-label"
    if wanted.direction and wanted.direction != found.direction:
        return "direction-missing" if found.direction is None else "direction-differs"
    if (wanted.unit is None) == (found.unit is None):
        return _reason(wanted, found, rules)
    if wanted.value is None or found.value is None:
        return "different-value"
    if found.unit is None:
        return _bare_answer(wanted, found, rules)
    return _bare_reference(wanted, found, rules)


def _reason(wanted: Quantity, found: Quantity, rules: Rules) -> str | None:
    interval = rules.asked.temperature_change or "Δ" in (wanted.label or "")
    return difference(wanted, found, rtol=rules.rtol, atol=rules.atol, same_unit=rules.same_unit, is_interval=interval)


def _any(reasons: Iterable[str | None]) -> str | None:
    """None when one of them is, else the first."""
    found = list(reasons)
    return None if None in found else found[0]


def _bare_answer(wanted: Quantity, found: Quantity, rules: Rules) -> str | None:
    unit = wanted.unit
    assert unit is not None
    readings = []
    if not unit.dimensions:  # a ratio or an angle is a number: 0.25 is 25%, pi/6 is 30 degrees
        readings.append(_PURE)
        understood = rules.asked.percent if not unit.kinds else not found.has_pi
        readings += [unit] if understood and unit != _PURE else []
        if rules.require_unit and unit.kinds:
            readings = []
    elif not rules.require_unit:
        readings = [asked for asked in rules.asked.units if asked.dimensions == unit.dimensions]
        readings += [unit] if rules.require_unit is False else []
    if not readings:
        return "unit-missing"
    loose = replace(rules, same_unit=False)
    return _any(_reason(wanted, replace(found, unit=reading), loose) for reading in readings)


def _bare_reference(wanted: Quantity, found: Quantity, rules: Rules) -> str | None:
    """The reference's unit is the one asked for; where none is, any unit will do, but for ratios."""
    unit = found.unit
    assert unit is not None
    asked = [one for one in rules.asked.units if one.dimensions == unit.dimensions]
    if asked:
        return _any(_reason(replace(wanted, unit=one), found, rules) for one in asked)
    readings: list[Unit | None] = []
    if not unit.dimensions:
        readings.append(_PURE)
        readings += [unit] if (rules.asked.percent if not unit.kinds else not wanted.has_pi) else []
    else:
        readings.append(unit)
    return _any(_reason(replace(wanted, unit=one), found, rules) for one in readings)


def _same_label(wanted: str, found: str) -> bool:
    """Labels of one quantity: equal, or one without the other's index (F and F_net)."""
    if wanted.casefold() == found.casefold() and (wanted == found or len(wanted) > 1):
        return True
    (one, index), (other, other_index) = (re.match(r"([^_]*)_?(.*)", label, re.DOTALL).groups() for label in (wanted, found))  # type: ignore[union-attr]
    return one == other and not (index and other_index)


def list_reason(wanted: tuple[Quantity, ...], found: tuple[Quantity, ...], rules: Rules) -> str | None:
    """None when each quantity is answered by one of the other side: by label where all have one, else in any order."""
    if len(wanted) != len(found):
        return "many-answers" if len(wanted) == 1 else "wrong-count"
    if len(wanted) == 1:
        return quantity_reason(wanted[0], found[0], rules)
    left, reason = list(found), None
    for quantity in wanted:
        whys = [quantity_reason(quantity, other, rules) for other in left]
        if None in whys:
            del left[whys.index(None)]
        else:
            reason = reason or whys[0]
    return reason
