"""The expression tree. One small node type: `op` says what it is, `args` are its children, `value` its own datum.

num   value Fraction             an exact number        dec   value Decimal                a decimal literal
const value "pi" | "e" | "i" | "inf"                    sym   value name, subscript included ("a_1")
add, mul  n-ary    neg, fact, pct, deg  unary           div, pow, root(x, n), log(x, base)  binary
fn    value name, args           app   value name, args (an undefined function such as f(x))
pm    value (number of the sign in the answer, +1 for plus-minus or -1 for minus-plus)
tuple value brackets "()" "[)"   set   ratio   matrix value (rows, columns)     cup, cap, minus  set operations
rel   value operators            based value (digits, base)             ell  an ellipsis   bb  value letter (\\mathbb)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

MAX_CHARS = 4096
MAX_TOKENS = 2000
MAX_NODES = 1500
MAX_DEPTH = 60
MAX_HEIGHT = 120
MAX_ITEMS = 64


class MathError(Exception):
    """The text cannot be read or evaluated; the message is a machine-readable reason."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of an expression tree; immutable and hashable. Raises MathError when the tree grows too high to walk."""

    op: str
    args: tuple[Node, ...] = ()
    value: Any = None
    height: int = field(default=0, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        height = 1 + max((arg.height for arg in self.args), default=0)
        if height > MAX_HEIGHT:
            raise MathError("too-complex")
        object.__setattr__(self, "height", height)


@dataclass(frozen=True, slots=True)
class Decimal:
    """A literal with a decimal point: its exact value, decimal places, significant digits."""

    number: Fraction
    places: int
    significant: int


def number(value: int | Fraction) -> Node:
    """An exact number."""
    return Node("num", (), Fraction(value))


def symbol(name: str) -> Node:
    """A variable."""
    return Node("sym", (), name)


def walk(node: Node) -> Iterator[Node]:
    """Every node of the tree, root first."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(top.args)


def symbols(node: Node) -> frozenset[str]:
    """Names of the variables in the tree."""
    return frozenset(n.value for n in walk(node) if n.op == "sym")


def contains(node: Node, *ops: str) -> bool:
    """Whether any node has one of the given ops."""
    return any(n.op in ops for n in walk(node))


def rewrite(node: Node, change: Callable[[Node], Node]) -> Node:
    """The tree with `change` applied to every node, leaves first."""
    return change(Node(node.op, tuple(rewrite(arg, change) for arg in node.args), node.value))


def is_infinite(node: Node) -> int:
    """1 or -1 for plus or minus infinity, else 0."""
    if node.op == "neg":
        return -is_infinite(node.args[0])
    return 1 if node.op == "const" and node.value == "inf" else 0
