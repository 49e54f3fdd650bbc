"""Screen actions: the type must match, then every parameter. The score is the product of the parameters' credits.

An action is a JSON or Python-style object (`{"action_type": "click", "box_2d": [[x1, y1, x2, y2]]}`) or a call
(`left_click(start_box='[x, y]')`). Reference `{"bbox_xywh": [x, y, w, h], "img_size": [W, H]}` asks for a point inside
the box (ScreenSpot, arXiv 2401.10935; edges inclusive). Source: GLM-4.5V report, arXiv 2507.01006, table 1 (GUI).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rewards.boxes import EDGE, Box, Point, iou
from rewards.literals import Call, LiteralError, read_literal
from rewards.registry import BadReference, Context, Outcome, verifier

_TYPE_KEYS = ("action_type", "action")
_SLOTS = {
    **dict.fromkeys(("box_2d", "bbox", "bbox_2d", "box", "start_box", "point", "point_2d", "coordinate"), "start"),
    **dict.fromkeys(("end_box", "end_point"), "end"),
    **dict.fromkeys(("text", "content"), "text"),
    **dict.fromkeys(("keys", "key"), "keys"),
}


@dataclass(frozen=True)
class GuiArgs:
    """Arguments of the `gui` verifier. Coordinates are in the reference's own units, by convention 0-1000."""

    iou: float = 0.5
    """A box is correct from this intersection over union; its credit is the overlap itself."""
    distance_scale: float = 100.0
    """A point this far from the reference point has no credit; the credit falls linearly from 1."""
    distance: float = 50.0
    """A point is correct up to this distance."""
    text: float = 1.0
    """Typed text is correct from this similarity."""
    ignore: tuple[str, ...] = ("element_info",)
    """Parameters that describe the target and are not compared."""


@dataclass(frozen=True)
class Action:
    """One action; `type` is None for a reference that asks only for a place on the screen."""

    type: str | None
    parameters: dict[str, Any]


def read_action(value: Any, ignore: tuple[str, ...] = ()) -> Action:
    """The action a literal denotes: places as lists of numbers, parameters under canonical names.

    Raises LiteralError when it is not exactly one action.
    """
    if isinstance(value, list) and value and all(isinstance(item, (dict, Call)) for item in value):
        if len(value) > 1:
            raise LiteralError("many-actions")
        value = value[0]
    raw: dict[str, Any]
    kind: str | None
    if isinstance(value, Call):
        raw, kind = dict(value.named), value.name
        if value.positional:
            if "start_box" in raw or not _is_numbers(list(value.positional)):
                raise LiteralError("unknown-arguments")
            raw["start_box"] = list(value.positional)
    elif isinstance(value, dict):
        raw = dict(value)
        keys = [key for key in _TYPE_KEYS if key in raw]
        if len(keys) > 1:
            raise LiteralError("two-types")
        found = raw.pop(keys[0]) if keys else None
        if keys and not isinstance(found, str):
            raise LiteralError("type-not-text")
        kind = found
    elif _is_numbers(value):
        raw, kind = {"start_box": value}, None
    else:
        raise LiteralError("not-an-action")
    parameters: dict[str, Any] = {}
    for key, item in raw.items():
        if key in ignore:
            continue
        slot = _SLOTS.get(key, key)
        if slot in parameters:
            raise LiteralError("duplicate-key")
        parameters[slot] = _place(item) if slot in ("start", "end") else item
    return Action(None if kind is None else kind.strip().casefold(), parameters)


def _is_numbers(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (2, 4)
        and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value)
    )


def _place(value: Any) -> Point | Box:
    """A point or box from `[x, y]`, `[x1, y1, x2, y2]`, either inside one more list, or the text of any of these."""
    if isinstance(value, str):
        value = read_literal(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not _is_numbers(value):
        raise LiteralError("not-a-place")
    x, y, *rest = (float(item) for item in value)
    return (x, y, rest[0], rest[1]) if rest else (x, y)


def read_reference(raw: Any, args: GuiArgs) -> Action:
    """The reference action. Raises BadReference with the reason."""
    if isinstance(raw, dict) and "bbox_xywh" in raw:
        return Action(None, {"start": _screenspot_box(raw)})
    try:
        action = read_action(read_literal(raw) if isinstance(raw, str) else raw, args.ignore)
    except LiteralError as error:
        raise BadReference(str(error)) from error
    if action.type is None and set(action.parameters) != {"start"}:
        raise BadReference("no-action-type")
    for slot in ("start", "end"):
        place = action.parameters.get(slot)
        if place is not None and len(place) == 4 and (place[0] >= place[2] or place[1] >= place[3]):
            raise BadReference("empty-box")
    if "text" in action.parameters and not isinstance(action.parameters["text"], str):
        raise BadReference("text-not-text")
    return action


def _screenspot_box(raw: dict[str, Any]) -> Box:
    """The box of a ScreenSpot reference in 0-1000 coordinates, from pixels."""
    box: Any = raw["bbox_xywh"]
    size: Any = raw.get("img_size")
    if not _is_numbers(box) or len(box) != 4 or not _is_numbers(size) or len(size) != 2 or min(size) <= 0:
        raise BadReference("bad-screen-box")
    (x, y, width, height), (across, down) = box, size
    if width < 0 or height < 0:
        raise BadReference("empty-box")
    return (1000 * x / across, 1000 * y / down, 1000 * (x + width) / across, 1000 * (y + height) / down)


@verifier(
    "gui",
    domains=("gui",),
    args=GuiArgs,
    reference=read_reference,
    bounded=lambda answer, reference: len(answer) <= 1024 and len(str(reference)) <= 1024,
)
def gui(answer: str, reference: Action, context: Context) -> Outcome:
    """Type equal, the same parameters present, then the product of their credits."""
    args: GuiArgs = context.args
    text = answer.strip().removeprefix("Action:")
    try:
        value = read_literal(text)
        if isinstance(value, dict) and "point_norm" in value:
            value = {**value, "point": _norm_point(value)}
            del value["point_norm"]
        action = read_action(value, args.ignore)
    except LiteralError as error:
        return Outcome(0.0, False, str(error))
    if action.type != reference.type and not (reference.type is None and action.type in ("click", "left_click")):
        return Outcome(0.0, False, "action-type")
    for found, wanted, reason in (
        (action.parameters, reference.parameters, "extra-argument"),
        (reference.parameters, action.parameters, "missing-argument"),
    ):
        if set(found) - set(wanted):
            return Outcome(0.0, False, reason)
    score, correct, fault = 1.0, True, ""
    for slot, expected in reference.parameters.items():
        credit, right = _credit(slot, action.parameters[slot], expected, args)
        score *= credit
        if not right:
            correct, fault = False, fault or f"{slot}-differs"
    return Outcome(score, correct, fault or None)


def _norm_point(value: dict[str, Any]) -> list[float]:
    """A point given in fractions of the screen, in 0-1000 coordinates."""
    point = value["point_norm"]
    if not _is_numbers(point) or len(point) != 2 or "point" in value:
        raise LiteralError("not-a-place")
    return [1000.0 * point[0], 1000.0 * point[1]]


def _credit(slot: str, found: Any, expected: Any, args: GuiArgs) -> tuple[float, bool]:
    """Credit in [0, 1] of one parameter, and whether it is right."""
    if slot in ("start", "end"):
        return _place_credit(found, expected, args)
    if slot == "text":
        credit, similarity = text_credit(found, expected)
        return credit, similarity >= args.text
    if slot == "keys":
        same = _keys(found) == _keys(expected)
    elif isinstance(expected, str) and isinstance(found, str):
        same = found.strip().casefold() == expected.strip().casefold()
    else:
        same = type(found) is type(expected) and found == expected
    return float(same), same


def _place_credit(found: Point | Box, expected: Point | Box, args: GuiArgs) -> tuple[float, bool]:
    if len(found) == 4 and len(expected) == 4:
        overlap = iou(found, expected)
        return overlap, overlap >= args.iou
    if len(found) == 2 and len(expected) == 4:
        inside = all(expected[axis] - EDGE <= found[axis] <= expected[axis + 2] + EDGE for axis in (0, 1))
        return float(inside), inside
    if len(found) == 2 and len(expected) == 2:
        distance = math.hypot(found[0] - expected[0], found[1] - expected[1])
        return max(0.0, 1.0 - distance / args.distance_scale), distance <= args.distance
    return 0.0, False  # a box where a point is asked for: an area could always be chosen to cover the point


def text_credit(found: Any, expected: str) -> tuple[float, float]:
    """Credit for typed text, and its edit similarity.

    0.4 for the right text with slips, plus 0.6 x similarity (the practice label of 3 slips in 12 letters is 0.85).
    No credit for empty text, for a mere part of the expected text, or when no more than half agrees: those are
    what a policy writes that has not read the task.
    """
    from rapidfuzz.distance import Levenshtein

    if not isinstance(found, str):
        return 0.0, 0.0
    found, expected = found.strip(), expected.strip()
    if found == expected:
        return 1.0, 1.0
    similarity = Levenshtein.normalized_similarity(found, expected)
    if found in expected or similarity <= 0.5:
        return 0.0, similarity
    return 0.4 + 0.6 * similarity, similarity


def _keys(value: Any) -> frozenset[str]:
    """The keys of a combination, in any order: "Ctrl+C", "c + ctrl" or ["ctrl", "c"]."""
    parts = value if isinstance(value, list) else str(value).split("+")
    return frozenset(str(part).strip().casefold() for part in parts)
