"""Whether one answer is as good as another: lists, labels, units, intervals. `values` compares single values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rewards.mathexpr.answer import Answer
from rewards.mathexpr.families import compare_families, integer_letters
from rewards.mathexpr.intervals import Interval, intersect, merge, read_set, sets_equal, variable_of
from rewards.mathexpr.items import Item
from rewards.mathexpr.nodes import MathError, Node, contains, is_infinite, number, rewrite, symbol, symbols, walk
from rewards.mathexpr.policy import Mismatch, Policy
from rewards.mathexpr.progressions import written_out
from rewards.mathexpr.signs import expand
from rewards.mathexpr.units import conversion
from rewards.mathexpr.values import from_radians, nodes_equal

_EMPTY = [Node("set")]


def compare(reference: Answer, answer: Answer, policy: Policy) -> str | None:
    """None when `answer` matches `reference`, else the reason. Raises MathError when either is beyond the budget."""
    if reference.option and answer.option and reference.option != answer.option:
        return "different-option"
    if not reference.items or not answer.items:
        return _compare_text(reference, answer, policy)
    for one, other in ((reference, answer), (answer, reference)):
        if one.tentative and not any(item.unit for item in other.items):
            return "unit-missing"
    try:
        _compare_items(reference, answer, policy)
    except Mismatch as difference:
        return str(difference)
    return None


def _compare_text(reference: Answer, answer: Answer, policy: Policy) -> str | None:
    if reference.text and reference.text == answer.text:
        policy.tolerance.decided("same-words")
        return None
    if reference.phrase and reference.phrase == answer.phrase:
        policy.tolerance.decided("same-meaning")
        return None
    for one, other in ((reference, answer), (answer, reference)):
        nodes = [item.node for item in other.items]
        if one.phrase == "no solution" and nodes == _EMPTY:
            return None
        if one.phrase == "infinite" and len(nodes) == 1 and is_infinite(nodes[0]) == 1:
            return None
    if not answer.items and answer.fault:
        return answer.fault
    return "text-differs"


def _compare_items(reference: Answer, answer: Answer, policy: Policy) -> None:
    if any(_is_two_sets(item) for item in answer.items):
        raise Mismatch("inconsistent-equation")
    wanted, found = expand(reference), expand(answer)
    if not policy.variables or (reference.integers and len(reference.integers) == len(answer.integers) == 1):
        found = _renamed(found, wanted)
    letters = integer_letters(reference, wanted)
    if letters:
        compare_families(wanted, found, letters, answer)
        policy.tolerance.decided("solution-family")
        return
    if _is_interval(wanted) or _is_interval(found):
        left, right = _as_set(wanted, reference.join), _as_set(found, answer.join)
        if left is not None and right is not None:
            names = [_bound_variable(items) for items in (wanted, found)]
            if None not in names and names[0] != names[1]:
                raise Mismatch("different-variable")
            if not sets_equal(left, right, policy.tolerance):
                raise Mismatch("different-set")
            policy.tolerance.decided("sets-of-reals")
            return
    wanted, braces = _elements(wanted)
    found, other_braces = _elements(found)
    found = _in_square_brackets(found, wanted)
    if not policy.variables:
        wanted, found = _unlabelled(wanted), _unlabelled(found)
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


def _elements(items: list[Item]) -> tuple[list[Item], bool]:
    """The members when the answer is one set in braces, and whether it is. Progressions are written out."""
    if len(items) == 1 and items[0].node.op == "set":
        members = written_out(items[0].node.args)
        return [Item(arg) if arg.op != "rel" else Item(arg.args[-1]) for arg in members], True
    if any(item.node.op == "ell" for item in items):
        return [Item(node) for node in written_out(tuple(item.node for item in items))], False
    return list(items), False


def _in_square_brackets(found: list[Item], wanted: list[Item]) -> list[Item]:
    """`[1, 2, 3]` as the bare list 1, 2, 3 where one is wanted: with three members it is no interval."""
    if len(found) == 1 and len(wanted) > 2 and found[0].node.op == "tuple" and found[0].node.value == "[]":
        return [Item(arg) for arg in found[0].node.args] if len(found[0].node.args) > 2 else found
    return found


def _renamed(found: list[Item], wanted: list[Item]) -> list[Item]:
    """The answer in the reference's letter, where each of them has a single one."""
    names = [{name for item in items for name in symbols(item.node)} for items in (wanted, found)]
    if len(names[0]) != 1 or len(names[1]) != 1:
        return found
    (new,), (old,) = names
    return [
        replace(item, node=rewrite(item.node, lambda n: symbol(new) if n.op == "sym" and n.value == old else n))
        for item in found
    ]


def _unlabelled(items: list[Item]) -> list[Item]:
    return [replace(item, label=None) for item in items]


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
    if len(items) > 1 and join == "," and all(item.node.op == "tuple" for item in items):
        return None  # a list of points
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
        ratio = conversion(answer.unit, reference.unit)
        if ratio is None:
            raise Mismatch("unit-mismatch")
        if ratio != 1:
            found = Node("mul", (found, number(ratio)))
    elif reference.unit and policy.require_unit:
        raise Mismatch("unit-missing")
    if reference.unit and reference.unit.is_radian and contains(found, "deg"):
        wanted = from_radians(wanted)
    elif answer.unit and answer.unit.is_radian and contains(wanted, "deg"):
        found = from_radians(found)
    candidates = [wanted, *reference.others]
    if policy.percent and (wanted.op == "pct") != (found.op == "pct"):
        candidates.append(wanted.args[0] if wanted.op == "pct" else Node("pct", (wanted,)))
    for candidate in candidates:
        if nodes_equal(candidate, found, policy):
            return
    raise Mismatch("different-value")


def _is_two_sets(item: Item) -> bool:
    """Whether an item is an equation of two lists of elements that are not the same list: two answers."""
    return item.node.op == "set" and any(side.op == "set" and set(side.args) != set(item.node.args) for side in item.others)


def _check_chain(answer: Item, policy: Policy) -> None:
    """`35 + 70 = 105` says one thing only if it is true; of an approximation only the exact side counts."""
    if answer.approximate:
        return
    for side in answer.others:
        if not nodes_equal(side, answer.node, policy):
            raise Mismatch("inconsistent-equation")
