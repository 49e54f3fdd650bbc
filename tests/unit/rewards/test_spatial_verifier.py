"""Spatial questions: words, directions, options, mathematics, and mean relative accuracy."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import check_reference, score_answer
from rewards.verifiers.spatial import directions, mean_relative_accuracy

CASES = [
    ("4.2", 4.2, 1, None),
    ("4.4", 4.2, 1, None),
    ("5", 4, 0.5, None),
    ("4 m", "4", 1, None),
    ("400 cm", "4 m", 1, None),
    ("3", "4", 0, None),
    ("left", "left", 1, None),
    ("front-left", "left front", 1, None),
    ("左前方", "front-left", 1, None),
    ("left and right", "left", 0, None),
    ("left or right", "left", 0, None),
    ("B", "B", 1, "Where?\nA. left\nB. right"),
    ("right", "B", 1, "Where?\nA. left\nB. right"),
    ("(1,2)", "(1, 2)", 1, None),
    ("1/2", "0.5", 1, None),
    ("northeast", "north-east", 1, None),
    ("on the left", "left", 1, None),
    ("upper left", "top left", 1, None),
    ("front left right", "front left", 0, None),
    ("nan", 4, 0, None),
    ("between 3 and 5", 4, 0, None),
    ("3 or 4", 4, 0, None),
    ("", 4, 0, None),
    ("200 cm", 2, 0, None),
]


@pytest.mark.parametrize("answer,reference,expected,question", CASES)
def test_score(answer: str, reference: Any, expected: float, question: str | None) -> None:
    verdict = score_answer(answer, reference, domain="spatial", question=question)
    assert verdict.score == expected
    assert (verdict.reason is None) is (expected == 1)


@given(st.integers(1, 500), st.integers(0, 1500))
def test_mean_relative_accuracy_is_the_papers_sum(reference: int, answer: int) -> None:
    # In hundredths, multiplied out: |a - r| / r < 1 - theta  <=>  100 |a - r| < (100 - 100 theta) r.
    paper = sum(100 * abs(answer - reference) < (100 - percent) * reference for percent in range(50, 100, 5)) / 10
    assert mean_relative_accuracy(Fraction(reference), Fraction(answer)) == paper
    assert score_answer(str(answer), reference, domain="spatial").score == paper


def test_a_number_is_correct_from_the_threshold() -> None:
    assert score_answer("5", 4, domain="spatial").correct is True
    assert score_answer("5", 4, domain="spatial", args={"threshold": 0.6}).correct is False


@pytest.mark.parametrize(
    "answer,reference,mode,score",
    [
        ("4.2 m", "4 meters", "mra", 0.9),
        ("400 cm", "4 m", "mra", 1.0),
        ("4 kg", "4 m", "mra", 0.0),
        ("-4", "4", "mra", 0.0),
        ("1/2", "0.5", "exact", 0.0),
        ("1/2", "0.5", "symbolic", 1.0),
        ("5", 4, "exact", 0.0),
    ],
)
def test_mode_decides_how_numbers_are_compared(answer: str, reference: Any, mode: str, score: float) -> None:
    assert score_answer(answer, reference, domain="spatial", args={"mode": mode}).score == score


@pytest.mark.parametrize(
    "text,found",
    [
        ("front-left", {"front", "left"}),
        ("to the left of", {"left"}),
        ("左前方", {"left", "front"}),
        ("Northeast", {"north", "east"}),
        ("south-western", None),
        ("left or right", None),
        ("left and right", None),
        ("left left", None),
        ("behind", {"back"}),
        ("upper left", {"up", "left"}),
        ("3 left", None),
        ("not left", None),
        ("left, front", None),
        ("the", None),
        ("left " * 50, None),
    ],
)
def test_directions_are_read_as_a_set_without_opposites(text: str, found: set[str] | None) -> None:
    assert directions(text) == found


def test_directions_can_be_compared_as_words() -> None:
    assert score_answer("left front", "front left", domain="spatial", args={"directions": False}).correct is False


def test_an_enumeration_of_directions_or_options_is_not_paid() -> None:
    assert score_answer("front, back, left, right", "left", domain="spatial").correct is False
    assert score_answer("A, B, C, D", "B", domain="spatial").correct is False


@pytest.mark.parametrize(
    "reference,args,reason",
    [
        ("", {}, "empty-reference"),
        (True, {}, "not-text"),
        ([1], {}, "not-text"),
        ("x" * 3000, {}, "too-long"),
        (0, {}, "zero-reference"),
        ("left", {"mode": "mra"}, "not-a-number"),
    ],
)
def test_reference_that_cannot_be_compared_is_refused(reference: Any, args: dict, reason: str) -> None:
    assert check_reference(reference, domain="spatial", args=args) == reason


def test_overlong_answer_scores_zero() -> None:
    assert score_answer("x" * 3000, "x", domain="spatial").reason == "answer-too-long"
