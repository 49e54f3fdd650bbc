"""The notations and vocabularies of screen actions, and their canonical form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processor_time import takes_less_than

from rewards.gui_actions import Action, key_set, place, read_action
from rewards.gui_vocabulary import VOCABULARIES, Vocabulary
from rewards.literals import LiteralError

POINT = {"start": (500.0, 300.0)}


@pytest.mark.parametrize(
    "text,kind,parameters",
    [
        # GLM-4.5V on OSWorld
        ("left_click(start_box='[500, 300]', element_info='OK')", "click", POINT),
        ("left_double_click(start_box='[500,300]')", "double_click", POINT),
        ("right_click(start_box='[500,300]')", "right_click", POINT),
        ("middle_click(start_box='[500,300]')", "middle_click", POINT),
        ("hover(start_box='[500,300]')", "move", POINT),
        ("left_drag(start_box='[500,300]', end_box='[1, 2]')", "drag", {**POINT, "end": (1.0, 2.0)}),
        ("key(keys='ctrl+c')", "key", {"keys": "ctrl+c"}),
        ("type(content='it\\'s')", "type", {"text": "it's"}),
        ("scroll(start_box='[500,300]', direction='down', step=5)", "scroll", {**POINT, "direction": "down"}),
        ("WAIT()", "wait", {}),
        ("DONE", "done", {}),
        ("FAIL()", "fail", {}),
        # OSWorld's computer_13
        ("CLICK(point=(500, 300), button='left', num_clicks=1)", "click", POINT),
        ('{"action_type": "CLICK", "parameters": {"x": 500, "y": 300}}', "click", POINT),
        ('{"action_type": "CLICK", "x": 500, "y": 300, "button": "right"}', "right_click", POINT),
        ('{"action_type": "CLICK", "x": 500, "y": 300, "num_clicks": 2}', "double_click", POINT),
        ('{"action_type": "CLICK", "x": 500, "y": 300, "num_clicks": 9}', "click", {**POINT, "num_clicks": 9}),
        ('{"action_type": "CLICK", "x": 500, "y": 300, "num_clicks": "2"}', "click", {**POINT, "num_clicks": "2"}),
        ('{"action_type": "MOVE_TO", "x": 500, "y": 300}', "move", POINT),
        ('{"action_type": "DRAG_TO", "x": 500, "y": 300}', "drag", POINT),
        ('{"action_type": "MOUSE_DOWN", "button": "left"}', "mouse_down", {}),
        ('{"action_type": "TYPING", "text": "hi"}', "type", {"text": "hi"}),
        ('{"action_type": "PRESS", "key": "enter"}', "key", {"keys": "enter"}),
        ('{"action_type": "HOTKEY", "keys": ["ctrl", "c"]}', "key", {"keys": ["ctrl", "c"]}),
        ('{"action_type": "KEY_DOWN", "key": "shift"}', "key_down", {"keys": "shift"}),
        ('{"action_type": "SCROLL", "dx": 0, "dy": -3}', "scroll", {"dx": 0, "dy": -3}),
        # AndroidWorld and AndroidControl
        ('{"action_type": "click", "index": 7}', "click", {"index": 7}),
        ('{"action_type": "click", "index": "7", "text": null}', "click", {"index": 7}),
        ('{"action_type": "long_press", "x": 500, "y": 300}', "long_press", POINT),
        ('{"action_type": "input_text", "text": "hi", "index": 2}', "type", {"text": "hi", "index": 2}),
        ('{"action_type": "open_app", "app_name": "Clock"}', "open_app", {"app": "Clock"}),
        ('{"action_type": "navigate_back"}', "navigate_back", {}),
        ('{"action_type": "keyboard_enter"}', "key", {"keys": "enter"}),
        ('{"action_type": "status", "goal_status": "complete"}', "done", {}),
        ('{"action_type": "status", "goal_status": "successful"}', "done", {}),
        ('{"action_type": "status", "goal_status": "infeasible"}', "fail", {}),
        ('{"action_type": "status", "goal_status": "maybe"}', "status", {"goal_status": "maybe"}),
        ('{"action_type": "answer", "text": "42"}', "answer", {"text": "42"}),
        ('{"action_type": "swipe", "direction": "up"}', "swipe", {"direction": "up"}),
        # WebVoyager
        ("Click [12]", "click", {"index": 12}),
        ("Type [3]; [hello; world]", "type", {"index": 3, "text": "hello; world"}),
        ("Type [3] hello", "type", {"index": 3, "text": "hello"}),
        ("Type 3; hello", "type", {"index": 3, "text": "hello"}),
        ("[{'action': 'tap', 'x': 500, 'y': 300}]", "click", POINT),
        ("key(keys=7)", "key", {"keys": 7}),
        ("Type [3]; plain [x] text", "type", {"index": 3, "text": "plain [x] text"}),
        ("Scroll [WINDOW]; up", "scroll", {"direction": "up"}),
        ("Scroll [4]; [down]", "scroll", {"index": 4, "direction": "down"}),
        ("Key; Enter", "key", {"keys": "Enter"}),
        ("Wait", "wait", {}),
        ("GoBack", "navigate_back", {}),
        ("Google", "google", {}),
        ("ANSWER; <content>Paris</content>", "answer", {"text": "Paris"}),
        # Tool calls and names of others
        ('{"name": "click", "arguments": {"coordinate": [500, 300]}}', "click", POINT),
        ('{"name": "computer_use", "arguments": {"action": "left_click", "coordinate": [500, 300]}}', "click", POINT),
        ("press(point='[500, 300]')", "press", POINT),
        ("type('hi')", "type", {"text": "hi"}),
        ("drag([500, 300], [1, 2])", "drag", {**POINT, "end": (1.0, 2.0)}),
        ("my_action(power=3)", "my_action", {"power": 3}),
    ],
)
def test_every_notation_has_its_canonical_form(text: str, kind: str, parameters: dict[str, object]) -> None:
    action = read_action(text, ignore=("element_info",))
    assert (action.type, action.parameters) == (kind, parameters)


@pytest.mark.parametrize(
    "text,reason",
    [
        ("Click [1] Click [2]", "unparsed-literal"),
        ("click(1, 2); click(3, 4)", "many-actions"),
        ("{'action': 'click', 'action_type': 'click'}", "two-types"),
        ("{'action': 'click', 'x': 1, 'y': 2, 'point': [1, 2]}", "duplicate-key"),
        ("{'action': 'click', 'x': 1, 'y': 2, 'bbox': [1, 2, 3, 4]}", "duplicate-key"),
        ("{'action': 'click', 'x': 1, 'parameters': {'x': 2}}", "duplicate-key"),
        ("{'action': 'click', 'point_norm': 0.5}", "not-a-place"),
        ("{'action': 'click', 'x': True, 'y': 2}", "not-a-place"),
        ("click(start_box='[1, 2] or [3, 4]')", "not-a-place"),
        ("click(1, 2, start_box='[1, 2]')", "unknown-arguments"),
        ("click(1, 2, 3)", "unknown-arguments"),
        ("type('a', text='b')", "unknown-arguments"),
        ("type('a', 'b')", "unknown-arguments"),
        ("'click'", "not-an-action"),
        ("ANSWER;", "unparsed-literal"),
        ("x" * 20_000, "answer-too-long"),
    ],
)
def test_what_is_not_one_action_is_refused(text: str, reason: str) -> None:
    with pytest.raises(LiteralError) as error:
        read_action(text)
    assert str(error.value) in (reason, "trailing-text" if reason == "not-a-place" else reason)


@pytest.mark.parametrize(
    "text,expected",
    [
        ("[500, 300]", (500, 300)),
        ("(500, 300)", (500, 300)),
        ("500 300", (500, 300)),
        ("500,300", (500, 300)),
        ("<point>500 300</point>", (500, 300)),
        ("<|box_start|>(500,300)<|box_end|>", (500, 300)),
        ("<bbox>1 2 3 4</bbox>", (1, 2, 3, 4)),
        ("[[038, 115, 961, 140]]", (38, 115, 961, 140)),
        ("-1.5, 2", (-1.5, 2)),
    ],
)
def test_a_place_is_read_from_its_spellings(text: str, expected: tuple[float, ...]) -> None:
    assert place(text) == expected


@pytest.mark.parametrize("text", ["", "5", "1 2 3", "1 2 3 4 5", "[1, 2], [3, 4]", "1 2 or 3 4", "[" * 300, "1" * 300])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(LiteralError):
        place(text)


@pytest.mark.parametrize(
    "one,other",
    [
        ("ctrl+c", "Control + C"),
        ("ctrl+c", ["c", "ctrl"]),
        ("ctrl c", "ctrl+c"),
        ("Return", "enter"),
        ("esc", "Escape"),
        ("cmd+a", "super+a"),
        (" ", "space"),
        ("ctrl++", ["ctrl", "+"]),
        ("+", ["+"]),
        ("PageDown", "page_down"),
        (7, "7"),
    ],
)
def test_keys_have_one_name_and_any_order(one: object, other: object) -> None:
    assert key_set(one) == key_set(other) != ()


@pytest.mark.parametrize("one,other", [("a", "a+a"), ("ctrl+c", "ctrl+v"), ("home", "end"), ("1", "!"), ("ctrl", "ctrl+c")])
def test_other_keys_stay_other(one: str, other: str) -> None:
    assert key_set(one) != key_set(other)


@pytest.mark.parametrize("vocabulary", ["androidworld", "androidcontrol"])
def test_an_android_swipe_is_the_opposite_scroll(vocabulary: Vocabulary) -> None:
    swipe = read_action('{"action_type": "swipe", "direction": "up"}', vocabulary)
    scroll = read_action('{"action_type": "scroll", "direction": "down"}', vocabulary)
    assert swipe.parameters["direction"] == scroll.parameters["direction"] == "down"
    assert swipe.type == scroll.type == "scroll"


def test_without_a_vocabulary_swipe_and_scroll_are_never_taken_for_one_another() -> None:
    for direction in ("up", "down"):
        assert read_action(f"swipe(direction='{direction}')").type == "swipe"


def test_osworld_wheel_turns_are_directions() -> None:
    turns = {(0, 5): "up", (0, -5): "down", (5, 0): "right", (-5, 0): "left"}
    for (dx, dy), direction in turns.items():
        assert read_action(f"SCROLL(dx={dx}, dy={dy})", "osworld").parameters == {"direction": direction}
    for both in ("SCROLL(dx=1, dy=1)", "SCROLL(dx=0, dy=0)", "SCROLL(dx='1', dy=0)"):
        assert "direction" not in read_action(both, "osworld").parameters


@pytest.mark.parametrize("vocabulary", sorted(VOCABULARIES))
def test_a_named_vocabulary_knows_its_own_actions_only(vocabulary: Vocabulary) -> None:
    for name in VOCABULARIES[vocabulary]:
        assert read_action(f"{name}()", vocabulary).type
    with pytest.raises(LiteralError, match="unknown-action"):
        read_action("teleport()", vocabulary)


def test_numbered_elements_are_webvoyagers_own_notation() -> None:
    with pytest.raises(LiteralError):
        read_action("Click [12]", "osworld")
    assert read_action("Click [12]", "webvoyager") == Action("click", {"index": 12})


@pytest.mark.parametrize(
    "bomb",
    [
        "click" + " " * 16_000 + "x",
        "scroll [1]" + " " * 16_000,
        "type [1" + " " * 16_000,
        "key;" + " " * 16_000 + "]",
        "click(start_box='" + " " * 16_000 + "')",
        "click(start_box='1" + " " * 190 + "x')",
        "type [1]" + " " * 16_000,
        "answer;" + "[" * 16_000,
    ],
)
def test_hostile_text_costs_linear_time(bomb: str) -> None:
    with takes_less_than(0.2):
        try:
            read_action(bomb)
        except LiteralError as error:
            assert str(error)


@given(st.text(max_size=80) | st.text(alphabet="clickTypeScroll[]();,{}'\"=: 0123456789WINDOW\\\ud800\u202e\0", max_size=80))
def test_any_text_is_an_action_or_refused_with_a_reason(text: str) -> None:
    for vocabulary in ("auto", *VOCABULARIES):
        try:
            assert isinstance(read_action(text, vocabulary), Action)  # type: ignore[arg-type]
        except LiteralError as error:
            assert str(error)
