"""Multiple choice: the chosen set of options, by letter, by text, or both when they agree."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import check_reference, score_answer
from rewards.verifiers.choice import given_options, read_options

QUESTION = "What is the capital of France?\nA. Rome\nB. Paris\nC. Berlin\nD. Oslo"

ONE_LETTER = [
    "Answer: B) Paris",
    "B).",
    "B (Paris)",
    "I think the answer is B",
    "My answer is B",
    "It should be B",
    "Option B: Paris",
    "选择B",
    "我选B",
    "答案选B",
    "应该选择B。",
    "B是正确的",
    "正确的选项是B",
    "The correct option is B.",
    "the answer is: **B**",
    "B. **Paris**",
    "(B). Paris",
    "B.Paris",
    "b) paris",
    "Option B is correct.",
    "Answer B",
    "B is right",
    "Choose B",
    "答案为B",
    "答案应为B",
    "Final Answer: B",
    "Answer: (B) Paris.",
    "B",
    "(B)",
    "B.",
    "b",
    "(b)",
    "[B]",
    "<B>",
    "{B}",
    "Ｂ",
    "**B**",
    "\\boxed{B}",
    "\\text{B}",
    "$B$",
    "`B`",
    "B. Paris",
    "(B) Paris",
    "B) Paris",
    "B Paris",
    "B: Paris",
    "B - Paris",
    "B、巴黎",
    "B: Paris, the capital",
    "Option B",
    "option (b)",
    "Choice B",
    "Answer: B",
    "The answer is (B).",
    "The correct answer is B",
    "So the answer is B",
    "I choose B",
    "B is correct",
    "B is the correct option",
    "选B",
    "答案：B",
    "答案是B",
    "正确答案是B",
    "故选：B",
    "应选B",
    "选项B",
    "B选项",
    "B项",
    "B正确",
    "B, B",
]
NOT_PAID = [
    "A B C D",
    "ABCD",
    "A, B, C, D",
    "(A)(B)(C)(D)",
    "A, B",
    "A or B",
    "B or C",
    "It is A or B",
    "A. No B. No C. Yes D. No",
    "Answer: (B) or maybe (C)",
    "(B) or maybe (C)",
    "not B",
    "B is wrong",
    "neither A nor B",
    "both A and B",
    "B. Paris C. Berlin",
    "A/B",
    "AB",
    "BA",
    "C",
    "c",
    "A",
    "any of them",
    "all",
    "B? C?",
    "B A",
    "maybe B",
    "A",
    "B\nC",
    "Paris or Rome",
    "Paris, Rome",
    "Rome",
    "X",
    "0",
    "42",
    "-",
    "A.B.C.D",
    "B;C",
    "B\tC",
    "非B",
    "A或B",
    "可能是B",
    "abcd",
    "BB",
]
BOTH = [
    "AC",
    "CA",
    "ac",
    "A, C",
    "A,C",
    "A、C",
    "A，C",
    "A and C",
    "A & C",
    "A C",
    "(A)(C)",
    "(A), (C)",
    "[A, C]",
    "['A', 'C']",
    "{A, C}",
    "选AC",
    "A和C",
    "Options A and C",
    "A. Rome, C. Berlin",
    "A. Rome\nC. Berlin",
    "Rome and Berlin",
    "Rome, Berlin",
    "both A and C",
]


@pytest.mark.parametrize("question", [QUESTION, None])
@pytest.mark.parametrize("answer", ONE_LETTER)
def test_one_letter_in_any_writing_chooses_its_option(answer: str, question: str | None) -> None:
    verdict = score_answer(answer, "B", domain="choice", question=question)
    assert (verdict.score, verdict.correct, verdict.reason) == (1.0, True, None)


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "paris.",
        "'Paris'",
        "The answer is Paris",
        "It is Paris",
        "Paris (B)",
        "Option B, Paris",
        "B; Paris",
        "B because it is so",
    ],
)
def test_the_text_of_an_option_chooses_it(answer: str) -> None:
    assert score_answer(answer, "B", domain="choice", question=QUESTION).correct is True


@pytest.mark.parametrize("question", [QUESTION, None])
@pytest.mark.parametrize("answer", NOT_PAID)
def test_another_option_or_more_than_one_is_not_paid(answer: str, question: str | None) -> None:
    verdict = score_answer(answer, "B", domain="choice", question=question)
    assert (verdict.score, verdict.correct) == (0.0, False)
    assert verdict.reason


@pytest.mark.parametrize("answer", ["B. Rome", "(B) Berlin", "B: Rome, Italy", "A. Paris", "B London", "B. It is not Paris"])
def test_a_letter_with_a_text_that_contradicts_it_is_wrong(answer: str) -> None:
    assert score_answer(answer, "B", domain="choice", question=QUESTION).correct is False


def test_a_letter_that_is_no_option_is_told_so() -> None:
    assert score_answer("E", "B", domain="choice", question=QUESTION).reason == "not-an-option"


@pytest.mark.parametrize("reference", ["AC", "A, C", "A and C", "CA", "ac", ["A", "C"], ["C", "Rome"]])
@pytest.mark.parametrize("answer", BOTH)
def test_several_options_are_compared_as_a_set(answer: str, reference: Any) -> None:
    assert score_answer(answer, reference, domain="choice", question=QUESTION).correct is True


@pytest.mark.parametrize(
    "answer,reason", [("A", "missing-option"), ("ACD", "wrong-option"), ("A or C", "many-answers"), ("BD", "wrong-option")]
)
def test_a_set_with_an_option_more_or_less_is_wrong(answer: str, reason: str) -> None:
    verdict = score_answer(answer, "AC", domain="choice", question=QUESTION)
    assert (verdict.score, verdict.reason) == (0.0, reason)


@pytest.mark.parametrize("answer,score", [("A", 0.5), ("AC", 1.0), ("AB", 0.0), ("ABC", 0.0), ("D", 0.0)])
def test_partial_credit_is_given_only_for_a_subset(answer: str, score: float) -> None:
    assert score_answer(answer, "AC", domain="choice", args={"partial": True}).score == score


@pytest.mark.parametrize(
    "reference,answer,question",
    [
        ("Paris", "B. Paris", None),
        ("Paris", "Paris", None),
        ("Paris", "B", QUESTION),
        ("B. Paris", "Paris", None),
        ("B. Paris", "B", None),
        ("2", "2", "x? A. 1 B. 2"),
        ("B", "2", "x? A. 1 B. 2"),
        ("2", "B", "x? (A) 1 (B) 2"),
        ("B", "2.0 cm", "Length?\nA) 1 cm\nB) 2 cm"),
        ("D", "all of the above", "q\nA. x\nB. y\nC. z\nD. All of the above"),
        ("2", "(2)", "Pick:\n1. cat\n2. dog"),
        ("2", "dog", "Pick:\n1. cat\n2. dog"),
        ("C", "巴黎", "选择：A. 罗马 B. 柏林 C. 巴黎"),
        ("Yes", "yes", None),
    ],
)
def test_reference_and_answer_may_be_letter_or_text(reference: str, answer: str, question: str | None) -> None:
    assert score_answer(answer, reference, domain="choice", question=question).correct is True


@pytest.mark.parametrize(
    "reference,answer", [("B. Paris", "B. Rome"), ("A", "A cat"), ("Paris", "Rome"), ("Paris", "B"), ("Paris", "Paris or Rome")]
)
def test_without_options_the_texts_must_be_equal(reference: str, answer: str) -> None:
    assert score_answer(answer, reference, domain="choice").correct is False


@pytest.mark.parametrize(
    "question,texts",
    [
        (QUESTION, ["Rome", "Paris", "Berlin", "Oslo"]),
        ("Which? (A) red (B) blue", ["red", "blue"]),
        ("Which? A) 1.5 B) 2.5 C) 3.5", ["1.5", "2.5", "3.5"]),
        ("A: x, B: y", ["x", "y"]),
        ("选择：A、猫 B、狗", ["猫", "狗"]),
        ("A. is a letter? A. x\nB. y", ["x", "y"]),
        ("Which? a) red\nb) blue", ["red", "blue"]),
        ("No options. A cat.", []),
        ("", []),
    ],
)
def test_options_are_found_in_the_question(question: str, texts: list[str]) -> None:
    assert list(read_options(question).values()) == texts


def test_given_options_come_before_those_of_the_question() -> None:
    args = {"options": ["A. dog", "cat"]}
    assert dict(given_options(("A. dog", "cat"))) == {"A": "dog", "B": "cat"}
    assert score_answer("cat", "B", domain="choice", question=QUESTION, args=args).correct is True
    assert score_answer("Paris", "B", domain="choice", question=QUESTION, args=args).correct is False


def test_two_options_with_one_text_are_not_chosen_by_it() -> None:
    assert score_answer("cat", "A", domain="choice", args={"options": ["cat", "cat"]}).correct is False


@pytest.mark.parametrize(
    "reference,args,reason",
    [
        ("", {}, "empty-reference"),
        ([], {}, "empty-reference"),
        (None, {}, "not-text"),
        ([True], {}, "not-text"),
        ("x" * 3000, {}, "too-long"),
        (["A"] * 40, {}, "too-long"),
        ("E", {"options": ["x", "y"]}, "not-an-option"),
    ],
)
def test_reference_that_names_no_option_is_refused(reference: Any, args: dict, reason: str) -> None:
    assert check_reference(reference, domain="choice", args=args) == reason


def test_overlong_answer_scores_zero() -> None:
    assert score_answer("B" * 3000, "B", domain="choice").reason == "answer-too-long"


@given(
    st.sets(st.sampled_from("ABCDEF"), min_size=1), st.permutations("ABCDEF"), st.sampled_from(["", ", ", " ", " and ", "、"])
)
def test_only_the_same_set_is_right(wanted: set[str], order: list[str], separator: str) -> None:
    for size in range(1, 7):
        answer = separator.join(order[:size])
        assert score_answer(answer, sorted(wanted), domain="choice").correct is (set(order[:size]) == wanted)


@given(st.text("ABCDabc().,: 和or\n", max_size=30))
def test_any_arrangement_of_letters_is_scored(answer: str) -> None:
    assert score_answer(answer, "B", domain="choice", question=QUESTION).score in (0.0, 1.0)
