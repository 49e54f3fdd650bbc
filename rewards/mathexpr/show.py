"""A tree as one line of text, for people: what `rlcs score --explain` prints of a reference and an answer."""

from __future__ import annotations

from rewards.mathexpr.answer import Answer
from rewards.mathexpr.items import Item
from rewards.mathexpr.nodes import Node

MAX_SHOWN = 400
_INFIX = {"add": " + ", "mul": "*", "div": "/", "pow": "^", "cup": " cup ", "cap": " cap ", "minus": " \\ ", "ratio": " : "}
_MARKS = {"fact": "!", "pct": "%", "deg": "°"}


def shown(answers: tuple[Answer, ...]) -> str:
    """All readings, separated by " | "."""
    return " | ".join(dict.fromkeys(_answer(answer) for answer in answers))[:MAX_SHOWN]


def _answer(answer: Answer) -> str:
    letter = f"({answer.option}) " if answer.option else ""
    if not answer.items:
        return f"{letter}text {answer.text!r}" + (f" ({answer.fault})" if answer.fault else "")
    return letter + f"{answer.join or ','} ".join(_item(item) for item in answer.items)


def _item(item: Item) -> str:
    label = f"{item.label} = " if item.label else ""
    unit = ""
    if item.unit is not None:
        unit = f" [{item.unit.factor} " + " ".join(f"{name}^{power}" for name, power in item.unit.dimensions) + "]"
    return f"{label}{text_of(item.node)}{unit}"


def text_of(node: Node) -> str:
    """The node in infix notation, bracketed fully."""
    op, args = node.op, [text_of(arg) for arg in node.args]
    if op == "num":
        return str(node.value)
    if op == "dec":
        return f"{node.value.number} ({node.value.places} places)"
    if op in _INFIX:
        return f"({_INFIX[op].join(args)})"
    if op in _MARKS:
        return args[0] + _MARKS[op]
    if op == "neg":
        return f"-{args[0]}"
    if op == "rel":
        return args[0] + "".join(f" {sign} {arg}" for sign, arg in zip(node.value, args[1:], strict=True))
    if op == "set":
        return "{" + ", ".join(args) + "}"
    if op == "tuple":
        return node.value[0] + ", ".join(args) + node.value[1]
    if op == "ell":
        return "..."
    if op == "pm":
        return "±" if node.value[1] == 1 else "∓"
    head = op if op in ("root", "log", "matrix") else str(node.value)
    return f"{head}({', '.join(args)})" if args else head
