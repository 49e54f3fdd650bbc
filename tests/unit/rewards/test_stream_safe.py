"""Unicode normalisation in linear time, for all of the package."""

import ast
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewards
from rewards.mathexpr.answer import read_answer
from rewards.mathexpr.lexer import MAX_EXPANSION, normalise
from rewards.mathexpr.nodes import MAX_CHARS, MathError
from rewards.non_answers import MAX_SCAN_CHARS, non_answer
from rewards.stream_safe import MAX_MARKS
from rewards.stream_safe import normalise as stream_safe

PACKAGE = Path(rewards.__file__).parent
SORTED_BACKWARDS = "\u0345\u0301\u0323\u0327"  # classes 240, 230, 220, 202: the most moves an insertion sort can need


@given(st.text(max_size=40))
def test_text_without_long_runs_of_marks_is_normalised_as_unicode_says(text: str) -> None:
    if sum(map(bool, map(unicodedata.combining, text))) <= MAX_MARKS:
        assert stream_safe("NFKC", text) == unicodedata.normalize("NFKC", text)


def test_no_run_of_marks_is_longer_than_the_limit() -> None:
    runs = "".join("x" if unicodedata.combining(c) else " " for c in stream_safe("NFD", "a" + SORTED_BACKWARDS * 500)).split()
    assert max(map(len, runs)) == MAX_MARKS and sum(map(len, runs)) == 2000


def test_every_other_module_normalises_through_this_one() -> None:
    direct = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "audit"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "normalize"
    ]
    assert direct == ["stream_safe.py"]


@pytest.mark.timeout(60)  # what it guards against takes minutes
def test_marks_in_the_worst_order_cost_no_more_than_marks_in_order() -> None:
    """Sorted by insertion, 20,000 of them took 450 ms; in order, under one."""
    text = "5" + SORTED_BACKWARDS * (MAX_SCAN_CHARS // 4)
    non_answer(text, None, ["5"])


def test_answer_of_characters_that_expand_is_too_long_for_mathematics() -> None:
    assert len(unicodedata.normalize("NFKC", "\ufdfa")) == 18
    with pytest.raises(MathError, match="too-long"):
        normalise("\ufdfa" * MAX_CHARS)
    assert len(normalise("π" * MAX_CHARS)) == MAX_EXPANSION * MAX_CHARS


@pytest.mark.parametrize(
    "before,after", [("15, 7", "18"), ("k\\pi,", "k\\in Z"), ("k \\in Z", "x"), ("no", "| yes"), ("x", "\\in Z")]
)
@pytest.mark.parametrize("blank", [" ", "\n", "\u3000"])
@pytest.mark.timeout(60)  # what it guards against takes minutes
def test_long_runs_of_blanks_in_mathematics_cost_no_more_than_their_length(before: str, after: str, blank: str) -> None:
    """A pattern that could begin anywhere in the run took 7 s for 1,000 blanks."""
    read_answer(before + blank * 3_000 + after, loose=True)
