"""Solutions over the integers, such as `pi/6 + 2 pi k`, compared as the sets of numbers they are."""

from __future__ import annotations

from fractions import Fraction

from rewards.mathexpr.answer import Answer
from rewards.mathexpr.equality import values_at, without_degrees
from rewards.mathexpr.exact import Undefined
from rewards.mathexpr.items import Item
from rewards.mathexpr.nodes import MathError, Node, contains, symbols, walk
from rewards.mathexpr.policy import Mismatch

_INTEGER_LETTERS = frozenset("klmn")


def integer_letters(reference: Answer, items: list[Item]) -> frozenset[str]:
    """Letters that stand for any integer: declared so, or the only letter of a family such as pi/6 + 2 pi k."""
    letters: set[str] = set()
    for item in items:
        if item.node.op in ("tuple", "set", "matrix", "rel", "cup"):
            return frozenset()  # a family of intervals: compared part by part
        names = symbols(item.node)
        if names & reference.integers:
            letters |= names & reference.integers
        elif len(names) == 1 and names <= _INTEGER_LETTERS and _has_period(item.node):
            letters |= names
    return frozenset(letters) if len(letters) == 1 else frozenset()


def _has_period(node: Node) -> bool:
    """Whether an angle is added or multiplied: a term with both the letter and pi, or a degree mark."""
    if not (contains(node, "deg") or any(n.op == "const" and n.value == "pi" for n in walk(node))):
        return False
    return not any(n.op in ("fn", "pow", "root", "log", "fact") and symbols(n) for n in walk(node)) and all(
        not symbols(n.args[1]) for n in walk(node) if n.op == "div"
    )


def compare_families(wanted: list[Item], found: list[Item], letters: frozenset[str], answer: Answer) -> None:
    """Equality of two sets of numbers, each a union of families over the integers, on a window around zero."""
    left = _family_values(wanted)
    own = {name for item in found for name in symbols(item.node)}
    if len(own) > 1:
        raise Mismatch("different-value")
    right = _family_values(found)
    if len(left) != len(right) or any(abs(a - b) > 1e-9 for a, b in zip(left, right, strict=True)):
        raise Mismatch("different-set")


_FAMILY_RANGE = 60
_FAMILY_NODES = 40


def _family_values(items: list[Item]) -> list[float]:
    """The values within 30 of zero, or as far as the range of integers reaches, in order and each once."""
    values: set[float] = set()
    reach = 30.0
    for item in items:
        node = without_degrees(item.node)[0] if contains(item.node, "deg") else item.node
        if sum(1 for _ in walk(node)) > _FAMILY_NODES:
            raise MathError("too-complex")
        scale = 3.141592653589793 / 180 if contains(item.node, "deg") else 1.0
        members = [value * scale for value in _members(node)]
        values.update(round(value, 9) + 0.0 for value in members)
        if len(members) > 1:
            reach = min(reach, abs(members[0]), abs(members[-1]))
    inside = sorted(value for value in values if abs(value) < reach - 1e-6)
    return [value for i, value in enumerate(inside) if i == 0 or value - inside[i - 1] > 1e-7]


def _members(node: Node) -> list[float]:
    """The values of `node` for the integers from -60 to 60, or its only value where it has no letter."""
    names = symbols(node)
    if not names:
        return [_value(node, names, 0)]
    zero, one, seven = (_value(node, names, k) for k in (0, 1, 7))
    if abs(zero + 7 * (one - zero) - seven) <= 1e-12 * (1 + abs(seven)):
        return [zero + k * (one - zero) for k in range(-_FAMILY_RANGE, _FAMILY_RANGE + 1)]
    return [_value(node, names, k) for k in range(-_FAMILY_RANGE, _FAMILY_RANGE + 1)]


def _value(node: Node, names: frozenset[str], k: int) -> float:
    numeric = values_at([node], dict.fromkeys(names, Fraction(k)))
    if numeric is None:
        raise Undefined("undefined")
    return float(numeric[0][0].real)
