"""The reference policy of a KL penalty: frozen, averaged, and with LoRA the model without its adapters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from rlcs.learner import Learner, TrainSample
from rlcs.nano.build import build_model, build_processor
from rlcs.reference import build_reference
from rlcs.rl_config import RlConfig
from rollout.chat import ChatRenderer
from rollout.engine import SamplingParams
from rollout.forward import load_policy
from rollout.lora import adapter_parameters, add_adapters
from rollout.transformers_engine import TransformersEngine


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy")
    build_model(seed=0, hidden_size=96, layers=2, vision_size=32, vision_depth=1).save_pretrained(path)
    build_processor().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def samples(saved: Path) -> list[TrainSample]:
    """Eight responses of the policy itself, half of them good."""
    model, processor = load_policy(str(saved))
    renderer = ChatRenderer(processor)
    prompt = renderer.prompt([{"role": "user", "content": "2+2?"}], root=Path(), thinking=False)
    generator = torch.Generator().manual_seed(0)
    [group] = TransformersEngine(model, renderer).generate([prompt], 8, SamplingParams(max_new_tokens=12), generator=generator)
    return [
        TrainSample(
            prompt.encoded.extended(one.token_ids, ~one.forced), one.logprobs[~one.forced], (-1.0) ** number, prompt.encoded
        )
        for number, one in enumerate(group)
    ]


def settings(saved: Path, **changes: Any) -> RlConfig:
    fixed = {"model": str(saved), "problems": "p.jsonl", "out": "o", "warmup_steps": 0, "lr": 1e-3, "kl_coef": 0.1}
    return RlConfig(**{**fixed, **changes})


def learner_of(config: RlConfig) -> Learner:
    model, _ = load_policy(config.model, dtype=config.dtype)
    if config.lora is not None:
        add_adapters(model, **config.lora.model_dump(), seed=0)
    return Learner(model, config, build_reference(model, config))


def weights(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8}])
def test_the_divergence_starts_at_zero_and_grows_as_the_policy_moves(
    saved: Path, samples: list[TrainSample], lora: Any
) -> None:
    learner, rng = learner_of(settings(saved, lora=lora)), np.random.default_rng(0)
    found = [learner.update(samples, step, rng)["reference_kl"] for step in range(4)]
    assert found[0] == pytest.approx(0.0, abs=1e-5)
    assert found[3] > found[1] > 1e-5


def test_a_strong_penalty_keeps_the_policy_near(saved: Path, samples: list[TrainSample]) -> None:
    ends = {}
    for coef in (1e-6, 20.0):
        learner, rng = learner_of(settings(saved, kl_coef=coef)), np.random.default_rng(0)
        ends[coef] = [learner.update(samples, step, rng)["reference_kl"] for step in range(6)][-1]
    assert ends[20.0] < 0.3 * ends[1e-6]


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_at_the_reference_itself_the_penalty_has_no_gradient(saved: Path, samples: list[TrainSample], estimator: str) -> None:
    dull = [TrainSample(one.encoded, one.rollout_logprobs, 0.0, one.prompt) for one in samples]
    found = learner_of(settings(saved, kl_estimator=estimator)).update(dull, 0, np.random.default_rng(0))
    assert found["grad_norm"] < 1e-4


def test_after_a_lora_pass_of_the_reference_the_adapters_are_trained_on(saved: Path, samples: list[TrainSample]) -> None:
    learner = learner_of(settings(saved, lora={"rank": 4, "alpha": 8}))
    before = [value.detach().clone() for _, value in adapter_parameters(learner.model)]
    learner.update(samples, 0, np.random.default_rng(0))
    after = [value for _, value in adapter_parameters(learner.model)]
    assert all(value.requires_grad for value in after)
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_average_follows_by_its_decay_and_a_frozen_reference_not_at_all(saved: Path, samples: list[TrainSample]) -> None:
    for decay in (0.75, None):
        learner = learner_of(settings(saved, reference_decay=decay))
        assert learner.reference is not None
        start = weights(learner.model)
        learner.update(samples, 0, np.random.default_rng(0))
        with learner.reference.at_work() as reference:
            expected = start if decay is None else 0.75 * start + 0.25 * weights(learner.model)
            assert torch.allclose(weights(reference), expected, atol=1e-7)


def test_steps_of_the_average_too_small_for_bfloat16_add_up(saved: Path) -> None:
    """A policy 2% above the reference, averaged with decay 0.99 over 100 steps: 1 - 0.99^100 of the way. In bfloat16, where a
    step of 0.02% of a weight rounds to nothing, the average would never have left.
    """
    config = settings(saved, reference_decay=0.99, dtype="bfloat16")
    model, _ = load_policy(str(saved), dtype="bfloat16")
    start = weights(model).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.02)
    reference = build_reference(model, config)
    assert reference is not None
    for _ in range(100):
        reference.follow()
    expected = start + (1 - 0.99**100) * (weights(model).double() - start)
    average = torch.cat([one.flatten() for one in reference.state_dict().values()])
    torch.testing.assert_close(average.double(), expected, rtol=1e-5, atol=1e-7)
    with reference.at_work() as used:
        assert torch.equal(weights(used), average.bfloat16())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_restored_average_goes_on_as_the_original(saved: Path, samples: list[TrainSample], dtype: str) -> None:
    config = settings(saved, reference_decay=0.5, dtype=dtype)
    learner = learner_of(config)
    learner.update(samples, 0, np.random.default_rng(0))
    assert learner.reference is not None
    restored = build_reference(learner.model, config)
    assert restored is not None
    restored.load_state_dict(learner.reference.state_dict())
    for _ in range(2):
        with learner.reference.at_work() as one, restored.at_work() as other:
            assert torch.equal(weights(one), weights(other))
        learner.reference.follow()
        restored.follow()
    assert learner_of(settings(saved)).reference.state_dict() == {}  # type: ignore[union-attr]


def test_an_average_needs_a_penalty_and_all_weights(saved: Path) -> None:
    for changes in ({"kl_coef": 0.0}, {"lora": {"rank": 4, "alpha": 8}}):
        with pytest.raises(ValueError, match="reference_decay averages"):
            settings(saved, reference_decay=0.9, **changes)
