"""Plus-minus signs written out."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from rewards.mathexpr.answer import Answer
from rewards.mathexpr.items import Item
from rewards.mathexpr.nodes import MAX_ITEMS, MathError, Node, contains, number, rewrite, walk


def expand(answer: Answer) -> list[Item]:
    """Items with every plus-minus sign written out; signs in one scalar go together when one is a minus-plus sign."""
    if not any(item.node.height > 1 and contains(item.node, "pm") for item in answer.items):
        return list(answer.items)
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
