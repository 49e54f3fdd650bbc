"""The RL learner with adapters, and with activations computed anew through attention over shared prompts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from transformers import PreTrainedModel

from rlcs.learner import Learner, TrainSample
from rlcs.nano.build import build_model, build_processor
from rlcs.rl_config import RlConfig
from rollout.chat import ChatRenderer
from rollout.engine import SamplingParams, ThinkingBudget
from rollout.lora import plain_parameters
from rollout.transformers_engine import TransformersEngine
from sft.policy import trained_policy


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    build_model(seed=0, hidden_size=96, layers=2, vision_size=32, vision_depth=1).save_pretrained(path)
    build_processor().save_pretrained(path)
    return path


def settings(base: Path, **changes: Any) -> RlConfig:
    given = {"model": str(base), "problems": "p.jsonl", "out": "o", "warmup_steps": 0, "grad_clip": 1e9, "token_budget": 300}
    return RlConfig(**{**given, **changes})


@pytest.fixture(scope="module")
def samples(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[TrainSample]:
    """Responses of the base in groups of four, one with a picture."""
    model, processor = trained_policy(settings(base), None)
    renderer, root = ChatRenderer(processor), tmp_path_factory.mktemp("images")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 84, 3), dtype=np.uint8)).save(root / "a.png")
    contents: list[Any] = ["Compute 1+2", [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Read"}]]
    prompts = [renderer.prompt([{"role": "user", "content": content}], root=root, thinking=True) for content in contents]
    generator = torch.Generator().manual_seed(0)
    engine = TransformersEngine(model, renderer)
    groups = engine.generate(prompts, 4, SamplingParams(max_new_tokens=24), ThinkingBudget(6, 9), generator=generator)
    rng, made = np.random.default_rng(0), []
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            own = ~completion.forced
            encoded = prompt.encoded.extended(completion.token_ids, own)
            made.append(TrainSample(encoded, completion.logprobs[own], float(rng.normal()), prompt.encoded))
    return made


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_an_update_with_adapters_moves_the_merged_targets_alone_and_is_on_policy_at_first(
    base: Path, samples: list[TrainSample]
) -> None:
    config = settings(base, lora={"rank": 4, "alpha": 8.0}, lr=1e-2)
    model, _ = trained_policy(config, None)
    learner = Learner(model, config)
    before = {name: value.clone() for name, value in plain_parameters(model)}
    metrics = learner.update(samples, 0, np.random.default_rng(0))
    assert metrics["ratio_max"] == pytest.approx(1, abs=1e-3) and metrics["grad_norm"] > 0
    assert set(gradients(model)) == {name for name, parameter in model.named_parameters() if ".lora_" in name}
    moved = {name for name, value in plain_parameters(model) if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("model.language_model.layers.") and name.endswith("proj.weight") for name in moved)
    states = learner.optimizer.state_dict()["state"]
    assert sum(state["exp_avg"].numel() for state in states.values()) == sum(p.numel() for p in gradients(model).values())


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8.0, "targets": "all"}])
def test_gradients_are_the_same_with_activations_computed_anew(
    base: Path, samples: list[TrainSample], lora: dict[str, Any] | None
) -> None:
    found = []
    for again in (False, True):
        config = settings(base, lora=lora, gradient_checkpointing=again)
        model, _ = trained_policy(config, None)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.constant_(parameter, 0.01)
        Learner(model, config).update(samples, 0, np.random.default_rng(0))
        found.append(gradients(model))
    plain, checkpointed = found
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_dropout_in_the_adapters_of_a_policy_is_refused(base: Path) -> None:
    with pytest.raises(ValidationError, match=r"lora.dropout is 0.1: .* another policy"):
        settings(base, lora={"dropout": 0.1})


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_memory_that_runs_out_is_explained_by_the_pack_and_its_longest_sample(
    base: Path, samples: list[TrainSample], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    config = settings(base)
    model, _ = trained_policy(config, None)
    monkeypatch.setattr(*((model.model.language_model, "forward") if where == "forward" else (torch.Tensor, "backward")), short)
    named = [replace(sample, id=f"p{number}") for number, sample in enumerate(samples)]
    longest = max(named, key=lambda sample: len(sample.encoded.input_ids))
    with pytest.raises(
        MemoryError, match=r"cpu in a pack of \d+ tokens, the longest sample, to p\d, of \d+; lower token_budget"
    ):
        Learner(model, config).update([longest], 0, np.random.default_rng(0))
