"""Spatial questions: exact (words, directions, options), symbolic, or by mean relative accuracy (MRA).

Source: VSI-Bench, arXiv 2412.14171, section 3.2: MRA is the share of the thresholds 0.50, 0.55, …, 0.95 for which
|predicted - reference| / reference < 1 - threshold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from rewards.denials import denied
from rewards.plain_numbers import PlainNumber, pairs, read_number
from rewards.plain_text import compose, fold, label, unusable, unwrap, vocabulary
from rewards.registry import BadReference, Context, Outcome, verifier
from rewards.short_answers import is_mathematical, same_exact_number, same_mathematics, same_words
from rewards.verifiers.choice import NoChoice, read_choice, read_options

MAX_CHARS = 2_000
THRESHOLDS = tuple(Fraction(percent, 100) for percent in range(50, 100, 5))

_DIRECTIONS = {
    **{word: word for word in vocabulary("front left right north south east west up down inside outside")},
    **dict.fromkeys(("back", "behind", "rear", "backward", "backwards"), "back"),
    **dict.fromkeys(("forward", "forwards", "ahead"), "front"),
    **dict.fromkeys(("top", "upper", "above", "over"), "up"),
    **dict.fromkeys(("bottom", "lower", "below", "under", "beneath"), "down"),
    **dict(zip("前后左右东西南北上下", vocabulary("front back left right east west south north up down"), strict=True)),
}
_OPPOSITE = (("front", "back"), ("left", "right"), ("north", "south"), ("east", "west"), ("up", "down"), ("inside", "outside"))
_FILLER = frozenset(vocabulary("to the of in on at it is side and 方 边 侧 面 的 在 在其 是 向"))
_DIRECTION_PART = re.compile(r"(?:north|south)(?=east|west)|[a-z]+|[\u4e00-\u9fff]")


@dataclass(frozen=True)
class SpatialArgs:
    """Arguments of the `spatial` verifier."""

    mode: Literal["auto", "exact", "symbolic", "mra"] = "auto"
    """"auto": `mra` for a reference that is a JSON number, `symbolic` for a text; `symbolic` includes `exact`."""
    threshold: float = 0.5
    """The mean relative accuracy from which a number counts as correct (0.5: less than 30% off)."""
    directions: bool = True
    """Whether directions are compared by meaning: "front-left", "left front" and "左前方" are one."""


@dataclass(frozen=True)
class Reference:
    """The reference as text, how it is compared, and its number for `mra`."""

    text: str
    mode: Literal["exact", "symbolic", "mra"]
    number: PlainNumber | None = None


def read_reference(raw: Any, args: SpatialArgs) -> Reference:
    """The reference. Raises BadReference; `mra` needs a number other than 0."""
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise BadReference("not-text")
    text = str(raw)
    if len(text) > MAX_CHARS:
        raise BadReference("too-long")
    if not fold(unwrap(text)):
        raise BadReference("empty-reference")
    mode = args.mode
    if mode == "auto":
        mode = "symbolic" if isinstance(raw, str) else "mra"
    if mode != "mra":
        return Reference(text, mode)
    number = read_number(unwrap(text))
    if number is None:
        raise BadReference("not-a-number")
    if not number.value:
        raise BadReference("zero-reference")  # no error is relative to zero
    return Reference(text, mode, number)


def mean_relative_accuracy(wanted: Fraction, found: Fraction) -> float:
    """The share of THRESHOLDS t with |found - wanted| / |wanted| < 1 - t. `wanted` is not 0."""
    error = abs(found - wanted) / abs(wanted)
    return sum(error < 1 - threshold for threshold in THRESHOLDS) / len(THRESHOLDS)


def directions(text: str) -> frozenset[str] | None:
    """The directions a text is made of ("to the front-left" -> front, left); None for any other word, or for opposites."""
    if len(text) > 60:
        return None
    parts = [part for part in _DIRECTION_PART.findall(fold(unwrap(text))) if part not in _FILLER]
    if not parts or re.search(r"[^\w\s-]|\d", fold(unwrap(text))) or any(part not in _DIRECTIONS for part in parts):
        return None
    found = frozenset(_DIRECTIONS[part] for part in parts)
    if len(found) != len(parts) or any(found.issuperset(pair) for pair in _OPPOSITE):
        return None
    return found


def _exact(answer: str, reference: Reference, context: Context) -> str | None:
    """The rule by which the answer is the reference in words, or None."""
    rule = same_words(reference.text, answer, context.question)
    if rule is not None:
        return rule
    if context.args.directions:
        wanted = directions(reference.text)
        if wanted is not None and wanted == directions(answer):
            return "direction"
    options = read_options(context.question) if context.question else {}
    if options or re.fullmatch(r"\(?[A-H]\)?\.?", compose(reference.text).strip()):
        try:
            return "option" if read_choice(answer, options) == read_choice(reference.text, options) else None
        except NoChoice:
            return None
    return None


def _is_bounded(answer: str, reference: Any) -> bool:
    return len(answer) <= 100 and len(str(reference)) <= 200 and not (is_mathematical(answer) and isinstance(reference, str))


@verifier(
    "spatial",
    domains=("spatial",),
    args=SpatialArgs,
    reference=read_reference,
    bounded=_is_bounded,
    libraries=("sympy", "mpmath"),
)
def spatial(answer: str, reference: Reference, context: Context) -> Outcome:
    """The mean relative accuracy of a number; 1 or 0 for anything else."""
    args: SpatialArgs = context.args
    if (fault := unusable(answer, MAX_CHARS)) is not None:
        return Outcome(0.0, False, fault)
    if denied(answer, reference.text):
        return Outcome(0.0, False, "hedged")
    context.note("reference", label(reference.text))
    context.note("answer", label(answer))
    if reference.number is not None:
        context.note("rule", "mra")
        found = read_number(unwrap(answer))
        if found is None:
            return Outcome(0.0, False, "not-a-number")
        values = pairs(reference.number, found, percent_asked=False)
        if not values:
            return Outcome(0.0, False, "unit-mismatch")
        score = max(mean_relative_accuracy(*pair) for pair in values)
        return Outcome(score, score >= args.threshold, None if score == 1.0 else "different-value")
    rule = _exact(answer, reference, context)
    if rule is None and reference.mode == "symbolic":
        number = same_exact_number(reference.text, answer, context.question)
        if number or (number is None and same_mathematics(reference.text, answer, context.question)):
            rule = "number" if number else "mathematics"
    context.note("rule", rule or reference.mode)
    return Outcome(1.0, True) if rule else Outcome(0.0, False, "text-differs")
