"""Sums and products with an ellipsis, `a_1 + a_2 + \\cdots + a_n`, written out for a given n."""

from __future__ import annotations

from rewards.mathexpr.nodes import Node, number, rewrite, symbol, symbols


def written_out(nodes: list[Node], size: int) -> list[Node] | None:
    """The expressions with every ellipsis filled in and the last index n replaced by `size`.

    None when the terms around an ellipsis do not show how the last one depends on its index: the last term with the
    index set to s and to s + 1 must be the two terms before the ellipsis, for s of 0, 1 or 2.
    """
    flat = [rewrite(node, _flatten) for node in nodes]
    for name in sorted({part for node in flat for found in symbols(node) for part in _names(found)}):
        filled = [_fill(node, name, size) for node in flat]
        if not any(node is None for node in filled):
            return [_at(node, name, size) for node in filled if node is not None]
    return None


def _names(found: str) -> tuple[str, ...]:
    head, _, index = found.partition("_")
    return (index,) if len(index) == 1 and index.isalpha() else (head,) if not index else ()


def _flatten(node: Node) -> Node:
    if node.op not in ("add", "mul"):
        return node
    parts: list[Node] = []
    for arg in node.args:
        parts.extend(arg.args if arg.op == node.op else (arg,))
    return Node(node.op, tuple(parts), node.value)


def _at(node: Node, name: str, value: int) -> Node:
    """`node` with index `name` set to `value`, in subscripts as well."""

    def change(n: Node) -> Node:
        if n.op != "sym":
            return n
        head, _, index = n.value.partition("_")
        if n.value == name:
            return number(value)
        return symbol(f"{head}_{value}") if index == name else n

    return rewrite(node, change)


def _fill(node: Node, name: str, size: int) -> Node | None:
    args: list[Node] = []
    for arg in node.args:
        filled = _fill(arg, name, size)
        if filled is None:
            return None
        args.append(filled)
    places = [i for i, arg in enumerate(args) if arg.op == "ell"]
    if not places:
        return Node(node.op, tuple(args), node.value)
    at = places[0]
    if len(places) > 1 or node.op not in ("add", "mul") or at < 2 or at + 1 >= len(args):
        return None
    last = args[at + 1]
    for start in (0, 1, 2):
        if args[at - 2] == _at(last, name, start) and args[at - 1] == _at(last, name, start + 1):
            terms = [_at(last, name, i) for i in range(start, size + 1)]
            return Node(node.op, (*args[: at - 2], *terms, *args[at + 2 :]), node.value)
    return None
