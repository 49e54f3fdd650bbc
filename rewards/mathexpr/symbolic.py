"""The same expression as a SymPy object, built node by node: SymPy never sees a string of the policy's.

Used where numbers cannot decide: undefined functions, and expressions defined at too few points. Only `expand` is
applied, and only where the number of terms is known to stay small: SymPy's `simplify` has no bound on its time.
"""

from __future__ import annotations

import math
from typing import Any

from rewards.mathexpr.exact import exact
from rewards.mathexpr.nodes import MathError, Node, walk

MAX_SYMBOLIC_NODES = 120
MAX_EXPANDED_POWER = 12
MAX_TERMS = 1000


def symbolically_equal(left: Node, right: Node) -> bool:
    """Whether SymPy expands the difference to zero. Raises MathError when a side is too large or has no SymPy form."""
    for node in (left, right):
        if sum(1 for _ in walk(node)) > MAX_SYMBOLIC_NODES:
            raise MathError("too-complex")
    import sympy

    difference = build(left, sympy) - build(right, sympy)
    if difference == 0:
        return True
    if _terms(left) + _terms(right) > MAX_TERMS:
        raise MathError("too-complex")
    return bool(sympy.expand(difference) == 0 or sympy.expand(sympy.expand_power_base(difference)) == 0)


def _terms(node: Node) -> int:
    """How many terms the expression has when multiplied out, at most; capped a little above MAX_TERMS."""
    counts = [_terms(arg) for arg in node.args]
    if node.op == "add":
        total = sum(counts)
    elif node.op == "pow":
        power = exact(node.args[1])
        whole = int(power) if power is not None and power.denominator == 1 and 0 < power <= MAX_EXPANDED_POWER else 1
        total = math.comb(counts[0] + whole - 1, whole)
    else:
        total = math.prod(counts)
    return min(total, MAX_TERMS + 1)


def build(node: Node, sympy: Any) -> Any:
    """The SymPy expression of `node`."""
    op = node.op
    if op == "num" or op == "dec":
        value = node.value if op == "num" else node.value.number
        return sympy.Rational(value.numerator, value.denominator)
    if op == "sym":
        return sympy.Symbol(node.value)
    if op == "const":
        constants = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "log-base": sympy.E}
        if node.value not in constants:
            raise MathError("undefined")
        return constants[node.value]
    if op in ("pow", "fact"):
        _check_power(node)
    args = [build(arg, sympy) for arg in node.args]
    if op == "app":
        return sympy.Function(node.value)(*args)
    if op == "fn" and node.value in _FUNCTIONS:
        return getattr(sympy, _FUNCTIONS[node.value])(*args)
    builders: dict[str, Any] = {
        "add": lambda *a: sympy.Add(*a),
        "neg": lambda a: -a,
        "mul": lambda *a: sympy.Mul(*a),
        "div": lambda a, b: a / b,
        "pow": lambda a, b: sympy.Pow(a, b),
        "root": lambda a, n: sympy.root(a, n),
        "log": lambda a, b: sympy.log(a) / sympy.log(b),
        "fact": sympy.factorial,
        "pct": lambda a: a / 100,
        "deg": lambda a: a * sympy.pi / 180,
    }
    if op not in builders:
        raise MathError("unevaluated")
    return builders[op](*args)


def _check_power(node: Node) -> None:
    """Refuse what SymPy would compute or expand at length: it evaluates numeric powers and factorials on the spot."""
    if node.op == "fact":
        value = exact(node.args[0])
        if value is not None and value > 200:
            raise MathError("too-complex")
        return
    power = exact(node.args[1])
    if power is not None and abs(power) > (MAX_EXPANDED_POWER if exact(node.args[0]) is None else 2000):
        raise MathError("too-complex")


_FUNCTIONS = {
    name: name
    for name in [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "sinh",
        "cosh",
        "tanh",
        "coth",
        "sech",
        "csch",
        "floor",
        "gcd",
        "lcm",
    ]
} | {
    **{f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    **{"arsinh": "asinh", "arcosh": "acosh", "artanh": "atanh"},
    **{"abs": "Abs", "ceil": "ceiling", "max": "Max", "min": "Min", "binom": "binomial"},
}
