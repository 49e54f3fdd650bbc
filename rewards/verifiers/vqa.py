"""Short answers to questions on images: equal words, truth values, numbers, and last mathematics.

Source: GLM-4.5V report, arXiv 2507.01006, table 1 (VQA: exact match). The consensus score is VQA's, arXiv
1505.00468, section 3.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from rewards.denials import denied
from rewards.plain_text import fold, unusable, unwrap
from rewards.registry import BadReference, Context, Outcome, verifier
from rewards.short_answers import is_mathematical, same_exact_number, same_mathematics, same_words

MAX_CHARS = 2_000
MAX_REFERENCES = 64


@dataclass(frozen=True)
class VqaArgs:
    """Arguments of the `vqa` verifier."""

    agreement: Literal["any", "consensus"] = "any"
    """Of several references, one suffices; or the score is VQA's min(1, agreeing annotators / 3)."""
    context: bool = True
    """Whether words of the question may stand beside the reference ("Paris, France" for the capital of France)."""
    plurals: bool = False
    """Whether an English plural equals its singular."""
    mathematics: bool = True
    """Whether answers that read as mathematics are compared as such ("x+1" and "1+x")."""


def read_reference(raw: Any, args: VqaArgs) -> tuple[str, ...]:
    """The accepted references, as texts. Raises BadReference."""
    texts = []
    for part in raw if isinstance(raw, list) else [raw]:
        if not isinstance(part, (str, int, float, bool)):
            raise BadReference("not-text")
        text = str(part)
        if len(text) > MAX_CHARS:
            raise BadReference("too-long")
        if not fold(unwrap(text)):
            raise BadReference("empty-reference")
        texts.append(text)
    if not texts:
        raise BadReference("empty-reference")
    if len(texts) > MAX_REFERENCES:
        raise BadReference("too-long")
    return tuple(texts)


def agreement(agreeing: int, total: int) -> float:
    """VQA's accuracy: min(1, agreeing / 3), averaged over leaving out each of the annotators in turn."""
    if total == 1:
        return float(agreeing)
    # Leaving out one of the agreeing lowers their number by one; the rest leave it as it is.
    return (agreeing * min(1.0, (agreeing - 1) / 3) + (total - agreeing) * min(1.0, agreeing / 3)) / total


def _singular(text: str) -> str:
    """The last word without its plural ending."""
    if len(text) < 4 or not text.endswith("s") or text.endswith(("ss", "us", "is")):
        return text
    if text.endswith("ies"):
        return text[:-3] + "y"
    return text[:-2] if text.endswith(("ches", "shes", "xes", "sses")) else text[:-1]


def same_answer(reference: str, answer: str, question: str | None, args: VqaArgs) -> str | None:
    """The rule by which the answer says what the reference says, or None."""
    if denied(answer, reference):
        return None
    rule = same_words(reference, answer, question)
    if rule is not None and (rule != "context" or args.context):
        return rule
    if args.plurals and _singular(fold(unwrap(reference))) == _singular(fold(unwrap(answer))):
        return "plural"
    number = same_exact_number(reference, answer, question)
    if number is not None:
        return "number" if number else None
    return "mathematics" if args.mathematics and same_mathematics(reference, answer, question) else None


def _is_bounded(answer: str, reference: Any) -> bool:
    flat = reference if isinstance(reference, list) else [reference]
    if len(answer) > 200 or len(flat) > 16 or sum(len(str(part)) for part in flat) > 1_000:
        return False
    return not is_mathematical(answer) or not any(is_mathematical(str(part)) for part in flat)


@verifier("vqa", domains=("vqa",), args=VqaArgs, reference=read_reference, bounded=_is_bounded, libraries=("sympy", "mpmath"))
def vqa(answer: str, reference: tuple[str, ...], context: Context) -> Outcome:
    """Score 1 when the answer says what a reference says; with `agreement="consensus"` by how many annotators agree."""
    args: VqaArgs = context.args
    if (fault := unusable(answer, MAX_CHARS)) is not None:
        return Outcome(0.0, False, fault)
    context.note("reference", " | ".join(fold(unwrap(text)) for text in reference))
    context.note("answer", fold(unwrap(answer)))
    agreeing = 0
    for text, times in Counter(reference).items():
        rule = same_answer(text, answer, context.question, args)
        if rule is None:
            continue
        context.note("rule", rule)
        agreeing += times
        if args.agreement == "any":
            return Outcome(1.0, True)
    score = agreement(agreeing, len(reference)) if agreeing else 0.0
    return Outcome(score, score >= 0.5, None if score == 1.0 else "few-agree" if score else "text-differs")
