"""Equality of two values of any kind: scalars, tuples, matrices, sets, equations."""

from __future__ import annotations

from rewards.mathexpr.equality import functions_equal, points, ratio_is_constant, scalars_equal, values_at
from rewards.mathexpr.intervals import read_set, sets_equal
from rewards.mathexpr.nodes import Node, number, rewrite, symbol, symbols
from rewards.mathexpr.policy import Policy


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
    own = next((name for name in ("C", "c", "C_1", "K") if reference.op == "add" and symbol(name) in reference.args), None)
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
        numeric = values_at([left, right], at)
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
    return functions_equal(second, number(0), policy.tolerance) and not functions_equal(first, number(0), policy.tolerance)
