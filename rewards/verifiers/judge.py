"""Answers that only a model can compare: long documents, places, descriptions. Without a judge: equal texts or abstain.

Source: GLM-4.5V report, arXiv 2507.01006, table 1 (long document and place questions are judged).
"""

from __future__ import annotations

import math
from typing import Any

from rewards.judge import ITEM_TIMEOUT_S, JudgeArgs, equivalent
from rewards.non_answers import non_answer
from rewards.registry import BadReference, Context, Outcome, verifier

MAX_REFERENCE_CHARS = 20_000
MAX_REFERENCES = 64


def read_references(raw: Any, args: JudgeArgs) -> tuple[str, ...]:
    """The acceptable answers: one text or number, or a list of them. Raises BadReference."""
    items = raw if isinstance(raw, list) else [raw]
    if not items or len(items) > MAX_REFERENCES:
        raise BadReference("too-many-references" if items else "empty-reference")
    if any(isinstance(item, bool) or not isinstance(item, (str, int, float)) for item in items):
        raise BadReference("not-text")
    if any(isinstance(item, int) and item.bit_length() > 1000 for item in items):
        raise BadReference("too-long")
    if any(isinstance(item, float) and not math.isfinite(item) for item in items):
        raise BadReference("non-finite")
    texts = tuple(" ".join(str(item).split()) for item in items)
    if not all(any(char.isprintable() and not char.isspace() for char in text) for text in texts):
        raise BadReference("empty-reference")
    if any(len(text) > MAX_REFERENCE_CHARS for text in texts):
        raise BadReference("too-long")
    return texts


def is_given(answer: str, raw_reference: Any) -> bool:
    """Whether the answer is the reference as written: the one case that needs no judge, whatever is configured."""
    return isinstance(raw_reference, str) and len(answer) <= 4096 and answer.strip() == raw_reference.strip()


@verifier(
    "judge",
    domains=("judge",),
    args=JudgeArgs,
    reference=read_references,
    bounded=is_given,
    timeout_s=ITEM_TIMEOUT_S,
    libraries=("httpx",),
)
def judge(answer: str, references: tuple[str, ...], context: Context) -> Outcome:
    """1 for the words of a reference; 0 for what answers nothing; otherwise what the judge says."""
    text = " ".join(answer.split())
    context.note("reference", " | ".join(references))
    context.note("answer", text)
    if text in references:
        context.note("rule", "same words")
        return Outcome(1.0, True)
    fault = non_answer(answer, context.question, references)
    if fault is not None:
        context.note("rule", "no answer to judge")
        return Outcome(0.0, False, fault)
    return ask(answer, references, context)


def ask(answer: str, references: tuple[str, ...], context: Context) -> Outcome:
    """The judge's finding. Raises Abstain when there is none."""
    context.note("rule", "judge")
    same = equivalent(answer.strip(), references, context)
    return Outcome(1.0, True) if same else Outcome(0.0, False, "judged-different")
