"""Literals of policies: JSON and Python ones mean what the standard library says, and nothing beyond the budget is read."""

import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.literals import MAX_CHARS, MAX_DEPTH, MAX_VALUES, Call, LiteralError, read_literal

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(-1e30, 1e30, allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(VALUES, st.booleans())
def test_json_is_read_as_the_standard_library_reads_it(value: Any, ascii_only: bool) -> None:
    try:
        found = read_literal(json.dumps(value, ensure_ascii=ascii_only))
    except LiteralError as error:
        assert str(error) == "too-complex"
    else:
        assert found == value


@given(st.lists(st.integers(0, 999) | st.text("abc '\"", max_size=6), max_size=5))
def test_python_literals_are_read_as_python_reads_them(values: list[Any]) -> None:
    assert read_literal(repr(values)) == ast.literal_eval(repr(values)) == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d\ude00"', "😀"),
        (r'"\u4e2d\n\t\\\/"', "中\n\t\\/"),
        ("(1, 'a', None, True)", [1, "a", None, True]),
        ("[1, 2,]", [1, 2]),
        ("f(1, key='x', other=[2])", Call("f", (1,), {"key": "x", "other": [2]})),
        ("f()", Call("f", (), {})),
        (" -1.5e3 ", -1500.0),
    ],
)
def test_spellings_of_policies_are_read(text: str, value: Any) -> None:
    assert read_literal(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "unparsed-literal"),
        ("nan", "unparsed-literal"),
        ("1e999", "non-finite"),
        (r'"\ud83d"', "bad-escape"),
        (r'"\ud83d\u0041"', "bad-escape"),
        (r'"\u12"', "bad-escape"),
        (r'"\x41"', "bad-escape"),
        ('"abc', "unclosed-string"),
        ("f(a=1, a=2)", "duplicate-key"),
        ('{"a": 1, "a": 2}', "duplicate-key"),
        ("{a: 1}", "unparsed-literal"),
        ("[1 2]", "unparsed-literal"),
        ("[1", "unparsed-literal"),
        ("1 or 2", "trailing-text"),
        ("f(); g()", "many-actions"),
        ("{} {}", "many-actions"),
        ("__import__", "unparsed-literal"),
        (" " * MAX_CHARS + "1", "answer-too-long"),
        ("[" * (MAX_DEPTH + 1) + "1" + "]" * (MAX_DEPTH + 1), "too-complex"),
        ("[" + "1," * MAX_VALUES + "]", "too-complex"),
    ],
)
def test_what_is_not_one_literal_within_the_budget_is_refused(text: str, reason: str) -> None:
    with pytest.raises(LiteralError) as caught:
        read_literal(text)
    assert str(caught.value) == reason


def test_the_budget_itself_is_within_it() -> None:
    assert read_literal(" " * (MAX_CHARS - 1) + "1") == 1
    assert read_literal("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH) == json.loads("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH)
    assert read_literal("[" + "1," * (MAX_VALUES - 1) + "]") == [1] * (MAX_VALUES - 1)
