"""Boxes of objects: matched one to one with the reference's, paid per match, divided by the larger number of boxes.

Source: GLM-4.5V report, arXiv 2507.01006, table 1 (grounding): boxes with IoU above a threshold / total. The total is
the larger of the two numbers, so that spraying boxes does not pay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rewards.boxes import Box, Place, best_matching, iou, is_box, read_places
from rewards.literals import LiteralError
from rewards.plain_text import fold
from rewards.registry import BadReference, Context, Outcome, verifier

MAX_LABEL_CHARS = 200


@dataclass(frozen=True)
class GroundingArgs:
    """Arguments of the `grounding` verifier."""

    mode: Literal["threshold", "mean_iou"] = "threshold"
    """Each matched box counts 1 when its IoU is above `iou`, or counts its IoU."""
    iou: float = 0.5
    """The intersection over union that a right box exceeds."""
    labels: Literal["auto", "ignore"] = "auto"
    """`auto`: a reference box with a label is only matched by a box with that label."""
    extent: float = 1000.0
    """The largest coordinate: a box that reaches beyond it matches nothing."""


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """A box and its folded label."""

    box: Box
    label: str | None


def _label(place: Place) -> str | None:
    return None if place.label is None else fold(place.label[:MAX_LABEL_CHARS])


def _box(place: Place, extent: float) -> LabelledBox | None:
    """The box of a place, None when it is malformed, inverted, empty or out of range."""
    if place.numbers is None or not is_box(place.numbers, extent):
        return None
    x1, y1, x2, y2 = place.numbers
    return LabelledBox((x1, y1, x2, y2), _label(place))


def read_reference(raw: Any, args: GroundingArgs) -> tuple[LabelledBox, ...]:
    """The reference's boxes, perhaps none. Raises BadReference when one is not a box in range."""
    try:
        boxes = tuple(_box(place, args.extent) for place in read_places(raw, 4))
    except LiteralError as error:
        raise BadReference(str(error)) from error
    if any(box is None for box in boxes):
        raise BadReference("bad-box")
    return tuple(box for box in boxes if box is not None)


def _bounded(answer: str, reference: Any) -> bool:
    """One reference box needs no assignment, hence no scipy."""
    return len(answer) <= 256 and isinstance(reference, list) and (len(reference) == 1 or _is_flat(reference))


def _is_flat(reference: list[Any]) -> bool:
    return len(reference) == 4 and not any(isinstance(item, (list, dict)) for item in reference)


@verifier(
    "grounding",
    domains=("grounding",),
    args=GroundingArgs,
    reference=read_reference,
    bounded=_bounded,
    libraries=("scipy.optimize",),
)
def grounding(answer: str, reference: tuple[LabelledBox, ...], context: Context) -> Outcome:
    """Matched boxes / max(#reference, #answer); 1 when both have none."""
    args: GroundingArgs = context.args
    context.note("reference", [(*item.box, item.label) for item in reference])
    try:
        places = read_places(answer, 4)
    except LiteralError as error:
        return Outcome(0.0, False, str(error))
    found = [_box(place, args.extent) for place in places]
    context.note("answer", ["bad-box" if item is None else (*item.box, item.label) for item in found])
    if not found and not reference:
        return Outcome(1.0, True)
    if not found:
        return Outcome(0.0, False, "no-boxes")
    overlaps = [[_overlap(wanted, item, args) for item in found] for wanted in reference]
    right = sum(overlaps[r][c] > args.iou for r, c in best_matching(_above(overlaps, args.iou)))
    if args.mode == "threshold":
        paid = float(right)
        context.note("rule", f"{right} boxes above IoU {args.iou} / max({len(reference)}, {len(found)})")
    else:
        paid = sum(overlaps[r][c] for r, c in best_matching(overlaps))
        context.note("rule", f"summed IoU {paid:.6f} / max({len(reference)}, {len(found)})")
    score = paid / max(len(reference), len(found))
    correct = right == len(reference) == len(found)
    return Outcome(score, correct, None if correct else _fault(reference, found, right))


def _overlap(wanted: LabelledBox, found: LabelledBox | None, args: GroundingArgs) -> float:
    if found is None or (args.labels == "auto" and wanted.label is not None and found.label != wanted.label):
        return 0.0
    return iou(wanted.box, found.box)


def _above(overlaps: list[list[float]], threshold: float) -> list[list[float]]:
    """Weights whose best matching has as many pairs above the threshold as can be."""
    return [[float(overlap > threshold) for overlap in line] for line in overlaps]


def _fault(reference: tuple[LabelledBox, ...], found: list[LabelledBox | None], right: int) -> str:
    if None in found:
        return "bad-box"
    if len(found) != len(reference):
        return "extra-boxes" if len(found) > len(reference) else "missing-boxes"
    return "box-differs"
