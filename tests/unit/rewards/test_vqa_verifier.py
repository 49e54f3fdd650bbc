"""Short answers: words, truth values, numbers, mathematics; candidates and hedges are not paid."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import check_reference, score, score_answer
from rewards.verifiers.vqa import agreement

RIGHT = [
    ("x+1", "1+x", None),
    ("2", "2.0", None),
    ("two", "2", None),
    ("Yes", "yes", None),
    ("yes, it is", "yes", None),
    ("No, it isn't", "no", None),
    ("a cat", "cat", None),
    ("The Cat.", "cat", None),
    ("T", "True", None),
    ("是", "yes", None),
    ("红色", "红色", None),
    ("红色的", "红色", None),
    ("red", "Red.", None),
    ("red car", "red", "What color is the car?"),
    ("tennis ball", ["ball", "tennis ball"], None),
    ("50%", "0.5", None),
    ("0.5", "50%", None),
    ("50", "50%", None),
    ("3 cats", "3", None),
    ("three", "3", None),
    ("5", "2+3", None),
    ("1/2", "0.5", None),
    ("nan", "nan", None),
    ("on the left", "left", None),
    ("\\frac{1}{2}", "0.5", None),
    ("5!", "120", None),
    ("1,000", "1000", None),
    ("$5", "5 dollars", None),
    ("5 m", "500 cm", None),
    ("1", "yes", None),
    ("the man", "man", None),
    ("man in the hat", "man", "Who is wearing the hat?"),
    ("ice-cream", "ice cream", None),
    ("It's a dog", "dog", None),
    ("China", "China", "Which is larger, China or India?"),
    ("x²", "x^2", None),
    ("x^2+2x+1", "(x+1)^2", None),
    ("a\u200bb", "ab", None),
    ("There are 3 cats", "3", "How many cats are there?"),
    ("in 2010", "2010", None),
    ("2010年", "2010", None),
    ("It is red", "red", None),
    ("The color is red", "red", "What is the color of the car?"),
    ("riding a bike", "riding bike", None),
    ("No.", "no", None),
    ("two", "2 people", None),
    ("2 people", "two people", None),
    ("25", "twenty five", None),
    ("blue and white", "blue and white", None),
    ("$\\frac12$", "1/2", None),
    ("x = 3", "3", None),
    ("3", "x=3", None),
]
WRONG = [
    ("yes", "no", None),
    ("yes and no", "yes", None),
    ("yes, no", "yes", None),
    ("cats", "cat", None),
    ("cat or dog", "cat", None),
    ("cat, dog", "cat", None),
    ("not cat", "cat", None),
    ("red and blue car", "red", "What color is the car?"),
    ("5", "50%", None),
    ("3 cats", "3 dogs", None),
    ("2+3", "5", "What is 2+3?"),
    ("10/12/2020", "5/6/2020", None),
    ("10:30", "1:3", None),
    ("007", "7", None),
    ("555-1234", "-679", None),
    ("", "x", None),
    ("nan", "5", None),
    ("5 or 6", "5", None),
    ("between 0 and 10", "5", None),
    ("left side", "left", None),
    ("5²", "52", None),
    ("Washington, Lincoln", "Washington", "Who was the first president?"),
    ("猫和狗", "猫", None),
    ("一只猫", "猫", None),
    ("不是猫", "猫", None),
    ("China, India", "China", "Which is larger, China or India?"),
    ("Is the sky blue?", "yes", "Is the sky blue?"),
    (".5", "5", None),
    ("9^9^9^9", "5", None),
    ("\\frac{1}{0}", "5", None),
    ("no dog", "no", None),
    ("white and blue", "blue and white", None),
    ("blue, white", "blue and white", None),
]


@pytest.mark.parametrize("answer,reference,question", RIGHT)
def test_the_reference_in_another_writing_is_right(answer: str, reference: Any, question: str | None) -> None:
    verdict = score_answer(answer, reference, domain="vqa", question=question)
    assert (verdict.score, verdict.correct, verdict.reason) == (1.0, True, None)


@pytest.mark.parametrize("answer,reference,question", WRONG)
def test_anything_else_scores_zero_with_a_reason(answer: str, reference: Any, question: str | None) -> None:
    verdict = score_answer(answer, reference, domain="vqa", question=question)
    assert (verdict.score, verdict.correct) == (0.0, False)
    assert verdict.reason


PRACTICE = Path(__file__).parents[4] / "shared" / "practice" / "vqa.jsonl"


@pytest.mark.skipif(not PRACTICE.exists(), reason="the practice rows lie beside the checkout")
def test_practice_rows_are_scored_as_labelled() -> None:
    for row in map(json.loads, PRACTICE.read_text().splitlines()):
        verdict = score(row["response"], row["answer"], domain="vqa", question=row.get("question"))
        assert verdict.correct == row["expected"], row["id"]


@pytest.mark.parametrize("total", range(2, 11))
def test_consensus_is_the_mean_over_leaving_each_annotator_out(total: int) -> None:
    for agreeing in range(total + 1):
        votes = [1] * agreeing + [0] * (total - agreeing)
        subsets = [min(1.0, sum(kept) / 3) for kept in combinations(votes, total - 1)]
        assert agreement(agreeing, total) == pytest.approx(sum(subsets) / len(subsets))


def test_consensus_scores_by_the_number_of_agreeing_annotators() -> None:
    references = ["red"] * 2 + ["blue"] * 8
    scores = {
        answer: score_answer(answer, references, domain="vqa", args={"agreement": "consensus"})
        for answer in ("blue", "red", "tan")
    }
    assert scores["blue"].score == 1.0
    assert scores["red"].score == pytest.approx(agreement(2, 10))
    assert (scores["red"].correct, scores["red"].reason) == (True, "few-agree")
    assert scores["tan"].score == 0.0


def test_any_of_several_references_suffices() -> None:
    assert score_answer("sofa", ["couch", "sofa"], domain="vqa").correct is True
    assert score_answer("couch, sofa", ["couch", "sofa"], domain="vqa").correct is False


def test_words_of_the_question_count_only_when_args_allow_them() -> None:
    given = {"domain": "vqa", "question": "The capital of France is ___"}
    assert score_answer("Paris, France", "Paris", **given).correct is True
    assert score_answer("Paris, France", "Paris", **given, args={"context": False}).correct is False


@pytest.mark.parametrize(
    "answer,reference", [("cats", "cat"), ("box", "boxes"), ("cherry", "cherries"), ("dish", "dishes"), ("glass", "glasses")]
)
def test_plurals_are_other_words_unless_args_say_otherwise(answer: str, reference: str) -> None:
    assert score_answer(answer, reference, domain="vqa").correct is False
    assert score_answer(answer, reference, domain="vqa", args={"plurals": True}).correct is True


def test_mathematics_can_be_turned_off() -> None:
    assert score_answer("x+1", "1+x", domain="vqa", args={"mathematics": False}).correct is False


@pytest.mark.parametrize(
    "reference,reason",
    [
        ("", "empty-reference"),
        ([], "empty-reference"),
        ({}, "not-text"),
        ([None], "not-text"),
        ("x" * 3000, "too-long"),
        (["x"] * 100, "too-long"),
    ],
)
def test_reference_that_is_no_short_answer_is_refused(reference: Any, reason: str) -> None:
    assert check_reference(reference, domain="vqa") == reason


def test_overlong_answer_scores_zero() -> None:
    assert score_answer("x" * 3000, "x", domain="vqa").reason == "answer-too-long"


@given(st.text(min_size=1, max_size=30))
def test_every_text_is_right_for_itself(text: str) -> None:
    if check_reference(text, domain="vqa") is None and text.strip():
        verdict = score_answer(text, text, domain="vqa")
        assert verdict.correct is True or verdict.status == "format_error"


@pytest.mark.parametrize(
    "domain,reference", [("vqa", "3"), ("counting", "3"), ("chart", "3"), ("spatial", "3"), ("geo", "France")]
)
@pytest.mark.parametrize("answer,reason", [("\u200b", "empty-answer"), ("。", "empty-answer"), ("3" * 5000, "answer-too-long")])
def test_short_answers_are_turned_away_by_one_rule(domain: str, reference: str, answer: str, reason: str) -> None:
    verdict = score_answer(answer, reference, domain=domain)
    assert (verdict.score, verdict.reason) == (0.0, reason)
