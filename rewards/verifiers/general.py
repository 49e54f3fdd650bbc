"""Short answers of no domain in particular: equal words, then what closed answers decide, then a judge, else abstain.

Source: GLM-4.5V report, arXiv 2507.01006, table 1 (general VQA: exact match, then a judge).
"""

from __future__ import annotations

import re
from typing import Any

from rewards.judge import ITEM_TIMEOUT_S, JudgeArgs
from rewards.non_answers import non_answer
from rewards.plain_text import fold
from rewards.registry import Context, Outcome, verifier
from rewards.verifiers.judge import ask, is_given, read_references

MAX_ANSWER_CHARS = 4096
"""A longer text is no short answer; the `judge` and `open` verifiers take longer ones."""

# Outer punctuation folds away, but a factorial is none.
_FACTORIAL = re.compile(r"(?<=[\d)])\s{0,8}[!！]+\s{0,8}$")
_INTEGER = re.compile(r"[-+]?\d{1,18}")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3}){1,5}")
_SEPARATOR = re.compile(r"[\s,;|/、]+|(?<=\d)[-~](?=\d)|(?<=[\u4e00-\u9fff])[或和至到](?=[\u4e00-\u9fff])")
_JOINING = frozenset({"or", "and", "to", "maybe", "either", "或", "或者", "和", "到", "至", "还是"})
_YES = frozenset({"yes", "true", "correct", "是", "对", "正确", "是的"})
_NO = frozenset({"no", "false", "incorrect", "否", "不是", "错", "错误", "不对"})
_OR = re.compile(r"\s+(?:or maybe|or else|and/or|or|maybe|或者|或是|或|还是)\s+|或者?|还是")
_EITHER = re.compile(r"^(?:either|要么|不是)\s+")


def same(answer: str, reference: str) -> bool:
    """Whether two short texts are equal but for case, white space, width, quotes and outer punctuation."""
    return fold(answer) == fold(reference) and bool(_FACTORIAL.search(answer)) == bool(_FACTORIAL.search(reference))


def closed(folded: str) -> tuple[str, str] | None:
    """(kind, value) of an answer out of a closed set: an integer, yes or no, one letter. Others: None."""
    if _INTEGER.fullmatch(folded):
        return "integer", str(int(folded))
    if folded in _YES or folded in _NO:
        return "yes-no", "yes" if folded in _YES else "no"
    if len(folded) == 1 and folded.isascii() and folded.isalpha():
        return "letter", folded
    return None


def settled(answer: str, references: tuple[str, ...]) -> str | None:
    """The reason why an answer that is not a reference is wrong without asking anyone, or None.

    `different-value`: both are of one closed set. `many-answers`: several of the set for a reference that is one of it,
    or a reference beside something else, joined by "or".
    """
    folded, known = fold(answer), [fold(reference) for reference in references]
    kinds = {kind[0] for kind in map(closed, known) if kind is not None}
    if len(kinds) == 1 and all(map(closed, known)):
        if _enumerates(folded, kinds):
            return "many-answers"
        found = closed(folded)
        if found is not None and found[0] in kinds and found not in map(closed, known):
            return "different-value"
    if not any(_OR.search(reference) for reference in known):
        parts = [part for part in map(fold, _OR.split(_EITHER.sub("", folded))) if part]
        if len(parts) > 1 and 0 < sum(part in known for part in parts) < len(parts):
            return "many-answers"
    return None


def _enumerates(folded: str, kinds: set[str]) -> bool:
    """Whether the answer is a list or a range of different members of a closed set ("1, 2, 3", "A B C D", "yes or no")."""
    words = [word for word in _SEPARATOR.split(folded) if word and word not in _JOINING]
    if _GROUPED.fullmatch(folded) or ("/" in folded and len(words) == 2 and "integer" in kinds):
        return False  # 1,000 and 6/2 are one number
    values = {closed(word) for word in words}
    return len(values) > 1 and all(value is not None and value[0] in kinds for value in values)


def _bounded(answer: str, raw_reference: Any) -> bool:
    return is_given(answer, raw_reference) or (
        isinstance(raw_reference, str) and len(answer) <= 512 and len(raw_reference) <= 512 and same(answer, raw_reference)
    )


@verifier(
    "general",
    domains=("general",),
    args=JudgeArgs,
    reference=read_references,
    bounded=_bounded,
    timeout_s=ITEM_TIMEOUT_S,
    libraries=("httpx",),
)
def general(answer: str, references: tuple[str, ...], context: Context) -> Outcome:
    """1 for a reference's words, 0 for what is no answer or a different closed one, otherwise what the judge says."""
    given = " ".join(answer.split()) in references
    if not given and len(answer) > MAX_ANSWER_CHARS:
        return Outcome(0.0, False, "answer-too-long")
    context.note("reference", " | ".join(map(fold, references)))
    context.note("answer", fold(answer))
    if given or any(same(answer, reference) for reference in references):
        context.note("rule", "same words")
        return Outcome(1.0, True)
    fault = non_answer(answer, context.question, references)
    if fault is not None:
        context.note("rule", "no answer to judge")
        return Outcome(0.0, False, fault)
    fault = settled(answer, references)
    if fault is not None:
        context.note("rule", "closed answers differ" if fault == "different-value" else "more than one answer")
        return Outcome(0.0, False, fault)
    return ask(answer, references, context)
