"""Values and printed texts of a sandboxed program: how they agree with the expected ones, and how they travel."""

import math
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.sandbox import wire
from rewards.sandbox.agreement import same_output, same_value

# Comparing


@pytest.mark.parametrize(
    ("found", "expected", "tolerance", "same"),
    [
        ("4", "4\n", None, True),
        ("4  \r\n\n\n", "4", None, True),
        ("1\n2", "1 2", None, False),
        (" 4", "4", None, False),
        ("1\n\n2", "1\n2", None, False),
        ("4 4", "4", None, False),
        ("0.30000001", "0.3", None, False),
        ("0.30000001", "0.3", 1e-6, True),
        ("a 0.30000001 7", "a 0.3 7", 1e-6, True),
        ("0.31", "0.3", 1e-6, False),
        ("nan", "0.3", 1e-6, False),
        ("inf", "1e400", 1e-6, False),
        ("0.3_0", "0.3", 1e-6, False),
        ("8", "7", 0.5, False),
        ("0.3 0.3", "0.3", 1e-6, False),
        ("x", "0.3", 1e-6, False),
        ("0" * 500 + "0.3", "0.3", 1e-6, False),
    ],
)
def test_outputs_agree_but_for_white_space_at_ends(found: str, expected: str, tolerance: float | None, same: bool) -> None:
    assert same_output(found, expected, tolerance) is same


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (3, 3, True),
        (3.0, 3, True),
        (0.1 + 0.2, 0.3, True),
        (0.31, 0.3, False),
        (True, 1, False),
        (1, True, False),
        (True, True, True),
        (None, None, True),
        (0, None, False),
        (None, 0, False),
        ("3", 3, False),
        (3, "3", False),
        (math.nan, 3, False),
        (math.inf, 1e308, False),
        (10**5000, 10**5000, True),
        (10**5000, 1.5, False),
        (10**5000 + 1, 10**5000, False),
        ((1, (2,)), [1, [2]], True),
        ([1, 2], [1], False),
        ({1, 2}, [1, 2], False),
        ({"a": 1, 2: [3]}, {"a": 1, "2": [3]}, True),
        ({1: 1, "1": 1}, {"1": 1}, False),
        ({True: 1}, {"True": 1}, False),
        ({(1, 2): 1}, {"(1, 2)": 1}, False),
        ([], {}, False),
        (b"x", "x", False),
        (Fraction(1, 2), 0.5, False),
    ],
    ids=lambda value: type(value).__name__,  # pytest would print the long integers, which Python refuses
)
def test_a_returned_value_agrees_with_a_json_value(found: Any, expected: Any, same: bool) -> None:
    assert same_value(wire.pack(found), expected, 1e-9) is same


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_every_json_value_agrees_with_itself(value: Any) -> None:
    assert same_value(wire.decode(wire.encode({"value": wire.pack(value)}))["value"], value, 0.0)


@pytest.mark.parametrize("form", [{"int": "junk"}, {"int": None}, {"int": ["3"]}, {"dict": [[3]]}, {"dict": 3}, {"tuple": "3"}])
@pytest.mark.parametrize("expected", [3, [3], {"3": 3}])
def test_a_form_that_a_program_has_forged_equals_nothing(form: Any, expected: Any) -> None:
    assert same_value(form, expected, 1e-9) is False


@given(JSON, JSON)
def test_comparing_any_message_never_raises(form: Any, expected: Any) -> None:
    assert same_value(form, expected, 1e-9) in (True, False)


# Values between processes

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**1100, max_value=2**1101)
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.fractions()
    | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        | st.frozensets(st.integers() | st.text(), max_size=3)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=10,
)


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    found = wire.unpack(wire.decode(wire.encode({"value": wire.pack(value)}))["value"])
    assert found == value and type(found) is type(value)


@given(JSON)
def test_unpacking_anything_gives_a_value_or_a_wire_error(form: Any) -> None:
    with suppress(wire.WireError):
        wire.unpack(form, lambda number: number)


@pytest.mark.parametrize(
    "kind", ["int", "float", "bytes", "complex", "fraction", "decimal", "set", "frozenset", "tuple", "dict", "object", "x"]
)
@given(content=JSON)
def test_unpacking_a_forged_form_gives_a_value_or_a_wire_error(kind: str, content: Any) -> None:
    with suppress(wire.WireError):
        wire.unpack({kind: content})


@given(
    st.binary(max_size=40)
    | st.sampled_from([b"[" * 10**5, b"1" * 5000, b'{"value": NaN}', b"[1]", b'"\\ud800"', b'{"a":' * 10**5])
)
def test_decoding_any_line_gives_an_object_or_a_wire_error(line: bytes) -> None:
    with suppress(wire.WireError):
        assert isinstance(wire.decode(line), dict)


def test_objects_and_deep_nesting_are_not_sent() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    for value in (object(), deep, iter([]), lambda: 1):
        with pytest.raises(wire.WireError):
            wire.pack(value)
    with pytest.raises(wire.WireError):
        wire.unpack(deep)


def test_subclasses_are_sent_as_the_plain_value_they_extend() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert wire.pack([Liar(3)]) == [3] and type(wire.pack(Liar(3))) is int
