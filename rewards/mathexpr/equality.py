"""Whether two scalar expressions are equal: exactly, numerically to a stated tolerance, or as functions.

1. Both rational: exact comparison, and the rounding rules when one is a decimal.
2. No variables: 200 bits or more of precision, so that equality is decided, not guessed.
3. Variables: both sides at fixed rational points, positive and negative, where both are real. Agreement to 100 bits
   at several points decides identity of the functions answers are made of (Schwartz-Zippel for the rational ones).
4. SymPy, where too few points are defined or undefined functions occur.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from rewards.mathexpr.ellipsis import written_out
from rewards.mathexpr.exact import Undefined, exact
from rewards.mathexpr.nodes import Decimal, Node, contains, is_infinite, rewrite, symbols, walk
from rewards.mathexpr.numeric import MAX_MAGNITUDE, Evaluation
from rewards.mathexpr.symbolic import symbolically_equal

FLOAT_RTOL = Fraction(1, 10**8)
"""Relative tolerance when a decimal is involved: printing a double loses less."""
REFERENCE_RTOL = Fraction(25, 10**5)
"""Relative tolerance of a decimal reference of four or more significant digits, which is taken to be rounded."""
MIN_POINTS = 3
_POINTS = 10


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The caller's tolerances; None leaves the rules of this module."""

    rtol: float | None = None
    atol: float | None = None
    rounding: bool = True
    integers: tuple[str, ...] = ()
    trace: list[str] | None = field(default=None, compare=False)
    """Receives the rules that found two values equal, when somebody wants to know."""

    def decided(self, rule: str) -> bool:
        """True, after the rule that found it so has been noted."""
        if self.trace is not None:
            self.trace.append(rule)
        return True


def scalars_equal(reference: Node, answer: Node, tolerance: Tolerance) -> bool:
    """Whether `answer` is as good as `reference`. Raises MathError when either cannot be evaluated."""
    if is_infinite(reference) or is_infinite(answer):
        return is_infinite(reference) == is_infinite(answer)
    if reference == answer and not contains(reference, "ell"):
        check_defined(reference)
        return tolerance.decided("same-expression")
    if contains(reference, "based") or contains(answer, "based"):
        return _same_in_base(reference, answer)
    if contains(reference, "ell") or contains(answer, "ell"):
        return _equal_written_out(reference, answer, tolerance)
    (reference, in_degrees), (answer, also) = without_degrees(reference), without_degrees(answer)
    if in_degrees == also:
        return _equal(reference, answer, tolerance)
    if _equal(reference, answer, tolerance):
        return True
    # One side in degrees, the other a bare number: that number may be radians, if it is written as such.
    measured, other = (reference, answer) if in_degrees else (answer, reference)
    if not (contains(other, "dec") or any(n.op == "const" and n.value == "pi" for n in walk(other))):
        return False
    radians = Node("deg", (measured,))
    return _equal(radians, answer, tolerance) if in_degrees else _equal(reference, radians, tolerance)


def check_defined(node: Node) -> None:
    """Raise MathError for a constant that has no finite value or is beyond the budget."""
    if symbols(node) or contains(node, "app", "ell", "based"):
        return
    if exact(node) is None:
        Evaluation({}, 200).value(node)


def without_degrees(node: Node) -> tuple[Node, bool]:
    """The expression with degree marks outside functions removed, and whether there were any."""
    if node.op == "deg":
        return without_degrees(node.args[0])[0], True
    if node.op not in ("add", "neg", "mul", "div"):
        return node, False
    parts = [without_degrees(arg) for arg in node.args]
    return Node(node.op, tuple(part for part, _ in parts), node.value), any(marked for _, marked in parts)


def _same_in_base(reference: Node, answer: Node) -> bool:
    def read(node: Node) -> tuple[int, str] | None:
        if node.op == "based":
            digits, base = node.value
            try:
                return int(digits, base), digits
            except ValueError:
                raise Undefined("undefined") from None
        value = exact(node)
        return None if value is None or value.denominator != 1 else (int(value), str(value))

    a, b = read(reference), read(answer)
    if a is None or b is None:
        return False
    if reference.op == answer.op:
        return a[0] == b[0]
    return a[1] == b[1]  # a base left out of one of them is understood: the digits must agree


def _equal_written_out(reference: Node, answer: Node, tolerance: Tolerance) -> bool:
    if reference == answer:
        return True
    for size in (4, 5):
        filled = written_out([reference, answer], size)
        if filled is None or not _equal(filled[0], filled[1], tolerance):
            return False
    return True


def _equal(reference: Node, answer: Node, tolerance: Tolerance) -> bool:
    if contains(reference, "const") or contains(answer, "const"):
        ambiguous = any(n.op == "const" and n.value == "log-base" for n in (*walk(reference), *walk(answer)))
        if ambiguous:  # "log" means either; what matches under one reading is right
            ten = Node("num", (), Fraction(10))
            e = Node("const", (), "e")
            return any(_equal(_with_log_base(reference, base), _with_log_base(answer, base), tolerance) for base in (e, ten))
    if not symbols(reference) and not symbols(answer) and not contains(reference, "app") and not contains(answer, "app"):
        return constants_equal(reference, answer, tolerance)
    return functions_equal(reference, answer, tolerance)


def _with_log_base(node: Node, base: Node) -> Node:
    return rewrite(node, lambda n: base if n.op == "const" and n.value == "log-base" else n)


# ---- constants


def constants_equal(reference: Node, answer: Node, tolerance: Tolerance) -> bool:
    """Equality of two expressions without variables."""
    wanted, found = exact(reference), exact(answer)
    if wanted is not None and found is not None:
        if wanted == found:
            return tolerance.decided("exact-arithmetic")
        return _near(reference, answer, wanted, found, tolerance, contains(reference, "dec") or contains(answer, "dec"))
    numeric = values_at([reference, answer], {})
    if numeric is None:
        raise Undefined("undefined")
    (a, b), slack, _ = numeric
    if abs(a - b) <= slack:
        return tolerance.decided("numeric-value")
    if abs(a.imag) > slack or abs(b.imag) > slack:
        return False
    wanted, found = (
        wanted if wanted is not None else _fraction(a.real),
        found if found is not None else _fraction(b.real),
    )
    return _near(reference, answer, wanted, found, tolerance, contains(reference, "dec") or contains(answer, "dec"))


def _fraction(value: Any) -> Fraction:
    sign, mantissa, exponent, _ = value._mpf_
    size = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -size if sign else size


def _near(reference: Node, answer: Node, wanted: Fraction, found: Fraction, tolerance: Tolerance, decimals: bool) -> bool:
    gap = abs(wanted - found)
    if tolerance.rtol is not None and gap <= Fraction(tolerance.rtol) * abs(wanted):
        return tolerance.decided("rtol")
    if tolerance.atol is not None and gap <= Fraction(tolerance.atol):
        return tolerance.decided("atol")
    if not decimals:
        return False
    if gap <= FLOAT_RTOL * abs(wanted):
        return tolerance.decided("decimal-places-of-a-float")
    return tolerance.rounding and _rounded(reference, answer, wanted, found, gap) and tolerance.decided("rounding")


def _rounded(reference: Node, answer: Node, wanted: Fraction, found: Fraction, gap: Fraction) -> bool:
    """Whether one value is the other, rounded as its writer rounded it. docs/verifiers/math.md gives the reasons."""
    given, written = decimal_literal(reference), decimal_literal(answer)
    if given is not None:
        half = Fraction(1, 2) * Fraction(10) ** -given.places
        if written is None and not contains(answer, "dec") and exact(answer) != int(found):
            if given.significant >= 2 and given.places >= 1 and gap <= half:
                return True
        elif written is not None and written.places > given.places >= 2 and given.significant >= 3 and gap <= half:
            return True
        return given.significant >= 4 and gap <= REFERENCE_RTOL * abs(wanted)
    if written is not None and written.significant >= 3 and not contains(reference, "dec"):
        return _needs_rounding(reference) and gap <= Fraction(1, 2) * Fraction(10) ** -written.places
    return False


def _needs_rounding(reference: Node) -> bool:
    """Whether writing the value as a decimal takes rounding: irrational, recurring, or six digits and more."""
    value = exact(reference)
    if value is None:
        return True
    rest, digits = value.denominator, 0
    while rest % 10 == 0 or rest % 2 == 0 or rest % 5 == 0:
        rest //= 10 if rest % 10 == 0 else 2 if rest % 2 == 0 else 5
        digits += 1
        if digits > 200:
            break
    return rest != 1 or len(str(abs(value.numerator * 10**digits // value.denominator)).lstrip("0")) >= 6


def decimal_literal(node: Node) -> Decimal | None:
    """The decimal an expression consists of: a literal, perhaps negated, in per cent, or times a power of ten."""
    if node.op == "dec":
        literal: Decimal = node.value
        return literal
    if node.op == "neg":
        return decimal_literal(node.args[0])
    if node.op == "pct":
        inner = decimal_literal(node.args[0])
        return None if inner is None else Decimal(inner.number, inner.places + 2, inner.significant)
    if node.op == "mul" and len(node.args) == 2 and node.args[1].op == "pow":
        base, power = (exact(arg) for arg in node.args[1].args)
        inner = decimal_literal(node.args[0])
        if inner is not None and base == 10 and power is not None and power.denominator == 1:
            return Decimal(inner.number, inner.places - int(power), inner.significant)
    return None


# ---- functions


def probe(name: str, index: int) -> Fraction:
    """The value of variable `name` at point `index`, fixed by a hash: positive at even points, any sign at odd."""
    digest = hashlib.sha256(f"{name}/{index}".encode()).digest()
    size = Fraction(int.from_bytes(digest[:4], "big") % 900_000 + 350_000, 400_009)
    return -size if index % 2 and digest[4] % 2 else size


def points(names: frozenset[str], integers: tuple[str, ...] = ()) -> list[dict[str, Fraction]]:
    """The points functions of `names` are compared at."""
    found = []
    for index in range(_POINTS):
        found.append({n: Fraction(1 + index + len(n) % 3) if n in integers else probe(n, index) for n in sorted(names)})
    return found


def values_at(nodes: list[Node], at: dict[str, Fraction]) -> tuple[list[Any], Any, bool] | None:
    """Values at a point as complex numbers, the gap below which two of them are equal, and whether all stayed real.

    None where one is undefined. Precision grows with the size of the intermediate values, so that adding 1 to 10^100
    makes a difference.
    """
    precision = 200
    while True:
        evaluation = Evaluation(at, precision)
        try:
            values = [evaluation.value(node) for node in nodes]
        except Undefined:
            return None
        needed = 200 + 2 * evaluation.magnitude
        if needed <= precision or precision > 2 * MAX_MAGNITUDE + 200:
            break
        precision = needed
    ctx = evaluation.ctx
    largest = max([abs(value) for value in values] or [ctx.mpf(1)])
    cancelled = ctx.ldexp(1, evaluation.magnitude - precision + 60)
    slack = max(largest * ctx.ldexp(1, -(100 + evaluation.magnitude)), cancelled)
    real = not evaluation.left_reals and evaluation.real(*values)
    return [ctx.mpc(value) for value in values], slack, real


def functions_equal(reference: Node, answer: Node, tolerance: Tolerance) -> bool:
    """Equality of two expressions as functions of their variables, where both are real."""
    if contains(reference, "app") or contains(answer, "app"):
        return symbolically_equal(reference, answer) and tolerance.decided("sympy")
    names = symbols(reference) | symbols(answer)
    loose = FLOAT_RTOL if contains(reference, "dec") or contains(answer, "dec") else None
    real_points = complex_points = 0
    complex_equal = True
    for at in points(names, tolerance.integers):
        numeric = values_at([reference, answer], at)
        if numeric is None:
            continue
        (a, b), slack, real = numeric
        bound = slack if loose is None else max(slack, abs(a) * float(loose))
        same = abs(a - b) <= bound
        if real:
            if not same:
                return False
            real_points += 1
        else:
            complex_points += 1
            complex_equal = complex_equal and same
    if real_points >= MIN_POINTS:
        return tolerance.decided("same-values-at-points")
    if complex_points >= MIN_POINTS:
        return complex_equal and tolerance.decided("same-values-at-points")
    return symbolically_equal(reference, answer) and tolerance.decided("sympy")


def ratio_is_constant(left: Node, right: Node) -> int:
    """0 unless left = c * right for a non-zero constant c at all points; then the sign of c (1 or -1, 1 if complex)."""
    ratio = None
    count = sign = 0
    for at in points(symbols(left) | symbols(right)):
        numeric = values_at([left, right], at)
        if numeric is None:
            continue
        (a, b), slack, real = numeric
        if not real and count:
            continue
        if abs(b) <= slack or abs(a) <= slack:
            if abs(a) > slack or abs(b) > slack:
                return 0
            continue
        found = a / b
        if ratio is None:
            ratio = found
            sign = -1 if found.real < 0 else 1
        elif abs(found - ratio) > abs(ratio) * Fraction(1, 2**80).__float__():
            return 0
        count += 1
    return sign if count >= MIN_POINTS else 0
