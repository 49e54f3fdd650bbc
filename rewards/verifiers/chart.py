"""Questions on charts: numbers within a relative tolerance, years and counts exactly, labels by words, lists by items.

Source: ChartQA's relaxed accuracy (arXiv 2203.10244, section 4: 5%); GLM-4.5V report, arXiv 2507.01006, table 1 (years exact).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

from rewards.denials import denied
from rewards.plain_lists import can_pair, read_list, read_pairs
from rewards.plain_numbers import PlainNumber, read_number
from rewards.plain_text import fold, label, question_text, unusable, unwrap
from rewards.registry import BadReference, Context, Outcome, verifier
from rewards.short_answers import is_code, number_in_words_of, same_number, same_words

MAX_CHARS = 4_000
MAX_ITEMS = 64
COUNT_LIMIT = 100

_YEAR_ASKED = re.compile(r"\b(?:years?|when|decade)\b|年")
_AMOUNT_ASKED = re.compile(
    r"\bhow\s+(?:many|much)\b|\b(?:value|total|sum|average|mean|median|difference|ratio|percentage|number|amount|price|cost)\b|多少"
)
_COUNT_ASKED = re.compile(
    r"\bhow\s+many\s+(?!percent|million|billion|thousand|trillion|hundred|dollars|tonnes|tons|units|%)[a-z]+|多少[个条根种类项]|几[个条根种类项]"
)


@dataclass(frozen=True)
class ChartArgs:
    """Arguments of the `chart` verifier."""

    rtol: float = 0.05
    """Relative tolerance of a number; the boundary is included."""
    years: Literal["exact", "relative"] = "exact"
    """Whether a calendar year must be equal."""
    counts: Literal["exact", "relative"] = "exact"
    """Whether a whole number up to 100 that the question asks for with "how many" must be equal."""
    order: Literal["auto", "exact", "any"] = "auto"
    """Whether the order of a list counts; "auto": in brackets, and where numbers are listed."""


@dataclass(frozen=True)
class Item:
    """One value: its text, and its number when it is one."""

    text: str
    number: PlainNumber | None


@dataclass(frozen=True)
class Reference:
    """The reference as text, and its items when it is a list or a set of pairs."""

    whole: Item
    items: tuple[Item, ...] = ()
    bracketed: bool = False
    pairs: tuple[tuple[str, Item], ...] = ()


def read_item(text: str) -> Item:
    """A value of a chart. A code like "007" is text."""
    bare = unwrap(text)
    return Item(text, None if is_code(bare) else read_number(bare))


def read_reference(raw: Any, args: ChartArgs) -> Reference:
    """A number, a text, a list of them, or the text of a list ("[2010, 2011]"). Raises BadReference."""
    if isinstance(raw, list):
        if not raw:
            raise BadReference("empty-reference")
        if len(raw) > MAX_ITEMS or any(not isinstance(part, (str, int, float, bool)) for part in raw):
            raise BadReference("bad-list")
        texts = [str(part) for part in raw]
        if len("".join(texts)) > MAX_CHARS or not all(fold(text) for text in texts):
            raise BadReference("too-long" if all(fold(text) for text in texts) else "empty-reference")
        items = tuple(map(read_item, texts))
        return Reference(Item("[" + ", ".join(texts) + "]", None), items, bracketed=True)
    if not isinstance(raw, (str, int, float, bool)):
        raise BadReference("not-text")
    text = str(raw)
    if len(text) > MAX_CHARS:
        raise BadReference("too-long")
    if not fold(unwrap(text)):
        raise BadReference("empty-reference")
    whole = read_item(text)
    if isinstance(raw, float) and whole.number is None:
        raise BadReference("non-finite")
    if whole.number is not None:
        return Reference(whole)
    bracketed, parts = read_list(unwrap(text))
    items = tuple(map(read_item, parts[:MAX_ITEMS])) if 1 < len(parts) <= MAX_ITEMS else ()
    pairs = tuple((key, read_item(value)) for key, value in read_pairs(unwrap(text)).items())
    return Reference(whole, items, bracketed, pairs)


@lru_cache(maxsize=1024)
def _asked(question: str | None) -> tuple[bool, bool, bool]:
    """Whether the question asks for a year, for an amount, for a count."""
    text = question_text(question)
    return bool(_YEAR_ASKED.search(text)), bool(_AMOUNT_ASKED.search(text)), bool(_COUNT_ASKED.search(text))


def tolerance(reference: PlainNumber, question: str | None, args: ChartArgs) -> Fraction:
    """The relative tolerance a reference number has: none for a year or a count."""
    year, amount, count = _asked(question)
    if args.years == "exact" and reference.is_year and (year or not amount) and not count:
        return Fraction(0)
    whole = reference.value.denominator == 1 and 0 <= reference.value <= COUNT_LIMIT and not reference.percent
    if args.counts == "exact" and count and whole:
        return Fraction(0)
    return Fraction(str(args.rtol))


def item_fault(reference: Item, answer: Item, question: str | None, args: ChartArgs) -> str | None:
    """None when one value is the other, else the reason."""
    wanted, found = reference.number, answer.number
    if wanted is not None:
        said = fold(unwrap(answer.text))
        if fold(unwrap(reference.text)) == said:
            return None
        found = found if found is not None else number_in_words_of(said, question)
        if found is None:
            return "not-a-number"
        allowed = tolerance(wanted, question, args)
        if wanted.is_year and not allowed and found.unit is not None:
            return "different-value"  # "the 1990s" are not 1990
        if same_number(wanted, found, allowed, question):
            return None
        units = wanted.unit and found.unit and wanted.unit.dimensions != found.unit.dimensions
        return "unit-mismatch" if units else "different-value"
    return None if same_words(reference.text, answer.text, question) else "text-differs"


def list_fault(
    wanted: Sequence[Item], found: Sequence[Item], ordered: bool, question: str | None, args: ChartArgs
) -> str | None:
    """None when two lists agree, else the reason. Without order each value is matched with one of the other list."""
    if len(wanted) != len(found):
        return "wrong-count"
    faults = [[item_fault(item, other, question, args) for other in found] for item in wanted]
    if ordered:
        return next((faults[at][at] for at in range(len(wanted)) if faults[at][at]), None)
    if can_pair([[fault is None for fault in row] for row in faults]):
        return None
    return next((row[0] for row in faults if None not in row), None) or "different-value"


def _is_ordered(reference: Reference, args: ChartArgs) -> bool:
    if args.order != "auto":
        return args.order == "exact"
    return reference.bracketed or any(item.number is not None and not item.number.is_year for item in reference.items)


def _is_bounded(answer: str, reference: Any) -> bool:
    return len(answer) <= 100 and not isinstance(reference, list) and len(str(reference)) <= 100


@verifier("chart", domains=("chart",), args=ChartArgs, reference=read_reference, bounded=_is_bounded)
def chart(answer: str, reference: Reference, context: Context) -> Outcome:
    """Score 1 when the answer is the reference's number, label or list."""
    args: ChartArgs = context.args
    if (fault := unusable(answer, MAX_CHARS)) is not None:
        return Outcome(0.0, False, fault)
    if denied(answer, reference.whole.text):
        return Outcome(0.0, False, "hedged")
    whole = read_item(answer)
    context.note("reference", reference.whole.number.value if reference.whole.number else label(reference.whole.text))
    context.note("answer", whole.number.value if whole.number else label(answer))
    fault = item_fault(reference.whole, whole, context.question, args)
    rule = "number" if reference.whole.number else "text"
    found = {key: read_item(value) for key, value in read_pairs(unwrap(answer)).items()} if fault and reference.pairs else {}
    if found and set(found) == {key for key, _ in reference.pairs}:
        rule = "pairs"
        wanted = [item for _, item in reference.pairs]
        fault = list_fault(wanted, [found[key] for key, _ in reference.pairs], True, context.question, args)
    elif fault and reference.items:
        rule = "list"
        _, parts = read_list(unwrap(answer))
        items = [*map(read_item, parts[: MAX_ITEMS + 1])]
        fault = list_fault(reference.items, items, _is_ordered(reference, args), context.question, args)
    context.note("rule", rule)
    return Outcome(1.0, True) if fault is None else Outcome(0.0, False, fault)
