"""Boxes: one-to-one matching against brute force, notations, and what must not be paid."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import check_reference, score
from rewards.api import score_answer
from rewards.boxes import MAX_PLACES, best_matching, iou, is_box, read_places
from rewards.literals import LiteralError
from rewards.registry import Context, find
from rewards.verifiers.grounding import GroundingArgs, grounding, read_reference

ONE = [[400, 400, 500, 500]]
TWO = [[0, 0, 100, 100], [500, 500, 700, 700]]


def judge(answer: object, reference: object, **args: object):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return score_answer(text, reference, domain="grounding", args=args)


@pytest.mark.parametrize(
    "answer",
    [
        "[400, 400, 500, 500]",
        "[[400,400,500,500]]",
        "[[400.0, 400, 500, 500.]]",
        "(400, 400, 500, 500)",
        "400, 400, 500, 500",
        "[400 400 500 500]",
        "[400，400，500，500]。",
        "(400,400),(500,500)",
        "<|box_start|>(400,400),(500,500)<|box_end|>",
        "<box>400 400 500 500</box>",
        '{"bbox_2d": [400, 400, 500, 500], "label": "cat"}',
        "[{'bbox_2d': [400, 400, 500, 500]}]",
        '```json\n[\n  {"bbox": [400, 400, 500, 500], "label": "cat"}\n]\n```',
        "The answer is [400, 400, 500, 500].",
    ],
)
def test_one_box_in_any_notation_is_right(answer: str) -> None:
    verdict = judge(answer, ONE)
    assert (verdict.score, verdict.correct, verdict.reason) == (1.0, True, None)


@pytest.mark.parametrize(
    "answer",
    [
        "[0,0,100,100],[500,500,700,700]",
        "[500,500,700,700]\n[0,0,100,100]",
        "[0,0,100,100]; [500,500,700,700]",
        '{"bbox_2d": [[0,0,100,100],[500,500,700,700]]}',
        '{"bbox_2d": [0,0,100,100]}\n{"bbox_2d": [500,500,700,700]}',
        "<box>[0,0,100,100]</box><box>[500,500,700,700]</box>",
    ],
)
def test_several_boxes_are_read_in_any_order_and_notation(answer: str) -> None:
    assert judge(answer, TWO).correct is True


@pytest.mark.parametrize(
    "answer,reference,mode,score",
    [
        ([503, 480, 718, 602], [[503, 580, 718, 702]], "mean_iou", 22 / 222),
        ([5, 5, 15, 15], [[0, 0, 10, 10]], "mean_iou", 1 / 7),
        ([0, 0, 1000, 1000], ONE, "mean_iou", 0.01),
        ([0, 0, 1000, 1000], ONE, "threshold", 0.0),
        ([[0, 0, 100, 100]], TWO, "mean_iou", 0.5),
        ([[0, 0, 100, 100], [0, 0, 100, 100]], TWO, "mean_iou", 0.5),
        ([[0, 0, 100, 100], [0, 0, 100, 100]], [[0, 0, 100, 100]], "threshold", 0.5),
        ([[0, 0, 100, 60]], [[0, 0, 100, 100]], "threshold", 1.0),
        ([[0, 0, 100, 50]], [[0, 0, 100, 100]], "threshold", 0.0),
    ],
)
def test_score_is_what_is_matched_over_the_larger_number(answer: object, reference: object, mode: str, score: float) -> None:
    assert judge(answer, reference, mode=mode).score == pytest.approx(score)


def test_overlap_must_exceed_the_threshold_to_be_right() -> None:
    assert judge([0, 0, 100, 80], [[0, 0, 100, 100]], iou=0.8).correct is False
    assert judge([0, 0, 100, 81], [[0, 0, 100, 100]], iou=0.8).correct is True


def test_one_right_box_among_twenty_spurious_is_paid_a_twenty_first() -> None:
    # VLM-R1's weighted reward pays 0.857 here.
    spurious = [[x, 800, x + 10, 810] for x in range(0, 200, 10)]
    for mode in ("threshold", "mean_iou"):
        verdict = judge(ONE + spurious, ONE, mode=mode)
        assert (verdict.score, verdict.correct, verdict.reason) == (pytest.approx(1 / 21), False, "extra-boxes")


def test_a_grid_of_boxes_is_paid_one_cell() -> None:
    grid = [[x, y, x + 100, y + 100] for x in range(0, 1000, 100) for y in range(0, 1000, 100)]
    assert judge(grid, ONE).score == pytest.approx(0.01)
    assert judge(grid, ONE, mode="mean_iou").score == pytest.approx(0.01)


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    assert judge([], []).correct is True
    assert judge("null", []).correct is True
    assert judge(ONE, []).score == 0.0
    assert judge([], ONE).reason == "no-boxes"


@pytest.mark.parametrize(
    "bad",
    [
        [450, 450, 450, 450],
        [500, 400, 400, 500],
        [400, 500, 500, 400],
        [400, 400, 1001, 500],
        [-1, 400, 500, 500],
        [400, 400, 500],
        [400, 400, 500, 500, 500],
        [400, 400, 500, "500"],
        [400, 400, 500, None],
        [400, 400, 500, True],
        [400, 400, 500, 10**30],
        {"label": "cat"},
        {"bbox_2d": "x"},
        {"bbox_2d": [400, 400, 500, 500], "bbox": [0, 0, 1, 1]},
        "cat",
    ],
)
def test_a_malformed_box_matches_nothing_and_still_counts(bad: object) -> None:
    assert judge([[400, 400, 500, 500], bad], ONE).score == 0.5
    assert check_reference([[1, 2, 3, 4], bad], domain="grounding") == "bad-box"


@pytest.mark.parametrize(
    "answer,reason",
    [
        ("cat", "unparsed-literal"),
        ("[400, 400, 500, 500] or [0, 0, 1, 1]", "unparsed-literal"),
        ("5", "not-places"),
        ("[400, 400, 500, 1e999]", "non-finite"),
        ("[" * 3000, "too-complex"),
        ("[[1,2,3,4]," * 400, "too-complex"),
        (json.dumps([[1, 2, 3, 4]] * (MAX_PLACES + 1)), "too-many-places"),
    ],
)
def test_what_is_no_list_of_boxes_scores_zero_with_a_reason(answer: str, reason: str) -> None:
    verdict = judge(answer, ONE)
    assert (verdict.score, verdict.correct) == (0.0, False)
    assert verdict.reason == reason


def test_coordinates_may_reach_the_given_extent() -> None:
    pixels = [[100, 100, 1900, 1000]]
    assert check_reference(pixels, domain="grounding") == "bad-box"
    assert judge(pixels, pixels, extent=1920.0).correct is True


@pytest.mark.parametrize(
    "answer,score",
    [
        ([{"bbox_2d": [0, 0, 10, 10], "label": "Cat"}, {"bbox_2d": [50, 50, 60, 60], "label": "dog"}], 1.0),
        ([{"bbox_2d": [0, 0, 10, 10], "label": "dog"}, {"bbox_2d": [50, 50, 60, 60], "label": "cat"}], 0.0),
        ([{"bbox_2d": [0, 0, 10, 10], "label": "cat"}, {"bbox_2d": [50, 50, 60, 60]}], 0.5),
        ([[0, 0, 10, 10], [50, 50, 60, 60]], 0.0),
    ],
)
def test_labels_must_match_when_the_reference_has_them(answer: object, score: float) -> None:
    reference = [{"bbox_2d": [0, 0, 10, 10], "label": "cat"}, {"bbox_2d": [50, 50, 60, 60], "label": "dog"}]
    assert judge(answer, reference).score == score
    assert judge(answer, reference, labels="ignore").score == 1.0
    assert judge(answer, [[0, 0, 10, 10], [50, 50, 60, 60]]).score == 1.0


def test_threshold_mode_matches_as_many_boxes_as_can_be() -> None:
    # The pairs of greatest summed IoU would leave the second reference box without a box above the threshold.
    reference = [[0, 0, 100, 100], [0, 20, 100, 120]]
    found = [[0, 0, 100, 100], [0, 0, 100, 70]]
    assert [[round(iou(tuple(a), tuple(b)), 2) for b in found] for a in reference] == [[1.0, 0.7], [0.67, 0.42]]
    assert judge(found, reference).correct is True
    assert judge(found, reference, mode="mean_iou").score == pytest.approx((1.0 + 50 / 120) / 2)


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=4))
def test_matching_is_the_best_of_all(weights: list[list[float]]) -> None:
    best = max(
        sum(weights[row][column] for row, column in enumerate(columns))
        for columns in itertools.permutations(range(4), len(weights))
    )
    pairs = best_matching(weights)
    assert sum(weights[r][c] for r, c in pairs) == pytest.approx(best)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)


def _box(n: tuple[int, int, int, int]) -> list[int]:
    return [min(n[0], n[2]), min(n[1], n[3]), max(n[0], n[2]) + 1, max(n[1], n[3]) + 1]


boxes = st.tuples(*[st.integers(0, 999)] * 4).map(_box)


@given(boxes, boxes)
def test_iou_is_that_of_counted_cells(a: list[int], b: list[int]) -> None:
    a, b = ([value // 50 for value in box[:2]] + [value // 50 + 1 for value in box[2:]] for box in (a, b))
    cells = [{(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])} for box in (a, b)]
    assert iou(tuple(a), tuple(b)) == pytest.approx(len(cells[0] & cells[1]) / len(cells[0] | cells[1]))


@given(st.lists(boxes, max_size=5), st.sampled_from(["threshold", "mean_iou"]))
def test_reference_is_right_for_itself(reference: list[list[int]], mode: str) -> None:
    assert check_reference(json.dumps(reference), domain="grounding", args={"mode": mode}) is None
    assert judge(reference[::-1], reference, mode=mode).score == pytest.approx(1.0)


@given(st.lists(boxes, min_size=1, max_size=4), st.lists(boxes, max_size=4))
def test_extra_boxes_never_raise_the_score(reference: list[list[int]], extra: list[list[int]]) -> None:
    right = judge(reference, reference, mode="mean_iou").score
    assert judge(reference + extra, reference, mode="mean_iou").score <= right


@given(st.text(max_size=40) | st.lists(st.sampled_from(list("[](){},;:-.0189 'l\n")), max_size=40).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    for count in (2, 4):
        try:
            places = read_places(text, count)
        except LiteralError:
            continue
        assert all(place.numbers is None or all(abs(value) <= 1e9 for value in place.numbers) for place in places)
    outcome = grounding(text, read_reference(ONE, GroundingArgs()), Context(GroundingArgs()))
    assert 0.0 <= outcome.score <= 1.0


@pytest.mark.parametrize(
    "answer,reference,bounded",
    [
        ("[1,2,3,4]", ONE, True),
        ("[1,2,3,4]", ONE[0], True),
        ("[1,2,3,4]", TWO, False),
        ("[1,2,3,4]", "[[1,2,3,4]]", False),
        ("[1,2,3,4]" * 100, ONE, False),
    ],
)
def test_only_short_answers_to_one_box_are_scored_without_a_limit(answer: str, reference: object, bounded: bool) -> None:
    assert find("grounding").bounded(answer, reference) is bounded


def test_a_box_needs_four_numbers() -> None:
    assert not is_box([1, 2, 3])


def test_decision_is_explained() -> None:
    notes: list[tuple[str, str]] = []
    args = GroundingArgs()
    grounding("[[400,400,500,500],[1,1,1,1]]", read_reference(ONE, args), Context(args, None, notes))
    assert dict(notes) == {
        "reference": "[(400.0, 400.0, 500.0, 500.0, None)]",
        "answer": "[(400.0, 400.0, 500.0, 500.0, None), 'bad-box']",
        "rule": "1 boxes above IoU 0.5 / max(1, 2)",
    }


PRACTICE = Path(__file__).parents[4] / "shared" / "practice"


@pytest.mark.skipif(not PRACTICE.exists(), reason="the practice rows lie beside the checkout")
def test_practice_rows_are_scored_as_labelled() -> None:
    for line in (PRACTICE / "grounding.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        verdict = score(row["response"], row["answer"], domain=row["domain"], args=row.get("verifier_args"))
        assert verdict.score == pytest.approx(row["expected"], abs=1e-6), row["id"]
    for line in (PRACTICE / "adversarial.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["domain"] == "grounding":
            answer = row["response"] if isinstance(row["response"], str) else json.dumps(row["response"])
            verdict = score_answer(answer, row["gold"], domain="grounding")
            assert verdict.score == pytest.approx(row["expected"]), row["id"]
