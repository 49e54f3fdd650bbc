"""Graded problems, and how their graders agree, as tables for the console."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from rlcs.estimates import mean_interval
from rlcs.eval_summary import as_json, natural, percent
from rlcs.grade_merge import Merged
from rlcs.grades import Tiers

_WIDEST = 5  # problems listed on which graders differ most

Line = Mapping[str, Any]


def summary_table(lines: Sequence[Line], tiers: Tiers, *, title: str = "by domain and tier") -> Table:
    """Each domain as a whole and each of its tiers: problems, pass rate with its 95% interval over problems, problems
    never and always solved, responses judged for each problem, and abstentions.
    """
    table = _table(
        f"{title}, per cent, 95% interval over problems",
        ["domain", "tier"],
        ["problems", "pass rate", "never", "always", "k", "abst."],
    )
    for domain in sorted({line["domain"] for line in lines}):
        members = [line for line in lines if line["domain"] == domain]
        names = {line.get("tier") for line in members}
        # The scale's own order where the tiers are of it, the hardest first.
        order = [*tiers.names, *sorted((name for name in names if name and name not in tiers.names), key=natural), None]
        table.add_row(escape(domain), "all", *_summary(members))
        for tier in (name for name in order if name in names):
            table.add_row("", escape(tier or "-"), *_summary([line for line in members if line.get("tier") == tier]))
        table.add_section()
    return table


def _summary(lines: Sequence[Line]) -> list[str]:
    rates = np.array([line.get("pass_rate", np.nan) for line in lines], np.float64)
    grades = [line["grade"] for line in lines]
    return [
        f"{len(lines):,}",
        percent(as_json(mean_interval(rates).clipped()), interval=True),
        f"{sum(rates == 0):,}",
        f"{sum(rates == 1):,}",
        f"{np.mean([grade['k'] for grade in grades]):.1f}",
        f"{sum(grade['abstained'] for grade in grades):,}",
    ]


def merge_tables(merged: Merged) -> Iterator[Table]:
    """How the graders agree, the problems on which they differ most, and what the human labels turn out to mean."""
    if merged.agreements:
        graders = "; ".join(f"{number} {model}" for number, model in enumerate(merged.models, 1))
        numbers = ["n", "pass rates", "differ by", "order", "same tier", "apart"]
        table = _table(f"agreement of graders ({escape(graders)})", ["domain", "pair"], numbers)
        for found in merged.agreements:
            table.add_row(
                escape(found.domain),
                f"{found.first + 1}, {found.second + 1}",
                f"{found.problems:,}",
                f"{100 * found.rates[0]:.1f}, {100 * found.rates[1]:.1f}",
                f"{100 * found.difference:.1f}",
                "-" if found.correlation is None else f"{found.correlation:.2f}",
                f"{100 * found.same_tier:.0f}%",
                f"{found.apart:,}",
            )
        yield table
        yield _widest(merged.lines)
    if merged.labels:
        table = _table("human labels", ["domain", "label"], ["problems", "pass rate", "counts as", "at odds"])
        for fit in sorted(merged.labels, key=lambda fit: (fit.domain, natural(fit.label))):
            rate = "-" if fit.rate is None else f"{100 * fit.rate:.1f}"
            table.add_row(
                escape(fit.domain), escape(fit.label), f"{fit.problems:,}", rate, f"{fit.weight:.1f}", f"{fit.at_odds:,}"
            )
        yield table


def _widest(lines: Sequence[Line]) -> Table:
    table = _table("widest apart", ["id", "domain"], ["right of k by each grader"])
    for line in sorted(lines, key=lambda line: -(line["grade"]["spread"] or 0.0))[:_WIDEST]:
        counts = [f"{grader['right']}/{grader['k']}" for grader in line["grade"]["graders"]]
        table.add_row(escape(line["id"]), escape(line["domain"]), ", ".join(counts))
    return table


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, padding=(0, 1))
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
