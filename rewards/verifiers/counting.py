"""Counting: the one number an answer states must be the reference, exactly.

The answer may be a numeral, a number word, or a sentence around one ("There are three cats", "一共有3只猫"). Of several numbers
only one after a concluding word counts ("12 and then 2", "2 + 3 = 5"); hedges, ranges and lists are never paid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from rewards.denials import denied
from rewards.number_words import CHINESE_RUN, ENGLISH_RUN, chinese_number, english_number
from rewards.plain_numbers import NUMERAL
from rewards.plain_text import fold, unusable, unwrap
from rewards.registry import BadReference, Context, NoArgs, Outcome, verifier

MAX_CHARS = 1_000
MAX_COUNT = 10**15

_HEDGE = re.compile(
    r"\b(?:or|maybe|perhaps|possibly|probably|about|around|approximately|approx|roughly|nearly|almost|some|several|many"
    r"|over|under|above|below|between|up\s+to|at\s+least|at\s+most|(?<!\d\s)more|more\s+(?:than|or)|less|fewer|or\s+so|ish|not|isn't|aren't|don't"
    r"|except|anything|without|either|estimated?|likely|might|may|could|plus|minus|than|nor|neither|half|unsure|guess|any|if|wrong|incorrect|false|untrue|"
    r"circa|close\s+to)\b|[~≈≠±<>≤≥|^]|大约|约|左右|大概|可能|或|至少|至多|最多|最少|不到|超过|以上|以下|之间|接近|不是|也许|估计|多个|多只|几|非"
)
# Between two numbers these make a range, a ratio, a list or a sum that is never carried out.
_CONCLUSION = re.compile(
    r"(?<![a-z])(?:then|so|thus|therefore|hence|total(?:s|ling)?(?:\s+of)?|altogether|finally|final|answer|in\s+all|makes?|"
    r"equals?|sum|result)(?![a-z])|=|共|总|所以|因此|最后|最终|答案"
)
_AFTERWARDS = re.compile(r"\W*(?:[a-z]+\W+){0,3}?(?:in\s+total|in\s+all|altogether|overall|total)$")
_SUM = re.compile(r"(?<=\d)\s*([+=])\s*(?=\d)")
_RATIO = re.compile(r"\s*[/:]\s*")
_OUT_OF = re.compile(r"\s*(?:(?:[a-z]+\s+){0,2}out\s+of|of)(?:\s+the)?(?:\s+total)?\s*$")
_NONE = re.compile(
    r"(?:there\s+(?:is|are|were|was)\s+)?(?:none|nothing|nobody|no\s+one|no\s+(?:[a-z]+\s+){0,2}[a-z]+(?<!\byes)"
    r"(?:\s+(?:in|on|at|are|is)\s+[a-z ]{1,40})?|zero|nil)|一?[个只]?(?:都|也)?没有[\u4e00-\u9fff]{0,6}|无"
)
# "No idea" and "no answer" count nothing; "no more than three" bounds something.
_NOT_NONE = re.compile(
    r"\bno\s+(?:idea|clue|answer|result|comment|way|information|info|data|number|count|conclusion|solution|response|guess|need|doubt"
    rf"|reason|matter|problem|longer|more|less|fewer|not?|true|false|correct|it|or|(?!one\b){ENGLISH_RUN.pattern})\b"
    r"|没有(?:答案|办法|结果|结论|人知道|信息|数据|足够|必要|问题|关系|意义)"
)
_MYRIADS = {"万": 10**4, "亿": 10**8, "千": 1000, "百": 100, "": 1}
_NUMBER = re.compile(
    rf"(?P<digits>{NUMERAL})(?P<myriad>[万亿千百]?)|(?P<english>{ENGLISH_RUN.pattern})|(?P<chinese>{CHINESE_RUN.pattern})"
)
_STUCK = re.compile(r"[a-z0-9_.$€£¥#/:-]")
_GROWN = re.compile(r"[a-z0-9_%/+*-]|:\d|[.,]\d|\s*%|\s*percent|分之|点|[万亿千百零一二三四五六七八九十]")


class NoCount(ValueError):
    """The text does not state one count; the message is a machine-readable reason."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A number in a text and where it stands; `value` is None for a run of number words that is no number."""

    value: Fraction | None
    start: int
    end: int


def mentions(text: str) -> list[Mention]:
    """The numbers of a folded text. Raises NoCount for one that is part of something else ("3rd", "3-4", "50%", "v2")."""
    found = []
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        digits = match["digits"]
        if digits:
            before, after = text[max(0, start - 4) : start], text[end : end + 12]
            if re.search(r"(?:^|[\s=:])-\s?$", before):
                raise NoCount("negative-count")
            if (before and _STUCK.match(before[-1]) and not re.search(r"[a-z][.:]$", before)) or _GROWN.match(after):
                raise NoCount("not-a-count" if not re.match(r"\s*[-/:]\s*\d", after) else "many-answers")
            if before.endswith("第") or len(digits) > 40:
                raise NoCount("not-a-count")
            value: Fraction | None = Fraction(digits.replace(",", "")) * _MYRIADS[match["myriad"]]
        elif match["english"]:
            value = english_number(match.group())
        else:
            value = chinese_number(match.group())
        found.append(Mention(value, start, end))
    return found


def read_count(text: str) -> Fraction:
    """The one count that `text` states. Raises NoCount."""
    taken_back = denied(text)
    text = fold(unwrap(text))
    if not text:
        raise NoCount("empty-answer")
    if _NONE.fullmatch(text) and not _NOT_NONE.search(text):
        return Fraction(0)
    if taken_back or _HEDGE.search(_without_dozens(text)):
        raise NoCount("hedged")
    text = _SUM.sub(r" \1 ", text)
    numbers = _without_ones(text, mentions(text))
    if not numbers:
        raise NoCount("no-number")
    if any(_RATIO.fullmatch(text[one.end : other.start]) for one, other in pairwise(numbers)):
        raise NoCount("many-answers")
    value = _only(numbers)
    if value is not None:
        return value
    return _concluded(text, numbers)


def _without_dozens(text: str) -> str:
    return re.sub(r"\bhalf a dozen\b", "six", text)


def _without_ones(text: str, numbers: list[Mention]) -> list[Mention]:
    """The numbers without a "one" that is a pronoun: "one of", "this one", "each one"."""
    kept = []
    for number in numbers:
        word = text[number.start : number.end]
        pronoun = word == "one" and re.search(r"(?:this|that|each|every|which|the|no)\s$", text[: number.start])
        if not (pronoun and len(numbers) > 1):
            kept.append(number)
    return kept


def _only(numbers: list[Mention]) -> Fraction | None:
    """The value all the numbers have in common ("3 (three)"), or None."""
    values = {number.value for number in numbers}
    return values.pop() if len(values) == 1 else None


def _concluded(text: str, numbers: list[Mention]) -> Fraction:
    """The number after the last concluding word, "5" of "5 in total" and "3" of "3 out of 12". Raises NoCount."""
    last = numbers[-1]
    if _AFTERWARDS.fullmatch(text[last.end :]) and last.value is not None and last.end < len(text):
        return last.value
    if len(numbers) == 2 and _OUT_OF.fullmatch(text[numbers[0].end : last.start]) and numbers[0].value is not None:
        return numbers[0].value
    for conclusion in reversed(list(_CONCLUSION.finditer(text))):
        after = [number for number in numbers if number.start >= conclusion.end()]
        if after:
            value = _only(after)
            before = [number for number in numbers if number.end <= conclusion.start()]
            if value is None or not before:
                break
            if conclusion.group() == "=" and len(before) == 1:
                break  # "4 = 3" is no sum
            return value
    raise NoCount("many-answers")


def read_reference(raw: Any, args: NoArgs) -> int:
    """The reference count. Raises BadReference unless it is one whole number from 0 to 10^15."""
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise BadReference("not-a-number")
    text = str(raw)
    if len(text) > MAX_CHARS:
        raise BadReference("too-long")
    try:
        value = read_count(text)
    except NoCount as error:
        raise BadReference("empty-reference" if str(error) == "empty-answer" else str(error)) from error
    if value.denominator != 1:
        raise BadReference("not-an-integer")
    if value > MAX_COUNT:
        raise BadReference("too-large")
    return int(value)


def _is_bounded(answer: str, reference: Any) -> bool:
    return len(answer) <= 100 and len(str(reference)) <= 40


@verifier("counting", domains=("counting",), reference=read_reference, bounded=_is_bounded)
def counting(answer: str, reference: int, context: Context) -> Outcome:
    """Score 1 when the one count the answer states is the reference."""
    context.note("reference", reference)
    if (fault := unusable(answer, MAX_CHARS)) is not None:
        return Outcome(0.0, False, fault)
    try:
        value = read_count(answer)
    except NoCount as error:
        return Outcome(0.0, False, str(error))
    context.note("answer", value)
    context.note("rule", "exact")
    return Outcome(1.0, True) if value == reference else Outcome(0.0, False, "different-value")
