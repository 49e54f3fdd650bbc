"""Screen actions: the type must match, then every parameter. The score is the product of the parameters' credits.

An action is an object (`{"action_type": "click", "box_2d": [[x1, y1, x2, y2]]}`), a call (`left_click(start_box='[x, y]')`)
or WebVoyager's text (`Click [12]`), see `rewards.gui_actions`. Reference `{"bbox_xywh": [x, y, w, h], "img_size": [W, H]}` asks
for a point inside the box (ScreenSpot, arXiv 2401.10935; edges inclusive). Source: GLM-4.5V report, arXiv 2507.01006, table 1
(GUI), and the credits of the rewards published with it (GLM-V, `glmv_reward/scripts/gui_agent`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from rewards.boxes import EDGE, Box, Point, iou
from rewards.gui_actions import Action, as_action, is_numbers, key_set, read_action
from rewards.gui_vocabulary import DEFAULTS, Vocabulary
from rewards.literals import LiteralError
from rewards.registry import BadReference, Context, Outcome, verifier

MAX_TEXT_CHARS = 4096


@dataclass(frozen=True)
class GuiArgs:
    """Arguments of the `gui` verifier. Coordinates are in the reference's own units, by convention 0-1000."""

    vocabulary: Vocabulary = "auto"
    """The action names that exist; "auto" knows those of every vocabulary and takes any other as it stands."""
    iou: float = 0.5
    """A box is correct from this intersection over union; its credit is the overlap itself."""
    distance: float = 20.0
    """A point is correct up to this distance; its credit falls from 1 to 0.8 there."""
    distance_scale: float = 50.0
    """Farther, the credit is 1 - distance / distance_scale; a point this far has none."""
    text: float = 1.0
    """Typed text is correct from this credit."""
    text_credit: Literal["auto", "bigrams", "subsequence"] = "auto"
    """How slips in typed text are paid; "auto" goes by the argument's name in the reference (`content`, or `text`)."""
    ignore: tuple[str, ...] = ("element_info",)
    """Parameters that describe the target and are not compared."""

    def __post_init__(self) -> None:
        if self.distance < 0 or self.distance_scale <= 0:
            raise ValueError(f"distance is {self.distance} and distance_scale {self.distance_scale}; expected >= 0 and > 0")


def read_reference(raw: Any, args: GuiArgs) -> Action:
    """The reference action. Raises BadReference with the reason."""
    if isinstance(raw, dict) and "bbox_xywh" in raw:
        return Action(None, {"start": _screenspot_box(raw)})
    try:
        read = read_action if isinstance(raw, str) else as_action
        action = read(raw, args.vocabulary, args.ignore)
    except LiteralError as error:
        raise BadReference(str(error)) from error
    if action.type is None and set(action.parameters) != {"start"}:
        raise BadReference("no-action-type")
    for slot in ("start", "end"):
        place = action.parameters.get(slot)
        if place is not None and len(place) == 4 and (place[0] >= place[2] or place[1] >= place[3]):
            raise BadReference("empty-box")
    if "text" in action.parameters:
        text = action.parameters["text"]
        if not isinstance(text, str):
            raise BadReference("text-not-text")
        if not text.strip():
            raise BadReference("empty-text")
    if "keys" in action.parameters and not key_set(action.parameters["keys"]):
        raise BadReference("empty-keys")
    return action


def _screenspot_box(raw: dict[str, Any]) -> Box:
    """The box of a ScreenSpot reference in 0-1000 coordinates, from pixels."""
    box: Any = raw["bbox_xywh"]
    size: Any = raw.get("img_size")
    if not is_numbers(box) or len(box) != 4 or not is_numbers(size) or len(size) != 2 or min(size) <= 0:
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
    libraries=("rapidfuzz.distance",),
)
def gui(answer: str, reference: Action, context: Context) -> Outcome:
    """Type equal, the same parameters present, then the product of their credits."""
    args: GuiArgs = context.args
    context.note("reference", reference)
    try:
        action = read_action(answer, args.vocabulary, args.ignore)
    except LiteralError as error:
        return Outcome(0.0, False, str(error))
    context.note("answer", action)
    if action.type != reference.type and not (reference.type is None and action.type == "click"):
        return Outcome(0.0, False, "action-type")
    found, expected = action.parameters, reference.parameters
    defaults = DEFAULTS.get(reference.type or "", {})
    if found.keys() - expected.keys() - defaults.keys():
        return Outcome(0.0, False, "extra-argument")
    if expected.keys() - found.keys() - defaults.keys():
        return Outcome(0.0, False, "missing-argument")
    score, correct, fault, places = 1.0, True, "", 0
    for slot in expected | found:
        wanted = expected[slot] if slot in expected else defaults[slot]
        credit, right = _credit(slot, found[slot] if slot in found else defaults[slot], wanted, reference.wording, args)
        context.note("rule", f"{slot}: {credit:.4g}")
        score *= credit
        places += slot in ("start", "end") and len(wanted) == 2
        if not right:
            correct, fault = False, fault or f"{slot}-differs"
    # A drag between two points is one path: it earns their geometric mean, not their product.
    return Outcome(math.sqrt(score) if places == 2 else score, correct, fault or None)


def _credit(slot: str, found: Any, expected: Any, wording: str | None, args: GuiArgs) -> tuple[float, bool]:
    """Credit in [0, 1] of one parameter, and whether it is right."""
    if slot in ("start", "end"):
        return _place_credit(found, expected, args)
    if slot == "text":
        rule = args.text_credit
        credit = text_credit(found, expected, bigrams=rule == "bigrams" or (rule == "auto" and wording == "content"))
        return credit, credit >= args.text
    if slot in ("step", "dx", "dy") and _amounts(found, expected):
        credit = max(0.0, 1.0 - abs(found - expected) / (2.0 * abs(expected)))
        return credit, found == expected
    if slot == "keys":
        same = key_set(found) == key_set(expected)
    elif isinstance(expected, str) and isinstance(found, str):
        same = found.strip().casefold() == expected.strip().casefold()
    else:
        same = isinstance(found, bool) == isinstance(expected, bool) and found == expected
    return float(same), same


def _amounts(found: Any, expected: Any) -> bool:
    """Whether both are numbers, other than zero and of one sign, so that nearly the same is worth nearly as much."""
    numbers = all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in (found, expected))
    return numbers and found != 0 and expected != 0 and (found > 0) == (expected > 0)


def _place_credit(found: Point | Box, expected: Point | Box, args: GuiArgs) -> tuple[float, bool]:
    if len(found) == 4 and len(expected) == 4:
        overlap = iou(found, expected)
        return overlap, overlap >= args.iou
    if len(found) == 2 and len(expected) == 4:
        inside = all(expected[axis] - EDGE <= found[axis] <= expected[axis + 2] + EDGE for axis in (0, 1))
        return float(inside), inside
    if len(found) == 2 and len(expected) == 2:
        distance = math.hypot(found[0] - expected[0], found[1] - expected[1])
        if distance <= args.distance:
            return 1.0 - 0.2 * distance / args.distance if distance else 1.0, True
        return max(0.0, 1.0 - distance / args.distance_scale), False
    return 0.0, False  # a box where a point is asked for: an area could always be chosen to cover the point


def text_credit(found: Any, expected: str, *, bigrams: bool) -> float:
    """Credit in [0, 1] for typed text.

    With `bigrams` (GLM-V's reward on OSWorld): 0.6 x edit similarity + 0.4 x shared pairs of letters (Jaccard), letter case
    aside. Otherwise (its rewards on AndroidWorld and WebVoyager): longest common subsequence / longer length.
    No credit, unlike there, for empty text, for a mere part of the expected text, or when no more than half agrees: those
    are what a policy writes that has not read the task.
    """
    from rapidfuzz.distance import LCSseq, Levenshtein

    if not isinstance(found, str):
        return 0.0
    found, expected = found.strip(), expected.strip()
    if found == expected:
        return 1.0
    if len(found) > MAX_TEXT_CHARS:
        return 0.0
    folded, wanted = found.casefold(), expected.casefold()
    similarity = Levenshtein.normalized_similarity(*((folded, wanted) if bigrams else (found, expected)))
    if similarity <= 0.5 or (folded != wanted and folded in wanted):
        return 0.0
    if not bigrams:
        return LCSseq.normalized_similarity(found, expected)
    pairs, wanted_pairs = ({text[i : i + 2] for i in range(len(text) - 1)} for text in (folded, wanted))
    shared = len(pairs & wanted_pairs) / len(pairs | wanted_pairs) if pairs or wanted_pairs else 1.0
    return min(1.0, 0.6 * similarity + 0.4 * shared)
