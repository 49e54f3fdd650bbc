"""TEDS: similarity of two tables as trees, 1 - tree edit distance / size of the larger tree.

Source: Zhong, ShafieiBavani, Jimeno Yepes, "Image-based table recognition: data, model, and evaluation", arXiv 1911.10683,
section 4; the counts are those of the authors' published scorer. Inserting or deleting a node costs 1. Renaming costs 1
between nodes of another tag or span, and between two cells the normalised Levenshtein distance of their contents.

The distance is exact: the dynamic programme of Zhang and Shasha ("Simple fast algorithms for the editing distance between
trees and related problems", SIAM J. Comput. 18(6), 1989), one array operation for all subtrees of the second tree at once.
Leaves, most of a table, need no programme of their own. Shapes: N1 and N2 nodes, in postorder.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rewards.table_tree import Table, plain

Matrix = NDArray[np.float64]
Indices = NDArray[np.intp]

_STEP = 2.0**28
"""Costs are rounded to multiples of 1 / _STEP: sums of them are then exact in float64, whatever their order."""


def teds(answer: Table, reference: Table, *, structure_only: bool = False, bound_inline: bool = True) -> float:
    """Similarity in [0, 1]; 1.0 for equal tables only. `structure_only` (TEDS-S) leaves the contents of cells aside.

    Inline elements count in a table's size, as in the published scorer, but with `bound_inline` the answer's count up to
    the reference's number: a policy could otherwise dilute every error with empty elements.
    """
    if (answer.kinds, answer.texts, answer.left) == (reference.kinds, reference.texts, reference.left):
        return 1.0
    if answer.markdown != reference.markdown:
        answer, reference = plain(answer), plain(reference)
    inline = min(answer.inline, reference.inline) if bound_inline else answer.inline
    size = max(reference.size + reference.inline, answer.size + inline)
    cost = rename_costs(answer, reference, structure_only)
    distance = tree_edit_distance(answer.left, reference.left, cost)
    return max(0.0, 1.0 - distance / size)


def rename_costs(a: Table, b: Table, structure_only: bool = False) -> Matrix:
    """Cost of renaming each node of `a` to each node of `b`, (N1, N2), in [0, 1]."""
    kinds: dict[tuple[str, int, int], int] = {}
    kind_a = np.array([kinds.setdefault(kind, len(kinds)) for kind in a.kinds])
    kind_b = np.array([kinds.setdefault(kind, len(kinds)) for kind in b.kinds])
    same = kind_a[:, None] == kind_b[None, :]
    if structure_only:
        return np.where(same, 0.0, 1.0)
    return np.where(same, _text_costs(a.texts, b.texts), 1.0)


def _text_costs(a: Sequence[str], b: Sequence[str]) -> Matrix:
    """Normalised Levenshtein distance of each text of `a` to each of `b`, each pair of different texts compared once."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    once_a, once_b = dict.fromkeys(a), dict.fromkeys(b)
    place_a = {text: place for place, text in enumerate(once_a)}
    place_b = {text: place for place, text in enumerate(once_b)}
    costs = cdist(list(once_a), list(once_b), scorer=Levenshtein.normalized_distance, dtype=np.float64, workers=1)
    rows = np.array([place_a[text] for text in a])
    columns = np.array([place_b[text] for text in b])
    return costs[rows[:, None], columns[None, :]]


def tree_edit_distance(left1: Sequence[int], left2: Sequence[int], cost: Matrix) -> float:
    """Least total cost of turning one ordered tree into the other by renaming, deleting (1) and inserting (1) nodes.

    A tree is its `left`: for each node in postorder, the first leaf of its subtree. `cost` (N1, N2) is the price of
    renaming, in [0, 1].
    """
    cost = np.rint(cost * _STEP) / _STEP
    first, second = np.asarray(left1, dtype=np.intp), np.asarray(left2, dtype=np.intp)
    (mirrored1, order1), (mirrored2, order2) = _mirrored(first), _mirrored(second)
    if _work(mirrored1) * _work(mirrored2) < _work(first) * _work(second):
        # The distance of the mirror images is the same. A body after a head then needs no programme of its own.
        first, second, cost = mirrored1, mirrored2, cost[order1[:, None], order2]
    trees = np.zeros(cost.shape)  # trees[x, y]: distance of the subtrees whose roots are x and y
    leaf1, leaf2 = first == np.arange(len(first)), second == np.arange(len(second))
    trees[leaf1] = _leaf_distances(cost[leaf1], second)
    trees[:, leaf2] = _leaf_distances(cost[:, leaf2].T, first).T
    forests = _Forests(second)
    alike: dict[tuple[int, ...], list[int]] = {}
    for root in _keyroots(first).tolist():
        alike.setdefault(tuple((first[first[root] : root + 1] - first[root]).tolist()), []).append(root)
    for shape in sorted(alike, key=len):  # a subtree comes after those inside it
        _fill(trees, cost, shape, np.array(alike[shape]), forests)
    return float(trees[-1, -1])


def _mirrored(left: Indices) -> tuple[Indices, Indices]:
    """The mirror image of a tree, and for each of its nodes in postorder the node it was."""
    size = np.arange(len(left)) - left + 1
    order = []
    stack = [len(left) - 1]
    while stack:  # preorder, the reverse of the mirror image's postorder
        node = stack.pop()
        order.append(node)
        child = node - 1
        while child >= left[node]:
            stack.append(child)
            child = int(left[child]) - 1
    nodes = np.array(order[::-1])
    return np.arange(len(left)) - size[nodes] + 1, nodes


def _work(left: Indices) -> int:
    """Rows of the programme: nodes in the subtrees of keyroots."""
    roots = _keyroots(left)
    return int((roots - left[roots] + 1).sum())


def _leaf_distances(cost: Matrix, left: Indices) -> Matrix:
    """Distance of each single node (row of `cost`) to each subtree of a tree: all but the cheapest node are inserted."""
    cheapest = cost.copy()
    for node in np.flatnonzero(left != np.arange(len(left))):
        cheapest[:, node] = cost[:, left[node] : node + 1].min(axis=1)
    return cheapest + (np.arange(len(left)) - left)


def _keyroots(left: Indices) -> Indices:
    """Inner nodes that are the highest of those with the same first leaf, in postorder."""
    _, last = np.unique(left[::-1], return_index=True)
    roots = np.sort(len(left) - 1 - last)
    return roots[left[roots] != roots]


class _Forests:
    """The forests of a tree that the programme needs, side by side: for each keyroot an empty one, then one a node."""

    def __init__(self, left: Indices) -> None:
        roots = _keyroots(left)
        if not len(roots):
            roots = np.array([len(left) - 1])  # a single node
        sizes = roots - left[roots] + 1
        self.empty = np.cumsum(sizes + 1) - sizes - 1
        start = np.repeat(self.empty, sizes + 1)
        first_leaf = np.repeat(left[roots], sizes + 1)
        self.size = np.arange(len(start)) - start  # nodes in the forest
        self.node = np.maximum(first_leaf + self.size - 1, first_leaf)  # its last node; any, where it has none
        self.before = start + left[self.node] - first_leaf  # the forest without that node's subtree
        self.is_tree = (left[self.node] == first_leaf) & (self.size > 0)
        self.segment = np.repeat(np.arange(len(roots)), sizes + 1)
        self.levels = _levels(roots, left)


def _levels(roots: Indices, left: Indices) -> int:
    """How deep keyroots lie within each other's subtrees; 1 when none does."""
    open_roots: list[tuple[int, int]] = []  # (keyroot, its level), none within another
    for root in roots.tolist():
        level = 1
        while open_roots and open_roots[-1][0] >= left[root]:
            level = max(level, 1 + open_roots.pop()[1])
        open_roots.append((root, level))
    return max(level for _, level in open_roots)


def _fill(trees: Matrix, cost: Matrix, shape: Sequence[int], roots: Indices, forests: _Forests) -> None:
    """Enter in `trees` the distances of the subtrees on the leftmost paths of `roots` to all of the other tree's.

    The subtrees of the K roots are of one `shape`: their `left`, counted from their first leaf. table[r] (K, columns)
    holds the distances of the forest of their first r nodes to every forest of the other tree. The minimum over
    insertions is a running minimum of each segment: `slope` takes off the insertions and sets the segments apart.
    """
    slope = forests.size + float(sum(cost.shape) + 2) * forests.segment
    table = np.empty((len(shape) + 1, len(roots), len(forests.size)))
    table[0] = forests.size
    columns = np.flatnonzero(forests.is_tree)
    others = forests.node[columns]
    for place, first in enumerate(shape):
        nodes = roots - len(shape) + 1 + place
        apart = np.take(table[first], forests.before, axis=1)
        less = table[place] + 1.0
        # A leaf's distances are known. Those of a tree on the path are found in this very row: to the subtrees of the
        # deepest keyroots in the first pass, to those around them in the next.
        on_path = first == 0 and place > 0
        for _ in range(forests.levels if on_path else 1):
            best = apart + np.take(trees[nodes], forests.node, axis=1)
            if on_path:
                best[:, columns] = table[place][:, columns - 1] + cost[nodes[:, None], others]
            np.minimum(best, less, out=best)
            best[:, forests.empty] = place + 1
            best -= slope
            np.minimum.accumulate(best, axis=1, out=best)
            np.add(best, slope, out=table[place + 1])
            if on_path:
                trees[nodes[:, None], others] = table[place + 1][:, columns]
