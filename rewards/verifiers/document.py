"""Questions on documents: ANLS, the average normalised Levenshtein similarity, against the nearest accepted reference.

Source: Biten et al. 2019, Scene Text Visual Question Answering (arXiv 1905.13648, section 4); DocVQA (arXiv 2007.00398).
Lists (several spans, in any order) are matched one to one, as in ANLS* (arXiv 2402.03848).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from rewards.literals import LiteralError, read_literal
from rewards.registry import BadReference, Context, Outcome, verifier
from rewards.stream_safe import normalise

MAX_CHARS = 20_000
MAX_SPANS = 64


@dataclass(frozen=True)
class DocumentArgs:
    """Arguments of the `document` verifier."""

    threshold: float = 0.5
    """A similarity below this scores 0 (the threshold of ANLS)."""
    correct: float = 1.0
    """The score from which the answer counts as correct."""
    reference: Literal["any", "all"] = "any"
    """What a list of references means: accepted alternatives, or spans that must all be given."""
    ordered: bool = False
    """Whether the order of spans counts."""
    separator: str = ","
    """What parts the spans of an answer that is not a JSON list; line ends always do."""


@dataclass(frozen=True)
class Reference:
    """Accepted answers, each a tuple of spans; plain answers have one span."""

    accepted: tuple[tuple[str, ...], ...]


def plain(text: str) -> str:
    """NFC, case-folded, white space collapsed: what ANLS compares."""
    return " ".join(normalise("NFC", text).casefold().split())


def _text(raw: Any) -> str:
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise BadReference("not-text")
    if len(str(raw)) > MAX_CHARS:
        raise BadReference("too-long")
    text = plain(str(raw))
    if not text:
        raise BadReference("empty-reference")
    return text


def read_reference(raw: Any, args: DocumentArgs) -> Reference:
    """A text, a list of accepted texts, or (`reference="all"`) a list of spans; a list inside a list is a list of spans.

    Raises BadReference.
    """
    if not isinstance(raw, list):
        parts = split(raw, args.separator) if args.reference == "all" and isinstance(raw, str) else [raw]
        return Reference((tuple(_text(part) for part in parts),))
    if not raw:
        raise BadReference("empty-reference")
    if len(raw) > MAX_SPANS or any(isinstance(part, list) and not 0 < len(part) <= MAX_SPANS for part in raw):
        raise BadReference("bad-list")
    if args.reference == "all":
        return Reference((tuple(_text(part) for part in raw),))
    return Reference(tuple(tuple(map(_text, part)) if isinstance(part, list) else (_text(part),) for part in raw))


def split(text: str, separator: str) -> list[str]:
    """The spans of an answer: of a JSON or Python list, else parted by line ends and the separator."""
    if text.strip().startswith("["):
        try:
            value = read_literal(text.strip())
        except LiteralError:
            value = None
        if isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
            return [item if isinstance(item, str) else json.dumps(item) for item in value]
    lines = text.splitlines()
    parts = [part for line in lines for part in (line.split(separator) if separator else [line])]
    return [part for part in parts if part.strip()]


def similarity(answer: str, reference: str, threshold: float) -> float:
    """1 - edit distance / longer length of two normalised texts, or 0 when that is below `threshold`."""
    from rapidfuzz.distance import Levenshtein

    value = Levenshtein.normalized_similarity(answer, reference)
    return value if value >= threshold else 0.0


def _matched(spans: list[str], wanted: tuple[str, ...], args: DocumentArgs) -> float:
    """The best one-to-one matching's similarities, over the longer list: a missing or an extra span costs its share."""
    table = [[similarity(span, other, args.threshold) for other in wanted] for span in spans]
    if args.ordered or len(spans) == len(wanted) == 1:
        total = sum(table[at][at] for at in range(min(len(spans), len(wanted))))
    else:
        import numpy as np
        from scipy.optimize import linear_sum_assignment

        costs = np.array(table)
        rows, columns = linear_sum_assignment(costs, maximize=True)
        total = float(costs[rows, columns].sum())
    return min(1.0, total / max(len(spans), len(wanted)))


def _is_bounded(answer: str, reference: Any) -> bool:
    flat = reference if isinstance(reference, list) else [reference]
    return len(answer) <= 256 and len(flat) <= 4 and all(isinstance(part, str) and len(part) <= 256 for part in flat)


@verifier(
    "document",
    domains=("document",),
    args=DocumentArgs,
    reference=read_reference,
    bounded=_is_bounded,
    libraries=("rapidfuzz.distance", "scipy.optimize"),
)
def document(answer: str, reference: Reference, context: Context) -> Outcome:
    """ANLS against the nearest accepted reference; containment earns no more than its edit distance."""
    args: DocumentArgs = context.args
    if len(answer) > MAX_CHARS:
        return Outcome(0.0, False, "answer-too-long")
    text = plain(answer)
    if not text:
        return Outcome(0.0, False, "empty-answer")
    context.note("reference", " | ".join(", ".join(spans) for spans in reference.accepted))
    context.note("answer", text)
    context.note("rule", "anls")
    score, many = 0.0, False
    for wanted in reference.accepted:
        if len(wanted) == 1 and args.reference == "any":
            score = max(score, similarity(text, wanted[0], args.threshold))
            continue
        spans = [plain(part) for part in split(answer, args.separator)]
        many = many or len(spans) > MAX_SPANS
        if 0 < len(spans) <= MAX_SPANS:
            score = max(score, _matched(spans, wanted, args))
    return Outcome(
        score, score >= args.correct, None if score == 1.0 else "many-answers" if many and not score else "text-differs"
    )
