"""Boundaries, reasons and branches of the numeric core that other tests leave open: each kills a mutant of docs/mutation.md.

Expressions are built as trees, without the parser, so that a limit can be met to the bit.
"""

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.mathexpr import exact as exact_module
from rewards.mathexpr.exact import MAX_BITS, MAX_FACTORIAL, Undefined, exact
from rewards.mathexpr.nodes import Decimal, MathError, Node, number, symbol
from rewards.mathexpr.numeric import MAX_MAGNITUDE, MAX_WORK, Evaluation, context

IMAGINARY, PI = Node("const", (), "i"), Node("const", (), "pi")


def tree(op: str, *args: Node | int | Fraction, value: Any = None) -> Node:
    return Node(op, tuple(arg if isinstance(arg, Node) else number(arg) for arg in args), value)


def fn(name: str, *args: Node | int | Fraction) -> Node:
    return tree("fn", *args, value=name)


def matrix(rows: list[list[Node | int]]) -> Node:
    return tree("matrix", *itertools.chain(*rows), value=(len(rows), len(rows[0])))


def value(node: Node, precision: int = 100, **variables: Fraction) -> Any:
    return Evaluation(variables, precision).value(node)


def kind(item: object) -> str:
    """A test id: the values themselves have thousands of digits."""
    return item.op if isinstance(item, Node) else type(item).__name__


def reason(call: Callable[[], object]) -> tuple[type[MathError], str]:
    """The class and the text of what `call` raises."""
    with pytest.raises(MathError) as caught:
        call()
    return caught.type, str(caught.value)


TOO_COMPLEX = (MathError, "too-complex")
UNDEFINED = (Undefined, "undefined")
UNEVALUATED = (MathError, "unevaluated")


# ---- exact


@pytest.mark.parametrize(
    "node,fault",
    [
        (tree("div", 1, 0), UNDEFINED),
        (tree("pow", 0, -1), UNDEFINED),
        (tree("pow", 0, 0), (Undefined, "zero-to-the-zero")),
        (tree("fact", -1), UNDEFINED),
        (tree("fact", Fraction(1, 2)), UNDEFINED),
        (tree("fact", MAX_FACTORIAL + 1), TOO_COMPLEX),
        (fn("binom", MAX_FACTORIAL + 1, 2), TOO_COMPLEX),
        (fn("gcd", 2, Fraction(1, 2)), UNDEFINED),
        (fn("lcm", Fraction(1, 2), 2), UNDEFINED),
        (fn("lcm", 2**20000, 3**12000), TOO_COMPLEX),
        (fn("det", tree("tuple", 1, value="()")), UNDEFINED),
        (fn("det", matrix([[1, 2]])), UNDEFINED),
        (fn("det", matrix([[1], [2]])), UNDEFINED),
        (fn("det", matrix([[2**20000, 0], [0, 2**20000]])), TOO_COMPLEX),
        (tree("num", value=Fraction(2**MAX_BITS)), TOO_COMPLEX),
        (tree("dec", value=Decimal(Fraction(1, 2**MAX_BITS), 1, 1)), TOO_COMPLEX),
        (tree("add", 2 ** (MAX_BITS - 1), 2 ** (MAX_BITS - 1)), TOO_COMPLEX),
        (tree("mul", 2 ** (MAX_BITS // 2), 2 ** (MAX_BITS // 2)), TOO_COMPLEX),
        (tree("pow", 2, MAX_BITS), TOO_COMPLEX),
        (tree("pow", Fraction(1, 2), MAX_BITS), TOO_COMPLEX),
        (tree("pow", Fraction(1, 2), -MAX_BITS), TOO_COMPLEX),
        (tree("pow", Fraction(2**20000), 3), TOO_COMPLEX),
        (tree("pow", Fraction(3, 2**20000), 4), TOO_COMPLEX),
    ],
    ids=kind,
)
def test_exact_evaluation_names_the_fault(node: Node, fault: tuple[type, str]) -> None:
    assert reason(lambda: exact(node)) == fault


@pytest.mark.parametrize(
    "node,expected",
    [
        (tree("add", 2 ** (MAX_BITS - 1), -1), 2 ** (MAX_BITS - 1) - 1),
        (tree("pow", 2, MAX_BITS - 1), 2 ** (MAX_BITS - 1)),
        (tree("pow", Fraction(1, 2), MAX_BITS - 1), Fraction(1, 2 ** (MAX_BITS - 1))),
        (tree("pow", 2, 1 - MAX_BITS), Fraction(1, 2 ** (MAX_BITS - 1))),
        (tree("pow", -1, 2**40), 1),
        (tree("pow", -1, 2**40 + 1), -1),
        (tree("pow", 1, 2**40 + 1), 1),
        (tree("pow", 0, 1), 0),
        (tree("pow", 0, 2**40), 0),
        (tree("pow", 2, Fraction(64, 64)), 2),
        (tree("pow", 2**64, Fraction(3, 64)), 8),
        (tree("pow", 2**65, Fraction(1, 65)), None),
        (tree("pow", -4, Fraction(1, 2)), None),
        (tree("pow", -8, Fraction(1, 3)), None),
        (tree("pow", 0, Fraction(1, 2)), 0),
        (tree("pow", 2, Fraction(1, 2)), None),
        (tree("root", 2**64, 64), 2),
        (tree("root", 2**65, 65), None),
        (tree("root", 5, 1), None),
        (tree("root", 4, Fraction(5, 2)), None),
        (tree("root", -4, 2), None),
        (tree("root", -8, 3), -2),
        (tree("root", 0, 2), 0),
        (tree("root", 0, 3), 0),
        (tree("root", 1, 3), 1),
        (tree("root", Fraction(8, 27), 3), Fraction(2, 3)),
        (tree("root", Fraction(7, 27), 3), None),
        (tree("root", Fraction(8, 26), 3), None),
        (tree("root", Fraction(4, 3), 2), None),
        (tree("root", (2**2048 - 1) ** 2, 2), 2**2048 - 1),
        (tree("root", (2**1365 - 1) ** 3, 3), 2**1365 - 1),
        (tree("root", 2**4096, 2), None),
        (tree("fact", 0), 1),
        (tree("fact", 1), 1),
        (tree("fact", MAX_FACTORIAL), math.factorial(MAX_FACTORIAL)),
        (fn("binom", MAX_FACTORIAL, 2), MAX_FACTORIAL * (MAX_FACTORIAL - 1) // 2),
        (fn("binom", 0, 0), 1),
        (fn("binom", 2, 5), 0),
        (fn("binom", 5, -1), None),
        (fn("binom", -1, 2), None),
        (fn("binom", Fraction(7, 2), 2), None),
        (fn("binom", 7, Fraction(1, 2)), None),
        (fn("sin", 0), None),
        (fn("gcd", 12, 18), 6),
        (fn("lcm", 4, 6), 12),
        (tree("mul", 2, 3, 7), 42),
        (tree("mul", 5, Fraction(1, 5)), 1),
        (tree("neg", 5), -5),
        (tree("pct", 50), Fraction(1, 2)),
        (tree("pct", symbol("x")), None),
        (tree("add", 1, symbol("x")), None),
        (tree("tuple", 1, value="()"), None),
        (tree("dec", value=Decimal(Fraction(5, 2), 1, 2)), Fraction(5, 2)),
        (fn("det", matrix([[0, 2], [3, 4]])), -6),
        (fn("det", matrix([[0, 2], [0, 4]])), 0),
        (fn("det", matrix([[1, symbol("x")], [3, 4]])), None),
        (fn("det", matrix([[7]])), 7),
    ],
    ids=kind,
)
def test_exact_value_at_the_edges(node: Node, expected: Fraction | None) -> None:
    assert exact(node) == expected


def test_power_is_refused_before_it_is_computed() -> None:
    assert exact_module._pow(Fraction(2), Fraction(MAX_BITS)) == 2**MAX_BITS  # its base has two bits
    assert reason(lambda: exact_module._pow(Fraction(2), Fraction(MAX_BITS + 1))) == TOO_COMPLEX
    assert reason(lambda: exact_module._pow(Fraction(1, 2), Fraction(-MAX_BITS - 1))) == TOO_COMPLEX


def test_root_of_more_than_4096_bits_is_left_to_numbers() -> None:
    largest = (2**2048 - 1) ** 2
    assert largest.bit_length() == 4096 and exact_module._integer_root(largest, 2) == 2**2048 - 1
    assert exact_module._integer_root(2**4096, 2) is None


def leibniz(rows: list[list[int]]) -> int:
    """The determinant as the sum over permutations."""
    total = 0
    for order in itertools.permutations(range(len(rows))):
        inversions = sum(a > b for a, b in itertools.combinations(order, 2))
        total += (-1) ** inversions * math.prod(rows[i][j] for i, j in enumerate(order))
    return total


@given(
    st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(st.integers(-2, 2), min_size=n, max_size=n), min_size=n, max_size=n))
)
def test_determinants_are_sums_over_permutations(rows: list[list[int]]) -> None:
    node = fn("det", matrix([list(row) for row in rows]))
    assert exact(node) == leibniz(rows)
    assert value(node) == leibniz(rows)


# ---- numeric: budgets


def test_work_is_counted_by_nodes_and_precision() -> None:
    for precision in (100, 200):
        nodes = MAX_WORK * 200 // precision
        assert value(tree("add", *[1] * (nodes - 1)), precision) == nodes - 1
        assert reason(lambda p=precision, n=nodes: value(tree("add", *[1] * n), p)) == TOO_COMPLEX


@pytest.mark.parametrize(
    "power,fits", [(MAX_MAGNITUDE - 1, True), (MAX_MAGNITUDE, False), (-MAX_MAGNITUDE - 1, True), (-MAX_MAGNITUDE - 2, False)]
)
def test_magnitude_is_limited_on_both_sides(power: int, fits: bool) -> None:
    node = number(Fraction(2) ** power)  # its binary exponent is power + 1
    if fits:
        evaluation = Evaluation({}, 100)
        assert evaluation.value(node) == context(100).ldexp(1, power) and evaluation.magnitude == abs(power + 1)
    else:
        assert reason(lambda: value(node)) == TOO_COMPLEX


def test_magnitude_is_the_largest_met() -> None:
    evaluation = Evaluation({}, 100)
    assert evaluation.magnitude == 0 and evaluation.value(number(0)) == 0 and evaluation.magnitude == 0
    evaluation.value(tree("add", Fraction(1, 2**20), 2**10))
    assert evaluation.magnitude == 19
    evaluation.value(number(2))
    assert evaluation.magnitude == 19


@pytest.mark.parametrize(
    "node",
    [
        number(Fraction(2**MAX_BITS)),
        tree("dec", value=Decimal(Fraction(2**MAX_BITS), 0, 1)),
        tree("pow", 1, MAX_MAGNITUDE + 1),
        tree("pow", 3, MAX_MAGNITUDE // 2 + 1),
        tree("fact", MAX_FACTORIAL + 1),
        fn("binom", MAX_FACTORIAL + 1, 1),
        fn("binom", 1, MAX_FACTORIAL + 1),
        fn("sin", MAX_MAGNITUDE // 2 + 1),
        fn("sinh", -MAX_MAGNITUDE // 2 - 1),
    ],
    ids=kind,
)
def test_beyond_a_budget_is_too_complex(node: Node) -> None:
    assert reason(lambda: value(node)) == TOO_COMPLEX


def test_limits_themselves_are_inside() -> None:
    assert value(tree("pow", 1, MAX_MAGNITUDE)) == 1
    assert value(tree("pow", 3, MAX_MAGNITUDE // 2)) == pytest.approx(context(100).mpf(3) ** (MAX_MAGNITUDE // 2))
    assert value(fn("sin", MAX_MAGNITUDE // 2)) == pytest.approx(math.sin(MAX_MAGNITUDE // 2), rel=1e-9)
    assert value(fn("binom", MAX_FACTORIAL, 2)) == MAX_FACTORIAL * (MAX_FACTORIAL - 1) // 2
    evaluation = Evaluation({}, 100)
    assert evaluation.factorial(evaluation.ctx.mpf(MAX_FACTORIAL)) > evaluation.ctx.ldexp(1, 30000)
    assert reason(lambda: evaluation.factorial(evaluation.ctx.mpf(MAX_FACTORIAL + 1))) == TOO_COMPLEX


def test_size_of_the_base_counts_whichever_side_of_one_it_is_on() -> None:
    evaluation = Evaluation({}, 100)
    base = evaluation.ctx.mpf(3) / 16
    assert evaluation.power(base, evaluation.ctx.mpf(MAX_MAGNITUDE // 2)) > 0
    half = evaluation.ctx.mpf(0.5)  # of binary exponent 0, counted as 1
    assert evaluation.power(half, evaluation.ctx.mpf(MAX_MAGNITUDE)) == evaluation.ctx.ldexp(1, -MAX_MAGNITUDE)
    assert reason(lambda: evaluation.power(half, evaluation.ctx.mpf(MAX_MAGNITUDE + 1))) == TOO_COMPLEX
    assert reason(lambda: evaluation.power(base, evaluation.ctx.mpf(MAX_MAGNITUDE // 2 + 1))) == TOO_COMPLEX


# ---- numeric: what is zero, real or undefined


@pytest.mark.parametrize("bits,kept", [(69, True), (70, True), (71, False), (90, False)])
def test_sum_that_cancels_to_less_than_its_last_30_bits_is_zero(bits: int, kept: bool) -> None:
    rest = Fraction(1, 2**bits)
    assert value(tree("add", 1, rest, -1), 100) == (context(100).ldexp(1, -bits) if kept else 0)
    assert value(tree("add", 0, rest), 100) == context(100).ldexp(1, -bits)


@pytest.mark.parametrize("bits,kept", [(69, True), (73, False), (90, False)])
def test_logarithm_of_what_is_one_but_for_its_last_30_bits_is_zero(bits: int, kept: bool) -> None:
    found = value(tree("log", 1 + Fraction(1, 2**bits), Fraction(271828, 100000)), 100)
    assert found == pytest.approx(2.0**-bits, rel=1e-4) if kept else found == 0


def test_function_of_zero_is_no_residue() -> None:
    assert value(fn("cos", 0)) == value(fn("cosh", 0)) == 1
    assert value(fn("arccos", 0)) == pytest.approx(math.pi / 2, rel=1e-15)
    assert value(tree("pow", fn("sin", 0), 2)) == value(tree("add", 0, 0)) == 0


@pytest.mark.parametrize("bits,kept", [(68, True), (69, True), (70, False), (90, False)])
def test_part_of_a_complex_value_below_its_last_30_bits_is_zero(bits: int, kept: bool) -> None:
    small = Fraction(1, 2**bits)
    ctx = context(100)
    one = value(tree("add", 1, tree("mul", IMAGINARY, small)), 100)
    other = value(tree("add", IMAGINARY, small), 100)
    assert one == (ctx.mpc(1, ctx.ldexp(1, -bits)) if kept else 1)
    assert isinstance(one, ctx.mpc) is kept
    assert other == ctx.mpc(ctx.ldexp(1, -bits) if kept else 0, 1)


def test_product_with_no_imaginary_part_left_is_real() -> None:
    found = value(tree("mul", IMAGINARY, IMAGINARY))
    assert found == -1 and not isinstance(found, context(100).mpc)


@pytest.mark.parametrize(
    "node,left",
    [
        (tree("root", -4, 2), True),
        (tree("root", -16, 4), True),
        (tree("pow", -2, Fraction(1, 2)), True),
        (tree("log", -1, 10), True),
        (fn("arcsin", 2), True),
        (tree("root", 4, 2), False),
        (tree("root", -8, 3), False),
        (tree("root", IMAGINARY, 2), False),
        (tree("pow", IMAGINARY, Fraction(1, 2)), False),
        (tree("pow", 2, IMAGINARY), False),
        (tree("log", IMAGINARY, 10), False),
        (tree("log", 10, IMAGINARY), False),
        (tree("mul", IMAGINARY, 2), False),
        (fn("sin", IMAGINARY), False),
    ],
)
def test_real_numbers_that_lead_to_a_complex_one_are_noticed(node: Node, left: bool) -> None:
    evaluation = Evaluation({}, 100)
    assert evaluation.left_reals is False
    evaluation.value(node)
    assert evaluation.left_reals is left


@pytest.mark.parametrize(
    "node",
    [
        tree("div", 1, 0),
        tree("pow", 0, 0),
        tree("pow", 0, -1),
        tree("pow", 0, IMAGINARY),
        tree("root", 5, 0),
        tree("log", 0, 10),
        tree("log", 5, 0),
        tree("log", 5, 1),
        tree("fact", -1),
        Node("const", (), "inf"),
        fn("floor", IMAGINARY),
        fn("max", 1, IMAGINARY),
        fn("tan", tree("div", PI, 2)),
        fn("sec", tree("div", PI, 2)),
        fn("cot", PI),
        fn("csc", PI),
        fn("coth", 0),
        fn("artanh", 1),  # mpmath's infinity, no error
        fn("artanh", -1),
    ],
)
def test_what_has_no_finite_value_is_undefined(node: Node) -> None:
    assert reason(lambda: value(node)) == UNDEFINED


@pytest.mark.parametrize(
    "node",
    [
        symbol("x"),
        tree("tuple", 1, value="()"),
        fn("unknown", 1),
        fn("det", tree("tuple", 1, value="()")),
        fn("det", matrix([[1, 2]])),
        fn("det", matrix([[1] * 6] * 6)),
    ],
)
def test_what_cannot_be_evaluated_says_so(node: Node) -> None:
    assert reason(lambda: value(node)) == UNEVALUATED


def test_variables_constants_and_logarithm_bases_have_their_values() -> None:
    ctx = context(100)
    assert value(symbol("x"), x=Fraction(3, 4)) == 0.75
    assert value(Node("const", (), "e")) == pytest.approx(math.e, rel=1e-15) == ctx.e
    assert value(Node("const", (), "pi")) == pytest.approx(math.pi, rel=1e-15)
    base = Node("const", (), "log-base")
    assert Evaluation({}, 100).value(base) == pytest.approx(math.e, rel=1e-15)
    assert Evaluation({}, 100, "10").value(base) == 10
    assert value(tree("deg", 180)) == pytest.approx(math.pi, rel=1e-15) and value(tree("pct", 25)) == 0.25
    assert reason(lambda: value(Node("const", (), "phi"))) == UNDEFINED


@pytest.mark.parametrize(
    "node,expected",
    [
        (tree("pow", 0, 3), 0),
        (tree("pow", 0, 1), 0),
        (tree("pow", 0, Fraction(1, 2)), 0),
        (tree("root", -27, 3), -3),
        (tree("root", Fraction(1, 8), 3), Fraction(1, 2)),
        (tree("root", Fraction(-1, 8), 3), Fraction(-1, 2)),
        (tree("root", -32, 5), -2),
        (tree("root", 27, -3), Fraction(1, 3)),
        (tree("root", 4, Fraction(1, 2)), 16),
        (tree("neg", 5), -5),
        (tree("mul", 2, 3, 7), 42),
        (tree("mul", 5), 5),
        (tree("add", 2, 3, 7), 12),
        (tree("div", 1, 4), Fraction(1, 4)),
        (fn("abs", -5), 5),
        (fn("max", 1, 3, 2), 3),
        (fn("min", 3, 1, 2), 1),
        (fn("floor", Fraction(-7, 2)), -4),
        (fn("ceil", Fraction(-7, 2)), -3),
        (tree("fact", 4), 24),
    ],
)
def test_numeric_value_of_whole_arguments(node: Node, expected: Fraction) -> None:
    assert value(node) == context(100).mpf(Fraction(expected).numerator) / Fraction(expected).denominator or abs(
        value(node) * Fraction(expected).denominator - Fraction(expected).numerator
    ) < context(100).ldexp(1, -90)


def test_negative_root_of_degree_neither_odd_nor_whole_is_the_principal_one() -> None:
    for degree in (Fraction(5, 2), 4):
        found = complex(value(tree("root", -16, degree)))
        assert found == pytest.approx((-16 + 0j) ** (1 / float(degree)), rel=1e-12)


def test_root_of_a_complex_degree_is_a_complex_power() -> None:
    for radicand in (-8, 8):
        found = complex(value(tree("root", radicand, IMAGINARY)))
        assert found == pytest.approx((radicand + 0j) ** (1 / 1j), rel=1e-12)


@pytest.mark.parametrize("name", ["tan", "sec"])
def test_pole_is_where_the_cosine_is_less_than_its_last_30_bits(name: str) -> None:
    ctx = context(100)
    for bits in (60, 69):
        beside = tree("add", tree("div", PI, 2), Fraction(1, 2**bits))
        assert abs(value(fn(name, beside)) / ctx.ldexp(1, bits) + 1) < 1e-6
    for bits in (70, 90):
        beside = tree("add", tree("div", PI, 2), Fraction(1, 2**bits))
        assert reason(lambda node=beside: value(fn(name, node))) == UNDEFINED


@pytest.mark.parametrize("precision", [100, 121])
def test_floor_and_ceiling_take_a_hair_beside_an_integer_for_it(precision: int) -> None:
    half = -(-precision // 2)
    for bits, near in ((half, False), (half + 1, True)):
        hair = Fraction(1, 2**bits)
        assert value(fn("floor", 3 - hair), precision) == (3 if near else 2)
        assert value(fn("ceil", 3 + hair), precision) == (3 if near else 4)


def test_context_is_set_to_the_precision_asked_for_and_made_once() -> None:
    with ThreadPoolExecutor(1) as pool:  # a thread without one, and not the one of another thread
        other = pool.submit(context, 90).result()
    first = context(100)
    assert other is not first and other.prec == 90
    assert first.prec == 100 and context(150) is first and first.prec == 150
