"""The mathematics parser never raises, and agrees with exact and with floating-point arithmetic."""

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.api import score_answer
from rewards.mathexpr.exact import exact
from rewards.mathexpr.lexer import normalise, tokenise
from rewards.mathexpr.nodes import MathError, Node
from rewards.mathexpr.numeric import Evaluation
from rewards.mathexpr.parser import Parser


def parse(text: str) -> Node:
    parser = Parser(tokenise(normalise(text)))
    node = parser.relation()
    assert parser.head.kind == "end"
    return node


def rational(depth: int) -> st.SearchStrategy[tuple[str, Fraction]]:
    """LaTeX of a rational expression together with its value, computed by Fraction alone."""
    leaf = st.one_of(
        st.integers(0, 99).map(lambda n: (str(n), Fraction(n))),
        st.decimals(0, 99, places=2).map(lambda d: (str(d), Fraction(str(d)))),
    )
    if not depth:
        return leaf
    inner = rational(depth - 1)

    def combine(parts: tuple[str, tuple[str, Fraction], tuple[str, Fraction]]) -> tuple[str, Fraction]:
        kind, (a, x), (b, y) = parts
        if kind in ("frac", "/") and not y:
            kind = "+"
        if kind == "^":
            return f"\\left({a}\\right)^{{2}}", x**2
        return {
            "+": (f"{a}+\\left({b}\\right)", x + y),
            "-": (f"\\left({a}\\right)-\\left({b}\\right)", x - y),
            "times": (f"\\left({a}\\right) \\times \\left({b}\\right)", x * y),
            "beside": (f"\\left({a}\\right)\\left({b}\\right)", x * y),
            "frac": (f"\\frac{{{a}}}{{{b}}}", x / y if y else x),
            "/": (f"({a})/({b})", x / y if y else x),
            "neg": (f"-\\left({a}\\right)", -x),
        }[kind]

    kinds = st.sampled_from(["+", "-", "times", "beside", "frac", "/", "neg", "^"])
    return leaf | st.tuples(kinds, inner, inner).map(combine)


@given(rational(3))
def test_rational_expressions_evaluate_as_fractions_do(pair: tuple[str, Fraction]) -> None:
    latex, value = pair
    assert exact(parse(latex)) == value


@given(rational(2))
def test_rational_expression_equals_its_value_and_not_the_next_one(pair: tuple[str, Fraction]) -> None:
    latex, value = pair
    assert score_answer(f"\\frac{{{value.numerator}}}{{{value.denominator}}}", latex, domain="math").correct is True
    other = value + 1
    assert score_answer(f"\\frac{{{other.numerator}}}{{{other.denominator}}}", latex, domain="math").correct is False


@given(st.integers(0, 50), st.integers(1, 50), st.integers(2, 60))
def test_mixed_number_is_the_sum_of_its_parts(whole: int, over: int, under: int) -> None:
    if over < under and whole:
        for text in (f"{whole}\\frac{{{over}}}{{{under}}}", f"{whole} {over}/{under}"):
            assert exact(parse(text)) == whole + Fraction(over, under)


@given(st.integers(-(10**15), 10**15))
def test_thousands_separators_do_not_change_an_integer(value: int) -> None:
    for text in (f"{value:,}", f"{value:,}".replace(",", "{,}"), f"{value:,}".replace(",", " ")):
        assert score_answer(text, str(value), domain="math").correct is True


_FUNCTIONS = {
    r"\sin": math.sin, r"\cos": math.cos, r"\tan": math.tan, r"\arctan": math.atan, r"\sinh": math.sinh,
    r"\exp": math.exp, r"\tanh": math.tanh,
}  # fmt: skip


@given(st.sampled_from(sorted(_FUNCTIONS)), st.integers(-300, 300))
def test_functions_agree_with_the_floating_point_library(name: str, hundredths: int) -> None:
    x = hundredths / 100
    found = Evaluation({}, 100).value(parse(f"{name}({x})"))
    assert float(found) == pytest.approx(_FUNCTIONS[name](x), rel=1e-12, abs=1e-12)


@given(st.integers(1, 10**6), st.integers(2, 5))
def test_roots_agree_with_powers(value: int, degree: int) -> None:
    assert exact(parse(f"\\sqrt[{degree}]{{{value**degree}}}")) == value
    found = Evaluation({}, 100).value(parse(f"\\sqrt[{degree}]{{{value}}}"))
    assert float(found) == pytest.approx(value ** (1 / degree), rel=1e-12)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_polynomial_equals_its_product_of_factors_in_any_order(roots: list[int], order: random.Random) -> None:
    coefficients = [1]
    for root in roots:
        coefficients = [a - root * b for a, b in zip([*coefficients, 0], [0, *coefficients], strict=True)]
    degree = len(roots)
    expanded = "".join(f"{c:+d}x^{{{degree - k}}}" for k, c in enumerate(coefficients))
    order.shuffle(roots)
    factored = "".join(f"(x{-root:+d})" for root in roots)
    assert score_answer(factored, expanded, domain="math").correct is True
    assert score_answer(factored + "+1", expanded, domain="math").correct is False


_PIECES = [
    "\\frac", "\\sqrt", "{", "}", "(", ")", "[", "]", "\\{", "\\}", "x", "n", "1", "2.5", "+", "-", "^", "_", "=", "<",
    ",", "\\pm", "\\pi", "\\sin", "\\log", "!", "%", "|", "\\cup", "\\infty", " ", "\\text{cm}", "\\cdots", "or", "the",
    "\\begin{pmatrix}", "\\end{pmatrix}", "\\\\", "&", "$", "f", "k", "\\circ", "\\in", "\\mathbb{Z}", "½", "²", ":",
    "_n",
]  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join) | st.text(max_size=80))
@settings(max_examples=300)
def test_any_answer_is_scored_without_an_exception(answer: str) -> None:
    for reference in ("5", "x^2+1", r"\{1,2\}", r"[1,2)", "y=2x", r"k\pi"):
        assert score_answer(answer, reference, domain="math").score in (0.0, 1.0, None)


@given(st.lists(st.sampled_from(_PIECES), max_size=15).map("".join))
@settings(max_examples=200)
def test_any_reference_is_accepted_or_refused_and_accepted_ones_pay_themselves(reference: str) -> None:
    verdict = score_answer(reference, reference, domain="math")
    assert verdict.status in ("format_error", "bad_reference") or verdict.correct is True


@pytest.mark.parametrize("text", ["(", "1+", "\\frac{1}", "^2", "{}", "1 2", "\\end{matrix}", "\\unknown", "|x", "a)", "10_n"])
def test_incomplete_expressions_are_refused(text: str) -> None:
    with pytest.raises((MathError, AssertionError)):
        parse(text)
