"""Points and boxes on an image, in 0-1000 coordinates of its width and height: (x, y) and (x1, y1, x2, y2).

Answers write them as JSON or Python lists, as objects (`{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}`), or between the
tags of a model's own (`<point>x y</point>`). All are read by the bounded grammar of `rewards.literals`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards.literals import LiteralError, read_literal
from rewards.plain_text import unwrap

Box = tuple[float, float, float, float]
Point = tuple[float, float]

EDGE = 1e-6
"""Slack at a box edge, in 1/1000 of the screen: pixel coordinates divided by the screen size do not round-trip."""

MAX_PLACES = 256
_MAX_PROSE = 2_000

_PLACE_KEYS = ("bbox_2d", "bbox", "box_2d", "box", "boxes", "point_2d", "point", "points", "coordinate", "coordinates")
_LABEL_KEYS = ("label", "class", "category", "name")
_TAGS = re.compile(r"</?(?:box|bbox|point|points)>|<\|(?:box|point)_(?:start|end)\|>", re.IGNORECASE)
_FULL_WIDTH = str.maketrans("，；：（）［］｛｝", ",;:()[]{}")
_END = " \t\r\n.;\u3002"
_STARTS = "[({-+.0123456789"
_NAME = re.compile(r"[xy][_\s]?[12]?\s*[=:]\s*", re.IGNORECASE)
_NAMED = re.compile(rf"[(\[]?(?:{_NAME.pattern}[-+]?[\d.]{{1,20}}[\s,;]*){{2,4}}[)\]]?", re.IGNORECASE)
_LEAD = re.compile(
    r"[^\W\d_](?:[^\W\d_]|[\s'\"`*_,!-]){0,120}?(?:\b(?:is|are|at|in|coordinates?|box(?:es)?|points?)\b|[:是为在于标])[\s:*`\"']*(?=[\[({])",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\b(?:or|but|not|maybe|perhaps|possibly|either|neither|except|without|wrong|incorrect)\b|或|不|非|没|错|可能|除",
    re.IGNORECASE,
)
_BETWEEN_LISTS = re.compile(r"([\])}])[\s;]++(?=[\[({])")
_BETWEEN_NUMBERS = re.compile(r"(?<=[0-9.])\s++(?=[-+.0-9])")


@dataclass(frozen=True, slots=True)
class Place:
    """What was written for one object: its numbers, None when they are not finite numbers in a list, and its label."""

    numbers: tuple[float, ...] | None
    label: str | None = None


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2); 0 for an empty one."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0 or a[0] >= a[2] or a[1] >= a[3]:
        return 0.0
    shared = across * down
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def is_box(numbers: Sequence[float], extent: float = 1000.0) -> bool:
    """Whether `numbers` are x1 < x2 and y1 < y2 within 0 and `extent`."""
    if len(numbers) != 4:
        return False
    x1, y1, x2, y2 = numbers
    return x1 < x2 and y1 < y2 and min(x1, y1) >= -EDGE and max(x2, y2) <= extent + EDGE


def inside(point: Point, box: Box) -> bool:
    """Whether `point` lies in `box`, edges included."""
    return all(box[axis] - EDGE <= point[axis] <= box[axis + 2] + EDGE for axis in (0, 1))


def inside_polygon(point: Point, corners: Sequence[Point]) -> bool:
    """Whether `point` lies in the polygon (even-odd rule), edges included."""
    x, y = point
    odd = False
    for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], corners[0]), strict=True):
        length = math.hypot(x2 - x1, y2 - y1)
        if length:
            along = ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length
            along = min(max(along, 0.0), length) / length
            if math.hypot(x - x1 - along * (x2 - x1), y - y1 - along * (y2 - y1)) <= EDGE:
                return True
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            odd = not odd
    return odd


def best_matching(weights: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """The one-to-one pairs (row, column) of greatest total weight; pairs of weight 0 are left out."""
    if not weights or not weights[0]:
        return []
    if len(weights) == 1 or len(weights[0]) == 1:
        value, row, column = max(
            ((value, -r, -c) for r, line in enumerate(weights) for c, value in enumerate(line)), default=(0.0, 0, 0)
        )
        return [(-row, -column)] if value > 0 else []
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(weights, maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if weights[r][c] > 0]


def read_places(value: Any, count: int) -> list[Place]:
    """The boxes (`count` 4) or points (`count` 2) that a text or a literal's value denotes; [] and null denote none.

    A place is malformed, not an error, when it is in a list of places: it still counts as one. Raises LiteralError for
    what is no list of places at all, and for more than 256 of them.
    """
    if isinstance(value, str):
        value = _read_text(value)
    places = list(_places(value, count))
    if len(places) > MAX_PLACES:
        raise LiteralError("too-many-places")
    return places


def _read_text(text: str) -> Any:
    """The value of an answer's text: one literal, several, or bare numbers, perhaps in a code fence or tags."""
    text = text.strip().translate(_FULL_WIDTH)
    if text.startswith("```") and text.endswith("```") and len(text) >= 6:
        text = text[3:-3].removeprefix("json").removeprefix("python")
    if _NAMED.fullmatch(text):
        text = _NAME.sub("", text)
    if "<" in text:
        text = _TAGS.sub(" ", text)
    text = text.strip().rstrip(_END)
    if text[:1] not in _STARTS and len(text) <= _MAX_PROSE:
        text = unwrap(text).rstrip(_END)
        lead = _LEAD.match(text)
        if lead and not _HEDGED.search(lead.group()):  # "The box is at [x1, y1, x2, y2]"
            text = text[lead.end() :].rstrip(_END + "`*\"'")
    try:
        return read_literal(text)
    except LiteralError as error:
        if text[:1] not in _STARTS or str(error) not in ("trailing-text", "many-actions", "unparsed-literal"):
            raise
    text = _BETWEEN_NUMBERS.sub(",", _BETWEEN_LISTS.sub(r"\1,", text))
    try:
        return read_literal(text)
    except LiteralError:
        return read_literal(f"[{text}]")


def _places(value: Any, count: int) -> list[Place]:
    if value is None:
        return []
    if isinstance(value, dict):
        return _object_places(value, count)
    if not isinstance(value, list):
        raise LiteralError("not-places")
    if not value:
        return []
    if not any(isinstance(item, (list, dict)) for item in value):
        return [_place(value)]
    if count == 4 and len(value) == 2 and all(_is_pair(item) for item in value):
        return [_place([*value[0], *value[1]])]  # two corners, (x1, y1), (x2, y2)
    places: list[Place] = []
    for item in value:
        places += _object_places(item, count) if isinstance(item, dict) else [_place(item)]
    return places


def _object_places(value: dict[str, Any], count: int) -> list[Place]:
    """The places of one object, which share its label; a malformed one when it has none."""
    label = next((value[key] for key in _LABEL_KEYS if isinstance(value.get(key), str)), None)
    found = [value[key] for key in _PLACE_KEYS if key in value]
    if not found and count == 2 and "x" in value and "y" in value:
        found = [[value["x"], value["y"]]]
    if len(found) != 1 or not isinstance(found[0], list) or not found[0]:
        return [Place(None, label)]
    return [Place(place.numbers, label) for place in _places(found[0], count)]


def _place(value: Any) -> Place:
    if not isinstance(value, list) or not value or not all(_is_number(item) for item in value):
        return Place(None)
    return Place(tuple(float(item) for item in value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e9


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_number(item) for item in value)
