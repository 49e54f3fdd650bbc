"""One value of an answer: what a chain such as `x = 2 \\cdot 3 = 6` says of which name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rewards.mathexpr.lexer import Token
from rewards.mathexpr.nodes import Node, symbols, walk
from rewards.mathexpr.parser import Parser
from rewards.mathexpr.units import Unit

_UNKNOWNS = frozenset("xyzt")
_INVERSE_HEAD = re.compile(r"^[A-Za-z]\^\{?-1\}?\s*\(\s*[a-z]\s*\)\s*=")
_DERIVATIVE_HEAD = re.compile(
    r"^(?:\\frac\{d\s*[a-z]?\}\{d\s*[a-z]\}|[a-z]'(?:_\{?[a-z]\}?)?|[a-z]_\{?[a-z]\}?')\s*(?:\([a-z]\))?\s*="
)


@dataclass(frozen=True, slots=True)
class Item:
    """One value. `others` are the further sides of a chain: `(1+sqrt 97)/8 ~ 1.36`, `2*3 = 6`."""

    node: Node
    unit: Unit | None = None
    label: str | None = None
    others: tuple[Node, ...] = ()
    approximate: bool = False


def without_head(tokens: list[Token]) -> list[Token]:
    """The chunk without a head that is only a name for what follows: `f^{-1}(x) =`, `dy/dx =`."""
    for index, token in enumerate(tokens[:16]):
        if token.kind == "op" and token.text == "=":
            head = "".join(("\\" + t.text if t.kind == "cmd" else t.text) for t in tokens[:index]) + "="
            if _INVERSE_HEAD.match(head) or _DERIVATIVE_HEAD.match(head):
                return tokens[index + 1 :]
            break
    return tokens


def point_label(parser: Parser) -> str | None:
    """The letter of a named point, `A(1, 2)`, where that is all there is; the parser is left behind the letter."""
    tokens = parser.tokens
    if len(tokens) < 6 or tokens[0].kind != "letter" or not tokens[0].text.isupper() or tokens[1].text != "(":
        return None
    depth = 0
    for index, token in enumerate(tokens[1:], 1):
        depth += (token.text == "(") - (token.text == ")") if token.kind == "op" else 0
        if not depth:
            if tokens[index + 1].kind != "end":
                return None
            break
    if not any(token.kind == "op" and token.text == "," for token in tokens):
        return None
    parser.at = 1
    return tokens[0].text


def label_of(node: Node) -> str | None:
    """The name a left side gives to a value: `x`, `a_1`, `f(x)`, `AB`, `(x, y)`.

    Numbered unknowns (x_1, x_2) lose their number: they are the roots of one equation, in any order.
    """
    if node.op == "sym":
        head, _, index = node.value.partition("_")
        return str(head if head in _UNKNOWNS and index.isdigit() else node.value)
    if node.op == "mul" and (points := [n for n in walk(node) if n.op != "mul"]):
        if all(n.op == "sym" and n.value[:1].isupper() for n in points):
            return "".join(n.value for n in reversed(points))
        return None
    if node.op == "fn" and node.value == "abs":
        return label_of(node.args[0])
    if node.op == "fn" and len(node.args) == 1 and node.args[0].op == "sym":
        return f"{node.value}({node.args[0].value})"
    if node.op == "app" and all(arg.op == "num" for arg in node.args):
        return f"{node.value}({','.join(str(arg.value) for arg in node.args)})"
    if node.op == "app" and all(arg.op == "sym" for arg in node.args):
        return f"{node.value}({','.join(arg.value for arg in node.args)})"
    if node.op == "tuple" and all(arg.op == "sym" for arg in node.args):
        return f"({','.join(arg.value for arg in node.args)})"
    return None


def from_chain(node: Node) -> Item:
    """The value of a chain of equations, its label and its other sides. Inequalities and equations stay relations."""
    if node.op != "rel":
        return Item(node)
    ops, sides = node.value, node.args
    if ops == ("in",):
        label = label_of(sides[0])
        return Item(sides[1], label=label) if label else Item(node)
    if not set(ops) <= {"=", "~="}:
        return Item(node)
    labels = []
    while len(sides) > 1:
        label = label_of(sides[0])
        if (
            label is None
            or (sides[0].op == "tuple" and sides[-1].op != "tuple")
            or (sides[0].op == "sym" and _defined_by(sides[0].value, sides[-1]))
        ):
            break
        labels.append(label)
        sides, ops = sides[1:], ops[1:]
    if len(sides) == 2 and not labels and ops == ("=",):
        label = label_of(sides[1])
        if label is not None and label not in symbols(sides[0]):
            return Item(sides[0], label=label)
    label = labels[-1] if labels else None
    if len(sides) == 1:
        return Item(sides[0], label=label)
    if not labels and len(sides) == 2 and ops == ("=",) and (symbols(sides[0]) or symbols(sides[1])):
        return Item(node)
    if "~=" in ops:
        cut = ops.index("~=")
        return Item(sides[0], label=label, others=sides[1:], approximate=cut == 0)
    return Item(sides[-1], label=label, others=sides[:-1])


def _defined_by(name: str, value: Node) -> bool:
    """Whether `name = value` is an equation in `name`, not its definition (x = x is harmless: it is its value)."""
    return name in symbols(value) and not (value.op == "sym" and value.value == name)
