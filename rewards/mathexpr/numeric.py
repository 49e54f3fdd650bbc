"""High-precision values of expressions at a point, under budgets of magnitude and work: nothing here can run away."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rewards.mathexpr.exact import MAX_FACTORIAL, Undefined, bounded
from rewards.mathexpr.nodes import MathError, Node

MAX_MAGNITUDE = 1 << 14
"""Binary exponent of any intermediate value of a numeric evaluation."""
MAX_WORK = 8000
"""Operations of one evaluation, each counted precision / 200 times."""

_local = threading.local()


def context(precision: int) -> Any:
    """This thread's mpmath context, set to `precision` bits: mpmath's own global one is shared by all threads."""
    if not hasattr(_local, "context"):
        from mpmath.ctx_mp import MPContext

        _local.context = MPContext()
    _local.context.prec = precision
    return _local.context


class Evaluation:
    """One numeric evaluation at a point. Afterwards `magnitude` is the largest binary exponent met (either sign) and
    `left_reals` says whether a root, power or logarithm of real numbers was complex."""

    def __init__(self, variables: Mapping[str, Fraction], precision: int, log_base: str = "e") -> None:
        self.ctx = context(precision)
        self.variables = variables
        self.log_base = log_base
        self.magnitude = 0
        self.left_reals = False
        self._work = 0.0

    def value(self, node: Node) -> Any:
        """The value (mpf or mpc). Raises Undefined, or MathError when it cannot be evaluated within the budget."""
        ctx = self.ctx
        self._work += ctx.prec / 200
        if self._work > MAX_WORK:
            raise MathError("too-complex")
        result = self._value(node)
        if not _finite(result):
            raise Undefined("undefined")
        if result:
            size = int(ctx.mag(result))
            if abs(size) > MAX_MAGNITUDE:
                raise MathError("too-complex")
            self.magnitude = max(self.magnitude, abs(size))
        if isinstance(result, ctx.mpc) and not result.imag:
            return result.real
        return result

    def _value(self, node: Node) -> Any:
        op, ctx = node.op, self.ctx
        if op == "num" or op == "dec":
            value = node.value if op == "num" else node.value.number
            bounded(value)
            return ctx.mpf(value.numerator) / value.denominator
        if op == "sym":
            if node.value not in self.variables:
                raise MathError("unevaluated")
            value = self.variables[node.value]
            return ctx.mpf(value.numerator) / value.denominator
        if op == "const":
            return self._constant(node.value)
        if op == "fn" and node.value == "det":
            return self._determinant(node.args[0])
        if op not in _NUMERIC and op != "fn":
            raise MathError("unevaluated")
        args = [self.value(arg) for arg in node.args]
        try:
            result = self._function(node.value, args) if op == "fn" else _NUMERIC[op](self, *args)
            if op not in ("add", "fn", "log", "pow"):
                return result
            # A power is never zero, however small beside its arguments: e^-300 is not e^-200.
            vanishes = op != "pow" and not (op == "fn" and node.value in _NEVER_ZERO)
            return self._without_residue(result, args, vanishes=vanishes)
        except (ZeroDivisionError, ValueError, OverflowError) as error:
            # mpmath's words for a pole, a logarithm of zero and the like.
            raise Undefined("undefined") from error

    def _without_residue(self, result: Any, args: list[Any], *, vanishes: bool = True) -> Any:
        """`result` with what rounding left in place of zero removed: sin(pi), or the imaginary part of e^(i pi).

        Unless it `vanishes`, only a part of a complex result can be zero, not all of it.
        """
        ctx = self.ctx
        if not result or not _finite(result):
            return result
        margin = 30 - ctx.prec
        if vanishes and ctx.mag(result) < max((ctx.mag(arg) for arg in args if arg), default=0) + margin:
            return ctx.mpf(0)
        if isinstance(result, ctx.mpc):
            least = ctx.mag(result) + margin
            parts = [ctx.mpf(0) if part and ctx.mag(part) < least else part for part in (result.real, result.imag)]
            return ctx.mpc(*parts) if parts[1] else parts[0]
        return result

    def _constant(self, name: str) -> Any:
        ctx = self.ctx
        if name == "pi":
            return +ctx.pi
        if name == "e":
            return +ctx.e
        if name == "i":
            return ctx.mpc(0, 1)
        if name == "log-base":
            return +ctx.e if self.log_base == "e" else ctx.mpf(10)
        raise Undefined("undefined")

    def real(self, *values: Any) -> bool:
        return not any(isinstance(value, self.ctx.mpc) for value in values)

    def note(self, result: Any, *operands: Any) -> Any:
        if self.real(*operands) and isinstance(result, self.ctx.mpc) and result.imag:
            self.left_reals = True
        return result

    def power(self, base: Any, exponent: Any) -> Any:
        ctx = self.ctx
        if not base:
            if self.real(exponent) and exponent > 0:
                return ctx.mpf(0)
            raise Undefined("undefined")
        if abs(exponent) * max(1, abs(ctx.mag(base))) > MAX_MAGNITUDE:
            raise MathError("too-complex")
        return self.note(ctx.power(base, exponent), base, exponent)

    def root(self, value: Any, degree: Any) -> Any:
        ctx = self.ctx
        if not degree:
            raise Undefined("undefined")
        if self.real(value, degree) and value < 0 and degree == int(degree) and int(degree) % 2:
            return -ctx.power(-value, 1 / degree)  # the real odd root
        return self.note(ctx.sqrt(value), value) if degree == 2 else self.power(value, 1 / degree)

    def log(self, value: Any, base: Any) -> Any:
        ctx = self.ctx
        if not value or not base or base == 1:
            raise Undefined("undefined")
        return self.note(ctx.ln(value) / ctx.ln(base), value, base)

    def factorial(self, value: Any) -> Any:
        if abs(value) > MAX_FACTORIAL:
            raise MathError("too-complex")
        return self.ctx.gamma(value + 1)

    def _function(self, name: str, args: list[Any]) -> Any:
        ctx = self.ctx
        if name in _REAL_ONLY:
            if not self.real(*args):
                raise Undefined("undefined")
            if name in ("floor", "ceil"):
                nearest = ctx.nint(args[0])
                if abs(args[0] - nearest) < ctx.ldexp(1, -ctx.prec // 2):
                    return nearest  # (sqrt 2)^2 evaluates a hair below 2
                return ctx.floor(args[0]) if name == "floor" else ctx.ceil(args[0])
            return max(args) if name == "max" else min(args)
        if name == "abs":
            return abs(args[0])
        if name == "binom":
            if any(abs(a) > MAX_FACTORIAL for a in args):
                raise MathError("too-complex")
            return ctx.binomial(*args)
        own = _MPMATH_NAMES.get(name)
        if own is None:
            raise MathError("unevaluated")
        if name in _EXPONENTIAL and abs(args[0]) > MAX_MAGNITUDE // 2:
            raise MathError("too-complex")
        if name in _POLES and not self._without_residue(getattr(ctx, _POLES[name])(args[0]), [ctx.mpf(1)]):
            raise Undefined("undefined")
        return self.note(getattr(ctx, own)(args[0]), args[0])

    def _determinant(self, matrix: Node) -> Any:
        if matrix.op != "matrix" or matrix.value[0] != matrix.value[1] or matrix.value[0] > 5:
            raise MathError("unevaluated")
        size = matrix.value[0]
        cells = [self.value(cell) for cell in matrix.args]

        def minor(rows: tuple[int, ...], columns: tuple[int, ...]) -> Any:
            if not rows:
                return self.ctx.mpf(1)
            total = self.ctx.mpf(0)
            for k, column in enumerate(columns):
                rest = columns[:k] + columns[k + 1 :]
                total += (-1) ** k * cells[rows[0] * size + column] * minor(rows[1:], rest)
            return total

        return minor(tuple(range(size)), tuple(range(size)))


def _finite(value: Any) -> bool:
    """Whether an mpf or mpc is neither infinite nor nan: those have no mantissa, and an exponent. mpmath's own test is slow."""
    parts = value._mpc_ if hasattr(value, "_mpc_") else (value._mpf_,)
    return all(part[1] or not part[2] for part in parts)


def _product(evaluation: Evaluation, *args: Any) -> Any:
    total = args[0]
    for arg in args[1:]:
        total = total * arg
    return total


_NUMERIC: dict[str, Any] = {
    "add": lambda s, *a: sum(a[1:], a[0]),
    "neg": lambda s, a: -a,
    "mul": _product,
    "div": lambda s, a, b: a / b,
    "pow": Evaluation.power,
    "root": Evaluation.root,
    "log": Evaluation.log,
    "fact": Evaluation.factorial,
    "pct": lambda s, a: a / 100,
    "deg": lambda s, a: a * s.ctx.pi / 180,
}
_REAL_ONLY = frozenset(("floor", "ceil", "max", "min"))
_EXPONENTIAL = frozenset(["sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "sech", "csch"])
_NEVER_ZERO = frozenset(["sech", "csch"])
_POLES = {"tan": "cos", "sec": "cos", "cot": "sin", "csc": "sin"}
"""Functions with poles where another is zero: computed there, they are huge and not infinite."""
_MPMATH_NAMES = {name: name for name in _EXPONENTIAL} | {
    **{f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    **{"arsinh": "asinh", "arcosh": "acosh", "artanh": "atanh"},
}
