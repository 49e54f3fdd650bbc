"""Inequalities of the first degree in one variable, and absolute values of such, solved for it."""

from __future__ import annotations

from rewards.mathexpr.equality import values_at
from rewards.mathexpr.exact import exact
from rewards.mathexpr.nodes import MathError, Node, number, rewrite, symbols

Bound = tuple[str, Node]
"""A relation sign and what the variable is related to by it: ("<", 3)."""

FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


def linear(node: Node, name: str) -> tuple[Node, Node, int] | None:
    """Slope, value at zero and the slope's sign (1 or -1) of an expression of the first degree in `name`, its only letter."""
    at = {point: _with(node, name, point) for point in (0, 1, 3, -2)}
    slope = Node("add", (at[1], Node("neg", (at[0],))))
    line = [Node("add", (at[0], Node("mul", (number(point), slope)))) for point in (3, -2)]
    try:
        found = values_at([at[3], line[0], at[-2], line[1], slope], {})
    except MathError:
        return None
    if found is None:
        return None
    (third, on_line, minus, also, rise), slack, real = found
    if not real or abs(third - on_line) > slack or abs(minus - also) > slack or abs(rise) <= slack:
        return None
    return _shortest(slope), _shortest(at[0]), 1 if rise.real > 0 else -1


def _with(node: Node, name: str, value: int) -> Node:
    return rewrite(node, lambda n: number(value) if n.op == "sym" and n.value == name else n)


def _shortest(node: Node) -> Node:
    value = exact(node)
    return node if value is None else number(value)


def solve(left: Node, op: str, right: Node) -> tuple[str, str, tuple[Bound, ...]] | None:
    """(variable, "and" or "or", bounds) of `left op right`, or None unless it is of a kind named above."""
    names = symbols(left) | symbols(right)
    if len(names) != 1 or op not in FLIP or op == "=":
        return None
    (name,) = names
    for inner, sign, bound in ((left, op, right), (right, FLIP[op], left)):
        if inner.op == "fn" and inner.value == "abs" and not symbols(bound):
            return _absolute(inner.args[0], sign, bound, name)
    line = linear(Node("add", (left, Node("neg", (right,)))), name)
    if line is None:
        return None
    slope, start, direction = line
    return name, "and", ((op if direction > 0 else FLIP[op], _root(slope, start)),)


def _root(slope: Node, start: Node) -> Node:
    return _shortest(Node("div", (Node("neg", (start,)), slope)))


def _absolute(inner: Node, op: str, bound: Node, name: str) -> tuple[str, str, tuple[Bound, ...]] | None:
    """|inner| < bound is -bound < inner < bound; |inner| > bound is inner < -bound or inner > bound. Bound positive."""
    size = values_at([bound], {})
    line = linear(inner, name)
    if size is None or line is None or op == "!=" or size[0][0].real <= size[1] or not size[2]:
        return None
    slope, start, direction = line
    ends = [_root(slope, Node("add", (start, Node("neg", (end,))))) for end in (Node("neg", (bound,)), bound)]
    low, high = ends if direction > 0 else ends[::-1]
    return name, "and" if op in ("<", "<=") else "or", ((FLIP[op], low), (op, high))
