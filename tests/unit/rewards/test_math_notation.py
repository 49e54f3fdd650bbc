"""Other spellings of numbers, lists and combinations, each with the value computed independently."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.mathexpr.exact import exact
from rewards.mathexpr.lexer import tokenise
from rewards.mathexpr.nodes import Node, number, symbol
from rewards.mathexpr.notation import combinations_written_out, respell
from rewards.mathexpr.parser import Parser
from rewards.mathexpr.progressions import written_out
from rewards.mathexpr.quantities import read_quantity, split_unit
from rewards.mathexpr.units import conversion, read_unit

ELL = Node("ell")


def parse(text: str) -> Node:
    return Parser(tokenise(text)).relation()


@pytest.mark.parametrize(
    "text,value",
    [
        (r"0.\dot{3}", Fraction(1, 3)),
        (r"0.2\dot7", Fraction(5, 18)),
        (r"0.\dot{1}4285\dot{7}", Fraction(1, 7)),
        ("0.(3)", Fraction(1, 3)),
        ("1.1(6)", Fraction(7, 6)),
        ("0.333...", Fraction(1, 3)),
        ("0.1666...", Fraction(1, 6)),
        ("0.272727...", Fraction(3, 11)),
        (r"1 \over 4", Fraction(1, 4)),
        (r"{3 \over 4}", Fraction(3, 4)),
        (r"{5 \choose 2}", 10),
        ("2 x 10^3", 2000),
        ("3.14...", Fraction(157, 50)),
        (r"30^\circ", 30),
    ],
)
def test_other_spellings_of_a_number_have_its_value(text: str, value: Fraction) -> None:
    node = parse(respell(text))
    assert exact(node.args[0] if node.op == "deg" else node) == value


@pytest.mark.parametrize(
    "text,expected",
    [
        ("[0,1[", "[0,1)"),
        ("]0,1]", "(0,1]"),
        (r"]0,1[\cup]2,3[", r"(0,1)\cup(2,3)"),
        ("[0,1)", "[0,1)"),
        ("[[1,2],[3,4]]", "[[1,2],[3,4]]"),
        ("(0,1)U(2,3)", r"(0,1)\cup (2,3)"),
        ("x不大于3", "x<=3"),
        ("x大于等于3", "x>=3"),
        ("60度", r"60^\circ "),
        (r"60\degree", r"60^\circ "),
        (r"\begin{cases}x=1\\y=2\end{cases}", "x=1, y=2"),
        (r"\begin{cases}1\\2\end{cases}", r"\begin{cases}1\\2\end{cases}"),
        ("1,2,...,9", r"1,2,\dots ,9"),
    ],
)
def test_notation_is_brought_to_one_spelling(text: str, expected: str) -> None:
    assert respell(text) == expected


@given(st.integers(0, 40), st.integers(0, 40))
def test_combinations_are_written_out_where_the_lower_number_is_the_larger(n: int, k: int) -> None:
    written = [combinations_written_out(text) for text in (f"C_{{{n}}}^{{{k}}}", f"C({n},{k})", f"P({n},{k})")]
    if k > n:
        assert written == [None] * 3
        return
    pascal = [[1]]
    for _ in range(n):
        pascal.append([1, *(a + b for a, b in itertools.pairwise(pascal[-1])), 1])
    ordered = 1
    for factor in range(n - k + 1, n + 1):
        ordered *= factor
    assert [exact(parse(text or "")) for text in written] == [pascal[n][k], pascal[n][k], ordered]


@given(st.integers(0, 359), st.integers(0, 59), st.integers(0, 59))
def test_minutes_and_seconds_of_arc_are_parts_of_a_degree(degrees: int, minutes: int, seconds: int) -> None:
    node = parse(respell(f"{degrees}^\\circ {minutes}' {seconds}''"))
    assert node.op == "deg" and exact(node.args[0]) == degrees + Fraction(minutes, 60) + Fraction(seconds, 3600)


@given(st.integers(-50, 50), st.integers(1, 9), st.integers(3, 60), st.integers(2, 3))
def test_arithmetic_progression_is_written_out(start: int, step: int, size: int, shown: int) -> None:
    values = [start + step * i for i in range(size)]
    members = (*map(number, values[:shown]), ELL, number(values[-1]))
    assert written_out(members) == tuple(map(number, values))


@given(st.sampled_from([2, 3, -2, Fraction(1, 2)]), st.integers(1, 5), st.integers(5, 20))
def test_geometric_progression_is_written_out(ratio: Fraction, start: int, size: int) -> None:
    values = [start * Fraction(ratio) ** i for i in range(size)]
    assert written_out((*map(number, values[:3]), ELL, number(values[-1]))) == tuple(map(number, values))


def test_progressions_without_end_or_too_long_have_a_shortest_form() -> None:
    odd = tuple(map(number, (1, 3, 5, 7)))
    assert written_out((*odd, ELL)) == written_out((*odd[:2], ELL)) == (*odd[:2], ELL)
    powers = tuple(map(number, (1, 2, 4, 8)))
    assert written_out((*powers, ELL)) == (*powers[:3], ELL)
    assert written_out((number(1), number(2), ELL, number(1000))) == (number(1), number(2), ELL, number(1000))
    assert written_out((number(1), ELL, number(4))) == tuple(map(number, (1, 2, 3, 4)))


def test_ellipses_that_show_no_rule_are_left_alone() -> None:
    n = symbol("n")
    for members in (
        (number(1), number(2), ELL, n),
        (number(1), number(2), number(5), ELL, number(9)),
        (number(1), number(3), ELL, number(8)),
        (ELL, number(1)),
        (number(1), ELL),
        (number(1), number(1), number(1), ELL),
        (number(1), number(2), number(4), ELL, number(9)),
        (number(2), number(1), ELL, number(5)),
    ):
        assert written_out(members) == members


def test_quantity_in_several_units_is_their_sum() -> None:
    for text, value in (
        ("2 hours 30 minutes", 9000),
        ("1 m 20 cm", Fraction(6, 5)),
        ("1小时20分", 4800),
        ("3元5角", Fraction(7, 2)),
        (r"1\text{ kg }950\text{ g}", 1950),
        ("2 hours and 5 minutes", 7500),
        ("1 h 1 min 1 s", 3661),
    ):
        found = read_quantity(text)
        assert found is not None and found[0] == value
    for text in ("30 minutes 2 hours", "2 m 3 kg", "2 hours", "2 apples 3 pears", "5", "2 m 3", "1 h 1 h", ""):
        assert read_quantity(text) is None


@pytest.mark.parametrize(
    "one,other,ratio",
    [
        ("km", "m", 1000),
        ("m^2", "cm^2", 10000),
        ("km/h", "m/s", Fraction(5, 18)),
        ("L", "cm^3", 1000),
        ("种", "ways", 1),
        ("pounds", "£", 1),
        ("pence", "£", Fraction(1, 100)),
        ("m", "kg", None),
        ("ways", "apples", None),
        ("$", "€", None),
        ("miles per hour", "mph", 1),
        ("ounces", "£", None),
        ("种", "m", None),
    ],
)
def test_units_are_converted_or_found_to_measure_something_else(one: str, other: str, ratio: Fraction | None) -> None:
    first, second = read_unit(one), read_unit(other)
    assert first is not None and second is not None
    assert conversion(first, second) == ratio


def test_letters_after_a_number_may_be_a_unit_and_one_beside_it_only_perhaps() -> None:
    assert split_unit("5 m/s") == ("5", "m/s", False)
    assert split_unit("5m") == ("5", "m", True)
    assert split_unit(r"\frac{1}{2} m") == (r"\frac{1}{2}", "m", False)
    for text in ("5 x", "5", "m", "5 )", "", "5 xyz"):
        assert split_unit(text) is None
