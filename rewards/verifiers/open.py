"""Open-ended answers, which nothing can verify: a judge rates them 1..5; box tokens get the minimum.

Source: GLM-4.5V report, arXiv 2507.01006, reward section (box tokens on non-verifiable data get the minimum).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rewards.format import BOX_CLOSE, BOX_OPEN
from rewards.judge import ITEM_TIMEOUT_S, JudgeArgs, rate
from rewards.non_answers import non_answer
from rewards.registry import BadReference, Context, Outcome, verifier
from rewards.verifiers.judge import MAX_REFERENCE_CHARS, is_given

_RUBRIC = "Helpful, correct, complete, to the point, clearly written, in the language of the question."
_KEYS = {"reference", "rubric"}


@dataclass(frozen=True)
class OpenArgs(JudgeArgs):
    """Arguments of the `open` verifier: those of the judge, and where a good answer begins."""

    threshold: float = 0.75
    """The score from which the answer counts as correct; 0.75 is a rating of 4."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"open argument 'threshold' is {self.threshold!r}; expected above 0, at most 1")


@dataclass(frozen=True)
class OpenReference:
    """A model answer, or criteria, or both, or neither."""

    text: str | None = None
    rubric: str | None = None


def read_reference(raw: Any, args: OpenArgs) -> OpenReference:
    """A text is a model answer; a mapping may hold `reference` and `rubric`; None asks for the general criteria alone.

    Raises BadReference.
    """
    if raw is None:
        return OpenReference()
    fields = raw if isinstance(raw, dict) else {"reference": raw}
    if not fields or set(fields) - _KEYS:
        raise BadReference("unknown-key" if fields else "empty-reference")
    for text in fields.values():
        if not isinstance(text, str):
            raise BadReference("not-text")
        if not any(char.isprintable() and not char.isspace() for char in text):
            raise BadReference("empty-reference")
        if len(text) > MAX_REFERENCE_CHARS:
            raise BadReference("too-long")
        if BOX_OPEN in text or BOX_CLOSE in text:
            raise BadReference("box-in-reference")
    return OpenReference(fields.get("reference"), fields.get("rubric"))


@verifier(
    "open",
    domains=("open",),
    args=OpenArgs,
    reference=read_reference,
    bounded=is_given,
    timeout_s=ITEM_TIMEOUT_S,
    box="forbidden",
    libraries=("httpx",),
)
def open_ended(answer: str, reference: OpenReference, context: Context) -> Outcome:
    """(rating - 1) / 4 by the judge; `answer` is all the text after the think part, not a box."""
    args: OpenArgs = context.args
    text = answer.strip()
    context.note("reference", reference.text or "none")
    context.note("answer", text)
    if BOX_OPEN in text or BOX_CLOSE in text:
        context.note("rule", "box on open-ended data")
        return Outcome(0.0, False, "box-on-unverifiable")
    if reference.text is not None and text == reference.text.strip():
        context.note("rule", "same words")
        return Outcome(1.0, True)
    known = () if reference.text is None else (reference.text,)
    fault = non_answer(text, context.question, known, prose=True)
    if fault is not None:
        context.note("rule", "no answer to judge")
        return Outcome(0.0, False, fault)
    context.note("rule", "judge's rating")
    criteria = [part for part in (args.rubric, reference.rubric) if part] or [_RUBRIC]
    rating = rate(text, known, "\n".join(criteria), context)
    score = (rating - 1.0) / 4.0
    return Outcome(score, score >= args.threshold, None if score == 1.0 else "judged-lower")
