"""Screen actions: type, then parameters; and the literals they are written in. The vocabularies are in test_gui_actions.py."""

import ast
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import score, score_answer
from rewards.literals import Call, LiteralError, read_literal
from rewards.registry import BadReference
from rewards.verifiers.gui import GuiArgs, iou, read_reference, text_credit

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


@pytest.mark.parametrize(
    "dx,dy,credit,correct",
    [
        (0, 0, 1.0, True),
        (10, -10, 1 - 0.01 * math.sqrt(200), True),
        (12, 16, 0.8, True),
        (15, 20, 0.5, False),
        (24, 32, 0.2, False),
        (30, 40, 0.0, False),
        (300, 400, 0.0, False),
    ],
)
def test_point_credit_falls_with_distance(dx: int, dy: int, credit: float, correct: bool) -> None:
    verdict = judge(f"left_click(start_box='[{500 + dx}, {500 + dy}]')", "left_click(start_box='[500, 500]')")
    assert (verdict.score, verdict.correct) == (pytest.approx(credit), correct)


def test_distances_are_arguments() -> None:
    answer, reference = "click(start_box='[530, 540]')", "click(start_box='[500, 500]')"
    assert judge(answer, reference, distance_scale=100).score == pytest.approx(0.5)
    assert judge(answer, reference, distance=50).correct is True


@given(st.floats(0, 400), st.floats(0, 400), st.sampled_from([(1, 0), (0, -1), (0.6, 0.8)]))
def test_a_point_nearer_by_is_never_paid_less(near: float, far: float, way: tuple[float, float]) -> None:
    near, far = sorted((near, far))
    credits = [
        judge(
            {"action": "click", "point": [500 + d * way[0], 500 + d * way[1]]}, {"action": "click", "point": [500, 500]}
        ).score
        for d in (near, far)
    ]
    assert credits[0] >= credits[1] - 1e-9


def test_drag_needs_both_ends() -> None:
    reference = "left_drag(start_box='[0, 0]', end_box='[100, 100]')"
    assert judge(reference, reference).correct is True
    assert judge("left_drag(start_box='[0, 0]', end_box='[900, 100]')", reference).score == 0.0
    assert judge("left_drag(start_box='[0, 0]')", reference).reason == "missing-argument"


def test_drag_credit_is_the_geometric_mean_of_its_ends() -> None:
    reference = "left_drag(start_box='[100, 100]', end_box='[300, 300]')"
    verdict = judge("left_drag(start_box='[110, 100]', end_box='[300, 320]')", reference)
    assert (verdict.score, verdict.correct) == (pytest.approx(math.sqrt(0.9 * 0.8)), True)


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


@pytest.mark.parametrize("reference", ["type(content='Hello World!')", {"action_type": "input_text", "text": "Hello World!"}])
@pytest.mark.parametrize(
    "text", ["", "   ", "Hello", "World!", "Hello World", "o", "hello world", "Hello" * 20, "x" * 12, 7, None, [], {}]
)
def test_empty_text_a_part_of_it_and_other_values_are_not_paid(text: object, reference: object) -> None:
    # Several public GUI rewards pay empty text, or text contained in the reference.
    name = "content" if isinstance(reference, str) else "text"
    kind = "type" if isinstance(reference, str) else "input_text"
    verdict = judge({"action_type": kind, name: text}, reference)
    assert (verdict.score, verdict.correct) == (0.0, False)


def test_letter_case_is_free_where_the_reference_says_content_only() -> None:
    assert judge("type(content='hello world!')", "type(content='Hello World!')").correct is True
    assert (
        judge({"action_type": "type", "text": "hello world!"}, {"action_type": "type", "text": "Hello World!"}).correct is False
    )


def _common_subsequence(a: str, b: str) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        before = row[:]
        for j, y in enumerate(b):
            row[j + 1] = before[j] + 1 if x == y else max(row[j], before[j + 1])
    return row[-1]


def _distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        before, row[0] = row[:], i + 1
        for j, y in enumerate(b):
            row[j + 1] = min(before[j + 1] + 1, row[j] + 1, before[j] + (x != y))
    return row[-1]


_WORD = st.text(alphabet="abAB 中", min_size=1, max_size=8)


@given(_WORD, _WORD)
def test_text_credit_agrees_with_plain_dynamic_programming(found: str, expected: str) -> None:
    found, expected = found.strip(), expected.strip()
    folded, wanted = found.casefold(), expected.casefold()
    longest = max(len(found), len(expected))
    for bigrams in (False, True):
        credit = text_credit(found, expected, bigrams=bigrams)
        compared = (folded, wanted) if bigrams else (found, expected)
        if found == expected:
            assert credit == 1.0
        elif (folded in wanted and folded != wanted) or _distance(*compared) >= longest / 2:
            assert credit == 0.0
        elif not bigrams:
            assert credit == pytest.approx(_common_subsequence(found, expected) / longest)
        else:
            pairs = [{text[i : i + 2] for i in range(len(text) - 1)} for text in (folded, wanted)]
            union = pairs[0] | pairs[1]
            shared = len(pairs[0] & pairs[1]) / len(union) if union else 1.0
            assert credit == pytest.approx(0.6 * (1 - _distance(folded, wanted) / longest) + 0.4 * shared)


def test_text_rule_and_threshold_are_arguments() -> None:
    reference = {"action_type": "type", "text": "Hello World!"}
    answer = {"action_type": "type", "text": "hello world!"}
    assert judge(answer, reference, text_credit="bigrams").correct is True
    assert judge(answer, reference, text=0.8).correct is True
    assert judge(answer, {"action_type": "type", "content": "Hello World!"}, text_credit="subsequence").correct is False


@pytest.mark.parametrize("args", [{"distance": -1}, {"distance_scale": 0}])
def test_senseless_distances_are_refused(args: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="distance"):
        judge("DONE()", "DONE()", **args)


def test_text_far_too_long_is_not_compared() -> None:
    assert text_credit("a" * 5000, "a" * 4000, bigrams=False) == 0.0


@pytest.mark.parametrize(
    "step,credit", [(5, 1.0), (3, 0.8), (10, 0.5), (15, 0.0), (-1, 0.0), (0, 0.0), (True, 0.0), ("5", 0.0), (1e300, 0.0)]
)
def test_scroll_step_is_paid_by_nearness(step: object, credit: float) -> None:
    reference = {"action_type": "scroll", "point": [500, 500], "direction": "down", "step": 5}
    verdict = judge({**reference, "step": step}, reference)
    assert (verdict.score, verdict.correct) == (pytest.approx(credit), credit == 1.0)


def test_a_default_may_be_named_or_left_out() -> None:
    bare, named = "scroll(start_box='[500, 500]', direction='down')", "scroll(start_box='[500, 500]', direction='down', step=5)"
    assert judge(bare, named).correct and judge(named, bare).correct and judge(bare, bare).correct
    other = "scroll(start_box='[500, 500]', direction='down', step=10)"
    assert judge(bare, other).score == pytest.approx(0.75)
    assert judge(other, bare).score == pytest.approx(0.5)
    typed = {"action_type": "input_text", "text": "a"}
    assert judge({**typed, "clear_text": False}, typed).correct is True
    assert judge({**typed, "clear_text": True}, typed).score == 0.0
    assert judge({**typed, "override": False}, typed).reason == "extra-argument"  # `override` has no default


@pytest.mark.parametrize(
    "reference,reason",
    [
        ("", "unparsed-literal"),
        ("click", "unparsed-literal"),
        ({"text": "x"}, "no-action-type"),
        ({"action_type": 3}, "type-not-text"),
        ([1, 2, 3], "not-an-action"),
        ({"action_type": "click", "box_2d": [[9, 9, 1, 1]]}, "empty-box"),
        ({"action_type": "type", "text": 5}, "text-not-text"),
        ("type(content=' ')", "empty-text"),
        ("key(keys='')", "empty-keys"),
        ({"bbox_xywh": [1, 2, 3, 4], "img_size": [0, 1]}, "bad-screen-box"),
        ({"bbox_xywh": [1, 2, -3, 4], "img_size": [10, 10]}, "empty-box"),
    ],
)
def test_references_that_ask_for_nothing_are_refused(reference: object, reason: str) -> None:
    with pytest.raises(BadReference, match=reason):
        read_reference(reference, GuiArgs())


def _practice(name: str, domain: str = "gui") -> list[dict[str, object]]:
    path = Path(__file__).parents[4] / "shared" / "practice" / name
    if not path.exists():
        return []
    return [row for line in path.read_text().splitlines() if (row := json.loads(line))["domain"] == domain]


@pytest.mark.skipif(not _practice("gui.jsonl"), reason="the practice rows lie beside the checkout")
def test_practice_rows_are_scored_as_labelled() -> None:
    for row in _practice("gui.jsonl"):
        verdict = score(str(row["response"]), row["answer"], domain="gui")
        assert verdict.score == pytest.approx(float(row["expected"]), abs=1e-6), row["id"]  # type: ignore[arg-type]
    for row in _practice("adversarial.jsonl"):
        answer = str(row["response"]).removeprefix("<|begin_of_box|>").removesuffix("<|end_of_box|>")
        assert judge(answer, row["gold"]).score == row["expected"], row["id"]


def test_explains_normal_forms_and_credits() -> None:
    from rewards import registry

    entry = registry.find("gui")
    args = registry.build_args(entry, None)
    notes: list[tuple[str, str]] = []
    entry.compare("tap(510, 500)", registry.read_reference(entry, "click(500, 500)", args), registry.Context(args, None, notes))
    assert [name for name, _ in notes] == ["reference", "answer", "rule"]
    assert notes[-1] == ("rule", "start: 0.9")


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
