"""Equality of two values of any kind: scalars, tuples, matrices, sets, equations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from rewards.mathexpr.equality import functions_equal, points, ratio_is_constant, scalars_equal, values_at
from rewards.mathexpr.intervals import read_set, sets_equal
from rewards.mathexpr.nodes import Node, number, rewrite, symbol, symbols, walk
from rewards.mathexpr.policy import Policy
from rewards.mathexpr.solving import FLIP

_CONSTANTS = frozenset(("C", "c", "C_1", "C_2", "C_3", "c_1", "c_2", "c_3"))
_NAMES_OF_CONSTANTS = _CONSTANTS | frozenset("ABDKk")


def nodes_equal(reference: Node, answer: Node, policy: Policy) -> bool:
    """Equality of two values of any kind."""
    reference, answer = _as_matrix(_scaled(reference)), _as_matrix(_scaled(answer))
    if reference.op == "add" or answer.op == "add":
        reference, answer = _components(reference, answer), _components(answer, reference)
    if "ratio" in (reference.op, answer.op):
        return _ratios_equal(reference, answer, policy)
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
        return all(any(nodes_equal(x, y, policy) for y in answer.args) for x in reference.args) and all(
            any(nodes_equal(x, y, policy) for x in reference.args) for y in answer.args
        )
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
    if node.op != "tuple" or node.value != "[]" or not all(arg.op == "tuple" and arg.value == "[]" for arg in node.args):
        return node
    width = len(node.args[0].args)
    if any(len(row.args) != width for row in node.args):
        return node
    return Node("matrix", tuple(cell for row in node.args for cell in row.args), (len(node.args), width))


def _scaled(node: Node) -> Node:
    """A number times a vector or matrix, its negative, quotient or transpose, as the vector or matrix that it is."""
    if node.op == "neg" and (inner := _scaled(node.args[0])).op in ("matrix", "tuple"):
        return _each(inner, lambda cell: Node("neg", (cell,)))
    if node.op == "div" and (inner := _scaled(node.args[0])).op in ("matrix", "tuple"):
        return _each(inner, lambda cell: Node("div", (cell, node.args[1])))
    if node.op == "mul":
        factors = [_scaled(arg) for arg in node.args]
        arrays = [factor for factor in factors if factor.op in ("matrix", "tuple")]
        if len(arrays) == 1:
            rest = tuple(factor for factor in factors if factor is not arrays[0])
            return _each(arrays[0], lambda cell: Node("mul", (*rest, cell)))
    if node.op == "pow" and node.args[1] == symbol("T") and node.args[0].op in ("matrix", "tuple"):
        return _transposed(node.args[0])
    return node


def _each(array: Node, change: Callable[[Node], Node]) -> Node:
    return Node(array.op, tuple(change(cell) for cell in array.args), array.value)


def _transposed(array: Node) -> Node:
    if array.op == "tuple":
        return array
    rows, columns = array.value
    return Node("matrix", tuple(array.args[r * columns + c] for c in range(columns) for r in range(rows)), (columns, rows))


def _components(node: Node, other: Node) -> Node:
    """`3i + 2j` as (3, 2) where the other side is a vector: i is then no imaginary unit."""
    size = len(other.args) if other.op == "tuple" or (other.op == "matrix" and 1 in other.value) else 0
    basis = [Node("const", (), "i"), symbol("j"), symbol("k")][:size]
    if node.op != "add" or size not in (2, 3) or symbol("j") not in walk(node):
        return node
    parts = [number(0)] * size
    for term in node.args:
        found = [index for index, unit in enumerate(basis) if unit in walk(term)]
        if len(found) != 1 or any(n.op in ("pow", "fn", "root", "log") and basis[found[0]] in walk(n) for n in walk(term)):
            return node
        parts[found[0]] = _replaced(term, {basis[found[0]]: number(1)})
    return Node("tuple", tuple(parts), "()")


def _replaced(node: Node, changes: dict[Node, Node]) -> Node:
    return rewrite(node, lambda n: changes.get(n, n))


def _ratios_equal(reference: Node, answer: Node, policy: Policy) -> bool:
    """a : b : c = d : e : f when the parts are proportional."""
    if reference.op != answer.op or len(reference.args) != len(answer.args):
        return False
    return all(
        scalars_equal(Node("mul", (x, answer.args[0])), Node("mul", (y, reference.args[0])), policy.tolerance)
        for x, y in zip(reference.args[1:], answer.args[1:], strict=True)
    )


def from_radians(node: Node) -> Node:
    """The degrees of an angle in radians."""
    return Node("deg", (Node("div", (Node("mul", (node, number(180))), Node("const", (), "pi"))),))


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
    if any(_equal_renamed(reference, answer, policy)):
        return True
    constants = [name for name in ("C", "c", "C_1", "K") if name in symbols(answer)]
    if not constants or answer.op != "add" or symbol(constants[0]) not in answer.args:
        return False
    own = next((name for name in ("C", "c", "C_1", "K") if reference.op == "add" and symbol(name) in reference.args), None)
    if own is None and not policy.question_has_integral:
        return False
    left = _without_term(reference, own) if own else reference
    right = _without_term(answer, constants[0])
    if constants[0] in symbols(right) or (own and own in symbols(left)) or not symbols(left) | symbols(right):
        return False
    return _differ_by_constant(left, right)


def _equal_renamed(reference: Node, answer: Node, policy: Policy) -> Iterator[bool]:
    """Equality with the arbitrary constants of a general solution called otherwise, `C_1` and `C_2` for A and B."""
    own = symbols(reference) - symbols(answer)
    other = symbols(answer) - symbols(reference)
    if not own or len(own) != len(other) or not own <= _CONSTANTS or not other <= _NAMES_OF_CONSTANTS or len(own) > 3:
        return
    if not symbols(reference) - own:
        return  # nothing but constants: a plain difference of names
    for order in itertools.permutations(sorted(own)):
        names = {symbol(old): symbol(new) for old, new in zip(sorted(other), order, strict=True)}
        renamed = _replaced(answer, names)
        yield functions_equal(reference, renamed, policy.tolerance)


def _without_term(node: Node, name: str) -> Node:
    rest = tuple(arg for arg in node.args if arg != symbol(name))
    return rest[0] if len(rest) == 1 else Node("add", rest)


def _differ_by_constant(left: Node, right: Node) -> bool:
    gaps = []
    for at in points(symbols(left) | symbols(right)):
        numeric = values_at([left, right], at)
        if numeric is not None and numeric[2]:
            gaps.append(numeric[0][0] - numeric[0][1])
    return len(gaps) >= 3 and all(abs(gap - gaps[0]) < 1e-25 * (1 + abs(gap)) for gap in gaps)


# ---- equations and chains of inequalities

_COORDINATES = frozenset("xyzt")


def _relations_equal(reference: Node, answer: Node, policy: Policy) -> bool:
    if reference.op != "rel":
        return _solves(answer, reference, policy) or _says(answer, reference, policy)
    if answer.op != "rel":
        return _solves(reference, answer, policy) or (
            not symbols(reference.args[0]) <= _COORDINATES and _says(reference, answer, policy)
        )
    if len(reference.args) == 2 and len(answer.args) == 2:
        a, b = reference.value[0], answer.value[0]
        left, right = _difference(reference), _difference(answer)
        if a not in FLIP or b not in FLIP:
            return reference == answer
        sign = ratio_is_constant(left, right)
        if a == b and (sign == 1 or (sign and a in ("=", "!="))):
            return True
        if FLIP[a] == b and sign == -1 and a not in ("=", "!="):
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
        (answer.args[::-1], tuple(FLIP.get(op, op) for op in reversed(answer.value))),
    ):
        if ops == reference.value and all(nodes_equal(x, y, policy) for x, y in zip(reference.args, args, strict=True)):
            return True
    return False


def _says(relation: Node, value: Node, policy: Policy) -> bool:
    """Whether `a + b = 5` gives the value of a quantity made of letters alone, two or more: "2x = 5" gives none."""
    if relation.value != ("=",) or symbols(relation.args[1]) or len(symbols(relation.args[0])) < 2:
        return False
    if any(n.op not in ("sym", "add", "mul", "div", "neg") for n in walk(relation.args[0])):
        return False
    return nodes_equal(value, relation.args[1], policy)


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
    return functions_equal(second, number(0), policy.tolerance) and not functions_equal(first, number(0), policy.tolerance)
