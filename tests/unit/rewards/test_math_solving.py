"""Inequalities solved, against trying values."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from rewards.mathexpr.exact import exact
from rewards.mathexpr.lexer import tokenise
from rewards.mathexpr.nodes import Node
from rewards.mathexpr.parser import Parser
from rewards.mathexpr.solving import linear, solve


def parse(text: str) -> Node:
    return Parser(tokenise(text)).relation()


@given(st.integers(-9, 9).filter(bool), st.integers(-9, 9), st.integers(-9, 9), st.sampled_from(["<", ">", "<=", ">="]))
def test_linear_inequality_is_solved_as_trying_every_half_says(a: int, b: int, c: int, op: str) -> None:
    left, right = parse(f"({a})*x+({b})"), parse(str(c))
    solution = solve(left, op, right)
    assert solution is not None and solution[:2] == ("x", "and")
    ((sign, bound),) = solution[2]
    holds = {"<": lambda p, q: p < q, ">": lambda p, q: p > q, "<=": lambda p, q: p <= q, ">=": lambda p, q: p >= q}
    end = exact(bound)
    assert end is not None
    for x in [Fraction(k, 2) for k in range(-60, 61)] + [end]:
        assert holds[op](a * x + b, c) == holds[sign](x, end)


@given(st.integers(-5, 5).filter(bool), st.integers(-9, 9), st.integers(1, 9), st.sampled_from(["<", ">", "<=", ">="]))
def test_absolute_value_is_solved_as_trying_every_half_says(a: int, b: int, c: int, op: str) -> None:
    solution = solve(parse(f"|{a}*x+({b})|" if a > 0 else f"|({a})*x+({b})|"), op, parse(str(c)))
    assert solution is not None
    _, join, bounds = solution
    holds = {"<": lambda p, q: p < q, ">": lambda p, q: p > q, "<=": lambda p, q: p <= q, ">=": lambda p, q: p >= q}
    ends = [(sign, exact(bound)) for sign, bound in bounds]
    for x in [Fraction(k, 2) for k in range(-60, 61)] + [end for _, end in ends if end is not None]:
        inside = [holds[sign](x, end) for sign, end in ends]
        assert holds[op](abs(a * x + b), c) == (all(inside) if join == "and" else any(inside))


def test_what_is_no_inequality_of_the_first_degree_is_not_solved() -> None:
    for left, op, right in (
        ("x^2", ">", "4"),
        ("0*x", ">", "1"),
        ("x+y", "<", "3"),
        ("x", "=", "2"),
        ("|x|", "<", "-1"),
        (r"\sqrt{x}", "<", "2"),
        ("|x^2|", "<", "2"),
        ("1/x", "<", "2"),
        ("5", "<", "6"),
    ):
        assert solve(parse(left), op, parse(right)) is None
    assert linear(parse("x^3"), "x") is None
