"""SFT with LoRA, and with activations computed anew: what is trained, what a checkpoint holds, how a run goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from safetensors.torch import load_file
from sft_lines import Line, Write
from transformers import AutoModelForImageTextToText, PreTrainedModel, Qwen2VLConfig

from rollout.attention import VARLEN
from rollout.chat import ChatRenderer
from rollout.lora import ADAPTER, plain_state_dict
from sft.config import SftConfig
from sft.lanes import Lanes
from sft.optimizers import build_optimizer
from sft.policy import refuse_unknown_family, trained_policy
from sft.rendering import Renderings
from sft.train import run_sft
from sft.update import Sample, trained_groups, update

LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.2}
STEADY = {"batch_size": 6, "nothink_ratio": 0.0, "lora": {**LORA, "dropout": 0.0}, "lr": 1e-2}
"""Every step on the same examples, so that losses can be compared."""


@pytest.fixture
def settings(base: Path, write: Write, lines: list[Line], tmp_path: Path) -> dict[str, Any]:
    return {
        "model": str(base),
        "data": write(lines),
        "out": tmp_path / "run",
        "steps": 4,
        "batch_size": 4,
        "lr": 3e-3,
        "warmup_steps": 2,
        "min_lr_ratio": 1.0,
        "token_budget": 200,
        "nothink_ratio": 0.5,
        "lora": LORA,
        "loggers": [],
    }


def train(settings: dict[str, Any], *, resume: bool = False, **changes: Any) -> Path:
    return run_sft(SftConfig(**{**settings, **changes}), resume=resume, console=Console(quiet=True))


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


def test_training_moves_the_targets_merged_weights_and_nothing_else(settings: dict[str, Any], base: Path) -> None:
    final = train(settings, **STEADY)
    start, end = tensors(base), tensors(final)
    assert start.keys() == end.keys()
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    decoder = {name for name in start if name.startswith("model.language_model.layers.") and name.endswith("proj.weight")}
    assert moved == decoder
    assert losses(settings["out"])[-1] < losses(settings["out"])[0]


def test_a_split_run_with_dropout_equals_the_whole_run(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = train(settings, out=tmp_path / "whole")
    train(settings, steps=2)
    split = train(settings, resume=True)
    assert losses(settings["out"]) == losses(tmp_path / "whole")
    for file in ("model.safetensors", f"{ADAPTER}/adapter_model.safetensors"):
        first, second = load_file(whole / file), load_file(split / file)
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_checkpoint_is_a_plain_model_that_a_run_without_lora_begins_with(settings: dict[str, Any], tmp_path: Path) -> None:
    final = train(settings, **STEADY)
    model, _ = trained_policy(SftConfig(**settings), final)
    plain = AutoModelForImageTextToText.from_pretrained(final)
    expected = plain_state_dict(model)
    assert all(torch.equal(value, expected[name]) for name, value in plain.state_dict().items())
    train(settings, model=str(settings["out"]), out=tmp_path / "second", **STEADY | {"lora": None})
    assert losses(tmp_path / "second")[0] < losses(settings["out"])[0]


def test_a_run_goes_on_only_with_its_own_lora_settings_and_base(settings: dict[str, Any], base: Path, tmp_path: Path) -> None:
    own = tmp_path / "own base"
    shutil.copytree(base, own)
    settings["model"] = str(own)
    train(settings, steps=1)
    with pytest.raises(ValueError, match=r"lora.rank 4 -> absent.*Resume with the old values"):
        train(settings, resume=True, lora=None)
    with pytest.raises(ValueError, match=r"lora.rank 4 -> 2\. Resume with the old values"):
        train(settings, resume=True, lora={**LORA, "rank": 2})
    model = AutoModelForImageTextToText.from_pretrained(own)
    with torch.no_grad():
        model.lm_head.weight.mul_(1.1)
    model.save_pretrained(own)
    with pytest.raises(ValueError, match="trained on other weights than those now in"):
        train(settings, resume=True)


def test_a_run_without_lora_does_not_go_on_with_it(settings: dict[str, Any]) -> None:
    train(settings, steps=1, lora=None)
    with pytest.raises(ValueError, match=r"lora.rank absent -> 4"):
        train(settings, resume=True)


def test_targets_that_no_layer_bears_stop_the_run_before_it_begins(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"lora.targets: no linear layer is called 'query'"):
        train(settings, lora={"targets": ["query"]})
    assert [path.name for path in settings["out"].iterdir()] == ["lock"]
    with pytest.raises(ValidationError, match="at least 1 item"):
        train(settings, lora={"targets": []})


@pytest.fixture
def samples(renderer: ChatRenderer, lines: list[Line], write: Write) -> list[Sample]:
    from sft.data import load_examples

    renderings = Renderings(renderer, cache_bytes=1 << 20)
    return [renderings.sample(example, nothink=False) for example in load_examples(write(lines)).examples]


def gradients(model: PreTrainedModel, samples: list[Sample]) -> dict[str, torch.Tensor]:
    config = SftConfig(model="m", data="d", out="o", lr=1e-9)  # type: ignore[arg-type]
    update(model, build_optimizer(trained_groups(model, config), config), samples, token_budget=200, grad_clip=1e9)
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("lora", [None, {**LORA, "dropout": 0.0, "targets": "all"}])
def test_gradients_are_the_same_with_activations_computed_anew(
    base: Path, samples: list[Sample], lora: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sft.update.plan_lanes", lambda model, budget, units: Lanes(1, budget)
    )  # hooks see their own thread only
    found, saved = [], []
    for again in (False, True):
        config = SftConfig(model=str(base), data="d", out="o", lora=lora, gradient_checkpointing=again)  # type: ignore[arg-type]
        model, _ = trained_policy(config, None)
        if lora:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if "lora_B" in name:
                        parameter.fill_(0.01)
        kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found.append(gradients(model, samples))
        saved.append(kept)
        assert model.config._attn_implementation == VARLEN
    plain, checkpointed = found
    assert plain.keys() == checkpointed.keys() and any("visual" in name for name in plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))
    assert saved[1] < saved[0] / 2, "activations were kept as before"


def test_a_vision_language_family_whose_images_would_be_computed_wrongly_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x: a vision-language model of family 'qwen2_vl'; expected glm4v"):
        refuse_unknown_family(Qwen2VLConfig(), "x")
