"""Text recognition scores: 1 - edit distance / longer length, under the case and white-space policies."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import check_reference, score, stream_safe
from rewards.api import score_answer
from rewards.registry import Context
from rewards.verifiers.ocr import MAX_CHARS, OcrArgs, ocr, plain_formula, read_reference, words


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


@pytest.mark.parametrize(
    "reference,answer,mode,score",
    [
        ("abcd", "abcd", "cer", 1.0),
        ("abcd", "abxd", "cer", 0.75),
        ("abcd", "abcdefgh", "cer", 0.0),  # four insertions into four characters
        ("abcd", "abcdef", "cer", 0.5),
        ("abcd", "abcdefghijkl", "cer", 0.0),  # a rate above 1 pays nothing
        ("the quick brown fox", "the quick brown fox", "wer", 1.0),
        ("the quick brown fox", "The  quick\nbrown box", "wer", 0.75),
        ("the quick brown fox", "thequickbrownfox", "wer", 0.0),
        ("复兴路32号", "复兴路33号", "wer", 0.8),
        ("复兴路 32 号", "复兴路32号", "wer", 1.0),
        ("ok 世界", "ok 世 界", "wer", 1.0),
    ],
)
def test_error_rates_are_taken_of_the_reference_length(reference: str, answer: str, mode: str, score: float) -> None:
    verdict = score_answer(answer, reference, domain="ocr", args={"mode": mode})
    assert verdict.score == pytest.approx(score)
    assert verdict.correct is (score == 1.0)


def test_characters_of_scripts_without_spaces_are_words() -> None:
    assert words("hello 世界ok，カナ 한국어") == ["hello", "世", "界", "ok", "，", "カ", "ナ", "한국어"]


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8), st.lists(st.sampled_from("abcd"), min_size=1, max_size=8))
def test_word_error_rate_is_the_textbook_one(reference: list[str], answer: list[str]) -> None:
    verdict = score_answer(" ".join(answer), " ".join(reference), domain="ocr", args={"mode": "wer"})
    rate = edit_distance("".join(answer), "".join(reference)) / len(reference)
    assert verdict.score == pytest.approx(max(0.0, 1 - rate))


@pytest.mark.parametrize(
    "one,other",
    [
        (r"\frac{1}{2}", r"\dfrac 1 2"),
        (r"$x^{2}+1$", r"x^2 + 1"),
        (r"\[ x \]", "x"),
        (r"\left( \frac{a}{b} \right)", r"(\frac ab)"),
        (r"a \le b", r"a\leq b"),
        (r"{}^{\circ}\text{C}", r"^{\circ}\mathrm{C}"),
        (r"a\,b\quad c", "abc"),
        (r"\sum\limits_{i}", r"\sum_i"),
        (r"1, \ldots, n", r"1,\cdots,n"),
    ],
)
def test_spellings_of_one_formula_are_equal_in_formula_mode_only(one: str, other: str) -> None:
    assert score_answer(one, other, domain="ocr", args={"formula": True}).correct is True
    assert score_answer(other, one, domain="ocr", args={"formula": True}).correct is True
    assert score_answer(one, other, domain="ocr").correct is False


@pytest.mark.parametrize(
    "one,other",
    [
        (r"\Delta", r"\delta"),
        (r"x^{12}", "x^12"),
        (r"\{1\}", "1"),
        (r"a \\ b", "ab"),
        (r"\leftarrow", r"arrow"),
        (r"x_1", r"x^1"),
        (r"\frac{1}{2}", r"\frac{2}{1}"),
    ],
)
def test_other_formulas_stay_different(one: str, other: str) -> None:
    assert plain_formula(one).replace(" ", "") != plain_formula(other).replace(" ", "")
    assert score_answer(one, other, domain="ocr", args={"formula": True}).correct is False


@given(st.text(max_size=60) | st.lists(st.sampled_from(list("\\{}$^_ ab1~,")), max_size=40).map("".join))
def test_any_text_is_a_formula_equal_to_itself(text: str) -> None:
    reason = check_reference(text, domain="ocr", args={"formula": True})
    assert reason in (None, "empty-reference")


@pytest.mark.parametrize("reference,reason", [(5, "not-text"), ("  ", "empty-reference"), ("a" * (MAX_CHARS + 1), "too-long")])
def test_unusable_references_are_found(reference: object, reason: str) -> None:
    assert check_reference(reference, domain="ocr") == reason


@pytest.mark.timeout(60)  # what it guards against takes minutes
def test_longest_texts_take_less_than_a_second_of_cpu() -> None:
    # A public reward's longest common subsequence takes 24 s on 6,000 characters.
    args = OcrArgs()
    for unit in ("abcdefghij", "a\u0315\u0300", "\\{", "  x", "{a}", "$"):
        for settings in (args, OcrArgs(formula=True), OcrArgs(mode="wer")):
            reference = read_reference(("xyz" + unit * MAX_CHARS)[:MAX_CHARS], settings)
            ocr((unit * MAX_CHARS)[:MAX_CHARS], reference, Context(settings))


def test_decision_is_explained() -> None:
    notes: list[tuple[str, str]] = []
    ocr("A b", read_reference("ac", OcrArgs()), Context(OcrArgs(), None, notes))
    assert notes == [("reference", "ac"), ("answer", "ab"), ("rule", "similarity: 1 edits / 2")]


@given(st.text(max_size=50))
def test_stream_safe_form_is_the_normal_form_of_ordinary_text(text: str) -> None:
    assert stream_safe.normalise("NFC", text) == unicodedata.normalize("NFC", text)
    assert stream_safe.normalise("NFKC", text) == unicodedata.normalize("NFKC", text)


@pytest.mark.timeout(60)  # what it guards against takes minutes
def test_long_runs_of_marks_are_broken_and_stay_different_texts() -> None:
    first, second = "a" + "\u0315\u0300" * 1000, "a" + "\u0315\u0300" * 1001
    forms = {stream_safe.normalise("NFC", text) for text in (first, second)}
    assert len(forms) == 2
    assert all(unicodedata.normalize("NFC", form) == form for form in forms)
    stream_safe.normalise("NFC", "a" + "\u0315\u0300" * 50_000)


PRACTICE = Path(__file__).parents[4] / "shared" / "practice"


@pytest.mark.skipif(not PRACTICE.exists(), reason="the practice rows lie beside the checkout")
def test_practice_rows_are_scored_as_labelled() -> None:
    for line in (PRACTICE / "ocr.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        verdict = score(row["response"], row["answer"], domain=row["domain"], args=row.get("verifier_args"))
        assert verdict.score == pytest.approx(row["expected"], abs=1e-6), row["id"]
