"""Counting: the one number an answer states, exactly; hedges, ranges and lists are not paid."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import check_reference, score, score_answer

RIGHT = [
    ("3", 3, None),
    ("3.0", 3, None),
    ("1", "1.00", None),
    ("三只猫", 3, None),
    ("There are 12 and then 2", 2, None),
    ("three cats", 3, None),
    ("There are three cats.", 3, None),
    ("一共有3只猫", 3, None),
    ("共三只", 3, None),
    ("0", "0", None),
    ("none", 0, None),
    ("no cats", 0, None),
    ("没有", 0, None),
    ("没有猫", 0, None),
    ("zero", 0, None),
    ("twenty-one", 21, None),
    ("二十一", 21, None),
    ("1,000", 1000, None),
    ("1000", 1000, None),
    ("2 + 3 = 5", 5, None),
    ("5 in total", 5, None),
    ("3 cats and 2 dogs, 5 in total", 5, None),
    ("3 out of 12", 3, None),
    ("3 of the 12", 3, None),
    ("3 (three)", 3, None),
    ("３", 3, None),
    ("I count 7 people", 7, None),
    ("a dozen", 12, None),
    ("两个", 2, None),
    ("3个", 3, None),
    ("答案是3", 3, None),
    ("x=3", 3, None),
    ("n = 3", 3, None),
    ("**3**", 3, None),
    ("\\boxed{3}", 3, None),
    ("3 3 3", 3, None),
    ("1 to 3, so 3", 3, None),
    ("1 then 2 then 3", 3, None),
    ("three hundred", 300, None),
    ("5万", 50000, None),
    ("3 people.", 3, None),
    ("3只", 3, None),
    ("３只猫", 3, None),
    ("Three", 3, None),
    ("one", 1, None),
    ("one cat", 1, None),
    ("There is one cat", 1, None),
    ("thirty three", 33, None),
    ("2, 2", 2, None),
    ("the answer is 3", 3, None),
    ("一", 1, None),
    ("一个", 1, None),
    ("一共五个", 5, None),
    ("5 apples, 5", 5, None),
    ("3 of them", 3, None),
    ("3 cats, 4 total", 4, None),
    ("total: 5", 5, None),
    ("12 cats; answer: 12", 12, None),
    ("one of the 5", 1, None),
    ("一只都没有", 0, None),
    ("No people are in the photo", 0, None),
    ("4 people are in the photo", "4", None),
    ("I can see four people", "4", None),
    ("There're 3", "3", None),
    ("四", "4", None),
    ("4人", "4", None),
    ("共4人", "4", None),
    ("图中有4个人", "4", None),
    ("Four (4)", "4", None),
    ("It's 4", "4", None),
    ("4.", "4", None),
    ("There is no cat", "0", None),
    ("four people", "4", None),
    ("4 total", "4", None),
    ("Total: 4", "4", None),
    ("There are 2 cats and 3 dogs, so 5 animals.", "5", None),
    ("一共有12个苹果", "12", None),
    ("有两个人", "2", None),
    ("十个", "10", None),
    ("There are 12 and then 2", "2", None),
    ("first 12, then 3, then 2", "2", None),
    ("one hundred and one", "101", None),
    ("Step 1: count. Answer: 7", "7", None),
    ("the number is 7", "7", None),
    ("7 (seven)", "7", None),
    ("N=7", "7", None),
    ("7.0 cats", "7", None),
]
WRONG = [
    ("three", 4, None),
    ("三只猫", 4, None),
    ("There are 12 and then 2", 12, None),
    ("five or six", 5, None),
    ("13", 3, None),
    ("about 5", 5, None),
    ("3-4", 3, None),
    ("5 or 6", 5, None),
    ("1,2,3", 3, None),
    ("1 2 3", 3, None),
    ("No", 0, None),
    ("3rd", 3, None),
    ("第三", 3, None),
    ("-3", 3, None),
    ("5%", 5, None),
    ("$5", 5, None),
    ("3 cats and 2 dogs", 2, None),
    ("at least 3", 3, None),
    ("3+", 3, None),
    ("~3", 3, None),
    ("nan", 3, None),
    ("inf", 3, None),
    ("", 3, None),
    ("between 0 and 10", 5, None),
    ("a correct number between 0 and 10", 5, None),
    ("5²", 52, None),
    ("3 to 5", 3, None),
    ("3/4", 3, None),
    ("1. 2. 3.", 3, None),
    ("3.5", 3, None),
    ("not 3", 3, None),
    ("三四只", 3, None),
    ("三到四", 3, None),
    ("3\n4", 3, None),
    ("1e1", 10, None),
    ("three-legged cat", 3, None),
    ("Someone", 1, None),
    ("2 or more", 2, None),
    ("0, 1, 2, 3, 4, 5, 6", 3, None),
    ("一些", 1, None),
    ("2 red + 3 blue", 5, None),
    ("4 (not 5)", 4, None),
    ("no", 0, None),
    ("two and a half", 2, None),
    ("total 3 or 4", 3, None),
    ("Total = 3 + 2", 3, None),
    ("so 1 2 3", 3, None),
    ("两只狗和三只猫", 3, None),
    ("two cats and one dog", "3", None),
    ("≈4", "4", None),
    ("3.9", "4", None),
    ("4 / 4", "4", None),
    ("12 and 2", "2", None),
    ("1 0", "10", None),
]


@pytest.mark.parametrize("answer,reference,question", RIGHT)
def test_the_reference_in_another_writing_is_right(answer: str, reference: Any, question: str | None) -> None:
    verdict = score_answer(answer, reference, domain="counting", question=question)
    assert (verdict.score, verdict.correct, verdict.reason) == (1.0, True, None)


@pytest.mark.parametrize("answer,reference,question", WRONG)
def test_anything_else_scores_zero_with_a_reason(answer: str, reference: Any, question: str | None) -> None:
    verdict = score_answer(answer, reference, domain="counting", question=question)
    assert (verdict.score, verdict.correct) == (0.0, False)
    assert verdict.reason


PRACTICE = Path(__file__).parents[4] / "shared" / "practice" / "counting.jsonl"


@pytest.mark.skipif(not PRACTICE.exists(), reason="the practice rows lie beside the checkout")
def test_practice_rows_are_scored_as_labelled() -> None:
    for row in map(json.loads, PRACTICE.read_text().splitlines()):
        verdict = score(row["response"], row["answer"], domain="counting", question=row.get("question"))
        assert verdict.correct == row["expected"], row["id"]


@pytest.mark.parametrize(
    "reference,reason",
    [
        (-1, "negative-count"),
        ("-3", "negative-count"),
        (3.5, "not-an-integer"),
        ("3.5", "not-an-integer"),
        (True, "not-a-number"),
        (None, "not-a-number"),
        ([1], "not-a-number"),
        ("5 or 6", "hedged"),
        ("3, 4", "many-answers"),
        ("", "empty-reference"),
        ("cats", "no-number"),
        (float("inf"), "no-number"),
        ("9999999999999999", "too-large"),
        ("1" * 2000, "too-long"),
    ],
)
def test_reference_that_is_no_count_is_refused(reference: Any, reason: str) -> None:
    assert check_reference(reference, domain="counting") == reason


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_numeral_is_right_exactly_when_it_is_the_reference(reference: int, answer: int) -> None:
    assert score_answer(str(answer), reference, domain="counting").correct is (answer == reference)
    assert score_answer(f"There are {reference:,} cats.", reference, domain="counting").correct is True


@given(
    st.lists(st.integers(0, 20), min_size=2, max_size=8, unique=True), st.sampled_from([", ", " ", " and ", "\n", "/", "、"])
)
def test_a_list_of_numbers_never_pays_for_any_of_them(numbers: list[int], separator: str) -> None:
    for reference in numbers:
        assert score_answer(separator.join(map(str, numbers)), reference, domain="counting").correct is False


def test_overlong_answer_scores_zero() -> None:
    assert score_answer("3 " * 1000, 3, domain="counting").reason == "answer-too-long"
