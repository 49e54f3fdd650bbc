"""Points on objects: one in each target, edges included.

Source: ScreenSpot, arXiv 2401.10935 (a click inside the box is right). A target is a box, a polygon or a point with a
distance; several targets want one point each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rewards.boxes import Box, Place, Point, best_matching, inside, inside_polygon, is_box, read_places
from rewards.literals import LiteralError, read_literal
from rewards.registry import BadReference, Context, Outcome, verifier

MAX_CORNERS = 200


@dataclass(frozen=True)
class PointArgs:
    """Arguments of the `point` verifier."""

    distance: float = 50.0
    """How far from a reference point a point may lie; boxes and polygons allow none."""
    extent: float = 1000.0
    """The largest coordinate of a reference."""


@dataclass(frozen=True, slots=True)
class Polygon:
    """An area by its corners in order."""

    corners: tuple[Point, ...]


Target = Point | Box | Polygon


@dataclass(frozen=True, slots=True)
class Targets:
    """The reference's targets; `text` is the reference as it was written, when it was text."""

    targets: tuple[Target, ...]
    text: str | None


def read_reference(raw: Any, args: PointArgs) -> Targets:
    """The targets: points `[x, y]`, boxes `[x1, y1, x2, y2]`, objects with either, or `{"polygon": [[x, y], ...]}`.

    Raises BadReference when there is none or one is malformed, empty or out of range.
    """
    text = raw if isinstance(raw, str) else None
    try:
        value = read_literal(raw) if isinstance(raw, str) else raw
        items = value if isinstance(value, list) and any(isinstance(item, dict) for item in value) else [value]
        targets: list[Target] = []
        for item in items:
            if isinstance(item, dict) and "polygon" in item:
                targets.append(_polygon(item["polygon"]))
            else:
                targets += [_target(place, args.extent) for place in read_places(item, 2)]
    except LiteralError as error:
        raise BadReference(str(error)) from error
    if not targets:
        raise BadReference("no-target")
    return Targets(tuple(targets), None if text is None else text.strip())


def _target(place: Place, extent: float) -> Target:
    numbers = place.numbers
    if numbers is not None and len(numbers) == 2 and all(0 <= value <= extent for value in numbers):
        return numbers[0], numbers[1]
    if numbers is None or not is_box(numbers, extent):
        raise BadReference("bad-target")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _polygon(corners: Any) -> Polygon:
    places = read_places(corners, 2)
    if not 3 <= len(places) <= MAX_CORNERS or any(place.numbers is None or len(place.numbers) != 2 for place in places):
        raise BadReference("bad-polygon")
    points = tuple((place.numbers[0], place.numbers[1]) for place in places if place.numbers is not None)
    doubled = sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(points, (*points[1:], points[0]), strict=True))
    if doubled == 0:
        raise BadReference("bad-polygon")
    return Polygon(points)


def hits(point: Point, target: Target, distance: float) -> bool:
    """Whether `point` is in the box or polygon, or within `distance` of the point."""
    if isinstance(target, Polygon):
        return inside_polygon(point, target.corners)
    if len(target) == 4:
        return inside(point, target)
    return math.hypot(point[0] - target[0], point[1] - target[1]) <= distance


@verifier(
    "point",
    domains=("point",),
    args=PointArgs,
    reference=read_reference,
    libraries=("scipy.optimize",),
    bounded=lambda answer, reference: len(answer) <= 64 and len(str(reference)) <= 64,
)
def point(answer: str, reference: Targets, context: Context) -> Outcome:
    """Targets hit, one point each / targets; 0 for more points than targets."""
    args: PointArgs = context.args
    targets = reference.targets
    context.note("reference", targets)
    if answer.strip() == reference.text:
        context.note("rule", "the reference word for word")
        return Outcome(1.0, True)
    try:
        places = read_places(answer, 2)
    except LiteralError as error:
        return Outcome(0.0, False, str(error))
    context.note("answer", [place.numbers for place in places])
    if not places:
        return Outcome(0.0, False, "no-points")
    points = [(place.numbers[0], place.numbers[1]) for place in places if place.numbers is not None and len(place.numbers) == 2]
    if len(points) < len(places):
        return Outcome(0.0, False, "not-a-point")
    if len(points) > len(targets):
        return Outcome(0.0, False, "many-points")  # else a grid of points would hit everything
    right = len(best_matching([[float(hits(found, target, args.distance)) for found in points] for target in targets]))
    context.note("rule", f"{right} of {len(targets)} targets hit")
    correct = right == len(targets)
    reason = None if correct else ("missing-points" if len(points) < len(targets) and right == len(points) else "outside")
    return Outcome(right / len(targets), correct, reason)
