"""Sets of real numbers as unions of intervals, from interval notation, inequalities and set operations."""

from __future__ import annotations

from dataclasses import dataclass

from rewards.mathexpr.equality import Tolerance, scalars_equal
from rewards.mathexpr.nodes import MathError, Node, is_infinite, symbol, symbols
from rewards.mathexpr.numeric import Evaluation
from rewards.mathexpr.solving import FLIP, solve


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high` (None is infinity), each end belonging to it or not."""

    low: Node | None
    low_closed: bool
    high: Node | None
    high_closed: bool


EVERYTHING = Interval(None, False, None, False)


def read_set(node: Node) -> tuple[Interval, ...] | None:
    """The union of intervals `node` denotes, in order and merged; None when it is not one."""
    if node.op == "tuple" and len(node.args) == 2:
        low, high = node.args
        if any(arg.op in ("tuple", "set", "matrix", "rel") for arg in node.args):
            return None
        return (_interval(low, node.value[0] == "[", high, node.value[1] == "]"),)
    if node.op == "set":
        return merge(tuple(Interval(arg, True, arg, True) for arg in node.args))
    if node.op == "bb":
        return (EVERYTHING,) if node.value == "R" else None
    if node.op == "rel":
        return _inequality(node)
    if node.op in ("cup", "cap", "minus"):
        left, right = read_set(node.args[0]), read_set(node.args[1])
        if left is None or right is None:
            return None
        if node.op == "cup":
            return merge(left + right)
        return intersect(left, right if node.op == "cap" else complement(right))
    return None


def _interval(low: Node, low_closed: bool, high: Node, high_closed: bool) -> Interval:
    return Interval(
        None if is_infinite(low) == -1 else low,
        low_closed and not is_infinite(low),
        None if is_infinite(high) == 1 else high,
        high_closed and not is_infinite(high),
    )


def variable_of(node: Node) -> str | None:
    """The variable an inequality bounds, e.g. "x" in `1 < x <= 3`."""
    if node.op != "rel":
        return None
    names = [arg.value for arg in node.args if arg.op == "sym"]
    others = [arg for arg in node.args if arg.op != "sym"]
    if len(names) == 1 and not any(names[0] in symbols(arg) for arg in others):
        return str(names[0])
    # -4 < m <= a: with letters on both sides the middle one is the variable
    return str(node.args[1].value) if len(node.args) == 3 and node.args[1].op == "sym" else None


def _inequality(node: Node) -> tuple[Interval, ...] | None:
    ops, args = node.value, node.args
    if ops == ("in",) and args[0].op == "sym":
        return read_set(args[1])
    name = variable_of(node)
    if name is None or (len(args) == 3 and args[1].op != "sym"):
        return _solved(node)
    if len(args) == 2:
        op = ops[0]
        variable_first = args[0].op == "sym" and args[0].value == name
        bound = args[1] if variable_first else args[0]
        if op == "!=":
            return merge((Interval(None, False, bound, False), Interval(bound, False, None, False)))
        if op not in ("<", ">", "<=", ">="):
            return None
        below = (op[0] == "<") == variable_first
        closed = op.endswith("=")
        one = _interval(_MINUS_INFINITY, False, bound, closed) if below else _interval(bound, closed, _INFINITY, False)
        return (one,)
    if len(args) == 3 and args[1].op == "sym" and args[1].value == name and all(op[0] in "<>" for op in ops):
        low, high = (args[0], args[2]) if ops[0][0] == "<" else (args[2], args[0])
        closed = (ops[0].endswith("="), ops[1].endswith("="))
        if ops[0][0] != ops[1][0]:
            return None
        if ops[0][0] == ">":
            closed = (closed[1], closed[0])
        return (_interval(low, closed[0], high, closed[1]),)
    return None


def _solved(node: Node) -> tuple[Interval, ...] | None:
    """The set an inequality such as `2x + 1 > 5`, `|x| < 2` or `0 < x + 1 < 3` describes when solved."""
    if not set(node.value) <= set(FLIP):
        return None
    total: tuple[Interval, ...] = (EVERYTHING,)
    for left, op, right in zip(node.args, node.value, node.args[1:], strict=False):
        solution = solve(left, op, right)
        if solution is None:
            return None
        name, join, bounds = solution
        parts = [_inequality(Node("rel", (symbol(name), end), (sign,))) for sign, end in bounds]
        known = [part for part in parts if part is not None]
        if join == "or":
            total = intersect(total, merge(tuple(one for part in known for one in part)))
        else:
            for part in known:
                total = intersect(total, part)
    return total


_INFINITY = Node("const", (), "inf")
_MINUS_INFINITY = Node("neg", (_INFINITY,))


def _place(node: Node | None, infinity: float) -> float:
    """Where an end lies, for ordering only. Raises MathError for an end with letters in it."""
    if node is None:
        return infinity
    value = Evaluation({}, 100).value(node)
    return float(value)


def _low(interval: Interval) -> tuple[float, bool]:
    return _place(interval.low, float("-inf")), not interval.low_closed


def _high(interval: Interval) -> tuple[float, bool]:
    return _place(interval.high, float("inf")), interval.high_closed


def merge(intervals: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """The union in order, touching parts joined and empty ones dropped; left as written when an end has letters."""
    try:
        parts = sorted((i for i in intervals if not _is_empty(i)), key=_low)
        out: list[Interval] = []
        for part in parts:
            if out:
                last = out[-1]
                (end, end_closed), (start, start_open) = _high(last), _low(part)
                if start < end or (start == end and (end_closed or not start_open)):
                    if _high(part) > (end, end_closed):
                        out[-1] = Interval(last.low, last.low_closed, part.high, part.high_closed)
                    continue
            out.append(part)
        return tuple(out)
    except (MathError, TypeError):
        return intervals


def _is_empty(interval: Interval) -> bool:
    low, high = _place(interval.low, float("-inf")), _place(interval.high, float("inf"))
    return low > high or (low == high and not (interval.low_closed and interval.high_closed))


def complement(intervals: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """What an ordered union of intervals leaves out of the real line."""
    out: list[Interval] = []
    low: Node | None = None
    closed = False
    for interval in intervals:
        if interval.low is not None:
            out.append(Interval(low, closed, interval.low, not interval.low_closed))
        if interval.high is None:
            return merge(tuple(out))
        low, closed = interval.high, not interval.high_closed
    out.append(Interval(low, closed, None, False))
    return merge(tuple(out))


def intersect(left: tuple[Interval, ...], right: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """The common part of two unions. Raises MathError when an end has letters."""
    out = []
    for a in left:
        for b in right:
            low = a if _low(a) >= _low(b) else b
            high = a if _high(a) <= _high(b) else b
            out.append(Interval(low.low, low.low_closed, high.high, high.high_closed))
    return merge(tuple(out))


def sets_equal(left: tuple[Interval, ...], right: tuple[Interval, ...], tolerance: Tolerance) -> bool:
    """Whether two unions are the same set, ends compared as scalars."""

    def ends(a: Node | None, b: Node | None) -> bool:
        return a is b is None or (a is not None and b is not None and scalars_equal(a, b, tolerance))

    return len(left) == len(right) and all(
        (a.low_closed, a.high_closed) == (b.low_closed, b.high_closed) and ends(a.low, b.low) and ends(a.high, b.high)
        for a, b in zip(left, right, strict=True)
    )
