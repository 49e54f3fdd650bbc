"""A killed RL run, resumed, is the run that was never stopped: same draws, same losses, same weights bit for bit."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig

pytestmark = pytest.mark.integration

STEPS, SAVE_EVERY = 6, 2
CHILD = "import sys, yaml; from rlcs.rl import run_rl; from rlcs.rl_config import RlConfig; " \
    "run_rl(RlConfig(**yaml.safe_load(open(sys.argv[1]))))"  # fmt: skip


def config(policy: Path, problems: Path, out: Path) -> RlConfig:
    return RlConfig(
        model=str(policy),
        problems=problems,
        out=out,
        seed=7,
        threads=1,
        steps=STEPS,
        save_every=SAVE_EVERY,
        groups_per_step=6,
        group_size=4,
        updates_per_step=2,
        think_tokens=4,
        answer_tokens=8,
        token_budget=512,
        nothink_ratio=0.5,
        difficulty_every=1,
        verifier_workers=1,
        table_every=3,
    )


def records(out: Path) -> list[dict[str, Any]]:
    """Metric rows without what a clock says."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    volatile = ("seconds/", "cpu_seconds/", "tokens_per_s/", "peak_memory_mb", "time", "mfu", "policy/mfu")
    return [{key: value for key, value in row.items() if not key.startswith(volatile)} for row in rows]


def tables(out: Path, kind: str) -> list[list[dict[str, Any]]]:
    return [pq.read_table(path).to_pylist() for path in sorted((out / kind).glob("*.parquet"))]


def kill_after(out: Path, process: subprocess.Popen[bytes], steps: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "metrics.jsonl").exists() and len((out / "metrics.jsonl").read_text().splitlines()) >= steps:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"


def test_a_run_killed_between_checkpoints_and_resumed_equals_the_unkilled_run(
    coin_policy: Path, coin_problems: Path, tmp_path: Path
) -> None:
    quiet = Console(quiet=True)
    whole = run_rl(config(coin_policy, coin_problems, tmp_path / "whole"), console=quiet)

    settings = config(coin_policy, coin_problems, tmp_path / "killed")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "config.yaml")], stdout=subprocess.DEVNULL)
    kill_after(settings.out, process, steps=SAVE_EVERY + 1)
    resumed = run_rl(settings, resume=True, console=quiet)

    expected = records(tmp_path / "whole")
    assert [row["step"] for row in expected] == list(range(STEPS))
    assert any(row["policy/loss"] != 0 for row in expected if "policy/loss" in row), "nothing was learned in this test"
    assert records(settings.out) == expected
    for kind in ("rollouts", "difficulty"):
        assert tables(settings.out, kind) == tables(tmp_path / "whole", kind)
    first, second = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = load_file(coin_policy / "model.safetensors")
    assert any(not torch.equal(first[name], start[name]) for name in first)


def test_a_run_is_resumed_only_with_its_own_problems(coin_policy: Path, coin_problems: Path, tmp_path: Path) -> None:
    settings = config(coin_policy, coin_problems, tmp_path / "run").model_copy(update={"steps": 1})
    run_rl(settings, console=Console(quiet=True))
    with pytest.raises(FileExistsError, match="resume"):
        run_rl(settings, console=Console(quiet=True))
    lines = coin_problems.read_text().splitlines()
    other = coin_problems.with_name("other.jsonl")
    other.write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(ValueError, match="problems: 1 removed: p0"):
        run_rl(settings.model_copy(update={"problems": other, "steps": 2}), resume=True, console=Console(quiet=True))
