"""Lists with an ellipsis, `1, 2, \\ldots, 10`: written out, or brought to their shortest form where that is too long."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from rewards.mathexpr.exact import exact
from rewards.mathexpr.nodes import MAX_ITEMS, Node, number

_ELLIPSIS = Node("ell")


def written_out(members: tuple[Node, ...]) -> tuple[Node, ...]:
    """The members of an arithmetic or geometric progression in place of its ellipsis; anything else as it is.

    An arithmetic one that has more than MAX_ITEMS members, or no end, is given by its first two members and its last;
    a geometric one without an end by its first three.
    """
    places = [index for index, node in enumerate(members) if node.op == "ell"]
    if len(places) != 1 or not 1 <= places[0] < MAX_ITEMS:
        return members
    values = [exact(node) for node in members if node.op != "ell"]
    known = [value for value in values if value is not None]
    if len(known) < len(members) - 1:
        return members
    head, tail = known[: places[0]], known[places[0] :]
    if len(head) == 1 and tail and head[0].denominator == tail[0].denominator == 1:
        head.append(head[0] + 1)
    if len(head) < 2:
        return members
    filled = _arithmetic(head, tail) or _geometric(head, tail)
    return members if filled is None else filled


def _arithmetic(head: list[Fraction], tail: list[Fraction]) -> tuple[Node, ...] | None:
    step = head[1] - head[0]
    if not step or any(b - a != step for values in (head, tail) for a, b in pairwise(values)):
        return None
    if not tail:
        return (*map(number, head[:2]), _ELLIPSIS)
    size = (tail[-1] - head[0]) / step + 1
    if size.denominator != 1 or size < len(head):
        return None
    if size > MAX_ITEMS:
        return (*map(number, head[:2]), _ELLIPSIS, number(tail[-1]))
    return tuple(number(head[0] + step * index) for index in range(int(size)))


def _geometric(head: list[Fraction], tail: list[Fraction]) -> tuple[Node, ...] | None:
    ratio = head[1] / head[0] if head[0] else Fraction(0)
    if len(head) < 3 or ratio in (0, 1, -1):
        return None
    if any(b != a * ratio for values in (head, tail) for a, b in pairwise(values)):
        return None
    if not tail:
        return (*map(number, head[:3]), _ELLIPSIS)
    values = [head[0]]
    while values[-1] != tail[-1]:
        values.append(values[-1] * ratio)
        if len(values) > MAX_ITEMS:
            return None
    return tuple(map(number, values))
