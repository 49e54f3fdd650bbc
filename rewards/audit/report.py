"""What an audit found, as tables for a person and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewards.audit.probes import FAMILIES, RIGHT
from rewards.audit.run import Cell, Finding, Report
from rewards.explanation import visible

if TYPE_CHECKING:
    from rich.console import Console

MAX_SHOWN_CHARS = 60
MAX_LISTED = 200
"""Problems printed one by one; the JSON file has them all."""


def print_report(report: Report, console: Console) -> None:
    """A row for each verifier and family, then every probe that was paid or broke the verifier, and a closing line."""
    from rich.table import Table
    from rich.text import Text

    table = Table("verifier", "family", "probes", "paid", "broke", "max score", "worst example", header_style="bold")
    for column in table.columns[:2]:
        column.no_wrap = True
    for column in table.columns[2:6]:
        column.justify = "right"
    for name in sorted({verifier for verifier, _ in report.cells}):
        for family in FAMILIES:
            cell = report.cells.get((name, family))
            if cell is not None:
                style = "bold red" if cell.paid or cell.broke else ""
                example = "" if family == RIGHT or not (cell.max_score or cell.paid or cell.broke) else _example(cell)
                counts = (
                    str(cell.probes),
                    "-" if family == RIGHT else str(cell.paid),
                    str(cell.broke),
                    f"{cell.max_score:.3f}",
                )
                table.add_row(name, family, *counts, Text(example), style=style)
        table.add_section()
    console.print(table)
    for finding in report.problems[:MAX_LISTED]:
        console.print(Text(describe(finding)), soft_wrap=True)
    if len(report.problems) > MAX_LISTED:
        console.print(f"... and {len(report.problems) - MAX_LISTED} more")
    cheats = sum(cell.probes for (_, family), cell in report.cells.items() if family != RIGHT)
    broke = sum(cell.broke for cell in report.cells.values())
    refused = sum(finding.refused for finding in report.problems)
    console.print(
        f"{cheats} cheats against {len({name for name, _ in report.cells})} verifiers: {len(report.paid)} paid, "
        f"{broke} broke the verifier; right answers not paid: {refused}",
        style="bold green" if report.sound else "bold red",
    )


def describe(finding: Finding) -> str:
    """A problem in one line: what was sent, against what, and what came of it."""
    probe, verdict = finding.probe, finding.verdict
    if finding.breach is not None:
        what = f"the judge's prompt was left ({finding.breach})"
    elif finding.refused:
        what = f"the right answer was not paid ({verdict.reason})"
    elif finding.paid:
        what = f"paid {finding.score:.4g}, at most {probe.at_most:.4g}"
    else:
        what = f"abstained ({verdict.reason})"
    reference = _shown(probe.exemplar.reference)
    return f"{probe.exemplar.verifier} / {probe.family}: {what}: {_shown(probe.response)} against {reference}"


def _example(cell: Cell) -> str:
    return "" if cell.worst is None else _shown(cell.worst.verdict.extracted or cell.worst.probe.response)


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else value
    text = text.replace("\n", "\\n")
    if len(text) > 2 * MAX_SHOWN_CHARS:
        text = f"{text[:MAX_SHOWN_CHARS]} … {text[-20:]} ({len(text)} characters)"
    return visible(text)


def as_json(report: Report) -> dict[str, Any]:
    """All counts and all problems, with the whole responses."""
    return {
        "sound": report.sound,
        "cells": [
            {
                "verifier": verifier,
                "family": family,
                "probes": cell.probes,
                "paid": cell.paid,
                "broke": cell.broke,
                "abstained": cell.abstained,
                "max_score": cell.max_score,
                "worst": None if cell.worst is None else _shown(cell.worst.probe.response),
            }
            for (verifier, family), cell in sorted(report.cells.items())
        ],
        "problems": [
            {
                "kind": "paid" if finding.paid else "broke" if finding.broke else "right answer not paid",
                "verifier": finding.probe.exemplar.verifier,
                "family": finding.probe.family,
                "reference": finding.probe.exemplar.reference,
                "question": finding.probe.exemplar.question,
                "verifier_args": dict(finding.probe.exemplar.args),
                "response": finding.probe.response,
                "at_most": finding.probe.at_most,
                "score": finding.verdict.score,
                "status": finding.verdict.status,
                "reason": finding.breach or finding.verdict.reason,
            }
            for finding in report.problems
        ],
    }
