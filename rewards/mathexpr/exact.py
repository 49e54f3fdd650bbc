"""Exact rational values of constant expressions, under a bit budget: every power and factorial is checked first."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from rewards.mathexpr.nodes import MathError, Node

MAX_BITS = 1 << 15
"""Size of an exact numerator or denominator: 9,800 decimal digits, enough for 2^30000 or 3000!."""
MAX_FACTORIAL = 3000


class Undefined(MathError):
    """No finite value here: division by zero, logarithm of zero, infinity."""


def exact(node: Node) -> Fraction | None:
    """The rational value of a constant expression, or None when it is not (recognisably) rational.

    Raises Undefined for a division by zero and MathError("too-complex") beyond the budget.
    """
    op = node.op
    if op == "num":
        return bounded(node.value)
    if op == "dec":
        return bounded(node.value.number)
    if op == "pct":
        value = exact(node.args[0])
        return None if value is None else value / 100
    if op == "fn" and node.value == "det":
        return _determinant(node.args[0])
    if op not in _EXACT and op != "fn":
        return None
    args = []
    for arg in node.args:
        value = exact(arg)
        if value is None:
            return None
        args.append(value)
    if op == "fn":
        function = _EXACT_FUNCTIONS.get(node.value)
        return None if function is None else function(*args)
    result = _EXACT[op](*args)
    return None if result is None else bounded(result)


def bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise MathError("too-complex")
    return value


def _add(*args: Fraction) -> Fraction:
    total = Fraction(0)
    for arg in args:
        total = bounded(total + arg)
    return total


def _mul(*args: Fraction) -> Fraction:
    total = Fraction(1)
    for arg in args:
        total = bounded(total * arg)
    return total


def _div(a: Fraction, b: Fraction) -> Fraction:
    if not b:
        raise Undefined("undefined")
    return a / b


def _pow(base: Fraction, power: Fraction) -> Fraction | None:
    if power.denominator != 1:
        return _rational_power(base, power)
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base in (0, 1, -1):
        if not base:
            if power <= 0:
                raise Undefined("undefined") if power < 0 else Undefined("zero-to-the-zero")
            return Fraction(0)
        return base if power.numerator % 2 else Fraction(1)
    if power.numerator.bit_length() > 32 or size * abs(power.numerator) > 2 * MAX_BITS:
        raise MathError("too-complex")
    return base**power.numerator


def _rational_power(base: Fraction, power: Fraction) -> Fraction | None:
    if power.denominator > 64:
        return None
    rooted = _root(base, Fraction(power.denominator))
    return None if rooted is None or base < 0 else _pow(rooted, Fraction(power.numerator))


def _root(value: Fraction, degree: Fraction) -> Fraction | None:
    if degree.denominator != 1 or not 2 <= degree <= 64:
        return None
    n = int(degree)
    sign = 1
    if value < 0:
        if n % 2 == 0:
            return None
        sign, value = -1, -value
    over, under = _integer_root(value.numerator, n), _integer_root(value.denominator, n)
    return None if over is None or under is None else sign * Fraction(over, under)


def _integer_root(value: int, n: int) -> int | None:
    """The exact n-th root of a non-negative integer, or None. Newton's method on integers."""
    if value.bit_length() > 4096:
        return None
    if n == 2:
        root = math.isqrt(value)
        return root if root * root == value else None
    low, high = 0, 1 << (value.bit_length() // n + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if middle**n <= value:
            low = middle
        else:
            high = middle - 1
    return low if low**n == value else None


def _factorial(value: Fraction) -> Fraction | None:
    if value.denominator != 1 or value < 0:
        raise Undefined("undefined")
    if value > MAX_FACTORIAL:
        raise MathError("too-complex")
    return Fraction(math.factorial(int(value)))


def _binomial(n: Fraction, k: Fraction) -> Fraction | None:
    if n.denominator != 1 or k.denominator != 1 or n < 0 or k < 0:
        return None
    if n > MAX_FACTORIAL:
        raise MathError("too-complex")
    return Fraction(math.comb(int(n), int(k)))


def _integers(*values: Fraction) -> list[int]:
    if any(value.denominator != 1 for value in values):
        raise Undefined("undefined")
    return [int(value) for value in values]


_EXACT: dict[str, Any] = {
    "add": _add,
    "neg": lambda a: -a,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "root": _root,
    "fact": _factorial,
}
_EXACT_FUNCTIONS: dict[str, Any] = {
    "abs": abs,
    "floor": lambda a: Fraction(math.floor(a)),
    "ceil": lambda a: Fraction(math.ceil(a)),
    "max": lambda *a: max(a),
    "min": lambda *a: min(a),
    "gcd": lambda *a: Fraction(math.gcd(*_integers(*a))),
    "lcm": lambda *a: bounded(Fraction(math.lcm(*_integers(*a)))),
    "binom": _binomial,
}


def _determinant(matrix: Node) -> Fraction | None:
    """Determinant by fraction elimination."""
    if matrix.op != "matrix" or matrix.value[0] != matrix.value[1]:
        raise Undefined("undefined")
    size = matrix.value[0]
    cells = [value for cell in matrix.args if (value := exact(cell)) is not None]
    if len(cells) < len(matrix.args):
        return None
    rows = [list(cells[i * size : (i + 1) * size]) for i in range(size)]
    total = Fraction(1)
    for i in range(size):
        pivot = next((r for r in range(i, size) if rows[r][i]), None)
        if pivot is None:
            return Fraction(0)
        if pivot != i:
            rows[i], rows[pivot], total = rows[pivot], rows[i], -total
        total = bounded(total * rows[i][i])
        for r in range(i + 1, size):
            ratio = rows[r][i] / rows[i][i]
            rows[r] = [bounded(a - ratio * b) for a, b in zip(rows[r], rows[i], strict=True)]
    return total
