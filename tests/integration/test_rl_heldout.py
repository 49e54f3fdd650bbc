"""Held-out problems answered while a run goes on: the rows are right, cost the run nothing and survive a resume."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rlcs.rl import run_rl
from rlcs.rl_config import HeldoutConfig, RlConfig

pytestmark = pytest.mark.integration

QUIET = Console(quiet=True)


def config(policy: Path, problems: Path, out: Path, **changes: Any) -> RlConfig:
    settings: dict[str, Any] = {
        "model": str(policy),
        "problems": problems,
        "out": out,
        "threads": 1,
        "steps": 6,
        "save_every": 2,
        "groups_per_step": 5,
        "group_size": 4,
        "think_tokens": 4,
        "answer_tokens": 8,
        "token_budget": 512,
        "nothink_ratio": 0.5,
        "verifier_workers": 1,
        "table_every": 0,
        "loggers": [],
    }
    return RlConfig(**(settings | changes))


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def without_clocks(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("seconds", "cpu_seconds")}


def test_heldout_rows_follow_the_rollouts_and_leave_training_as_it_is(
    coin_policy: Path, coin_problems: Path, tmp_path: Path
) -> None:
    heldout = HeldoutConfig(problems=coin_problems, every_rollouts=40, samples=3, max_per_domain=4)
    run_rl(config(coin_policy, coin_problems, tmp_path / "with", heldout=heldout), console=QUIET)
    run_rl(config(coin_policy, coin_problems, tmp_path / "without"), console=QUIET)

    metrics, plain = rows(tmp_path / "with", "metrics.jsonl"), rows(tmp_path / "without", "metrics.jsonl")
    assert [row["policy/loss"] for row in metrics] == [row["policy/loss"] for row in plain]
    spent = [0, *(int(sum(row["rollouts"] for row in metrics[:done])) for done in range(1, len(metrics) + 1))]
    curve = rows(tmp_path / "with", "heldout.jsonl")
    assert [row["rollouts"] for row in curve] == [spent[row["updates"]] for row in curve]
    assert (curve[0]["updates"], curve[-1]["updates"]) == (0, 6)
    assert all(later["rollouts"] - row["rollouts"] >= 40 for row, later in pairwise(curve[:-1]))
    # Four problems a domain, two modes, three responses.
    assert all(row["responses"] == {"math": 24, "ocr": 24} for row in curve)
    assert metrics[-1]["heldout/math/pass_rate"] == curve[-1]["pass_rate"]["math"]
    assert 0 < curve[0]["pass_rate"]["math"] < 1


def test_a_run_ends_with_the_step_that_reaches_its_rollouts(coin_policy: Path, coin_problems: Path, tmp_path: Path) -> None:
    final = run_rl(config(coin_policy, coin_problems, tmp_path / "run", steps=1000, max_rollouts=45), console=QUIET)
    spent = [row["rollouts"] for row in rows(tmp_path / "run", "metrics.jsonl")]
    assert sum(spent) >= 45 > sum(spent[:-1])
    assert final.name == f"step-{len(spent):06d}"


def test_heldout_rows_of_a_resumed_run_are_those_of_the_whole_run(
    coin_policy: Path, coin_problems: Path, tmp_path: Path
) -> None:
    heldout = HeldoutConfig(problems=coin_problems, every_rollouts=20, max_per_domain=3)
    run_rl(config(coin_policy, coin_problems, tmp_path / "whole", heldout=heldout), console=QUIET)
    run_rl(config(coin_policy, coin_problems, tmp_path / "split", heldout=heldout, steps=2), console=QUIET)
    run_rl(config(coin_policy, coin_problems, tmp_path / "split", heldout=heldout), console=QUIET, resume=True)
    whole, split = (rows(tmp_path / name, "heldout.jsonl") for name in ("whole", "split"))
    assert [without_clocks(row) for row in whole] == [without_clocks(row) for row in split]
