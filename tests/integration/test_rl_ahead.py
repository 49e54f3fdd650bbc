"""`max_staleness: 1`: each step's rollouts are the former policy's, and a run that is killed and resumed is the whole run."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

from rlcs.problems import load_problems
from rlcs.rl import run_rl
from rlcs.rl_config import HeldoutConfig, RlConfig
from rollout.chat import ChatRenderer
from rollout.encoded import Encoded
from rollout.forward import hidden_states, load_policy, pack, token_logprobs

pytestmark = pytest.mark.integration

STEPS = 5
CHILD = "import sys, yaml; from rlcs.rl import run_rl; from rlcs.rl_config import RlConfig; " \
    "run_rl(RlConfig(**yaml.safe_load(open(sys.argv[1]))))"  # fmt: skip
VOLATILE = ("seconds", "cpu_seconds", "tokens_per_s/", "peak_memory_mb", "time", "mfu", "policy/mfu")


def config(policy: Path, problems: Path, out: Path, **changes: Any) -> RlConfig:
    """With refills, budgets that are drawn, several updates and held-out problems: all that draws or uses the engine."""
    settings: dict[str, Any] = {
        "model": str(policy),
        "problems": problems,
        "out": out,
        "seed": 3,
        "threads": 1,
        "steps": STEPS,
        "save_every": 1,
        "keep_checkpoints": STEPS,
        "groups_per_step": 6,
        "group_size": 3,
        "sampler": "dapo",
        "updates_per_step": 2,
        "max_staleness": 1,
        "think_tokens": (3, 6),
        "answer_tokens": 8,
        "token_budget": 512,
        "nothink_ratio": 0.5,
        "lr": 3e-3,
        "difficulty_every": 1,
        "verifier_workers": 1,
        "table_every": 0,
        "loggers": [],
        "heldout": HeldoutConfig(problems=problems, every_rollouts=40, max_per_domain=2),
    }
    return RlConfig(**(settings | changes))


def records(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith(VOLATILE)} for row in rows]


def tables(out: Path, kind: str) -> list[list[dict[str, Any]]]:
    return [pq.read_table(path).to_pylist() for path in sorted((out / kind).glob("*.parquet"))]


@pytest.fixture(scope="module")
def whole(coin_policy: Path, coin_problems: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ahead") / "whole"
    run_rl(config(coin_policy, coin_problems, out), console=Console(quiet=True))
    return out


def kill_after(out: Path, process: subprocess.Popen[bytes], steps: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "metrics.jsonl").exists() and len((out / "metrics.jsonl").read_text().splitlines()) >= steps:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"


def test_a_run_that_is_killed_while_it_generates_ahead_and_resumed_is_the_whole_run(
    whole: Path, coin_policy: Path, coin_problems: Path, tmp_path: Path
) -> None:
    settings = config(coin_policy, coin_problems, tmp_path / "killed")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "config.yaml")], stdout=subprocess.DEVNULL)
    kill_after(settings.out, process, steps=3)
    run_rl(settings, resume=True, console=Console(quiet=True))

    for name in ("metrics.jsonl", "heldout.jsonl"):
        assert records(settings.out / name) == records(whole / name)
    rows = records(whole / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert any(row["groups_generated"] > 6 for row in rows[1:]), "no step had to ask for more groups"
    for kind in ("rollouts", "difficulty"):
        assert tables(settings.out, kind) == tables(whole, kind)
    final = f"checkpoints/step-{STEPS:06d}/model.safetensors"
    first, second = load_file(whole / final), load_file(settings.out / final)
    assert all(torch.equal(first[name], second[name]) for name in first)


def mean_logprob(model: Any, renderer: ChatRenderer, prompt: Encoded, response: str) -> float:
    """Of a response without forced tokens, ended by its stop token."""
    ids = np.array([*renderer.special.encode(response), renderer.special.end_of_turn_id])
    whole = prompt.extended(ids, np.ones(len(ids), bool))
    with torch.no_grad():
        hidden_TD = hidden_states(model, pack([whole]))[len(prompt.input_ids) - 1 : -1]
        logprobs_T = token_logprobs(model, hidden_TD, torch.from_numpy(ids))
    assert isinstance(logprobs_T, torch.Tensor)
    return float(logprobs_T.mean())


def test_rollouts_are_those_of_the_policy_before_the_last_update(whole: Path, coin_policy: Path, coin_problems: Path) -> None:
    """Their log-probabilities, computed anew under the checkpoint that made them and under the one after it."""
    problems = {problem.id: problem for problem in load_problems(coin_problems)}
    assert [row["staleness/max"] for row in records(whole / "metrics.jsonl")] == [0, 1, 1, 1, 1]
    near, far = [], []
    for step in (2, 3):
        former, _ = load_policy(str(whole / f"checkpoints/step-{step - 1:06d}"))
        latter, processor = load_policy(str(whole / f"checkpoints/step-{step:06d}"))
        renderer = ChatRenderer(processor)
        rows = tables(whole, "rollouts")[step]
        first = [row for row in rows if row["weight_version"] == step - 1]
        assert len(first) == 6 * 3 and all(row["weight_version"] == step for row in rows if row not in first)
        for row in first:
            if row["finish_reason"] == "stop" and not row["forced_tokens"]:
                problem = problems[row["id"]]
                prompt = renderer.prompt(problem.messages, root=problem.root, thinking=row["thinking"])
                said = row["response"].removeprefix(prompt.prefill)
                found = [mean_logprob(model, renderer, prompt.encoded, said) for model in (former, latter)]
                near.append(abs(found[0] - row["mean_logprob"]))
                far.append(abs(found[1] - row["mean_logprob"]))
    assert len(near) >= 10
    assert max(near) < 1e-4 < np.median(far)


def test_without_an_update_a_run_ahead_generates_what_an_exact_one_does(
    coin_policy: Path, coin_problems: Path, tmp_path: Path
) -> None:
    """At a rate of next to nothing: same problems, same responses, same rewards."""
    found = {}
    for staleness in (0, 1):
        out = tmp_path / str(staleness)
        changes = {"max_staleness": staleness, "lr": 1e-30, "steps": 3, "save_every": 3, "sampler": "uniform", "heldout": None}
        run_rl(config(coin_policy, coin_problems, out, **changes), console=Console(quiet=True))
        rows = [row for table in tables(out, "rollouts") for row in table]
        found[staleness] = [{**row, "weight_version": 0} for row in rows]
    assert found[0] == found[1] and len(found[0]) == 3 * 6 * 3
