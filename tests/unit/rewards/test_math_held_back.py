"""Over a thousand pairs of all kinds of answer, labelled by hand before the verifier was made to read them."""

import json
from pathlib import Path

import pytest

from rewards import check_reference, score
from rewards.api import score_answer

ROWS = [json.loads(line) for line in (Path(__file__).parent / "math_pairs.jsonl").read_text(encoding="utf-8").splitlines()]
PRACTICE = Path(__file__).parents[4] / "shared/practice/math.jsonl"
DISPUTED = {"math-0449"}  # reference and response are the same words, and the label says wrong


def name(row: dict) -> str:
    return f"{row['kind']}: {row['reference']} | {row['answer']}"


@pytest.mark.parametrize("row", [row for row in ROWS if row["equal"]], ids=name)
def test_equal_pair_is_paid(row: dict) -> None:
    verdict = score_answer(row["answer"], row["reference"], domain="math", question=row.get("question"))
    assert (verdict.status, verdict.score, verdict.correct, verdict.reason) == ("ok", 1.0, True, None)


@pytest.mark.parametrize("row", [row for row in ROWS if not row["equal"]], ids=name)
def test_near_miss_is_not_paid(row: dict) -> None:
    verdict = score_answer(row["answer"], row["reference"], domain="math", question=row.get("question"))
    assert (verdict.status, verdict.score, verdict.correct) == ("ok", 0.0, False)
    assert verdict.reason


def test_every_reference_is_right_by_itself() -> None:
    assert {row["reference"]: reason for row in ROWS if (reason := check_reference(row["reference"], domain="math"))} == {}


def test_equality_of_single_scalars_does_not_depend_on_which_is_the_reference() -> None:
    kinds = {"radicals", "expressions", "equations", "matrices"}
    one_sided = {
        (row["reference"], row["answer"])
        for row in ROWS
        if row["kind"] in kinds
        and score_answer(row["reference"], row["answer"], domain="math").correct is (not row["equal"])
        and "." not in row["answer"]  # rounding is judged by the side that was rounded
    }
    # An equation can be the reference of its right side, and a name for it; a bare value names nothing.
    assert one_sided <= {("x+y=1", "1"), (r"\frac{x^3}{3}+C", r"\frac{x^3}{3}")}


@pytest.mark.skipif(not PRACTICE.exists(), reason="the practice rows are not part of the package")
def test_practice_rows_are_judged_as_labelled() -> None:
    rows = [json.loads(line) for line in PRACTICE.read_text(encoding="utf-8").splitlines()]
    wrong = {
        row["id"]
        for row in rows
        if score(row["response"], row["answer"], domain="math", question=row.get("question")).correct is not row["expected"]
    }
    assert wrong <= DISPUTED


@pytest.mark.parametrize(
    "reference", ["1+", r"\frac{1}{", "(1,2", r"\sqrt{", "3 +", "x=", r"\{1,2", "[1,2", "5 *", r"2^{", r"\frac{1}"]
)
def test_half_an_expression_is_a_bad_reference(reference: str) -> None:
    assert check_reference(reference, domain="math") == "incomplete-expression"


@pytest.mark.parametrize(
    "reference,reason",
    [
        ("", "empty-reference"),
        ("  ", "empty-reference"),
        (r"\frac{1}{0}", "undefined"),
        ("9^9^9^9", "too-complex"),
        ("x" * 5000, "too-long"),
    ],
)
def test_reference_that_says_nothing_is_refused_with_its_reason(reference: str, reason: str) -> None:
    assert check_reference(reference, domain="math") == reason
