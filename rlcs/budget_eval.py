"""`rlcs eval CONFIG --think-budget 0,32,64`: accuracy as the budget for thinking grows (GLM-4.5V's test-time control)."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rlcs.engines import build_engine
from rlcs.estimates import mean_interval
from rlcs.eval_config import EvalConfig
from rlcs.eval_summary import Scores, as_json, percent
from rlcs.evaluate import Evaluation, run_eval
from rlcs.plots import budgets_png
from rollout.chat import ChatRenderer
from sft.checkpoint import resolve_model
from sft.rundir import RunDir

POOLED = "all"


def parse_budgets(text: str) -> list[int]:
    """Ascending distinct budgets from "0,32,64". Raises ValueError saying what was found."""
    try:
        budgets = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ValueError(
            f"--think-budget {text!r}: expected numbers of tokens with commas between them, as in 0,32,64"
        ) from None
    if budgets[0] < 0:
        raise ValueError(f"--think-budget {text!r}: {budgets[0]} is below 0; a budget of 0 leaves the thought empty")
    return budgets


def run_budget_eval(config: EvalConfig, budgets: Sequence[int], *, console: Console | None = None) -> list[dict[str, Any]]:
    """Evaluates thinking mode once for each budget with the same problems and seeds; one engine serves all.

    Writes `config.out`/budget-N (a whole evaluation each), budgets.json (the rows returned: domain, budget, pass@1 with its
    interval, share of responses whose thought was cut, pass rate of those, mean tokens) and budgets.png.
    """
    console = console or Console()
    if config.threads:
        torch.set_num_threads(config.threads)
    checkpoint = resolve_model(config.model)
    renderer = ChatRenderer.from_pretrained(checkpoint)
    rows: list[dict[str, Any]] = []
    with closing(build_engine(config, checkpoint, renderer)) as engine:
        for budget in budgets:
            changes = {"think_tokens": budget, "modes": ["thinking"], "greedy": False, "out": config.out / f"budget-{budget}"}
            console.print(f"thinking budget of {budget} tokens", highlight=False)
            found = run_eval(config.model_copy(update=changes), console=console, serving=(engine, renderer), tables=False)
            rows += budget_rows(found, budget)
    _write(config.out, rows)
    console.print(budget_table(rows))
    return rows


def budget_rows(evaluation: Evaluation, budget: int) -> list[dict[str, Any]]:
    """One row a domain, and one for the mean of all problems where there are several domains."""
    scores, responses = Scores.of(evaluation.responses), evaluation.responses.to_pylist()
    domains = list(dict.fromkeys(scores.domains.tolist()))
    rows = []
    for domain in [*domains, *([POOLED] if len(domains) > 1 else [])]:
        mine_P = (scores.domains == domain) | (domain == POOLED)
        cut = [row for row in responses if row["forced"] and domain in (row["domain"], POOLED)]
        judged = [row["correct"] for row in cut if row["correct"] is not None]
        sampled = float(scores.sampled[mine_P].sum())
        rows.append(
            {
                "domain": domain,
                "budget": budget,
                "pass_at_1": as_json(mean_interval(scores.pass_at(1)[mine_P]).clipped()),
                "forced": float(scores.forced[mine_P].sum()) / sampled,
                "forced_pass_rate": float(np.mean(judged)) if judged else None,
                "tokens": float(scores.tokens[mine_P].sum()) / sampled,
            }
        )
    return rows


def budget_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="by thinking budget (per cent)", title_justify="left", box=SIMPLE, pad_edge=False)
    for column in ("domain", "budget", "pass@1", "thought cut", "right when cut", "tokens"):
        table.add_column(column, justify="left" if column == "domain" else "right", no_wrap=True)
    for row in sorted(rows, key=lambda row: (row["domain"] == POOLED, row["domain"], row["budget"])):
        right = "-" if row["forced_pass_rate"] is None else f"{100 * row['forced_pass_rate']:.1f}"
        figures = (percent(row["pass_at_1"], interval=True), f"{100 * row['forced']:.1f}", right, f"{row['tokens']:.0f}")
        table.add_row(row["domain"], str(row["budget"]), *figures)
    return table


def _write(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    run = RunDir(out)
    run.atomic_write("budgets.json", json.dumps(list(rows), indent=1))
    run.atomic_write("budgets.png", budgets_png(rows))
    run.close()
