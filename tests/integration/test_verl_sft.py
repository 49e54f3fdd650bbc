"""`rlcs sft engine=verl` for real: torchrun, gloo, FSDP2, the nano model, images; step by step what our own trainer does."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForImageTextToText, Glm4vMoeConfig, Glm4vMoeForConditionalGeneration

from rlcs.tasks import write_tasks
from rlcs.verl.sft import run_verl_sft
from sft.config import SftConfig
from sft.rundir import RunDir
from sft.train import run_sft

pytest.importorskip("verl")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
NANO = Path(__file__).parents[2] / "assets" / "nano"
STEPS = 6
LOSSES = ("loss", *(f"{part}/loss" for part in ("math", "ocr", "gui", "thinking", "nothink")))
EXACT = {*LOSSES, *(f"eval/{name}" for name in LOSSES), "lr", "grad_norm", "packed_tokens", "target_tokens"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("verl-sft")
    write_tasks(folder / "data", domains=["math", "ocr", "gui"], train=0, heldout=0, sft=10, sft_heldout=3, seed=0)
    return folder


def configured(folder: Path, out: str, **values: Any) -> SftConfig:
    data = {"data": folder / "data" / "sft.jsonl", "eval_data": folder / "data" / "sft_heldout.jsonl"}
    sizes = {"batch_size": 8, "steps": STEPS, "token_budget": 1024, "max_length": 1024, "nothink_ratio": 0.35, "threads": 1}
    every = {"eval_every": 3, "save_every": 2, "keep_checkpoints": 3, "log_every": 100, "loggers": []}
    rates = {"lr": 1e-3, "warmup_steps": 2, "weight_decay": 0.1}
    return SftConfig.model_validate({"model": str(NANO), "out": folder / out, **data, **sizes, **every, **rates, **values})


def on_verl(folder: Path, out: str) -> SftConfig:
    """On two data-parallel ranks."""
    return configured(folder, out, engine="verl", verl={"gpus_per_node": 2})


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunDir(run).metrics_path.read_text().splitlines()]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).state_dict()


@pytest.fixture(scope="module")
def ours(folder: Path) -> Path:
    return run_sft(configured(folder, "ours")).parents[1]


@pytest.fixture(scope="module")
def verls(folder: Path) -> Path:
    checkpoint = run_verl_sft(on_verl(folder, "verls"))
    assert checkpoint == folder / "verls" / "checkpoints" / f"step-{STEPS:06d}"
    return folder / "verls"


def test_every_step_has_the_loss_gradient_and_rate_of_our_own_trainer(ours: Path, verls: Path) -> None:
    expected, found = rows(ours), rows(verls)
    assert [row["step"] for row in found] == list(range(STEPS)) == [row["step"] for row in expected]
    for one, other in zip(found, expected, strict=True):
        losses = [name for name in LOSSES if name in other]  # a batch need not have every kind
        assert losses == [name for name in LOSSES if name in one]
        for name in losses:
            assert one[name] == pytest.approx(other[name], rel=1e-6 if one["step"] == 0 else 1e-4), name
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5 if one["step"] == 0 else 1e-3)
        assert one["lr"] == pytest.approx(other["lr"], rel=1e-9)
        assert (one["packed_tokens"], one["target_tokens"]) == (other["packed_tokens"], other["target_tokens"])
    assert found[-1]["loss"] < found[0]["loss"]


def test_heldout_loss_is_that_of_our_own_trainer(ours: Path, verls: Path) -> None:
    evaluated, expected = ([row for row in rows(run) if "eval/loss" in row] for run in (verls, ours))
    assert [row["step"] for row in evaluated] == [row["step"] for row in expected] == [2, 5]
    for one, other in zip(evaluated, expected, strict=True):
        for name in LOSSES:
            assert one[f"eval/{name}"] == pytest.approx(other[f"eval/{name}"], rel=1e-3), name


def test_the_exported_checkpoint_holds_the_trained_weights(ours: Path, verls: Path) -> None:
    start, found, expected = weights(NANO), *(weights(RunDir(run).last_checkpoint() or run) for run in (verls, ours))
    assert found.keys() == expected.keys()
    moved = sum(float((found[name] - start[name]).square().sum()) for name in found) ** 0.5
    apart = sum(float((found[name] - expected[name]).square().sum()) for name in found) ** 0.5
    assert moved > 0.1 and apart < 0.01 * moved


def test_the_run_directory_says_what_was_run(verls: Path) -> None:
    assert "engine: verl" in (verls / "config.yaml").read_text()
    assert json.loads((verls / "rejected.json").read_text()) == {"data": {}, "eval_data": {}}
    assert sorted(path.name for path in (verls / "verl").glob("global_step_*")) == [
        f"global_step_{step}" for step in (2, 4, STEPS)
    ]


def test_a_run_that_was_killed_after_a_checkpoint_resumes_to_the_same_losses(folder: Path, verls: Path) -> None:
    run, config = folder / "resumed", folder / "resumed.yaml"
    shutil.copytree(verls, run)
    shutil.rmtree(run / "checkpoints")
    for step in (4, STEPS):
        shutil.rmtree(run / "verl" / f"global_step_{step}")
    (run / "verl" / "latest_checkpointed_iteration.txt").write_text("2")
    config.write_text(yaml.safe_dump(on_verl(folder, "resumed").model_dump(mode="json")))
    command = [sys.executable, "-m", "rlcs.cli", "sft", str(config), "--resume"]
    subprocess.run(command, check=True, timeout=600)
    expected, found = rows(verls), rows(run)
    assert [row["step"] for row in found] == list(range(STEPS))
    assert found[:2] == expected[:2]  # kept as they were written
    for one, other in zip(found[2:], expected[2:], strict=True):
        assert one["time"] > other["time"]
        assert {name: one[name] for name in one if name in EXACT} == {name: other[name] for name in other if name in EXACT}
    assert all(
        torch.equal(value, other)
        for value, other in zip(
            weights(run / "checkpoints" / f"step-{STEPS:06d}").values(),
            weights(verls / "checkpoints" / f"step-{STEPS:06d}").values(),
            strict=True,
        )
    )


@pytest.fixture(scope="module")
def mixture(folder: Path) -> Path:
    """A small GLM-4.5V: the nano model's tokens and pictures, experts in all layers but the first."""
    values = json.loads((NANO / "config.json").read_text())
    values |= {"model_type": "glm4v_moe", "architectures": ["Glm4vMoeForConditionalGeneration"]}
    experts = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "num_hidden_layers": 3}
    values["text_config"] |= {"model_type": "glm4v_moe_text", "head_dim": 32, **experts}
    values["vision_config"]["model_type"] = "glm4v_moe_vision"
    torch.manual_seed(0)
    out = folder / "mixture"
    shutil.copytree(NANO, out, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    Glm4vMoeForConditionalGeneration(Glm4vMoeConfig.from_dict(values)).save_pretrained(out)
    return out


def test_a_mixture_of_experts_trains_alike_with_one_example_to_a_rank(folder: Path, mixture: Path) -> None:
    few = {"model": str(mixture), "batch_size": 2, "steps": 3, "eval_data": None}
    expected = run_sft(configured(folder, "mixture-ours", **few))
    found = run_verl_sft(configured(folder, "mixture-verls", engine="verl", verl={"gpus_per_node": 2}, **few))
    for one, other in zip(rows(found.parents[1]), rows(expected.parents[1]), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6 if one["step"] == 0 else 1e-4)
    start, trained, ours = weights(mixture), weights(found), weights(expected)
    assert trained.keys() == ours.keys() and any(".experts." in name for name in trained)
    moved = sum(float((trained[name] - start[name]).square().sum()) for name in trained) ** 0.5
    apart = sum(float((trained[name] - ours[name]).square().sum()) for name in trained) ** 0.5
    assert moved > 0.1 and apart < 0.02 * moved


def test_a_run_whose_processes_fail_says_so_and_how_to_go_on(folder: Path) -> None:
    overrides = ["trainer.profile_interval=[1]"]  # verl wants two numbers
    config = configured(folder, "failed", engine="verl", verl={"gpus_per_node": 1, "overrides": overrides})
    with pytest.raises(ChildProcessError, match=r"ended with status 1; .* --resume goes on"):
        run_verl_sft(config)
    assert not (folder / "failed" / "checkpoints").exists()


def test_what_is_there_already_is_not_overwritten(verls: Path, folder: Path) -> None:
    with pytest.raises(FileExistsError, match="--resume"):
        run_verl_sft(on_verl(folder, "verls"))
