"""Boxes and points of a reference and of an answer in pixels of the image they are on, as the verifier read them."""

from collections.abc import Sequence
from typing import Any

from rewards.boxes import iou, is_box, read_places
from rewards.gui_actions import read_action
from rewards.literals import LiteralError
from rewards.registry import BadReference, Verifier
from rewards.verifiers.point import Polygon, hits

VERIFIERS = ("grounding", "point", "gui")
Shape = dict[str, Any]


def shapes(
    entry: Verifier, args: Any, reference: Any, answer: str | None, width: int, height: int
) -> dict[str, list[Shape]] | None:
    """{"reference": shapes, "predicted": shapes}; None for a verifier that compares no places, or a reference it cannot read.

    Coordinates of answers and references are 0 to 1000 of the image's width and height (`extent` of the verifier's arguments).
    """
    if entry.name not in VERIFIERS:
        return None
    extent = float(getattr(args, "extent", 1000.0))
    scale = (width / extent, height / extent)
    try:
        wanted = entry.reference(reference, args)
    except (BadReference, LiteralError, ValueError, TypeError):
        return None
    read = {"grounding": _grounding, "point": _points, "gui": _action}[entry.name]
    known, predicted = read(wanted, answer or "", args)
    return {"reference": [_scaled(one, scale) for one in known], "predicted": [_scaled(one, scale) for one in predicted]}


def _shape(numbers: Sequence[float], label: str | None = None) -> Shape:
    kind = "box" if len(numbers) == 4 else "point"
    points = [list(numbers[place : place + 2]) for place in range(0, len(numbers), 2)]
    return {"kind": kind, "points": points, "label": label, "iou": None, "hit": None}


def _scaled(shape: Shape, scale: tuple[float, float]) -> Shape:
    return shape | {"points": [[round(x * scale[0], 2), round(y * scale[1], 2)] for x, y in shape["points"]]}


def _places(answer: str, count: int) -> list[tuple[tuple[float, ...], str | None]]:
    try:
        return [
            (place.numbers, place.label)
            for place in read_places(answer, count)
            if place.numbers and len(place.numbers) in (2, 4)
        ]
    except LiteralError:
        return []


def _grounding(wanted: Any, answer: str, args: Any) -> tuple[list[Shape], list[Shape]]:
    known = [_shape(one.box, one.label) for one in wanted]
    predicted = []
    for numbers, label in _places(answer, 4):
        shape = _shape(numbers, label)
        if is_box(numbers, args.extent):
            x1, y1, x2, y2 = numbers
            shape["iou"] = max((iou(one.box, (x1, y1, x2, y2)) for one in wanted), default=0.0)
            shape["hit"] = shape["iou"] > args.iou
        predicted.append(shape)
    return known, predicted


def _points(wanted: Any, answer: str, args: Any) -> tuple[list[Shape], list[Shape]]:
    known = []
    for target in wanted.targets:
        if isinstance(target, Polygon):
            corners = [list(corner) for corner in target.corners]
            known.append({"kind": "polygon", "points": corners, "label": None, "iou": None, "hit": None})
        else:
            known.append(_shape(target))
    predicted = []
    for numbers, label in _places(answer, 2):
        shape = _shape(numbers, label)
        if len(numbers) == 2:
            shape["hit"] = any(hits((numbers[0], numbers[1]), target, args.distance) for target in wanted.targets)
        predicted.append(shape)
    return known, predicted


def _action(wanted: Any, answer: str, args: Any) -> tuple[list[Shape], list[Shape]]:
    known = _slots(wanted.parameters, wanted.type)
    try:
        action = read_action(answer, args.vocabulary, args.ignore)
    except LiteralError:
        return known, []
    predicted = _slots(action.parameters, action.type)
    boxes = [one["points"] for one in known if one["kind"] == "box"]
    for shape in predicted:
        if shape["kind"] == "box" and boxes:
            shape["iou"] = max(iou(_box(one), _box(shape["points"])) for one in boxes)
        elif shape["kind"] == "point" and boxes:
            ((x, y),) = shape["points"]
            shape["hit"] = any(box[0][0] <= x <= box[1][0] and box[0][1] <= y <= box[1][1] for box in boxes)
    return known, predicted


def _slots(parameters: dict[str, Any], kind: str | None) -> list[Shape]:
    found = []
    for slot in ("start", "end"):
        place = parameters.get(slot)
        if isinstance(place, tuple) and len(place) in (2, 4):
            found.append(_shape(place, kind if slot == "start" else f"{kind or ''} {slot}".strip()))
    return found


def _box(points: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    return points[0][0], points[0][1], points[1][0], points[1][1]
