"""Screen actions: type, then parameters; and the literals they are written in."""

import ast
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import score_answer
from rewards.literals import Call, LiteralError, read_literal
from rewards.verifiers.gui import iou

CLICK = {"action_type": "click", "box_2d": [[100, 100, 200, 200]]}


def judge(answer: object, reference: object, **args: object):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return score_answer(text, reference, domain="gui", args=args)


@pytest.mark.parametrize(
    "answer",
    [
        '{"action_type": "click", "box_2d": [[100,100,200,200]]}',
        '{"box_2d": [[100,100,200,200]], "action_type": "click"}',
        "{'action_type': 'click', 'box_2d': [100, 100, 200, 200],}",
        'Action: {"action": "CLICK", "bbox": [[100,100,200,200]]}',
        "click(start_box='[100, 100, 200, 200]')",
        "click(100, 100, 200, 200)",
        '[{"action_type": "click", "box_2d": [[100,100,200,200]]}]',
    ],
)
def test_the_same_action_in_any_notation_is_right(answer: str) -> None:
    verdict = judge(answer, CLICK)
    assert (verdict.score, verdict.correct) == (1.0, True)


@pytest.mark.parametrize(
    "answer,reason",
    [
        ({"action_type": "long_press", "box_2d": [[100, 100, 200, 200]]}, "action-type"),
        ({"box_2d": [[100, 100, 200, 200]]}, "action-type"),
        ({"action_type": "click"}, "missing-argument"),
        ({**CLICK, "override": True}, "extra-argument"),
        ("click(100,100) click(150,150)", "many-actions"),
        (json.dumps([CLICK, CLICK]), "many-actions"),
        (json.dumps(CLICK) + " because it is there", "trailing-text"),
        ("{'action_type': ().__class__.__name__}", "unparsed-literal"),
        ("{'action_type': 'click', 'action_type': 'click'}", "duplicate-key"),
        ("{'action_type': 'click', 'box_2d': [[1e999, 0, 1, 1]]}", "non-finite"),
        ({"action_type": "click", "box_2d": [[100, 100, 200, 200], [0, 0, 1, 1]]}, "not-a-place"),
        ({"action_type": "click", "box_2d": [[150, 150, 150, 150]]}, "start-differs"),
        ("[" * 5000, "too-complex"),
        ("click", "unparsed-literal"),
        ("{'a': 'b", "unclosed-string"),
    ],
)
def test_anything_else_scores_zero_with_a_reason(answer: object, reason: str) -> None:
    verdict = judge(answer, CLICK)
    assert (verdict.score, verdict.correct, verdict.reason) == (0.0, False, reason)


@pytest.mark.parametrize("shift,overlap", [(0, 1.0), (25, 0.6), (50, 1 / 3), (100, 0.0)])
def test_box_credit_is_its_overlap_and_the_threshold_decides(shift: int, overlap: float) -> None:
    answer = {"action_type": "click", "box_2d": [[100 + shift, 100, 200 + shift, 200]]}
    verdict = judge(answer, CLICK)
    assert verdict.score == pytest.approx(overlap)
    assert verdict.correct is (overlap >= 0.5)
    assert judge(answer, CLICK, iou=0.9).correct is (overlap >= 0.9)


_BOX = st.tuples(*[st.integers(0, 12)] * 4)


@given(_BOX, _BOX)
def test_overlap_agrees_with_counting_cells(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    cells = [{(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])} for box in (a, b)]
    if not cells[1]:
        return  # an empty reference box is refused when it is read
    expected = len(cells[0] & cells[1]) / len(cells[0] | cells[1])
    assert iou(tuple(map(float, a)), tuple(map(float, b))) == pytest.approx(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("point,inside", [([100, 100], True), ([200, 150], True), ([201, 150], False), ([99, 99], False)])
def test_point_in_box_includes_the_edges(point: list[int], inside: bool) -> None:
    verdict = judge({"action_type": "click", "point": point}, CLICK)
    assert (verdict.score, verdict.correct) == (float(inside), inside)


def test_box_for_a_point_is_not_paid() -> None:
    verdict = judge("click(start_box='[0,0,1000,1000]')", "click(start_box='[500, 500]')")
    assert (verdict.score, verdict.correct) == (0.0, False)


def test_point_credit_falls_linearly_with_distance() -> None:
    for dx, dy in ((0, 0), (10, -10), (30, 40), (60, 80), (300, 400)):
        verdict = judge(f"left_click(start_box='[{500 + dx}, {500 + dy}]')", "left_click(start_box='[500, 500]')")
        assert verdict.score == pytest.approx(max(0.0, 1 - math.hypot(dx, dy) / 100))
        assert verdict.correct is (math.hypot(dx, dy) <= 50)


def test_drag_needs_both_ends() -> None:
    reference = "left_drag(start_box='[0, 0]', end_box='[100, 100]')"
    assert judge(reference, reference).correct is True
    assert judge("left_drag(start_box='[0, 0]', end_box='[900, 100]')", reference).score == 0.0


@pytest.mark.parametrize(
    "text,score,correct",
    [
        ("Hello World!", 1.0, True),
        (" Hello World! ", 1.0, True),
        ("HeLloworld!", 0.85, False),
        ("", 0.0, False),
        ("Hello", 0.0, False),
        ("completely else", 0.0, False),
    ],
)
def test_typed_text_is_paid_by_similarity_but_not_for_a_part(text: str, score: float, correct: bool) -> None:
    verdict = judge({"action_type": "type", "content": text}, "type(content='Hello World!')")
    assert (verdict.score, verdict.correct) == (pytest.approx(score), correct)


def test_every_parameter_must_be_right() -> None:
    reference = {"action_type": "input_text", "text": "AB", "box_2d": [[0, 0, 100, 100]]}
    assert judge({**reference, "text": "XY"}, reference).score == 0.0
    halved = judge({**reference, "box_2d": [[0, 0, 100, 50]]}, reference)
    assert (halved.score, halved.correct) == (0.5, True)
    assert judge({**reference, "box_2d": [[0, 0, 100, 40]]}, reference).reason == "start-differs"


def test_scroll_direction_and_keys_must_agree() -> None:
    assert judge({"action_type": "scroll", "direction": "Down"}, {"action_type": "scroll", "direction": "down"}).correct
    assert not judge({"action_type": "scroll", "direction": "up"}, {"action_type": "scroll", "direction": "down"}).correct
    assert judge("key(keys='c + Ctrl')", "key(keys='ctrl+c')").correct
    assert not judge("key(keys='ctrl+v')", "key(keys='ctrl+c')").correct


def test_values_of_different_types_are_different() -> None:
    assert not judge('{"action_type": "wait", "n": true}', {"action_type": "wait", "n": 1}).correct


def test_screenspot_box_accepts_its_own_corner() -> None:
    reference = {"bbox_xywh": [42, 1102, 197, 70], "img_size": [1170, 2532]}
    for x, y, inside in ((42, 1102, True), (42 + 197, 1102 + 70, True), (41, 1102, False), (42, 1173, False)):
        assert judge({"point_norm": [x / 1170, y / 2532]}, reference).correct is inside


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e6, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(_VALUES)
def test_literals_agree_with_json_and_with_python(value: object) -> None:
    text = json.dumps(value)
    assert read_literal(text) == json.loads(text)
    if "\\x" not in repr(value) and "\\U" not in repr(value):
        assert read_literal(repr(value)) == ast.literal_eval(repr(value))


def test_call_keeps_positional_and_named_values() -> None:
    assert read_literal("f(1, 'a', k=[2])") == Call("f", (1, "a"), {"k": [2]})


@given(st.text(alphabet="{}[]()'\":,=\\ 0123456789.eE-abu_", max_size=60) | st.text(max_size=60))
def test_any_text_is_a_literal_or_refused_with_a_reason(text: str) -> None:
    try:
        read_literal(text)
    except LiteralError as error:
        assert str(error)
    assert 0.0 <= judge(text, CLICK).score <= 1.0
