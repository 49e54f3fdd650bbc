"""Tree edit distance against brute force and another library, TEDS against a direct reading of its definition."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree
from functools import cache
from typing import Any

import numpy as np
import pytest
from apted import APTED, Config
from hypothesis import given
from hypothesis import strategies as st

from rewards.table_html import read_html
from rewards.teds import rename_costs, teds, tree_edit_distance

Nested = list[Any]  # a tree: the list of its children
trees = st.recursive(st.just([]), lambda below: st.lists(below, max_size=4), max_leaves=8)


def lefts(tree: Nested) -> list[int]:
    """The first leaf of each node's subtree, in postorder."""
    out: list[int] = []

    def visit(node: Nested) -> None:
        first = len(out)
        for child in node:
            visit(child)
        out.append(first)

    visit(tree)
    return out


def numbered(left: list[int]) -> tuple[int, tuple]:
    """(place in postorder, children) of the root."""
    stack: list[tuple[int, tuple]] = []
    for place, first in enumerate(left):
        children = []
        while stack and stack[-1][0] >= first:
            children.append(stack.pop())
        stack.append((place, tuple(reversed(children))))
    return stack[0]


def brute_force(left1: list[int], left2: list[int], cost: np.ndarray) -> float:
    """The distance by its recurrence over forests: delete, insert or match the last roots."""

    @cache
    def distance(a: tuple, b: tuple) -> float:
        if not a and not b:
            return 0.0
        if not a:
            return distance(a, b[:-1] + b[-1][1]) + 1
        if not b:
            return distance(a[:-1] + a[-1][1], b) + 1
        return min(
            distance(a[:-1] + a[-1][1], b) + 1,
            distance(a, b[:-1] + b[-1][1]) + 1,
            distance(a[-1][1], b[-1][1]) + distance(a[:-1], b[:-1]) + cost[a[-1][0], b[-1][0]],
        )

    return distance((numbered(left1),), (numbered(left2),))


def by_apted(left1: list[int], left2: list[int], cost: np.ndarray) -> float:
    class Costs(Config):
        def rename(self, a: tuple, b: tuple) -> float:
            return cost[a[0], b[0]]

        def children(self, node: tuple) -> list:
            return list(node[1])

    return APTED(numbered(left1), numbered(left2), Costs()).compute_edit_distance()


def grid(row_lengths: list[int]) -> list[int]:
    return lefts([[[] for _ in range(length)] for length in row_lengths])


@given(trees, trees, st.integers(0, 2**32 - 1))
def test_distance_is_that_of_the_recurrence(a: Nested, b: Nested, seed: int) -> None:
    left1, left2 = lefts(a), lefts(b)
    chance = np.random.default_rng(seed)
    cost = np.where(chance.random((len(left1), len(left2))) < 0.5, chance.integers(0, 2), chance.random())
    assert tree_edit_distance(left1, left2, cost) == pytest.approx(brute_force(left1, left2, cost), abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_distance_of_deep_trees_is_that_of_the_recurrence(seed: int) -> None:
    # `apted` 1.0.3 finds a larger distance for about one such pair in a hundred.
    chance = random.Random(seed)

    def grown(size: int) -> list[int]:
        nodes: list[Nested] = [[]]
        for _ in range(size - 1):
            parent = nodes[-1] if chance.random() < 0.6 else chance.choice(nodes)
            child: Nested = []
            parent.insert(chance.randint(0, len(parent)), child)
            nodes.append(child)
        return lefts(nodes[0])

    left1, left2 = grown(13), grown(12)
    cost = np.array([[chance.random() for _ in left2] for _ in left1])
    assert tree_edit_distance(left1, left2, cost) == pytest.approx(brute_force(left1, left2, cost), abs=1e-6)


@given(trees, trees, st.integers(0, 2**32 - 1))
def test_distance_is_symmetric(a: Nested, b: Nested, seed: int) -> None:
    left1, left2 = lefts(a), lefts(b)
    cost = np.random.default_rng(seed).random((len(left1), len(left2)))
    assert tree_edit_distance(left1, left2, cost) == tree_edit_distance(left2, left1, cost.T)


@pytest.mark.parametrize("seed", range(8))
def test_distance_of_table_shaped_trees_is_that_of_apted(seed: int) -> None:
    chance = random.Random(seed)
    a = grid([chance.randint(1, 7) for _ in range(chance.randint(1, 9))])
    b = grid([chance.randint(1, 7) for _ in range(chance.randint(1, 9))])
    kinds_a, kinds_b = [[chance.choice("pqrs") for _ in left] for left in (a, b)]
    cost = np.array([[0.0 if x == y else 0.4 if {x, y} == {"p", "q"} else 1.0 for y in kinds_b] for x in kinds_a])
    assert tree_edit_distance(a, b, cost) == pytest.approx(by_apted(a, b, cost), abs=1e-6)


def html_table(chance: random.Random, sections: bool) -> str:
    """A well-formed table, so that an XML parser reads it, too."""

    def cell() -> str:
        text = chance.choice(["", "a", "12.5", "total revenue", "<b>bold</b>", "x<sup>2</sup>y", "&lt;5", "数据"])
        span = chance.choice(["", "", "", ' colspan="2"', ' rowspan="3"'])
        return f"<td{span}>{text}</td>"

    def rows() -> str:
        return "".join(f"<tr>{''.join(cell() for _ in range(chance.randint(1, 4)))}</tr>" for _ in range(chance.randint(1, 4)))

    return f"<table><thead>{rows()}</thead><tbody>{rows()}</tbody></table>" if sections else f"<table>{rows()}</table>"


def defined_teds(answer: str, reference: str, structure_only: bool = False) -> float:
    """TEDS by its definition: the XML parser's tree, plain Levenshtein over tokens, `apted` for the distance.

    Sizes count every element below the table, as the authors' scorer does.
    """

    def tokens(element: ElementTree.Element) -> list[str]:
        found = list(element.text or "")
        for child in element:
            found += [f"<{child.tag}>", *tokens(child), f"</{child.tag}>", *(child.tail or "")]
        return found

    def node(element: ElementTree.Element) -> tuple:
        if element.tag == "td":
            return ("td", element.get("colspan", "1"), element.get("rowspan", "1"), tuple(tokens(element)), ())
        return (element.tag, "1", "1", (), tuple(node(child) for child in element))

    def edits(a: tuple[str, ...], b: tuple[str, ...]) -> int:
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            row, last = [i], row
            for j, y in enumerate(b, 1):
                row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y)))
        return row[-1]

    class Costs(Config):
        def rename(self, a: tuple, b: tuple) -> float:
            if a[:3] != b[:3]:
                return 1.0
            if structure_only or not (a[3] or b[3]):
                return 0.0
            return edits(a[3], b[3]) / max(len(a[3]), len(b[3]))

        def children(self, of: tuple) -> list:
            return list(of[4])

    first, second = (ElementTree.fromstring(text) for text in (answer, reference))
    size = max(sum(1 for _ in root.iter()) - 1 for root in (first, second))
    return 1 - APTED(node(first), node(second), Costs()).compute_edit_distance() / size


@pytest.mark.parametrize("structure_only", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_teds_is_that_of_the_definition(seed: int, structure_only: bool) -> None:
    chance = random.Random(seed)
    first, second = (html_table(chance, sections=chance.random() < 0.5) for _ in range(2))
    tables = {text: read_html(text, max_nodes=500) for text in (first, second)}
    expected = max(0.0, defined_teds(first, second, structure_only))
    published = teds(tables[first], tables[second], structure_only=structure_only, bound_inline=False)
    assert published == pytest.approx(expected, abs=1e-6)
    # Where the answer has no more inline elements than the reference, the bound changes nothing.
    answer, reference = sorted((first, second), key=lambda text: tables[text].inline)
    assert teds(tables[answer], tables[reference], structure_only=structure_only) == pytest.approx(expected, abs=1e-6)


def test_empty_inline_elements_in_the_answer_do_not_dilute_its_errors() -> None:
    reference = read_html("<table><tr><td>alpha</td><td>beta</td></tr></table>", max_nodes=50)
    wrong = read_html("<table><tr><td>12345</td><td>6789</td></tr></table>", max_nodes=50)
    stuffed = read_html(f"<table><tr><td>12345{'<i></i>' * 200}</td><td>6789</td></tr></table>", max_nodes=50)
    assert defined_teds(f"<table><tr><td>12345{'<i></i>' * 200}</td><td>6789</td></tr></table>",
                        "<table><tr><td>alpha</td><td>beta</td></tr></table>") > 0.98  # fmt: skip
    assert teds(stuffed, reference) <= teds(wrong, reference) < 0.4


def test_rename_costs_are_text_distances_between_cells_alike_and_one_between_others() -> None:
    a = read_html("<table><tr><td>abcd</td><td colspan=2>x</td></tr></table>", max_nodes=50)
    b = read_html("<table><tr><td>abxy</td><th>abcd</th></tr></table>", max_nodes=50)
    expected = [[0.5, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]]
    assert rename_costs(a, b).tolist() == expected
    assert rename_costs(a, b, structure_only=True).tolist() == [[0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]]


@pytest.mark.timeout(60)  # what it guards against takes minutes
def test_large_tables_take_less_than_a_second_of_cpu() -> None:

    a, b = grid([10] * 100), grid([9] * 110)
    cost = np.random.default_rng(0).random((len(a), len(b)))
    tree_edit_distance(a, b, cost)
