"""Exact and numeric values, roots, determinants, sets and the symbolic fallback, against the standard library and mpmath."""

import cmath
import math
from fractions import Fraction

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import score_answer
from rewards.mathexpr import exact as exact_module
from rewards.mathexpr.equality import Tolerance, decimal_literal, functions_equal, probe, ratio_is_constant, scalars_equal
from rewards.mathexpr.exact import MAX_BITS, Undefined, exact
from rewards.mathexpr.lexer import normalise, tokenise
from rewards.mathexpr.nodes import MathError, Node, number, symbol
from rewards.mathexpr.numeric import Evaluation
from rewards.mathexpr.parser import Parser

LOOSE = Tolerance()


def parse(text: str) -> Node:
    parser = Parser(tokenise(normalise(text)))
    node = parser.relation()
    assert parser.head.kind == "end"
    return node


def value(text: str, **variables: int) -> complex:
    return complex(Evaluation({name: Fraction(v) for name, v in variables.items()}, 120).value(parse(text)))


# ---- exact values


@given(st.integers(0, 200), st.integers(0, 200))
def test_binomials_and_common_divisors_agree_with_the_standard_library(n: int, k: int) -> None:
    assert exact(parse(f"\\binom{{{n}}}{{{k}}}")) == math.comb(n, k)
    assert exact(parse(f"\\gcd({n},{k})")) == math.gcd(n, k)
    assert exact(parse(f"\\operatorname{{lcm}}({n},{k})")) == math.lcm(n, k)
    assert exact(parse(f"\\max({n},{k})-\\min({n},{k})")) == abs(n - k)


@given(st.integers(-30, 30), st.integers(1, 30), st.integers(-6, 6))
def test_powers_of_fractions_agree_with_fraction_arithmetic(over: int, under: int, power: int) -> None:
    node = parse(f"\\left(\\frac{{{over}}}{{{under}}}\\right)^{{{power}}}")
    if not over and power <= 0:
        with pytest.raises(Undefined):
            exact(node)
    else:
        assert exact(node) == Fraction(over, under) ** power


@given(st.integers(0, 10**6), st.integers(2, 7))
def test_root_is_exact_only_for_perfect_powers(base: int, degree: int) -> None:
    power = base**degree
    assert exact(parse(f"\\sqrt[{degree}]{{{power}}}")) == base
    if base > 1:
        assert exact(parse(f"\\sqrt[{degree}]{{{power + 1}}}")) is None
    if degree % 2:
        assert exact(parse(f"\\sqrt[{degree}]{{-{power}}}")) == -base
    elif base:
        assert exact(parse(f"\\sqrt[{degree}]{{-{power}}}")) is None


@pytest.mark.parametrize(
    "text,expected",
    [
        (r"4^{1/2}", 2),
        (r"8^{2/3}", 4),
        (r"8^{-2/3}", Fraction(1, 4)),
        (r"2^{1/2}", None),
        (r"(-8)^{1/3}", None),
        (r"2^{1/100}", None),
        (r"\lfloor -3.5\rfloor", -4),
        (r"\lceil -3.5\rceil", -3),
        ("|-7/2|", Fraction(7, 2)),
        ("0!", 1),
        ("1^{10^{30}}", 1),
        ("(-1)^{10^9+1}", -1),
        ("0^5", 0),
        (r"\pi", None),
        (r"\sin 0", None),
        (r"x", None),
        (r"\binom{-1}{2}", None),
        (r"\sqrt[65]{2}", None),
    ],
)
def test_exact_value_or_none(text: str, expected: Fraction | None) -> None:
    assert exact(parse(text)) == expected


@pytest.mark.parametrize(
    "text", ["1/0", "0^0", "0^{-1}", "(-1)!", "(1/2)!", r"\gcd(1/2,3)", r"\begin{vmatrix}1&2&3\\4&5&6\end{vmatrix}"]
)
def test_exact_value_that_does_not_exist_is_undefined(text: str) -> None:
    with pytest.raises(Undefined):
        exact(parse(text))


@pytest.mark.parametrize(
    "text",
    ["2^{40000}", "3001!", r"\binom{3001}{2}", "10^{9000}*10^{9000}", "2^{2^{40}}", "(1/2)^{40000}", "10^{9000}*10^{900}"],
)
def test_exact_value_beyond_the_budget_is_too_complex(text: str) -> None:
    with pytest.raises(MathError, match="too-complex"):
        exact(parse(text))


def test_size_limit_lies_where_it_is_said_to_lie() -> None:
    for sign in (1, -1):
        largest = Fraction(2**MAX_BITS - 1) ** sign
        assert exact_module.bounded(largest) == largest
        with pytest.raises(MathError, match="too-complex"):
            exact_module.bounded(Fraction(2**MAX_BITS) ** sign)


@given(st.lists(st.integers(-9, 9), min_size=9, max_size=9))
def test_determinant_agrees_with_the_rule_of_sarrus(cells: list[int]) -> None:
    a, b, c, d, e, f, g, h, i = cells
    rows = r"\\".join("&".join(map(str, cells[k : k + 3])) for k in (0, 3, 6))
    expected = a * e * i + b * f * g + c * d * h - c * e * g - b * d * i - a * f * h
    assert exact(parse(f"\\begin{{vmatrix}}{rows}\\end{{vmatrix}}")) == expected
    with_root = rows.replace(str(a), r"\sqrt{2}-\sqrt{2}+" + str(a), 1)
    assert value(f"\\begin{{vmatrix}}{with_root}\\end{{vmatrix}}") == pytest.approx(expected, abs=1e-9)


# ---- numeric values


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "sech", "csch"])
@pytest.mark.parametrize("x", [Fraction(1, 3), Fraction(-7, 5), Fraction(11, 4)])
def test_circular_and_hyperbolic_functions_agree_with_the_standard_library(name: str, x: Fraction) -> None:
    base = {"cot": "tan", "sec": "cos", "csc": "sin", "coth": "tanh", "sech": "cosh", "csch": "sinh"}.get(name)
    expected = 1 / getattr(math, base)(x) if base else getattr(math, name)(x)
    assert value(f"\\operatorname{{{name}}}({x})") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "text,expected",
    [
        (r"\sin^{-1}(1/2)", math.asin(0.5)),
        (r"\arccos(-1/4)", math.acos(-0.25)),
        (r"\tan^{-1}3", math.atan(3)),
        (r"\operatorname{arcsinh} 2", math.asinh(2)),
        (r"\cosh^{-1} 2", math.acosh(2)),
        (r"\operatorname{artanh}(1/2)", math.atanh(0.5)),
        (r"\log_2 10", math.log2(10)),
        (r"\log_{3}^{2} 10", math.log(10, 3) ** 2),
        (r"\log^2_3 10", math.log(10, 3) ** 2),
        (r"\lg 50", math.log10(50)),
        (r"\ln 5", math.log(5)),
        (r"\exp(3/2)", math.exp(1.5)),
        ("e^{1.5}", math.exp(1.5)),
        (r"\sqrt{-4}", 2j),
        (r"\sqrt[4]{-16}", (-16 + 0j) ** 0.25),
        (r"(-2)^{1/2}", cmath.sqrt(-2)),
        (r"\ln(-1)", cmath.log(-1)),
        ("e^{i}", cmath.exp(1j)),
        ("|3+4i|", 5),
        (r"(1+i)^{10}", (1 + 1j) ** 10),
        (r"\binom{7/2}{2}", 35 / 8),
        (r"(1/2)!", math.gamma(1.5)),
        (r"\lfloor \pi^2 \rfloor", 9),
        (r"\lceil \sqrt{2}\cdot\sqrt{2} \rceil", 2),
        (r"\max(\sqrt2, \frac{3}{2}, 1)", 1.5),
        (r"\min(\pi, e)", math.e),
        (r"\cos 60^\circ", 0.5),
        (r"50\%\cdot\pi", math.pi / 2),
        (r"\cos \pi/3", 0.5),
        ("cos pi/3", 0.5),
        (r"\sin -\frac{\pi}{2}", -1),
        (r"\sqrt[3]{-27}", -3),
        ("cbrt(27)+sqrt(16)", 7),
        (r"\tan\frac{\pi}{4}\cdot 3", 3),
    ],
)
def test_constants_agree_with_the_standard_library(text: str, expected: complex) -> None:
    assert value(text) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_rounding_residue_is_removed_and_true_small_values_are_kept() -> None:
    assert Evaluation({}, 200).value(parse(r"\sin\pi")) == 0
    assert Evaluation({}, 200).value(parse(r"\sin 10^{-40}")) == pytest.approx(1e-40, rel=1e-12)
    assert Evaluation({}, 200).value(parse(r"e^{i\pi}")) == -1


@given(st.integers(2, 400), st.integers(2, 12))
def test_values_have_the_precision_asked_for(x: int, degree: int) -> None:
    found = Evaluation({}, 300).value(parse(f"\\sqrt[{degree}]{{{x}}}"))
    with mpmath.workprec(400):
        assert abs(mpmath.mpf(found) ** degree - x) < mpmath.mpf(2) ** -250 * x


@pytest.mark.parametrize(
    "text",
    [
        "1/0",
        r"\ln 0",
        r"\log_1 5",
        r"\tan\frac{\pi}{2}",
        "0^{-1}",
        "0^0",
        r"\cot 0",
        r"\sqrt[0]{5}",
        r"(-1)!",
        r"\infty",
        r"\lfloor i\rfloor",
        r"\max(i,1)",
    ],
)
def test_numeric_value_that_does_not_exist_is_undefined(text: str) -> None:
    with pytest.raises(Undefined):
        Evaluation({}, 120).value(parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "e^{100000}",
        r"\pi^{50000}",
        r"\sin(10^{9000})",
        r"(\pi\cdot 2000)!",
        r"\binom{\pi 5000}{2}",
        "9^{9^9}",
        r"10^{4000}\cdot 10^{4000}",
        r"\sinh(9999)",
    ],
)
def test_numeric_value_beyond_the_budget_is_too_complex(text: str) -> None:
    with pytest.raises(MathError, match="too-complex"):
        Evaluation({}, 120).value(parse(text))


def test_work_of_one_evaluation_is_bounded() -> None:
    wide = Node("add", tuple(Node("fn", (number(n),), "sin") for n in range(1000)))
    deep = Node("add", (wide,) * 10)
    with pytest.raises(MathError, match="too-complex"):
        Evaluation({}, 200).value(deep)


@pytest.mark.parametrize(
    "node",
    [
        symbol("x"),
        Node("app", (number(1),), "f"),
        Node("tuple", (number(1),), "()"),
        Node("fn", (number(1),), "unknown"),
        Node("fn", (Node("matrix", (number(1),) * 2, (1, 2)),), "det"),
    ],
)
def test_what_has_no_number_is_unevaluated(node: Node) -> None:
    with pytest.raises(MathError, match="unevaluated"):
        Evaluation({}, 120).value(node)


# ---- equality


@given(st.integers(-99, 99), st.integers(-99, 99))
def test_scalars_equal_is_symmetric_and_decides_integers(a: int, b: int) -> None:
    left, right = parse(f"({a})"), parse(f"({b})")
    assert scalars_equal(left, right, LOOSE) == scalars_equal(right, left, LOOSE) == (a == b)


@given(st.integers(3, 8), st.integers(1, 10**8 - 1))
def test_rounded_decimal_is_right_exactly_when_correctly_rounded(digits: int, seed: int) -> None:
    third = Fraction(seed, 3 * 10**8 + 1)  # recurring, between 0 and 1/3
    reference = Node("div", (number(third.numerator), number(third.denominator)))
    scaled = round(third * 10**digits)
    for shift in (-1, 0, 1):
        text = f"0.{scaled + shift:0{digits}d}"
        if scaled + shift < 100:
            continue  # below three significant digits no rounding is accepted
        gap = abs(Fraction(scaled + shift, 10**digits) - third)
        expected = gap <= Fraction(1, 2 * 10**digits) or gap <= Fraction(1, 10**8) * third
        assert scalars_equal(reference, parse(text), LOOSE) == expected


def test_probes_are_fixed_and_of_both_signs() -> None:
    values = [probe("x", index) for index in range(40)]
    assert values == [probe("x", index) for index in range(40)]
    assert all(v > 0 for v in values[::2]) and {v > 0 for v in values[1::2]} == {True, False}
    assert len({abs(v) for v in values}) == 40 and all(Fraction(1, 2) < abs(v) < 4 for v in values)


def test_ratio_between_equations_carries_its_sign() -> None:
    x = parse("2x-4")
    assert ratio_is_constant(x, parse("x-2")) == 1
    assert ratio_is_constant(x, parse("6-3x")) == -1
    assert ratio_is_constant(x, parse("x-3")) == ratio_is_constant(x, parse("x^2-2x")) == 0
    assert ratio_is_constant(parse("0*x"), parse("x")) == ratio_is_constant(parse("x"), parse("0*x")) == 0


def test_decimal_literals_know_their_digits() -> None:
    for text, places, significant in (
        ("0.050", 3, 2),
        ("-12.5", 1, 3),
        ("1.50\\%", 4, 3),
        (r"2.50\times10^{-3}", 5, 3),
        ("1.5e3", -2, 2),
    ):
        found = decimal_literal(parse(text))
        assert found is not None and (found.places, found.significant) == (places, significant)
    assert decimal_literal(parse("5")) is None and decimal_literal(parse(r"2.5\times 3")) is None


def test_functions_are_compared_where_both_are_real() -> None:
    assert functions_equal(parse(r"\ln(x^2)"), parse(r"2\ln x"), LOOSE) is True
    assert functions_equal(parse(r"\sqrt{x^2}"), parse("x"), LOOSE) is False
    assert functions_equal(parse(r"\sqrt{-x^2-1}"), parse(r"i\sqrt{x^2+1}"), LOOSE) is True
    assert functions_equal(parse(r"\sqrt{-x^2-1}"), parse(r"\sqrt{-x^2-2}"), LOOSE) is False
    assert functions_equal(parse("x^{500}"), parse("x^{499}"), LOOSE) is False


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("0", "e^{-200}"),
        ("e^{-300}", "e^{-200}"),
        (r"\pi^{-500}", r"\pi^{-400}"),
        ("0", "e^{-1000}"),
        (r"\operatorname{sech}(300)", r"\operatorname{sech}(200)"),
    ],
)
def test_what_is_never_zero_is_not_taken_for_zero_however_small(answer: str, reference: str) -> None:
    assert score_answer(answer, reference, domain="math").score == 0.0
    assert score_answer(reference, reference, domain="math").score == 1.0


def test_what_rounding_leaves_in_place_of_zero_is_zero() -> None:
    for text in (r"\sin(\pi)", r"\ln(1)", r"e^{i\pi}+1"):
        assert score_answer(text, "0", domain="math").score == 1.0
