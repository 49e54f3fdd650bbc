"""PPO in the local engine: a run with a critic, and the same run gone on with from a checkpoint of its midst."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig
from rollout.forward import load_policy

pytestmark = pytest.mark.integration


def config(policy: Path, problems: Path, out: Path, **changes: Any) -> RlConfig:
    fixed = {
        "advantage": "gae", "critic": {"lr": 1e-3, "warmup_steps": 1, "epochs": 2, "lam": 0.95}, "seed": 7, "threads": 1,
        "steps": 4, "save_every": 1, "keep_checkpoints": 9, "groups_per_step": 6, "group_size": 4, "updates_per_step": 2,
        "think_tokens": 4, "answer_tokens": 8, "token_budget": 512, "nothink_ratio": 0.5, "verifier_workers": 1,
        "table_every": 0, "loggers": [], "lr": 1e-3, "warmup_steps": 0,
    }  # fmt: skip
    return RlConfig(**{"model": str(policy), "problems": problems, "out": out, **fixed, **changes})


def records(out: Path) -> list[dict[str, Any]]:
    """Metric rows without what a clock says."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    volatile = ("seconds/", "cpu_seconds/", "tokens_per_s/", "peak_memory_mb", "time", "mfu", "policy/mfu")
    return [{key: value for key, value in row.items() if not key.startswith(volatile)} for row in rows]


@pytest.fixture(scope="module")
def whole(coin_policy: Path, coin_problems: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ppo") / "whole"
    run_rl(config(coin_policy, coin_problems, out), console=Console(quiet=True))
    return out


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:06d}" / "model.safetensors")


def test_the_critic_learns_alone_at_first_and_the_policy_after_it(whole: Path, coin_policy: Path) -> None:
    start, rows = load_file(coin_policy / "model.safetensors"), records(whole)
    first, second = weights(whole, 1), weights(whole, 2)
    assert all(torch.equal(first[name], start[name]) for name in start)
    assert any(not torch.equal(second[name], start[name]) for name in start)
    assert "policy/loss" not in rows[0] and rows[1]["policy/grad_norm"] > 0
    assert all(row["critic/grad_norm"] > 0 for row in rows)
    assert rows[0]["critic/vpred_mean"] == 0 and rows[1]["critic/vpred_mean"] > 0


def test_a_run_gone_on_with_from_its_midst_equals_the_unbroken_run(
    whole: Path, coin_policy: Path, coin_problems: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "resumed")
    for step in (3, 4):
        shutil.rmtree(tmp_path / "resumed" / "checkpoints" / f"step-{step:06d}")
    run_rl(config(coin_policy, coin_problems, tmp_path / "resumed"), resume=True, console=Console(quiet=True))
    assert records(tmp_path / "resumed") == records(whole)
    expected, found = weights(whole, 4), weights(tmp_path / "resumed", 4)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    states = [
        torch.load(run / "checkpoints" / "step-000004" / "state.pt", weights_only=True)["critic"]["weights"]
        for run in (whole, tmp_path / "resumed")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_checkpoint_is_a_policy_that_any_run_begins_with(whole: Path, coin_problems: Path, tmp_path: Path) -> None:
    checkpoint = whole / "checkpoints" / "step-000004"
    model, _ = load_policy(str(checkpoint))
    assert model.get_output_embeddings().weight.shape[0] > 1
    run_rl(config(checkpoint, coin_problems, tmp_path / "grpo", steps=1, advantage="grpo"), console=Console(quiet=True))
