"""Sets of real numbers, the symbolic fallback and the grammar, against trying values and other spellings."""

from fractions import Fraction

import pytest

from rewards.api import score_answer
from rewards.mathexpr.equality import Tolerance
from rewards.mathexpr.exact import exact
from rewards.mathexpr.intervals import complement, intersect, read_set, sets_equal
from rewards.mathexpr.lexer import normalise, tokenise
from rewards.mathexpr.nodes import MathError, Node, number
from rewards.mathexpr.numeric import Evaluation
from rewards.mathexpr.parser import Parser
from rewards.mathexpr.symbolic import build, symbolically_equal

LOOSE = Tolerance()


def parse(text: str) -> Node:
    parser = Parser(tokenise(normalise(text)))
    node = parser.relation()
    assert parser.head.kind == "end"
    return node


def value(text: str, **variables: int) -> complex:
    return complex(Evaluation({name: Fraction(v) for name, v in variables.items()}, 120).value(parse(text)))


# ---- sets of real numbers


def members(text: str) -> set[Fraction]:
    """The halves between -8 and 8 in a set, by reading the intervals."""
    found = read_set(parse(text))
    assert found is not None
    inside = set()
    for half in range(-16, 17):
        x = Fraction(half, 2)
        for part in found:
            low = part.low is None or exact(part.low) < x or (part.low_closed and exact(part.low) == x)  # type: ignore[operator]
            high = part.high is None or exact(part.high) > x or (part.high_closed and exact(part.high) == x)  # type: ignore[operator]
            if low and high:
                inside.add(x)
    return inside


HALVES = {Fraction(half, 2) for half in range(-16, 17)}


@pytest.mark.parametrize(
    "text,test",
    [
        (r"(1,3]\cup[2,5)", lambda x: 1 < x < 5),
        (r"(1,3)\cap[2,5)", lambda x: 2 <= x < 3),
        (r"\mathbb{R}\setminus\{1,2\}", lambda x: x not in (1, 2)),
        (r"[0,5]\setminus(1,2)", lambda x: 0 <= x <= 1 or 2 <= x <= 5),
        (r"(-\infty,1)\cup\{3\}", lambda x: x < 1 or x == 3),
        ("3>x>=-1", lambda x: -1 <= x < 3),
        ("2<x", lambda x: x > 2),
        ("x!=4", lambda x: x != 4),
        ("|2x-1|>=3", lambda x: abs(2 * x - 1) >= 3),
        ("-1<=3-2x<5", lambda x: -1 <= 3 - 2 * x < 5),
        (r"x\in[1,2]", lambda x: 1 <= x <= 2),
        (r"\emptyset", lambda x: False),
        (r"(2,5)\cap(6,7)", lambda x: False),
    ],
)
def test_sets_hold_what_trying_every_half_says(text: str, test) -> None:
    assert members(text) == {x for x in HALVES if test(x)}


def test_complement_twice_is_the_set_itself() -> None:
    for text in (r"(1,3]\cup[4,5)", r"[2,\infty)", r"\mathbb{R}", r"\emptyset", r"(-\infty,0)\cup\{2\}"):
        parts = read_set(parse(text))
        assert parts is not None
        assert sets_equal(complement(complement(parts)), parts, LOOSE)
        assert intersect(parts, complement(parts)) == ()


def test_what_is_no_set_of_reals_is_not_read_as_one() -> None:
    for text in ("x^2<4", "x<y", "(1,2,3)", "5", r"\mathbb{Z}", "x=2", r"(1,2)\cup 5", "1<x>2", r"x\ne y", "((1,2),(3,4))"):
        assert read_set(parse(text)) is None


# ---- the symbolic fallback


def test_undefined_functions_are_compared_by_expansion() -> None:
    assert symbolically_equal(parse("(f(x)+1)^2"), parse("f(x)^2+2f(x)+1")) is True
    assert symbolically_equal(parse("f(x)+1"), parse("f(x)+2")) is False
    assert symbolically_equal(parse("f(x)"), parse("f(y)")) is False


@pytest.mark.parametrize("text", ["f(x)^{500}", "f(x)+500!", "f(x)+x^{2001}", "(f(x)+x+y+z+w+1)^{12}*(f(x)+1)^{12}"])
def test_symbolic_comparison_refuses_what_would_take_long(text: str) -> None:
    with pytest.raises(MathError, match="too-complex"):
        symbolically_equal(parse(text), parse("f(x)"))


def test_symbolic_comparison_refuses_large_trees() -> None:
    with pytest.raises(MathError, match="too-complex"):
        symbolically_equal(parse("+".join(f"f({n})" for n in range(100))), parse("f(x)"))


def test_symbolic_expression_has_the_value_of_the_tree() -> None:
    import sympy

    for text in (
        r"\log_2 10",
        r"\sqrt[3]{5}",
        "5!",
        r"50\%",
        r"60^\circ",
        r"\arctan 2",
        r"\max(1,\pi)",
        r"e^{2}",
        "1.25",
        r"-\frac{3}{7}",
        "|1-i|",
    ):
        assert complex(sympy.N(build(parse(text), sympy))) == pytest.approx(value(text), rel=1e-12)
    for node in (Node("ell"), Node("const", (), "inf"), Node("fn", (number(1),), "det")):
        with pytest.raises(MathError):
            build(node, sympy)


# ---- the grammar


@pytest.mark.parametrize(
    "one,other",
    [
        (r"\frac12x", r"\frac{1}{2}x"),
        (r"3\frac{x}{2}", r"\frac{3x}{2}"),
        (r"5\frac32", r"\frac{15}{2}"),
        (r"x^{\circ}", r"x^\circ"),
        (r"v_0^2", r"v^2_0"),
        (r"x'", r"x^\prime"),
        (r"a_{12}", r"a_{1 2}"),
        (r"2^{-x}", r"2^-x"),
        (r"\sin^2x", r"\sin(x)^2"),
        (r"\sin 2x\cos x", r"\sin(2x)\cos(x)"),
        (r"\sqrt\frac12", r"\sqrt{\frac{1}{2}}"),
        (r"\{x\}", r"\{x\}"),
        (r"((x+1))", "x+1"),
        (r"-(-(-x))", "-x"),
        ("2^3^2", "2^9"),
        (r"|x|y|z|", r"|x|\cdot y\cdot|z|"),
        (r"\begin{pmatrix}1&2\\\end{pmatrix}", r"\begin{bmatrix}1&2\end{bmatrix}"),
        (r"\log_2(8)x", "3x"),
        (r"\log{100}", r"\log(100)"),
        (r"5\mathrm{e}", "5e"),
    ],
)
def test_two_ways_to_write_one_expression_are_equal(one: str, other: str) -> None:
    assert score_answer(one, other, domain="math").correct is True
    assert score_answer(other, one, domain="math").correct is True


@pytest.mark.parametrize(
    "text",
    [
        "1 2",
        "x 2 3",
        "(1,2",
        "{",
        "2^",
        r"\frac{1}",
        "|x",
        "a)",
        "[1,2)3]",
        r"\sqrt[3{8}",
        "10_1",
        "10_x",
        "5'",
        r"\begin{pmatrix}1&2\\3\end{pmatrix}",
        r"\begin{pmatrix}\end{pmatrix}",
        r"\sin(1,2)",
        r"\log(1,2)",
        "()",
        "{}",
        r"\mathbb{}",
        r"\{1,2)",
        "(1=2)3",
        r"\begin{pmatrix}1 2\end{pmatrix}",
        "x_{",
        r"\sin 1 2",
        "3 + \\",
    ],
)
def test_broken_notation_is_refused(text: str) -> None:
    with pytest.raises((MathError, AssertionError)):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 80 + "1" + ")" * 80,
        "2" + "^2" * 80,
        "2^" * 80 + "2",
        "1" * 401,
        "1e5001",
        "+".join("x" * 1600),
        "-" * 2100 + "1",
        "(" + ",".join("1" * 70) + ")",
        r"\sqrt{" * 70 + "2" + "}" * 70,
        r"\{" + ",".join("1" * 70) + r"\}",
    ],
)
def test_notation_beyond_the_budget_is_too_complex(text: str) -> None:
    with pytest.raises(MathError, match="too-complex"):
        parse(text)


def test_plus_minus_signs_are_written_out_within_a_budget() -> None:
    for reference, answer, right in (
        (r"1\pm2\pm3", "6,0,2,-4", True),
        (r"x\pm y\mp z", "x+y-z, x-y+z", True),
        (r"\pm1,\pm1,\pm1,\pm1", "1,-1", False),
        (r"\begin{pmatrix}\pm1\\2\end{pmatrix}", "(1,2)", False),
        (r"\pm\pm\pm\pm\pm1", "1,-1", False),
    ):
        assert score_answer(answer, reference, domain="math").correct in ((True,) if right else (False, None))
