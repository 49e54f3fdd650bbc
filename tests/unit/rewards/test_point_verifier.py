"""Points: inside the target, edges included, one point a target."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import check_reference, score
from rewards.api import score_answer
from rewards.boxes import inside_polygon
from rewards.registry import Context
from rewards.verifiers.point import PointArgs, point, read_reference

BOX = [[100, 100, 200, 200]]


def judge(answer: object, reference: object = BOX, **args: object):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return score_answer(text, reference, domain="point", args=args)


@pytest.mark.parametrize(
    "answer",
    [
        "[150, 150]",
        "[[150, 150]]",
        "(150, 150)",
        "150, 150",
        "[150.5, 150.5]",
        "<point>150 150</point>",
        "<point>[[150,150]]</point>",
        "<|point_start|>(150,150)<|point_end|>",
        '{"point_2d": [150, 150], "label": "button"}',
        "[{'point_2d': [150, 150]}]",
        '{"x": 150, "y": 150}',
        "```json\n[150, 150]\n```",
        "答案是：（150，150）。",
        "[100, 100]",
        "[200, 200]",
        "[100, 200]",
    ],
)
def test_a_point_in_the_box_in_any_notation_is_right_and_edges_belong_to_it(answer: str) -> None:
    verdict = judge(answer)
    assert (verdict.score, verdict.correct, verdict.reason) == (1.0, True, None)


@pytest.mark.parametrize(
    "answer,reason",
    [
        ("[201, 150]", "outside"),
        ("[150, 99.9]", "outside"),
        ("[-150, 150]", "outside"),
        ("[[150, 150], [900, 900]]", "many-points"),
        ("[[150, 150], [150, 150]]", "many-points"),
        ("(150, 150) (900, 900)", "many-points"),
        ("[150, 150] or [900, 900]", "unparsed-literal"),
        ("[100, 100, 200, 200]", "not-a-point"),
        ("[0, 0, 1000, 1000]", "not-a-point"),
        ("[150]", "not-a-point"),
        ("[150, null]", "not-a-point"),
        ("[]", "no-points"),
        ("here", "unparsed-literal"),
        ("[150, NaN]", "unparsed-literal"),
        ("[150, 1e400]", "non-finite"),
        ("[150, 1e300]", "not-a-point"),
    ],
)
def test_anything_else_scores_zero_with_a_reason(answer: str, reason: str) -> None:
    verdict = judge(answer)
    assert (verdict.score, verdict.correct, verdict.reason) == (0.0, False, reason)


def test_several_targets_want_one_point_each() -> None:
    targets = [[0, 0, 10, 10], [5, 5, 20, 20], [500, 500, 600, 600]]
    assert judge([[7, 7], [3, 3], [550, 550]], targets).correct is True
    assert judge([[7, 7], [8, 8], [550, 550]], targets).correct is True  # the first is in both
    assert judge([[3, 3], [4, 4], [550, 550]], targets).score == pytest.approx(2 / 3)
    assert judge([[550, 550]], targets).reason == "missing-points"
    assert judge([[1, 1], [15, 15], [550, 550], [9, 9]], targets).reason == "many-points"


def test_a_reference_point_allows_a_distance() -> None:
    assert judge([130, 140], [100, 100]).correct is True
    assert judge([131, 140], [100, 100]).correct is False
    assert judge([103, 104], [100, 100], distance=5.0).correct is True
    assert judge([103, 105], [[100, 100]], distance=5.0).correct is False
    assert judge([103, 104], {"point_2d": [100, 100]}, distance=5.0).correct is True


TRIANGLE = {"polygon": [[100, 100], [300, 100], [100, 300]]}


@pytest.mark.parametrize(
    "answer,right",
    [([150, 150], True), ([200, 200], True), ([100, 250], True), ([201, 201], False), ([290, 290], False)],
)
def test_a_polygon_holds_its_edges(answer: list[int], right: bool) -> None:
    assert judge(answer, TRIANGLE).correct is right
    assert judge(answer, [TRIANGLE]).correct is right
    mixed = [TRIANGLE, [800, 800, 900, 900], {"point": [0, 0]}]
    assert judge([answer, [850, 850]], mixed).score == pytest.approx((right + 1) / 3)


@given(st.integers(3, 9), st.floats(0, 1000), st.floats(0, 1000))
def test_polygon_rule_is_that_of_half_planes_for_regular_ones(corners: int, x: float, y: float) -> None:
    polygon = [(500 + 300 * math.cos(a), 500 + 300 * math.sin(a)) for a in (2 * math.pi * n / corners for n in range(corners))]
    inner = 300 * math.cos(math.pi / corners)  # radius of the inscribed circle
    sides = [(2 * n + 1) * math.pi / corners for n in range(corners)]
    depth = min(inner - (x - 500) * math.cos(a) - (y - 500) * math.sin(a) for a in sides)
    if abs(depth) > 1e-3:
        assert inside_polygon((x, y), polygon) is (depth > 0)


def test_repeated_corner_of_a_polygon_is_harmless() -> None:
    assert inside_polygon((1, 1), [(0, 0), (0, 0), (3, 0), (0, 3)])


@pytest.mark.parametrize(
    "reference,reason",
    [
        ([], "no-target"),
        ("here", "unparsed-literal"),
        ([[1, 2, 3]], "bad-target"),
        ([[200, 100, 100, 200]], "bad-target"),
        ([[0, 0, 2000, 100]], "bad-target"),
        ([1500, 2], "bad-target"),
        ({"polygon": [[0, 0], [1, 1]]}, "bad-polygon"),
        ({"polygon": [[0, 0], [1, 1], [2, 2]]}, "bad-polygon"),
        ({"polygon": [[0, 0], [1, 1], [2]]}, "bad-polygon"),
        (5, "not-places"),
    ],
)
def test_unusable_references_are_found(reference: object, reason: str) -> None:
    assert check_reference(reference, domain="point") == reason


def test_a_reference_written_as_text_is_right_for_itself() -> None:
    assert check_reference("[[100, 100, 200, 200]]", domain="point") is None
    assert check_reference("[150, 150]", domain="point") is None
    assert judge("[150, 150]", "[[100, 100, 200, 200]]").correct is True
    assert judge("[[100, 100, 200, 201]]", "[[100, 100, 200, 200]]").correct is False


@given(st.text(max_size=40) | st.lists(st.sampled_from(list("[](){},;:-.0189 'xy\n")), max_size=30).map("".join))
def test_any_answer_is_scored_within_bounds(text: str) -> None:
    args = PointArgs()
    assert point(text, read_reference(BOX, args), Context(args)).score in (0.0, 1.0)


def test_decision_is_explained() -> None:
    notes: list[tuple[str, str]] = []
    point("[150, 150]", read_reference(BOX, PointArgs()), Context(PointArgs(), None, notes))
    assert dict(notes) == {
        "reference": "((100.0, 100.0, 200.0, 200.0),)",
        "answer": "[(150.0, 150.0)]",
        "rule": "1 of 1 targets hit",
    }


PRACTICE = Path(__file__).parents[4] / "shared" / "practice"


@pytest.mark.skipif(not PRACTICE.exists(), reason="the practice rows lie beside the checkout")
def test_practice_rows_are_scored_as_labelled() -> None:
    for line in (PRACTICE / "point.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        verdict = score(row["response"], row["answer"], domain=row["domain"], args=row.get("verifier_args"))
        assert verdict.correct is row["expected"], row["id"]
