"""RL with LoRA: a stopped run goes on exactly, and what it leaves is a plain checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from rlcs.eval_config import EvalConfig
from rlcs.evaluate import run_eval
from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig
from rollout.lora import ADAPTER

pytestmark = pytest.mark.integration


def config(policy: Path, problems: Path, out: Path, **changes: Any) -> RlConfig:
    given: dict[str, Any] = {
        "model": str(policy),
        "problems": problems,
        "out": out,
        "seed": 7,
        "threads": 1,
        "steps": 4,
        "save_every": 2,
        "groups_per_step": 6,
        "group_size": 4,
        "updates_per_step": 2,
        "think_tokens": 4,
        "answer_tokens": 8,
        "token_budget": 512,
        "lr": 3e-3,
        "lora": {"rank": 4, "alpha": 8.0},
        "gradient_checkpointing": True,
        "verifier_workers": 1,
        "table_every": 0,
        "loggers": [],
    }
    return RlConfig(**{**given, **changes})


def records(out: Path) -> list[dict[str, Any]]:
    """Metric rows without what a clock says."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    volatile = ("seconds", "cpu_seconds", "rollout/seconds", "tokens_per_s", "peak_memory_mb", "time", "mfu", "policy/mfu")
    return [{key: value for key, value in row.items() if not key.startswith(volatile) and "seconds" not in key} for row in rows]


def test_a_run_with_adapters_stopped_and_resumed_equals_the_whole_run_and_leaves_a_plain_checkpoint(
    coin_policy: Path, coin_problems: Path, tmp_path: Path
) -> None:
    quiet = Console(quiet=True)
    whole = run_rl(config(coin_policy, coin_problems, tmp_path / "whole"), console=quiet)
    run_rl(config(coin_policy, coin_problems, tmp_path / "split", steps=2), console=quiet)
    split = run_rl(config(coin_policy, coin_problems, tmp_path / "split"), resume=True, console=quiet)
    rows = records(tmp_path / "whole")
    assert records(tmp_path / "split") == rows and any(row.get("policy/loss") for row in rows)
    # Sampled from active adapters, trained through them: one policy at every step.
    assert max(row.get("policy/logprob_gap_max", 0.0) for row in rows) < 1e-3
    for file in ("model.safetensors", f"{ADAPTER}/adapter_model.safetensors"):
        first, second = load_file(whole / file), load_file(split / file)
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    start, end = load_file(coin_policy / "model.safetensors"), load_file(whole / "model.safetensors")
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved and all(".language_model.layers." in name and name.endswith("proj.weight") for name in moved)
    settings = {"model": str(tmp_path / "whole"), "problems": coin_problems, "out": tmp_path / "eval", "samples": 1}
    found = run_eval(EvalConfig(**settings, think_tokens=4, answer_tokens=8, verifier_workers=1), console=quiet)
    assert found.responses.num_rows > 0
