"""Solutions over the integers, such as `pi/6 + 2 pi k`, compared as the sets of numbers they are."""

from __future__ import annotations

from fractions import Fraction

from rewards.mathexpr.answer import Answer, Item
from rewards.mathexpr.equality import values_at, without_degrees
from rewards.mathexpr.exact import Undefined
from rewards.mathexpr.nodes import MathError, Node, contains, symbols, walk
from rewards.mathexpr.policy import Mismatch

_INTEGER_LETTERS = frozenset("klmn")


def integer_letters(reference: Answer, items: list[Item]) -> frozenset[str]:
    """Letters that stand for any integer: declared so, or the only letter of a family such as pi/6 + 2 pi k."""
    letters: set[str] = set()
    for item in items:
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
    left = _family_values(wanted, letters)
    own = {name for item in found for name in symbols(item.node)}
    if len(own) > 1:
        raise Mismatch("different-value")
    right = _family_values(found, frozenset(own))
    if len(left) != len(right) or any(abs(a - b) > 1e-9 for a, b in zip(left, right, strict=True)):
        raise Mismatch("different-set")


_FAMILY_RANGE = 60
_FAMILY_NODES = 40


def _family_values(items: list[Item], letters: frozenset[str]) -> list[float]:
    values: set[float] = set()
    reach = float("inf")
    for item in items:
        node = without_degrees(item.node)[0] if contains(item.node, "deg") else item.node
        if sum(1 for _ in walk(node)) > _FAMILY_NODES:
            raise MathError("too-complex")
        scale = 3.141592653589793 / 180 if contains(item.node, "deg") else 1.0
        names = symbols(item.node)
        for k in range(-_FAMILY_RANGE, _FAMILY_RANGE + 1):
            at = {name: Fraction(k) for name in names}
            numeric = values_at([node], at)
            if numeric is None:
                raise Undefined("undefined")
            value = float(numeric[0][0].real) * scale
            values.add(round(value, 9) + 0.0)
            if names and abs(k) == _FAMILY_RANGE:
                reach = min(reach, abs(value))
            if not names:
                break
    window = min(reach, 30.0)
    inside = sorted(value for value in values if abs(value) < window - 1e-6)
    return [value for i, value in enumerate(inside) if i == 0 or value - inside[i - 1] > 1e-7]
