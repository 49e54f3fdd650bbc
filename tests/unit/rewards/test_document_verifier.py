"""Questions on documents: ANLS against the nearest reference, and one-to-one matching of spans."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import check_reference, score, score_answer

PRACTICE = Path(__file__).parents[4] / "shared" / "practice" / "document.jsonl"
WORDS = st.text("abcd", min_size=1, max_size=8)


def anls(answer: str, reference: str) -> float:
    """1 - Levenshtein distance / longer length by the textbook recurrence, or 0 below one half."""
    row = list(range(len(reference) + 1))
    for i, x in enumerate(answer, 1):
        row, last = [i], row
        for j, y in enumerate(reference, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y)))
    similarity = 1 - row[-1] / max(len(answer), len(reference))
    return similarity if similarity >= 0.5 else 0.0


@given(WORDS, st.lists(WORDS, min_size=1, max_size=4))
def test_score_is_the_textbook_anls_of_the_nearest_reference(answer: str, references: list[str]) -> None:
    verdict = score_answer(answer, references, domain="document")
    assert verdict.score == pytest.approx(max(anls(answer, reference) for reference in references))
    assert verdict.correct is (answer in references)


@given(st.lists(WORDS, min_size=1, max_size=4), st.lists(WORDS, min_size=1, max_size=4))
def test_spans_are_matched_one_to_one_in_the_best_way(found: list[str], wanted: list[str]) -> None:
    size = max(len(found), len(wanted))
    padded = [*found, *[""] * (size - len(found))], [*wanted, *[""] * (size - len(wanted))]
    best = max(
        sum(anls(a, b) for a, b in zip(padded[0], order, strict=True) if a and b) / size for order in permutations(padded[1])
    )
    args = {"reference": "all"}
    assert score_answer(", ".join(found), wanted, domain="document", args=args).score == pytest.approx(best)
    assert score_answer(json.dumps(found), wanted, domain="document", args=args).score == pytest.approx(best)


@pytest.mark.skipif(not PRACTICE.exists(), reason="the practice rows lie beside the checkout")
def test_practice_rows_are_scored_as_labelled() -> None:
    for row in map(json.loads, PRACTICE.read_text().splitlines()):
        assert score(row["response"], row["answer"], domain="document").score == pytest.approx(row["expected"]), row["id"]


@pytest.mark.parametrize("answer", ["coca  cola", " COCA COLA ", "Coca\nCola"])
def test_case_and_white_space_do_not_count(answer: str) -> None:
    assert score_answer(answer, "Coca Cola", domain="document").score == 1.0


def test_containment_earns_no_more_than_its_edit_distance() -> None:
    assert score_answer("Pepsi, Fanta, Coca Cola, Sprite", ["Coca Cola"], domain="document").score == 0.0
    verdict = score_answer("Coca Cola Inc", ["Coca Cola"], domain="document")
    assert (verdict.score, verdict.correct, verdict.reason) == (pytest.approx(9 / 13), False, "text-differs")


def test_similarity_of_one_half_is_the_least_that_is_paid() -> None:
    assert score_answer("abxx", "abcd", domain="document").score == 0.5
    assert score_answer("axxx", "abcd", domain="document").score == 0.0
    assert score_answer("axxx", "abcd", domain="document", args={"threshold": 0.25}).score == 0.25


def test_correct_has_a_threshold_of_its_own() -> None:
    verdict = score_answer("abcx", "abcd", domain="document", args={"correct": 0.75})
    assert (verdict.score, verdict.correct) == (0.75, True)


@pytest.mark.parametrize(
    "answer,args,expected",
    [
        ("b, a", {}, 1.0),
        ("a\nb", {}, 1.0),
        ("['b', 'a']", {}, 1.0),
        ("[a, b]", {}, 0.0),  # no list that can be read: spans "[a" and "b]" are one edit in two, and one in two
        ("a; b", {"separator": ";"}, 1.0),
        ("a", {}, 0.5),
        ("a, b, c, d", {}, 0.5),
        ("b, a", {"ordered": True}, 0.0),
        ("a, b", {"ordered": True}, 1.0),
    ],
)
def test_a_list_of_spans_must_be_given_whole(answer: str, args: dict, expected: float) -> None:
    score = score_answer(answer, ["a", "b"], domain="document", args={"reference": "all", **args}).score
    assert score == (expected if expected else pytest.approx(0.5 if answer == "[a, b]" else 0.0))


def test_a_list_inside_a_list_is_an_accepted_list_of_spans() -> None:
    references = [["red", "blue"], "both"]
    assert score_answer("blue, red", references, domain="document").score == 1.0
    assert score_answer("both", references, domain="document").score == 1.0


def test_too_many_spans_are_not_matched() -> None:
    verdict = score_answer(", ".join(["red"] * 100), [["red", "blue"]], domain="document")
    assert (verdict.score, verdict.reason) == (0.0, "many-answers")


@pytest.mark.parametrize(
    "reference,args,reason",
    [
        ("", {}, "empty-reference"),
        (" ", {}, "empty-reference"),
        ([], {}, "empty-reference"),
        ([[]], {}, "bad-list"),
        (["x"] * 100, {}, "bad-list"),
        (None, {}, "not-text"),
        ([True], {}, "not-text"),
        ("x" * 30_000, {}, "too-long"),
        ([["a", "b"]], {"reference": "all"}, "not-text"),
    ],
)
def test_reference_that_is_no_text_is_refused(reference: Any, args: dict, reason: str) -> None:
    assert check_reference(reference, domain="document", args=args) == reason


def test_overlong_and_invisible_answers_score_zero() -> None:
    assert score_answer("a" * 20_001, "a", domain="document").reason == "answer-too-long"
    assert score_answer("\x1f\x1f", "a", domain="document").score == 0.0
