"""Whether one answer is as good as another: lists, tuples, sets, intervals, equations, units and labels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from rewards.mathexpr.answer import Answer, Item
from rewards.mathexpr.equality import (
    Tolerance,
    _values,
    functions_equal,
    points,
    ratio_is_constant,
    scalars_equal,
    without_degrees,
)
from rewards.mathexpr.evaluate import Undefined
from rewards.mathexpr.intervals import Interval, intersect, merge, read_set, sets_equal, variable_of
from rewards.mathexpr.nodes import MAX_ITEMS, MathError, Node, contains, number, rewrite, symbol, symbols, walk

NO_SOLUTION = frozenset(
    ("no solution", "no solutions", "no real solution", "no real solutions", "none", "empty set", "the empty set")
)
_INTEGER_LETTERS = frozenset("klmn")


@dataclass(frozen=True, slots=True)
class Policy:
    """How strictly to compare; the fields are the `math` verifier's arguments."""

    tolerance: Tolerance = field(default_factory=Tolerance)
    percent: bool = False  # a bare number may stand for a percentage
    require_unit: bool = False
    ordered: bool = False
    question_has_integral: bool = False


class Mismatch(Exception):
    """The answers differ; the message is a machine-readable reason."""


def compare(reference: Answer, answer: Answer, policy: Policy) -> str | None:
    """None when `answer` matches `reference`, else the reason. Raises MathError when either is beyond the budget."""
    if not reference.items or not answer.items:
        return _compare_text(reference, answer)
    try:
        _compare_items(reference, answer, policy)
    except Mismatch as difference:
        return str(difference)
    return None


def _compare_text(reference: Answer, answer: Answer) -> str | None:
    if reference.text and reference.text == answer.text:
        return None
    empty = [Node("set")]
    for one, other in ((reference, answer), (answer, reference)):
        if one.word and one.text in NO_SOLUTION:
            if (other.word and other.text in NO_SOLUTION) or [item.node for item in other.items] == empty:
                return None
    if not answer.items and answer.fault:
        return answer.fault
    return "text-differs"


def _compare_items(reference: Answer, answer: Answer, policy: Policy) -> None:
    wanted, found = _expand(reference), _expand(answer)
    letters = _integer_letters(reference, wanted)
    if letters:
        _compare_families(wanted, found, letters, answer)
        return
    if _is_interval(wanted) or _is_interval(found):
        left, right = _as_set(wanted, reference.join), _as_set(found, answer.join)
        if left is not None and right is not None:
            names = [_bound_variable(items) for items in (wanted, found)]
            if None not in names and names[0] != names[1]:
                raise Mismatch("different-variable")
            if not sets_equal(left, right, policy.tolerance):
                raise Mismatch("different-set")
            return
    wanted, braces = _elements(wanted)
    found, other_braces = _elements(found)
    _drop_labels_in_order(wanted, found)
    wanted, found = _coordinates(wanted, found), _coordinates(found, wanted)
    labels = [[item.label for item in items] for items in (wanted, found)]
    if len(wanted) != len(found) and not (braces or other_braces):
        single = _all_same(wanted, found, policy)
        if not single:
            raise Mismatch("wrong-count")
        return
    if policy.ordered and not braces:
        ordered = True
    elif all(label is not None for side in labels for label in side):
        _match_unordered(wanted, found, policy, labelled=True)
        return
    else:
        ordered = len(wanted) > 1 and _labelled_one_side(labels)
    if ordered:
        if len(wanted) != len(found):
            raise Mismatch("wrong-count")
        for order in _orders(wanted, found, policy.ordered):
            if all(_reason(a, b, policy) is None for a, b in zip(wanted, order, strict=True)):
                return
        raise Mismatch(_reason(wanted[0], found[0], policy) or "different-value")
    if braces or other_braces:
        _match_as_sets(wanted, found, policy)
    else:
        _match_unordered(wanted, found, policy, labelled=False)


def _all_same(wanted: list[Item], found: list[Item], policy: Policy) -> bool:
    """`x = y = z = 1` written out as three labelled values."""
    if len(wanted) == 1 and len(found) > 1 and all(item.label for item in found):
        return (
            len(wanted[0].others) == 0
            and all(_reason(wanted[0], item, policy) is None for item in found)
            and (len({item.label for item in found}) == len(found) and wanted[0].label is not None)
        )
    return False


def _coordinates(items: list[Item], other: list[Item]) -> list[Item]:
    """`x = 3, y = 4` as the point (3, 4), where the other side is one tuple; the names give the order."""
    if len(other) != 1 or other[0].node.op != "tuple" or len(items) != len(other[0].node.args) or len(items) < 2:
        return items
    names = [item.label for item in items]
    if None in names or len(set(names)) < len(names):
        return items
    arranged = sorted(items, key=lambda item: item.label or "")
    return [Item(Node("tuple", tuple(item.node for item in arranged), "()"))]


def _labelled_one_side(labels: list[list[str | None]]) -> bool:
    """One side names its values with different names: then their order carries the names of the other side."""
    one, other = labels
    for side, rest in ((one, other), (other, one)):
        if all(side) and len(set(side)) == len(side) and not any(rest):
            return True
    return False


def _orders(wanted: list[Item], found: list[Item], strict: bool) -> list[list[Item]]:
    """The orders the answer may be read in: as given, or with labelled values in alphabetical order."""
    orders = [found]
    if not strict:
        if all(item.label for item in found):
            orders.append(sorted(found, key=lambda item: item.label or ""))
        if all(item.label for item in wanted):
            # The reference is the labelled side: bring the answer's alphabetical order to the reference's.
            rank = sorted(range(len(wanted)), key=lambda i: wanted[i].label or "")
            arranged: list[Item] = list(found)
            for position, index in enumerate(rank):
                arranged[index] = found[position]
            orders.append(arranged)
    return orders


def _drop_labels_in_order(wanted: list[Item], found: list[Item]) -> None:
    """`f(x) = x + 1` and `y = x + 1` name the same function: the names are not compared."""
    if len(wanted) == len(found) == 1 and wanted[0].label and found[0].label and wanted[0].label != found[0].label:
        names = {wanted[0].label, found[0].label}
        if "y" in names and any("(" in name for name in names):
            wanted[0], found[0] = replace(wanted[0], label=None), replace(found[0], label=None)


# ---- plus-minus, sets, intervals, families


def _expand(answer: Answer) -> list[Item]:
    """Items with every plus-minus sign written out. Signs in one scalar go together when a minus-plus sign is among them."""
    out: list[Item] = []
    for item in answer.items:
        nodes = [item.node] if item.node.op != "tuple" else list(item.node.args)
        choices = [_signed(node) for node in nodes]
        size = 1
        for choice in choices:
            size *= len(choice)
        if size > MAX_ITEMS:
            raise MathError("too-complex")
        for combination in itertools.product(*choices):
            node = combination[0] if item.node.op != "tuple" else Node("tuple", combination, item.node.value)
            out.append(replace(item, node=node))
    if len(out) > 4 * MAX_ITEMS:
        raise MathError("too-complex")
    return out


def _signed(node: Node) -> list[Node]:
    if node.op == "set":
        members = [choice for arg in node.args for choice in _signed(arg)]
        return [Node("set", tuple(members))]
    if node.op == "matrix" and contains(node, "pm"):
        raise MathError("unparsed")
    signs = sorted({n.value for n in walk(node) if n.op == "pm"})
    if not signs:
        return [node]
    if len(signs) > 4:
        raise MathError("too-complex")
    linked = any(kind == -1 for _, kind in signs)
    if linked:
        settings = [{sign: sign[1] * way for sign in signs} for way in (1, -1)]
    else:
        settings = [dict(zip(signs, ways, strict=True)) for ways in itertools.product((1, -1), repeat=len(signs))]
    return [_with_signs(node, setting) for setting in settings]


def _with_signs(node: Node, setting: dict[Any, int]) -> Node:
    return rewrite(node, lambda n: number(setting[n.value]) if n.op == "pm" else n)


def _elements(items: list[Item]) -> tuple[list[Item], bool]:
    """The members when the answer is one set in braces, and whether it is."""
    if len(items) == 1 and items[0].node.op == "set":
        return [Item(arg) if arg.op != "rel" else Item(arg.args[-1]) for arg in items[0].node.args], True
    return list(items), False


def _is_interval(items: list[Item]) -> bool:
    for item in items:
        node = item.node
        if node.op in ("cup", "cap", "minus", "bb") or (node.op == "tuple" and node.value in ("[)", "(]")):
            return True
        if node.op == "rel" and set(node.value) & {"<", ">", "<=", ">=", "!="} and read_set(node) is not None:
            return True
        if (
            node.op == "tuple"
            and len(node.args) == 2
            and any(n.op == "const" and n.value == "inf" for arg in node.args for n in walk(arg))
        ):
            return True
    return False


def _as_set(items: list[Item], join: str) -> tuple[Interval, ...] | None:
    if len(items) > 1 and join == "," and not any(item.node.op == "rel" for item in items):
        if all(item.node.op == "tuple" for item in items):
            return None
    parts = []
    for item in items:
        node = item.node
        part = read_set(node) if node.op in ("tuple", "rel", "cup", "cap", "minus", "bb", "set") else None
        if part is None:
            if item.label is None or node.op in ("tuple", "rel"):
                return None
            part = (Interval(node, True, node, True),)  # "x < 1 or x = 2"
        parts.append(part)
    total = parts[0]
    for part in parts[1:]:
        try:
            common = intersect(total, part)
        except MathError:
            common = ()
        total = common if join == "and" or (join == "," and common) else merge(total + part)
    return total


def _bound_variable(items: list[Item]) -> str | None:
    names = {item.label or variable_of(item.node) for item in items} - {None}
    return names.pop() if len(names) == 1 else None


def _integer_letters(reference: Answer, items: list[Item]) -> frozenset[str]:
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


def _compare_families(wanted: list[Item], found: list[Item], letters: frozenset[str], answer: Answer) -> None:
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
            numeric = _values([node], at)
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


# ---- matching lists


def _match_unordered(wanted: Sequence[Item], found: Sequence[Item], policy: Policy, *, labelled: bool) -> None:
    if len(wanted) != len(found):
        raise Mismatch("wrong-count")
    left = list(found)
    reason = None
    for item in wanted:
        for index, candidate in enumerate(left):
            if labelled and item.label != candidate.label:
                reason = reason or "different-label"
                continue
            why = _reason(item, candidate, policy)
            if why is None:
                del left[index]
                break
            reason = why
        else:
            raise Mismatch(reason or "different-value")


def _match_as_sets(wanted: Sequence[Item], found: Sequence[Item], policy: Policy) -> None:
    """Every element of each side is among the other's: a set lists nothing twice."""
    for item in wanted:
        if all(_reason(item, other, policy) is not None for other in found):
            raise Mismatch("different-set")
    for other in found:
        if all(_reason(item, other, policy) is not None for item in wanted):
            raise Mismatch("different-set")


def _reason(reference: Item, answer: Item, policy: Policy) -> str | None:
    """None when the values match, else why not."""
    try:
        _compare_values(reference, answer, policy)
    except Mismatch as difference:
        return str(difference)
    except MathError as error:
        if str(error) in ("too-complex", "undefined", "unevaluated"):
            return str(error)
        raise
    return None


def _compare_values(reference: Item, answer: Item, policy: Policy) -> None:
    if answer.others:
        _check_chain(answer, policy)
    wanted, found = reference.node, answer.node
    if reference.unit and answer.unit:
        if reference.unit.dimensions != answer.unit.dimensions:
            raise Mismatch("unit-mismatch")
        if reference.unit.factor != answer.unit.factor:
            found = Node("mul", (found, number(answer.unit.factor / reference.unit.factor)))
    elif reference.unit and policy.require_unit:
        raise Mismatch("unit-missing")
    candidates = [wanted, *reference.others]
    if policy.percent and (wanted.op == "pct") != (found.op == "pct"):
        candidates.append(wanted.args[0] if wanted.op == "pct" else Node("pct", (wanted,)))
    for candidate in candidates:
        if nodes_equal(candidate, found, policy):
            return
    raise Mismatch("different-value")


def _check_chain(answer: Item, policy: Policy) -> None:
    """`35 + 70 = 105` says one thing only if it is true; of an approximation only the exact side counts."""
    if answer.approximate:
        return
    for side in answer.others:
        if not nodes_equal(side, answer.node, policy):
            raise Mismatch("inconsistent-equation")


def nodes_equal(reference: Node, answer: Node, policy: Policy) -> bool:
    """Equality of two values of any kind."""
    reference, answer = _as_matrix(reference), _as_matrix(answer)
    a, b = _as_tuple(reference), _as_tuple(answer)
    if a is not None or b is not None:
        return (
            a is not None
            and b is not None
            and len(a[0]) == len(b[0])
            and _same_brackets(a, b)
            and all(nodes_equal(x, y, policy) for x, y in zip(a[0], b[0], strict=True))
        )
    kinds = {reference.op, answer.op}
    if "matrix" in kinds:
        return (
            reference.op == answer.op
            and reference.value == answer.value
            and all(nodes_equal(x, y, policy) for x, y in zip(reference.args, answer.args, strict=True))
        )
    if "set" in kinds:
        if reference.op != answer.op:
            return False
        try:
            _match_as_sets([Item(n) for n in reference.args], [Item(n) for n in answer.args], policy)
        except Mismatch:
            return False
        return True
    if "rel" in kinds:
        return _relations_equal(reference, answer, policy)
    if kinds & {"cup", "cap", "minus", "bb"}:
        left, right = read_set(reference), read_set(answer)
        if left is None or right is None:
            return reference == answer
        return sets_equal(left, right, policy.tolerance)
    if scalars_equal(reference, answer, policy.tolerance):
        return True
    return _same_up_to_constant(reference, answer, policy)


def _as_matrix(node: Node) -> Node:
    """`[[1, 2], [3, 4]]` as the matrix of its rows; anything else as it is."""
    if (
        node.op != "tuple"
        or node.value != "[]"
        or not all(arg.op == "tuple" and arg.value == "[]" for arg in node.args)
    ):
        return node
    width = len(node.args[0].args)
    if any(len(row.args) != width for row in node.args):
        return node
    return Node("matrix", tuple(cell for row in node.args for cell in row.args), (len(node.args), width))


def _as_tuple(node: Node) -> tuple[tuple[Node, ...], str] | None:
    """The components of a tuple, or of a column or row vector."""
    if node.op == "tuple":
        return node.args, node.value
    if node.op == "matrix" and 1 in node.value:
        return node.args, "column" if node.value[1] == 1 else "row"
    return None


def _same_brackets(a: tuple[tuple[Node, ...], str], b: tuple[tuple[Node, ...], str]) -> bool:
    """A pair in other brackets is another interval; a longer tuple can only be a vector, however it is bracketed."""
    kinds = {a[1], b[1]}
    if len(kinds) == 1 or len(a[0]) > 2:
        return kinds != {"column", "row"}
    return kinds in ({"()", "column"}, {"()", "row"}, {"[]", "column"}, {"[]", "row"})


def _same_up_to_constant(reference: Node, answer: Node, policy: Policy) -> bool:
    """Antiderivatives: with an integration constant on both sides only the difference must be constant.

    An answer that adds the constant the reference leaves out is right when the question asks for an integral.
    """
    constants = [name for name in ("C", "c", "C_1", "K") if name in symbols(answer)]
    if not constants or answer.op != "add" or symbol(constants[0]) not in answer.args:
        return False
    own = next(
        (name for name in ("C", "c", "C_1", "K") if reference.op == "add" and symbol(name) in reference.args), None
    )
    if own is None and not policy.question_has_integral:
        return False
    left = _without_term(reference, own) if own else reference
    right = _without_term(answer, constants[0])
    if constants[0] in symbols(right) or (own and own in symbols(left)) or not symbols(left) | symbols(right):
        return False
    return _differ_by_constant(left, right)


def _without_term(node: Node, name: str) -> Node:
    rest = tuple(arg for arg in node.args if arg != symbol(name))
    return rest[0] if len(rest) == 1 else Node("add", rest)


def _differ_by_constant(left: Node, right: Node) -> bool:
    gaps = []
    for at in points(symbols(left) | symbols(right)):
        numeric = _values([left, right], at)
        if numeric is not None and numeric[2]:
            gaps.append(numeric[0][0] - numeric[0][1])
    return len(gaps) >= 3 and all(abs(gap - gaps[0]) < 1e-25 * (1 + abs(gap)) for gap in gaps)


# ---- equations and chains of inequalities

_FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!=", "~=": "~=", "in": "in"}


def _relations_equal(reference: Node, answer: Node, policy: Policy) -> bool:
    if reference.op != "rel":
        return _solves(answer, reference, policy)
    if answer.op != "rel":
        return _solves(reference, answer, policy)
    if len(reference.args) == 2 and len(answer.args) == 2:
        a, b = reference.value[0], answer.value[0]
        left, right = _difference(reference), _difference(answer)
        if a == "in" or b == "in":
            return reference == answer
        sign = ratio_is_constant(left, right)
        if a == b and (sign == 1 or (sign and a in ("=", "!="))):
            return True
        if _FLIP[a] == b and sign == -1 and a not in ("=", "!="):
            return True
        if a == b == "=":
            return any(
                _solves(one, other.args[1], policy, name=other.args[0].value)
                for one, other in ((reference, answer), (answer, reference))
                if other.args[0].op == "sym" and other.args[0].value not in symbols(other.args[1])
            )
        return False
    for args, ops in (
        (answer.args, answer.value),
        (answer.args[::-1], tuple(_FLIP[op] for op in reversed(answer.value))),
    ):
        if ops == reference.value and all(nodes_equal(x, y, policy) for x, y in zip(reference.args, args, strict=True)):
            return True
    return False


def _difference(relation: Node) -> Node:
    return Node("add", (relation.args[0], Node("neg", (relation.args[1],))))


def _solves(relation: Node, value: Node, policy: Policy, name: str | None = None) -> bool:
    """Whether `value` is what an equation says of one of its letters, as 6/x is of y in xy = 6.

    The equation must be of the first degree in that letter, so that the value is its only solution.
    """
    if relation.op != "rel" or relation.value != ("=",) or value.op in ("tuple", "set", "matrix", "rel", "cup"):
        return False
    difference = _difference(relation)
    names = [name] if name else sorted(symbols(difference) - symbols(value))
    if len(names) != 1 or names[0] not in symbols(difference) or not symbols(difference) - {names[0]}:
        return False
    unknown = names[0]

    def at(replacement: Node) -> Node:
        return rewrite(difference, lambda n: replacement if n.op == "sym" and n.value == unknown else n)

    if not functions_equal(at(value), number(0), policy.tolerance):
        return False
    second = Node("add", (at(number(0)), Node("mul", (number(-2), at(number(1)))), at(number(2))))
    first = Node("add", (at(number(1)), Node("neg", (at(number(0)),))))
    return functions_equal(second, number(0), policy.tolerance) and not functions_equal(
        first, number(0), policy.tolerance
    )
