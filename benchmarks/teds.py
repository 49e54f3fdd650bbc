"""How long the table verifier takes, beside the `apted` library on the same trees and costs.

python benchmarks/teds.py [ROWS.jsonl] [--out RESULTS.json]     # rows of the `rlcs score` format; always generated tables

CPU times of one core, so that other jobs on the machine do not count. The answer is read, the reference has been (training
scores it many times). `apted` gets the trees and the matrix of costs ready made: its time is that of its algorithm alone.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from apted import APTED, Config
from measured_on import measured_on

from rewards.format import BOX_CLOSE, BOX_OPEN
from rewards.registry import Context
from rewards.table_tree import Table
from rewards.teds import rename_costs, tree_edit_distance
from rewards.verifiers.table import TableArgs, read_reference, read_table, table

MAX_APTED_NODES = 400
"""Larger tables take the library minutes."""
WORDS = [
    "total",
    "revenue",
    "12.5",
    "model",
    "2019",
    "accuracy",
    "0.98",
    "Chinese",
    "数据",
    "loss",
    "n/a",
    "1,204",
    "baseline",
    "ours",
    "(%)",
    "3.4e-5",
]


def generated(rows: int, columns: int, seed: int) -> str:
    """An HTML table of random words, with a header."""
    chance = random.Random(seed)

    def row(tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{chance.choice(WORDS)} {chance.randrange(1000)}</{tag}>' for _ in range(columns))}</tr>"

    body = "".join(row("td") for _ in range(rows - 1))
    return f"<html><body><table><thead>{row('td')}</thead><tbody>{body}</tbody></table></body></html>"


def spoiled(text: str, seed: int) -> str:
    """The table as a model might misread it: about one cell in ten missing, one in five with another digit."""
    chance = random.Random(seed)
    cells = text.split("<td>")
    kept = [cells[0]]
    for cell in cells[1:]:
        if chance.random() < 0.1 and cell.endswith("</td>"):
            continue
        kept.append(cell.replace("1", "7", 1) if chance.random() < 0.2 else cell)
    return "<td>".join(kept)


def pairs(path: str | None) -> list[tuple[str, str, str]]:
    """(name, reference, answer)."""
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines() if path else []:
        row = json.loads(line)
        answer = row["response"].partition(BOX_OPEN)[2].partition(BOX_CLOSE)[0]
        if row["domain"] == "table" and answer:
            found.append((row["id"], row["answer"], answer))
    for rows, columns in ((5, 3), (10, 5), (20, 6), (30, 10), (50, 10), (100, 10), (130, 10)):
        text = generated(rows, columns, rows)
        found.append((f"generated {rows}x{columns}", text, spoiled(text, columns)))
    return found


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median CPU time of `work`."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return median(times)


class _Node:
    def __init__(self, place: int, children: list[_Node]) -> None:
        self.place, self.children = place, children


def _tree(table_: Table) -> _Node:
    stack: list[tuple[int, _Node]] = []
    for place, first in enumerate(table_.left):
        children = []
        while stack and stack[-1][0] >= first:
            children.append(stack.pop()[1])
        stack.append((place, _Node(place, children[::-1])))
    return stack[0][1]


def by_apted(answer: Table, reference: Table) -> float:
    """The distance that `apted` finds."""
    cost = rename_costs(answer, reference)

    class Costs(Config):  # type: ignore[misc]
        def rename(self, a: _Node, b: _Node) -> float:
            return float(cost[a.place, b.place])

        def children(self, node: _Node) -> list[_Node]:
            return node.children

    return float(APTED(_tree(answer), _tree(reference), Costs()).compute_edit_distance())


def measured(name: str, reference_text: str, answer_text: str) -> dict[str, Any]:
    """One row of the results."""
    args = TableArgs()
    reference, answer = read_reference(reference_text, args), read_table(answer_text, args, 1)
    ours = seconds(lambda: table(answer_text, reference, Context(args)), 9)
    row: dict[str, Any] = {
        "table": name,
        "nodes": reference.table.size,
        "teds": round(table(answer_text, reference, Context(args)).score, 6),
        "ms": round(ours * 1000, 2),
    }
    if max(answer.size, reference.table.size) <= MAX_APTED_NODES:
        theirs = seconds(lambda: by_apted(answer, reference.table), 1)
        distance = tree_edit_distance(answer.left, reference.table.left, rename_costs(answer, reference.table))
        row |= {
            "apted_ms": round(theirs * 1000, 1),
            "times_faster": round(theirs / ours, 1),
            "same_distance": bool(np.isclose(distance, by_apted(answer, reference.table), atol=1e-6)),
        }
    return row


def main(path: str | None, out: str | None) -> None:
    """Print a line a table and the median over the rows of the file; write both to `out`."""
    rows = []
    for pair in pairs(path):
        rows.append(measured(*pair))
        print(json.dumps(rows[-1], ensure_ascii=False))
    real = [row["ms"] for row in rows if not row["table"].startswith("generated")]
    results = {
        "command": "python benchmarks/teds.py ROWS.jsonl",
        **measured_on("numpy"),
        "median_ms_of_the_files_rows": median(real) if real else None,
        "tables": rows,
    }
    print(f"median of the file's rows: {results['median_ms_of_the_files_rows']} ms")
    if out:
        Path(out).write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?")
    parser.add_argument("--out")
    given = parser.parse_args()
    main(given.rows, given.out)
