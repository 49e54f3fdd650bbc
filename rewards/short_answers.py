"""Whether two short answers say the same: equal words, truth values, numbers, or mathematics."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from rewards import registry
from rewards.plain_numbers import PlainNumber, pairs, read_number, within
from rewards.plain_text import TRUTH_REFERENCES, fold, is_context, label, only_adds_context, question_text, truth, unwrap
from rewards.registry import BadReference, Context

MAX_MATH_CHARS = 200
_PERCENT_ASKED = re.compile(r"per\s?cent|percentage|%|百分")
# Dates, times, codes, ranges and telephone numbers: "1/2/2020" is no quotient, "555-1234" no difference, "007" is not 7.
_NOT_ARITHMETIC = re.compile(r"\d\s*[/.]\s*\d+\s*[/.]\s*\d|\d\s*[-:~]\s*\d|(?<![\d.])0\d")
_CODE = re.compile(r"[-+]?0\d+(?:\.\d*)?")
_LOOKS_MATHEMATICAL = re.compile(r"[\d=+*/^\\]")
_LONG_WORD = re.compile(r"(?<![\\A-Za-z])(?!(?:sqrt|sin|cos|tan|log|ln|exp|pi|inf|and|cm|mm|km|kg)(?![A-Za-z]))[^\W\d_]{2,}")


@lru_cache(maxsize=1024)
def percent_asked(question: str | None) -> bool:
    """Whether the question asks for a percentage."""
    return bool(_PERCENT_ASKED.search(question_text(question)))


def same_number(reference: PlainNumber, answer: PlainNumber, tolerance: Fraction, question: str | None) -> bool:
    """Whether any reading of the two numbers agrees within the relative tolerance."""
    if reference.approximate != answer.approximate and not tolerance:
        return False
    options = pairs(reference, answer, percent_asked(question))
    asked = question_text(question)
    if options and reference.magnitude != answer.magnitude and "" in (reference.magnitude, answer.magnitude):
        # "In millions": 5 is 5 million where the question names the magnitude.
        word = (reference.magnitude + answer.magnitude).rstrip("s")
        if word in asked and (len(word) > 1 or not word.isascii()):
            wanted, found = options[0]
            options.append((wanted / reference.scale, found / answer.scale))
    return any(within(wanted, found, tolerance) for wanted, found in options)


def same_words(reference: str, answer: str, question: str | None) -> str | None:
    """The rule by which two answers say the same in words ("text", "truth", "context"), or None."""
    wanted, found = label(reference), label(answer)
    if not found:
        return None
    if wanted == found:
        return "text"
    if fold(reference) in TRUTH_REFERENCES:
        said = truth(fold(unwrap(answer)), question)
        return "truth" if said is not None and said == truth(fold(reference)) else None
    return "context" if only_adds_context(wanted, found, question) else None


_NUMBER_IN_WORDS = re.compile(
    r"(?:(?P<before>(?:[^\W\d_][^\W\d_'-]*[\s,]+){0,25}?)(?:is|was|are|were|equals|:|=|be|in|year)\s*"
    r"|(?P<chinese>[\u4e00-\u9fff]{1,40}?)[是为:]\s*)(?P<number>[-+$€£¥]?\.?\d\S*(?:\s+[^\s]+){0,3})",
)


def number_in_words_of(answer: str, question: str | None) -> PlainNumber | None:
    """The number of a folded sentence that repeats the question ("the value for China is 25"); None for other words."""
    match = _NUMBER_IN_WORDS.fullmatch(answer) if len(answer) <= MAX_MATH_CHARS else None
    if match is None or not is_context(match["before"] or match["chinese"] or "", question):
        return None
    return read_number(match["number"])


def is_code(text: str) -> bool:
    """Whether a numeral is a code rather than a number: "007"."""
    return bool(_CODE.fullmatch(text.strip()))


def same_exact_number(reference: str, answer: str, question: str | None) -> bool | None:
    """Whether two texts are the same number, exactly; None when either is no number (or a code)."""
    wanted, found = read_number(unwrap(reference)), read_number(unwrap(answer))
    if wanted is not None and found is None:
        found = number_in_words_of(fold(unwrap(answer)), question)
    if wanted is None or found is None or any(is_code(text) or text.rstrip().endswith("!") for text in (reference, answer)):
        return None  # "5!" is 120
    return same_number(wanted, found, Fraction(0), question)


def restates(answer: str, reference: str, question: str | None) -> bool:
    """Whether the answer is a passage of the question that is not the reference: "2+3" for "What is 2+3?"."""
    said, asked = "".join(fold(answer).split()), "".join(question_text(question).split())
    return len(said) > 1 and said in asked and said != "".join(fold(reference).split())


def is_mathematical(text: str) -> bool:
    """Whether a text may be read as mathematics at all: short, with a digit or an operator, without prose or dates."""
    return (
        len(text) <= MAX_MATH_CHARS
        and bool(_LOOKS_MATHEMATICAL.search(text))
        and not _LONG_WORD.search(text)
        and not _NOT_ARITHMETIC.search(text)
    )


def same_mathematics(reference: str, answer: str, question: str | None) -> bool:
    """Whether the `math` verifier, with its defaults, finds the two equal. Both must look like mathematics."""
    reference, answer = unwrap(reference), unwrap(answer)
    if not (is_mathematical(reference) and is_mathematical(answer)) or restates(answer, reference, question):
        return False
    entry = registry.find("math", "math")
    arguments = registry.build_args(entry, None)
    try:
        expected = registry.read_reference(entry, reference, arguments)
    except BadReference:
        return False
    return entry.compare(answer, expected, Context(arguments, question)).correct
