"""`rlcs rl`, `rlcs eval` and `rlcs grade` with `rollout: vllm`: real vLLM processes on the CPU build."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import rlcs.learner
import rlcs.rl
from rlcs.cli import app
from rollout.chat import ChatRenderer
from rollout.options import VllmOptions
from rollout.vllm_engine import VllmEngine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
ASSETS = Path(__file__).parents[2] / "assets" / "nano"
VLLM = ["rollout=vllm", "vllm.eager=true", "vllm.max_length=512", "vllm.max_sequences=32"]
BUDGETS = ["think_tokens=16", "answer_tokens=24"]


def rlcs_cli(*arguments: str) -> str:
    found = CliRunner().invoke(app, list(arguments))
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks") / "data"
    rlcs_cli("tasks", str(folder), "--train", "20", "--heldout", "5", "--sft", "5", "--sft-heldout", "5")
    return folder


def config(folder: Path, **values: object) -> str:
    path = folder / "config.yaml"
    path.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items()))
    return str(path)


def test_training_on_vllm_rollouts_serves_each_steps_weights_and_resumes(
    coin_policy: Path, coin_problems: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    fixed = {"model": str(coin_policy), "problems": str(coin_problems), "out": str(out), "steps": 3, "save_every": 2}
    path = config(tmp_path, **fixed, groups_per_step=6, group_size=4, lr=0.003, sampler="rlcs", loggers=[])
    rlcs_cli("rl", path, *VLLM, *BUDGETS, "steps=2")
    rlcs_cli("rl", path, *VLLM, *BUDGETS, "--resume")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["groups_trained"]]
    assert [row["step"] for row in rows] == [0, 1, 2] and len(trained) > 1
    # Were the weights of an earlier step served, so high a learning rate would show.
    assert max(row["policy/logprob_gap_max"] for row in trained) < 1e-2
    assert max(row["policy/rollout_kl"] for row in trained) < 1e-5


def test_evaluation_and_grading_on_vllm_write_what_they_write_on_transformers(data: Path, tmp_path: Path) -> None:
    greedy = ["samples=1", "temperature=0.00001", "modes=[nothink]"]  # as good as greedy: both engines say the same
    found = {}
    for name, engine in (("transformers", []), ("vllm", VLLM)):
        folder = tmp_path / name
        folder.mkdir()
        graded = data / f"{name}.jsonl"
        path = config(folder, model=str(ASSETS), problems=str(data / "heldout.jsonl"), out=str(graded))
        rlcs_cli("grade", path, *engine, *BUDGETS, *greedy)
        lines = [json.loads(line) for line in graded.read_text().splitlines()]
        found[name] = {line["id"]: line["pass_rate"] for line in lines}
        path = config(folder, model=str(ASSETS), problems=str(data / "heldout.jsonl"), out=str(folder / "eval"))
        rlcs_cli("eval", path, *engine, *BUDGETS, "samples=1")
        assert json.loads((folder / "eval" / "eval.json").read_text())["responses"] == 15 * 2 * 2
    assert found["vllm"] == found["transformers"] and len(found["vllm"]) == 15


@pytest.fixture
def engine(coin_policy: Path) -> Iterator[VllmEngine]:
    """An engine for several runs, few sequences at once."""
    options = VllmOptions(max_sequences=4, max_length=512, eager=True)
    engine = VllmEngine(coin_policy, ChatRenderer.from_pretrained(coin_policy), options)
    close, engine.close = engine.close, lambda: None  # type: ignore[method-assign]
    yield engine
    close()


def rollouts(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "rollouts").iterdir()) for row in pq.read_table(path).to_pylist()]


def test_a_run_whose_engine_is_killed_in_a_step_ends_as_one_that_was_not_disturbed(
    engine: VllmEngine, coin_policy: Path, coin_problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generating ahead too, where the engine is killed while the weights that it has to be given again are being trained."""
    monkeypatch.setattr(rlcs.rl, "build_engine", lambda *arguments: engine)
    stream, calls = engine.stream, 0

    def killed_in_its_third_call(*arguments: Any, **options: Any) -> Iterator[Any]:
        nonlocal calls
        calls += 1
        victims = engine.process_ids() if calls == 3 else []
        for group in stream(*arguments, **options):
            yield group
            while victims:  # the first group is there, others are under way
                os.kill(victims.pop(), signal.SIGKILL)

    for staleness in (0, 1):
        found, calls = {}, 0
        for name in ("undisturbed", "killed"):
            engine.stream = stream if name == "undisturbed" else killed_in_its_third_call  # type: ignore[method-assign]
            out = tmp_path / f"{name}-{staleness}"
            fixed = {"model": str(coin_policy), "problems": str(coin_problems), "out": str(out), "steps": 3}
            path = config(tmp_path, **fixed, groups_per_step=6, group_size=4, lr=0.003, sampler="uniform", loggers=[])
            rlcs_cli("rl", path, "rollout=vllm", f"max_staleness={staleness}", *BUDGETS)
            metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            found[name] = rollouts(out), metrics
        assert engine.restarts == 1 + staleness and calls == 3
        (rows, metrics), (rows_killed, metrics_killed) = found["undisturbed"], found["killed"]
        assert len(rows) == 3 * 6 * 4
        for one, other in zip(rows, rows_killed, strict=True):
            assert {**one, "mean_logprob": 0, "advantage": 0} == {**other, "mean_logprob": 0, "advantage": 0}
            assert one["mean_logprob"] == pytest.approx(other["mean_logprob"], abs=1e-4)
        for one, other in zip(metrics, metrics_killed, strict=True):
            assert one.keys() == other.keys()
            for name in (
                "reward",
                "pass_rate",
                "response_length",
                "groups_trained",
                "entropy",
                "policy/grad_norm",
                "policy/loss",
            ):
                assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5)
            if other["staleness/max"] == 0:
                assert other["policy/logprob_gap_max"] < 1e-2
        assert [row["staleness/max"] for row in metrics_killed] == [0, staleness, staleness]


def test_rollouts_in_half_precision_are_corrected_by_capped_importance_weights(
    coin_policy: Path, coin_problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, ratios, weights = rlcs.learner.truncated_importance, [], []

    def recorded(old_T: torch.Tensor, rollout_T: torch.Tensor, cap: float) -> torch.Tensor:
        ratios.append((old_T - rollout_T).exp().numpy())
        weights.append(plain(old_T, rollout_T, cap))
        return weights[-1]

    monkeypatch.setattr(rlcs.learner, "truncated_importance", recorded)
    fixed = {"model": str(coin_policy), "problems": str(coin_problems), "out": str(tmp_path / "run"), "steps": 2}
    path = config(tmp_path, **fixed, groups_per_step=6, group_size=4, lr=0.003, sampler="uniform", loggers=[])
    half = ["vllm.dtype=bfloat16", "old_logprobs=trainer", "importance_cap=1.001"]
    rlcs_cli("rl", path, *VLLM, *BUDGETS, *half)
    ratio, weight = np.concatenate(ratios), torch.cat(weights).numpy()
    np.testing.assert_allclose(weight, np.minimum(ratio, 1.001), rtol=1e-5)
    assert ratio.max() > 1.001 > ratio.min()  # some were capped, some were not
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        # bfloat16 keeps 8 bits: far from float32's 1e-5, and far from the weights of another step.
        assert 1e-3 < row["policy/logprob_gap_max"] < 0.5
        assert 0 < row["policy/logprob_gap_mean"] < 0.05 and 0 < row["policy/rollout_kl"] < 0.01
        assert row["policy/ratio_max"] == pytest.approx(1.0)  # of the trainer to itself
