"""The words of screen actions: which names mean the same action, argument or key, and what may be left out.

AndroidWorld (arXiv 2405.14573), AndroidControl (arXiv 2406.03679), OSWorld's computer_13 (arXiv 2404.07972) with GLM-4.5V's
names for the same machine (arXiv 2507.01006), and WebVoyager (arXiv 2401.13919).
"""

from __future__ import annotations

from typing import Any, Literal

Vocabulary = Literal["auto", "androidworld", "androidcontrol", "osworld", "webvoyager"]

_ANDROID = "click long_press input_text scroll swipe open_app navigate_back navigate_home wait status"
_WORDS = {
    "androidworld": f"{_ANDROID} double_tap keyboard_enter answer",
    "androidcontrol": _ANDROID,
    "osworld": "move_to click mouse_down mouse_up right_click double_click drag_to scroll typing press key_down key_up hotkey "
    "wait fail done left_click middle_click left_double_click hover left_drag key type screenshot",
    "webvoyager": "click type key scroll wait goback google bing answer",
}
VOCABULARIES = {name: frozenset(words.split()) for name, words in _WORDS.items()}
"""The action names of each named vocabulary; `auto` knows them all."""


def _by_alias(table: dict[str, str]) -> dict[str, str]:
    return {alias: name for name, aliases in table.items() for alias in aliases.split()}


NAMES = _by_alias(
    {
        "click": "left_click tap left_single",
        "double_click": "left_double_click left_double double_tap",
        "triple_click": "left_triple_click",
        "right_click": "right_single",
        "long_press": "long_tap longpress",
        "move": "hover move_to mouse_move",
        "drag": "left_drag drag_to left_click_drag",
        "type": "input_text typing type_text",
        "key": "press_key",
        "open_app": "launch_app",
        "navigate_back": "goback go_back press_back",
        "navigate_home": "press_home",
        "done": "finished",
        "screenshot": "take_screenshot",
    }
)
"""Alias -> canonical name of an action."""

NAMES_WITH = {
    ("press", "keys"): "key",
    ("hotkey", "keys"): "key",
    ("open", "app"): "open_app",
    ("launch", "app"): "open_app",
    ("write", "text"): "type",
    ("input", "text"): "type",
}
"""Names that mean an action only together with that parameter: `press(point)` is no key."""

SLOTS = _by_alias(
    {
        "start": "box_2d bbox bbox_2d box start_box start_point point point_2d position coordinate coordinates "
        "start_coordinate start_coordinates",
        "end": "end_box end_point end_coordinate end_coordinates",
        "text": "text content",
        "keys": "keys key",
        "app": "app app_name",
        "clear": "clear clear_text",
    }
)
"""Name of an argument -> canonical parameter."""

POSITIONAL = _by_alias({"text": "type typing input_text answer", "keys": "key press hotkey", "app": "open_app"})
"""Name of an action -> its one argument that may stand without a name."""

BARE = frozenset(
    _by_alias({"": "done fail wait goback google bing finished screenshot navigate_back navigate_home keyboard_enter"})
)
"""Actions without arguments, which may stand without parentheses."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "scroll": {"step": 5},
    "type": {"clear": False},
    "mouse_down": {"button": "left"},
    "mouse_up": {"button": "left"},
}
"""Values of optional arguments: naming such a value, or leaving it out, is the same."""

GOALS = _by_alias(
    {"done": "complete completed success successful succeeded", "fail": "infeasible impossible fail failed failure"}
)
"""AndroidWorld's `goal_status` -> action."""

OPPOSITE = {"up": "down", "down": "up", "left": "right", "right": "left"}
BUTTONS = {
    ("left", 1): "click",
    ("left", 2): "double_click",
    ("left", 3): "triple_click",
    ("right", 1): "right_click",
    ("middle", 1): "middle_click",
}
"""computer_13's button and number of clicks -> action."""

KEYS = _by_alias(
    {
        "ctrl": "control ctrlleft ctrlright ctrl_l",
        "alt": "altleft altright option alt_l",
        "shift": "shiftleft shiftright shift_l",
        "win": "command cmd meta super super_l windows winleft",
        "enter": "return kp_enter numpadenter",
        "up": "arrowup arrow_up",
        "down": "arrowdown arrow_down",
        "left": "arrowleft arrow_left",
        "right": "arrowright arrow_right",
        "pageup": "page_up pgup prior",
        "pagedown": "page_down pgdn next",
        "space": "spacebar space_bar",
        "esc": "escape",
        "delete": "del",
        "backspace": "back_space",
    }
)
BLANK_KEYS = {" ": "space", "\n": "enter", "\t": "tab"}
