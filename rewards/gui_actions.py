"""Screen actions of several vocabularies in one canonical form.

    left_click(start_box='[x, y]')                       GLM-4.5V on OSWorld (arXiv 2507.01006)
    {"action_type": "CLICK", "parameters": {"x": 1, …}}  OSWorld's computer_13 (arXiv 2404.07972)
    {"action_type": "input_text", "text": …, "index": 3} AndroidWorld (arXiv 2405.14573), AndroidControl (arXiv 2406.03679)
    Type [3]; text                                       WebVoyager (arXiv 2401.13919)

Canonical parameters: `start` and `end` (places), `text`, `keys`, `app`, `direction`, `step`, `index`; others keep their names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rewards.boxes import Box, Point
from rewards.gui_vocabulary import (
    BARE,
    BLANK_KEYS,
    BUTTONS,
    DEFAULTS,
    GOALS,
    KEYS,
    NAMES,
    NAMES_WITH,
    OPPOSITE,
    POSITIONAL,
    SLOTS,
    VOCABULARIES,
    Vocabulary,
)
from rewards.literals import MAX_CHARS, Call, LiteralError, read_literal

_TYPE_KEYS = ("action_type", "action")
_NESTED = ("parameters", "arguments")

_WRAPPER = re.compile(r"</?(?:point|bbox|box)>|<\|(?:box_start|box_end|point_start|point_end)\|>")
_NUMBERS = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?(?:(?:[ \t]*,[ \t]*|[ \t]+)-?\d{1,9}(?:\.\d{1,9})?){1,3}")
_WEB = re.compile(
    r"(?P<click>click)\s*(?:\[\s*)?(?P<index>\d{1,6})\s*\]?"
    r"|(?P<type>type)\s*(?:\[\s*(?P<field>\d{1,6})\s*\]\s*(?:;\s*)?|(?P<number>\d{1,6})\s*;\s*)(?P<text>\S.*)"
    r"|(?P<scroll>scroll)\s*(?:\[\s*)?(?P<area>\d{1,6}|window)\s*(?:\]\s*)?;\s*(?:\[\s*)?(?P<direction>up|down|left|right)\s*\]?"
    r"|(?P<key>key)\s*;\s*\[?(?P<keys>[^\[\]\n]{1,64})\]?"
    r"|(?P<answer>answer)\s*;\s*(?P<reply>\S.*)",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
_FENCE = re.compile(r"```(?:json|python|text)?[ \t]*\n([^`]*)```")
MAX_PLACE_CHARS = 200


@dataclass(frozen=True)
class Action:
    """One action in canonical form; `type` is None for a mere place on the screen.

    `wording` is the name its text argument was given: GLM-4.5V's `content` and AndroidWorld's `text` are paid differently.
    """

    type: str | None
    parameters: dict[str, Any]
    wording: str | None = None


def read_action(text: str, vocabulary: Vocabulary = "auto", ignore: tuple[str, ...] = ()) -> Action:
    """The one action `text` denotes, in any notation. Raises LiteralError, whose message is a machine-readable reason."""
    text = text.strip()
    if fence := _FENCE.fullmatch(text):
        text = fence.group(1)
    text = text.strip().removeprefix("Action:").strip()
    if text[-2:-1] in (")", "}"):
        text = text.rstrip(".;。")
    if len(text) > MAX_CHARS:
        raise LiteralError("answer-too-long")
    if vocabulary in ("auto", "webvoyager") and (web := _WEB.fullmatch(text)):
        return _web_action(web)
    if len(text) < 32 and text.casefold() in BARE:
        return as_action(Call(text, (), {}), vocabulary, ignore)
    return as_action(read_literal(text), vocabulary, ignore)


def as_action(value: Any, vocabulary: Vocabulary = "auto", ignore: tuple[str, ...] = ()) -> Action:
    """The action a literal denotes. Raises LiteralError when it is not exactly one action of the vocabulary."""
    if isinstance(value, list) and value and all(isinstance(item, (dict, Call)) for item in value):
        if len(value) > 1:
            raise LiteralError("many-actions")
        value = value[0]
    name: str | None
    if isinstance(value, Call):
        name, raw = value.name, _named_arguments(value)
    elif isinstance(value, dict):
        name, raw = _typed(value)
    elif is_numbers(value):
        name, raw = None, {"start_box": value}
    else:
        raise LiteralError("not-an-action")
    raw = {key: item for key, item in raw.items() if key not in ignore and item is not None}
    parameters: dict[str, Any] = {}
    for key, item in _points(raw).items():
        slot = SLOTS.get(key, key)
        if slot in parameters:
            raise LiteralError("duplicate-key")
        parameters[slot] = place(item) if slot in ("start", "end") else item
    wording = next((key for key in raw if SLOTS.get(key) == "text"), None)
    return _canonical(name, parameters, vocabulary, wording)


def _named_arguments(call: Call) -> dict[str, Any]:
    """A call's arguments by name. Positional ones are a place, two places, or the one text that the action takes."""
    given, raw = list(call.positional), dict(call.named)
    if not given:
        return raw
    slot = POSITIONAL.get(call.name.casefold())
    found: dict[str, Any]
    if is_numbers(given):
        found = {"start_box": given}
    elif slot is not None and len(given) == 1 and isinstance(given[0], str):
        found = {slot: given[0]}
    elif slot is None and len(given) <= 2 and all(isinstance(item, (list, str)) for item in given):
        found = dict(zip(("start_box", "end_box"), given, strict=False))
    else:
        raise LiteralError("unknown-arguments")
    if set(found) & set(raw):
        raise LiteralError("unknown-arguments")
    return found | raw


def _typed(value: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The name and the arguments of an action given as an object; arguments may stand in an object of their own."""
    raw = dict(value)
    for key in _NESTED:
        if isinstance(inner := raw.get(key), dict):
            del raw[key]
            if set(inner) & set(raw):
                raise LiteralError("duplicate-key")
            typed = any(kind in raw for kind in _TYPE_KEYS)
            if not typed and "name" in raw:  # a tool call: {"name": "click", "arguments": {…}}
                tool = raw.pop("name")
                if not any(kind in inner for kind in _TYPE_KEYS):
                    raw["action"] = tool
            raw |= inner
    keys = [key for key in _TYPE_KEYS if key in raw]
    if len(keys) > 1:
        raise LiteralError("two-types")
    if not keys:
        return None, raw
    name = raw.pop(keys[0])
    if not isinstance(name, str):
        raise LiteralError("type-not-text")
    return name, raw


def _points(raw: dict[str, Any]) -> dict[str, Any]:
    """`x` with `y` becomes a point, and a point in fractions of the screen one in 0-1000 coordinates."""
    if "point_norm" in raw:
        used: tuple[str, ...] = ("point_norm",)
        point: Any = raw["point_norm"]
        if not is_numbers(point) or len(point) != 2:
            raise LiteralError("not-a-place")
        point = [1000.0 * point[0], 1000.0 * point[1]]
    elif "x" in raw and "y" in raw:
        used, point = ("x", "y"), [raw["x"], raw["y"]]
    else:
        return raw
    if "point" in raw:
        raise LiteralError("duplicate-key")
    return {key: item for key, item in raw.items() if key not in used} | {"point": point}


def _canonical(name: str | None, parameters: dict[str, Any], vocabulary: Vocabulary, wording: str | None) -> Action:
    if name is None:
        return Action(None, parameters)
    name = name.strip().casefold().replace(" ", "_")
    if vocabulary != "auto" and name not in VOCABULARIES[vocabulary]:
        raise LiteralError("unknown-action")
    if name in ("keyboard_enter", "press_enter") and not parameters:
        return Action("key", {"keys": "enter"})
    kind = NAMES.get(name) or next(
        (of for (alias, slot), of in NAMES_WITH.items() if alias == name and slot in parameters), name
    )
    goal = GOALS.get(_word(parameters.get("goal_status", parameters.get("status"))))
    if kind in ("status", "terminate") and goal and len(parameters) == 1:
        return Action(goal, {})
    if kind == "click":
        kind = _clicked(parameters)
    elif kind == "swipe" and vocabulary in ("androidworld", "androidcontrol"):
        # There a swipe moves the finger and a scroll the content. Elsewhere the two are never taken for one another.
        direction = OPPOSITE.get(_word(parameters.get("direction")))
        if direction is not None and "end" not in parameters:
            kind, parameters = "scroll", parameters | {"direction": direction}
    elif kind == "scroll" and vocabulary == "osworld":
        parameters = _wheel(parameters)
    if isinstance(index := parameters.get("index"), str) and re.fullmatch(r"[0-9]{1,9}", index.strip()):
        parameters["index"] = int(index)
    for slot, default in DEFAULTS.get(kind, {}).items():
        if slot in parameters and type(parameters[slot]) is type(default) and parameters[slot] == default:
            del parameters[slot]
    return Action(kind, parameters, wording)


def _clicked(parameters: dict[str, Any]) -> str:
    """The kind of a click with computer_13's optional `button` and `num_clicks`, which are taken off `parameters`."""
    button, count = parameters.get("button", "left"), parameters.get("num_clicks", 1)
    if isinstance(count, bool) or not isinstance(count, int):
        return "click"
    kind = BUTTONS.get((_word(button), count))
    if kind is None:
        return "click"
    parameters.pop("button", None)
    parameters.pop("num_clicks", None)
    return kind


def _wheel(parameters: dict[str, Any]) -> dict[str, Any]:
    """computer_13's `dx`, `dy` as direction and step; positive is right and up, as in pyautogui, which executes it."""
    dx, dy = (parameters.get(axis, 0) for axis in ("dx", "dy"))
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in (dx, dy)) or (dx == 0) == (dy == 0):
        return parameters
    direction = ("right" if dx > 0 else "left") if dx else ("up" if dy > 0 else "down")
    rest = {key: item for key, item in parameters.items() if key not in ("dx", "dy")}
    return rest | {"direction": direction, "step": abs(dx or dy)}


def _web_action(match: re.Match[str]) -> Action:
    """An action of WebVoyager: elements by number; the whole window is no element."""
    found = match.groupdict()
    if found["click"]:
        return Action("click", {"index": int(found["index"])})
    if found["type"]:
        return Action("type", {"index": int(found["field"] or found["number"]), "text": _content(found["text"])}, "text")
    if found["scroll"]:
        area = {} if found["area"].casefold() == "window" else {"index": int(found["area"])}
        return Action("scroll", area | {"direction": found["direction"]})
    if found["key"]:
        return Action("key", {"keys": found["keys"]})
    return Action("answer", {"text": _content(found["reply"])}, "text")


def _content(text: str) -> str:
    """Typed text without the brackets or the tags that the notation may put around it."""
    text = text.strip()
    for left, right in (("<content>", "</content>"), ("[", "]")):
        inner = text[len(left) : -len(right)]
        if text.startswith(left) and text.endswith(right) and left not in inner and right not in inner:
            return inner.strip()
    return text


def _word(value: Any) -> str:
    return value.strip().casefold() if isinstance(value, str) else ""


def is_numbers(value: Any) -> bool:
    """Whether `value` is a list of two or four numbers."""
    return (
        isinstance(value, list)
        and len(value) in (2, 4)
        and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value)
    )


def place(value: Any) -> Point | Box:
    """A point or box from `[x, y]`, `[x1, y1, x2, y2]`, either inside one more list, or the text of any of these.

    The text may stand in `<point>`, `<bbox>` or box tokens, and be numbers only. Raises LiteralError.
    """
    if isinstance(value, str):
        if len(value) > MAX_PLACE_CHARS:
            raise LiteralError("not-a-place")
        value = _WRAPPER.sub("", value).strip()
        if _NUMBERS.fullmatch(value):
            value = f"[{','.join(re.findall(r'[-.0-9]+', value))}]"
        value = read_literal(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not is_numbers(value):
        raise LiteralError("not-a-place")
    x, y, *rest = (float(item) for item in value)
    return (x, y, rest[0], rest[1]) if rest else (x, y)


def key_set(value: Any) -> tuple[str, ...]:
    """The keys of a combination, in any order and under one name each: "Ctrl+C", "c + control", "ctrl c" or ["ctrl", "c"]."""
    parts: list[Any]
    if isinstance(value, str) and value in BLANK_KEYS:
        parts = [BLANK_KEYS[value]]
    elif isinstance(value, list):
        parts = value
    elif isinstance(value, str):
        plus = value.endswith("+") and (value.strip() == "+" or value.endswith("++"))
        parts = [*re.split(r"[+\s]+", value.strip().strip("+")), *(["+"] if plus else [])]
    else:
        parts = [value]
    names = (str(part).strip().casefold() for part in parts)
    return tuple(sorted(KEYS.get(name, name) for name in names if name))
