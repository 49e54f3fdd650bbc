"""Answers about a video: time spans by temporal IoU, points in time, or what another verifier compares.

Temporal IoU: Gao et al., "TALL: Temporal activity localization via language query", arXiv 1705.02101. The kind of the
reference decides: spans, a time, option letters (verifier `choice`) or a short text (verifier `vqa`).
Source: GLM-4.5V report, arXiv 2507.01006, table 1 (video: exact match).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from rewards import registry
from rewards.boxes import best_matching
from rewards.denials import denied
from rewards.plain_numbers import read_number
from rewards.plain_text import unwrap
from rewards.registry import BadReference, Context, Outcome, verifier
from rewards.time_spans import Span, TimeError, merged, read_times, union_iou

_LETTERS = re.compile(r"\(?[A-Z]\)?[.:]?|[A-Z](?:\s*,\s*[A-Z]){1,25}")


@dataclass(frozen=True)
class VideoArgs:
    """Arguments of the `video` verifier."""

    iou: float = 0.5
    """The temporal IoU from which an answer counts as correct; the score is the IoU itself."""
    tolerance: float = 0.0
    """How many seconds an answer may lie from a reference time."""
    sets: Literal["union", "matching"] = "union"
    """Several spans: IoU of all the time they cover, or the IoUs of one-to-one matched spans / the larger number."""
    bare_dash: bool = False
    """Whether "10-20" is a span, too; without a unit or a clock it may as well be a score, a page or a date."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Reference spans; `bare_dash`: they were written with a bare dash, so answers may be."""

    spans: tuple[Span, ...]
    bare_dash: bool


@dataclass(frozen=True, slots=True)
class Delegated:
    """A reference that the verifier called `name` has read."""

    name: str
    reference: Any
    args: Any


def read_reference(raw: Any, args: VideoArgs) -> Spans | float | Delegated:
    """Spans, a time in seconds, or the reading of `choice` or `vqa`. Raises BadReference when it is none of these."""
    if isinstance(raw, str) and not any(char.isdigit() for char in raw):
        return _delegate("choice" if _LETTERS.fullmatch(raw.strip()) else "vqa", raw)
    for bare_dash in (False, True):
        try:
            found = read_times(raw, bare_dash=bare_dash, prose=False)
        except TimeError as error:
            if str(error) == "ambiguous-dash":
                continue
            if isinstance(raw, str) and str(error) in ("not-a-time", "no-time", "unpaired-time", "hedged"):
                return _delegate("vqa", raw)
            raise BadReference(str(error)) from error
        return Spans(found, bare_dash) if isinstance(found, tuple) else found
    raise BadReference("ambiguous-dash")


def _delegate(name: str, raw: Any) -> Delegated:
    entry = registry.find("video", name)
    args = registry.build_args(entry, None)
    return Delegated(name, registry.read_reference(entry, raw, args), args)


@verifier(
    "video",
    domains=("video",),
    args=VideoArgs,
    reference=read_reference,
    libraries=("scipy.optimize",),
    bounded=lambda answer, reference: (
        len(answer) <= 128 and isinstance(reference, (list, int, float)) and len(str(reference)) <= 64
    ),
)
def video(answer: str, reference: Spans | float | Delegated, context: Context) -> Outcome:
    """Temporal IoU of spans; equality within the tolerance of times; otherwise the other verifier's finding."""
    args: VideoArgs = context.args
    if isinstance(reference, Delegated):
        context.note("rule", f"compared by {reference.name}")
        entry = registry.find("video", reference.name)
        outcome: Outcome = entry.compare(answer, reference.reference, Context(reference.args, context.question, context.notes))
        return outcome
    context.note("reference", reference.spans if isinstance(reference, Spans) else reference)
    if denied(answer):
        return Outcome(0.0, False, "hedged")
    try:
        found = read_times(answer, bare_dash=args.bare_dash or (isinstance(reference, Spans) and reference.bare_dash))
    except TimeError as error:
        count = read_number(unwrap(answer)) if isinstance(reference, float) and str(error) == "no-time" else None
        if count is None or not count.spelled or count.unit is not None or count.magnitude:
            return Outcome(0.0, False, str(error))
        found = float(count.value)
    context.note("answer", found)
    if isinstance(reference, Spans):
        return _span_outcome(found, reference.spans, context) if isinstance(found, tuple) else Outcome(0.0, False, "not-a-span")
    if isinstance(found, tuple):
        return Outcome(0.0, False, "not-a-time")
    context.note("rule", f"within {args.tolerance} s")
    # Decimal times are not exact in binary: 12.3 - 12.2 is a little more than 0.1.
    right = abs(found - reference) <= args.tolerance + 1e-9
    return Outcome(float(right), right, None if right else "different-value")


def _span_outcome(found: tuple[Span, ...], wanted: tuple[Span, ...], context: Context) -> Outcome:
    """Paid by overlap; more separate spans than the reference has are an enumeration."""
    args: VideoArgs = context.args
    if len(merged(found)) > len(merged(wanted)):
        return Outcome(0.0, False, "many-spans")
    if args.sets == "union":
        score = union_iou(found, wanted)
        context.note("rule", "IoU of all time covered")
    else:
        pairs = [[union_iou([a], [b]) for b in found] for a in wanted]
        score = sum(pairs[r][c] for r, c in best_matching(pairs)) / max(len(found), len(wanted))
        context.note("rule", "one-to-one IoU / max(#reference, #answer)")
    return Outcome(score, score >= args.iou, None if score == 1.0 else "span-differs")
