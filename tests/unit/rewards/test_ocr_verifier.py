"""Text recognition scores: 1 - edit distance / longer length, under the case and white-space policies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import score_answer
from rewards.verifiers.ocr import MAX_CHARS


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance by the textbook recurrence."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y)))
    return row[-1]


@given(st.text("abcd", min_size=1, max_size=20), st.text("abcd", min_size=1, max_size=20))
def test_score_is_the_textbook_similarity(reference: str, answer: str) -> None:
    verdict = score_answer(answer, reference, domain="ocr")
    assert verdict.score == pytest.approx(1 - edit_distance(answer, reference) / max(len(answer), len(reference)))
    assert verdict.correct is (answer == reference)


@pytest.mark.parametrize(
    "answer,args,score",
    [
        ("ab c", {}, 1.0),
        ("AB C", {}, 1.0),
        ("aB C", {"case": "exact"}, 1 / 3),
        ("abc", {"whitespace": "collapse"}, 0.75),
        ("ab  c", {"whitespace": "collapse"}, 1.0),
        ("ab  c", {"whitespace": "exact"}, 0.8),
        (" ab c ", {"whitespace": "exact"}, 1.0),
    ],
)
def test_policies_decide_what_counts(answer: str, args: dict, score: float) -> None:
    assert score_answer(answer, "ab c", domain="ocr", args=args).score == pytest.approx(score)


def test_number_with_another_spelling_is_another_text() -> None:
    assert score_answer("43.0", "43", domain="ocr").correct is False


def test_composed_and_decomposed_accents_are_one_text() -> None:
    assert score_answer("cafe\u0301", "caf\u00e9", domain="ocr").correct is True


def test_threshold_moves_what_is_correct_but_not_the_score() -> None:
    verdict = score_answer("abcx", "abcd", domain="ocr", args={"threshold": 0.75})
    assert (verdict.score, verdict.correct, verdict.reason) == (0.75, True, "text-differs")


def test_overlong_answer_scores_zero() -> None:
    assert score_answer("a" * (MAX_CHARS + 1), "a", domain="ocr").reason == "answer-too-long"


@given(st.text(max_size=40))
def test_any_answer_is_scored_within_bounds(answer: str) -> None:
    verdict = score_answer(answer, "abc", domain="ocr")
    assert 0.0 <= verdict.score <= 1.0
