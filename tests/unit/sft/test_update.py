"""The update against plain transformers on one example at a time, and what must not change a gradient."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sft_lines import Line, Write
from transformers import PreTrainedModel

from rlcs.nano.build import build_model
from rollout.attention import VARLEN
from rollout.chat import ChatRenderer
from sft.config import SftConfig
from sft.data import load_examples
from sft.evaluate import evaluate
from sft.optimizers import build_optimizer
from sft.rendering import Renderings
from sft.schedule import learning_rate
from sft.update import Sample, packs, trained_groups, update

SIZES = {"hidden_size": 96, "layers": 2, "vision_size": 32, "vision_depth": 1}


def settings(**changes: Any) -> SftConfig:
    return SftConfig(**{"model": "m", "data": "d", "out": "o", "weight_decay": 0.0, **changes})


def optimizer_of(model: PreTrainedModel, config: SftConfig) -> torch.optim.Optimizer:
    return build_optimizer(trained_groups(model, config), config)


def fresh_model(attention: str = VARLEN) -> PreTrainedModel:
    model = build_model(seed=0, **SIZES)
    model.config._attn_implementation = attention
    return model


@pytest.fixture
def samples(renderer: ChatRenderer, write: Write, lines: list[Line]) -> list[Sample]:
    """Text and pictures in both forms."""
    renderings = Renderings(renderer, cache_bytes=1 << 30)
    return [sample for one in load_examples(write(lines)).examples for sample in renderings.forms(one, nothink=True)]


def plain_losses(model: PreTrainedModel, sample: Sample) -> torch.Tensor:
    """Cross entropy [T] of one example's targets through transformers' own forward pass and attention."""
    encoded = sample.encoded
    media: dict[str, Any] = {}
    if encoded.media:
        media = {
            "pixel_values": torch.from_numpy(encoded.media[0].pixel_values),
            "image_grid_thw": torch.from_numpy(encoded.media[0].grid_thw)[None],
            "mm_token_type_ids": (torch.from_numpy(encoded.input_ids) == model.config.image_token_id).int()[None],
        }
    ids = torch.from_numpy(encoded.input_ids)[None]
    logits = model(input_ids=ids, **media).logits[0]
    labels = torch.where(torch.from_numpy(encoded.loss_mask), ids[0], -100)
    losses = torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="none")
    return losses[labels[1:] != -100]


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def gradient_of_update(samples: list[Sample], token_budget: int, grad_clip: float = 1e9) -> dict[str, torch.Tensor]:
    model = fresh_model()
    update(model, optimizer_of(model, settings()), samples, token_budget=token_budget, grad_clip=grad_clip)
    return gradients(model)


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], rtol: float = 2e-4) -> None:
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(second[name], gradient, rtol=rtol, atol=rtol * float(gradient.abs().max()) + 1e-9)


def test_packed_loss_equals_that_of_each_example_alone_in_plain_transformers(samples: list[Sample]) -> None:
    with torch.no_grad():
        expected = [plain_losses(fresh_model("sdpa"), sample) for sample in samples]
    model = fresh_model()
    tally, _ = update(model, optimizer_of(model, settings()), samples, token_budget=4096, grad_clip=1e9)
    losses = tally.losses()
    assert losses["loss"] == pytest.approx(float(torch.cat(expected).mean()), rel=1e-5)
    for name, chosen in (
        ("math", [sample.domain == "math" for sample in samples]),
        ("ocr", [sample.domain == "ocr" for sample in samples]),
        ("nothink", [sample.nothink for sample in samples]),
        ("thinking", [not sample.nothink for sample in samples]),
    ):
        wanted = torch.cat([loss for loss, take in zip(expected, chosen, strict=True) if take]).mean()
        assert losses[f"{name}/loss"] == pytest.approx(float(wanted), rel=1e-5)


def test_packed_gradient_equals_that_of_each_example_alone_in_plain_transformers(samples: list[Sample]) -> None:
    model = fresh_model("sdpa")
    torch.cat([plain_losses(model, sample) for sample in samples]).mean().backward()
    assert any("visual" in name for name in gradients(model))
    assert_same(gradients(model), gradient_of_update(samples, token_budget=4096))


def test_gradient_does_not_depend_on_the_token_budget(samples: list[Sample]) -> None:
    assert [len(packs(samples, budget)) for budget in (4096, 1)] == [1, len(samples)]
    whole = gradient_of_update(samples, token_budget=4096)
    for budget in (1, 60, 150):
        assert_same(whole, gradient_of_update(samples, token_budget=budget))


def test_packs_hold_examples_of_like_length(samples: list[Sample]) -> None:
    lengths = [[len(sample.encoded.input_ids) for sample in members] for members in packs(samples, 150)]
    assert sorted(length for members in lengths for length in members) == sorted(
        len(sample.encoded.input_ids) for sample in samples
    )
    assert [members[0] for members in lengths] == sorted((members[0] for members in lengths), reverse=True)
    assert all(members == sorted(members, reverse=True) for members in lengths)


def test_gradient_is_clipped_to_its_norm(samples: list[Sample]) -> None:
    found = gradient_of_update(samples, 4096, grad_clip=1e-3)
    assert float(torch.stack([gradient.norm() for gradient in found.values()]).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_updates_lower_the_loss(samples: list[Sample]) -> None:
    model = fresh_model()
    optimizer = optimizer_of(model, settings(lr=3e-3))
    losses = [update(model, optimizer, samples, token_budget=200, grad_clip=1.0)[0].losses()["loss"] for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


def test_weight_decay_is_decoupled_and_spares_vectors() -> None:
    model = fresh_model()
    optimizer = optimizer_of(model, settings(lr=0.1, weight_decay=0.5))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if parameter.ndim > 1 else 1.0))


def test_learning_rate_warms_up_linearly_and_then_follows_the_cosine() -> None:
    config = settings(lr=2.0, warmup_steps=4, min_lr_ratio=0.1)
    assert [learning_rate(config, step, 104) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert learning_rate(config, 54, 104) == pytest.approx(2.0 * 0.55)  # cos(pi / 2) = 0
    assert learning_rate(config, 29, 104) == pytest.approx(2.0 * (0.55 + 0.45 * 0.5**0.5))  # cos(pi / 4)
    assert learning_rate(config, 104, 104) == learning_rate(config, 999, 104) == pytest.approx(0.2)


def test_evaluation_agrees_with_plain_transformers_and_leaves_the_model_as_it_was(samples: list[Sample]) -> None:
    model = fresh_model().train()
    found = evaluate(model, samples, token_budget=150).measures()
    assert model.training
    plain = fresh_model("sdpa")
    with torch.no_grad():
        expected = torch.cat([plain_losses(plain, sample) for sample in samples if sample.domain == "ocr" and sample.nothink])
    assert found["ocr/nothink/loss"] == pytest.approx(float(expected.mean()), rel=1e-5)


def test_evaluation_counts_tokens_and_whole_responses_that_are_the_first_choice(samples: list[Sample]) -> None:
    """After training on the mathematics alone to the point of knowing it by heart."""
    model = fresh_model()
    optimizer = optimizer_of(model, settings(lr=3e-3))
    learned = [sample for sample in samples if sample.domain == "math"]
    for _ in range(80):
        update(model, optimizer, learned, token_budget=4096, grad_clip=1.0)
    found = evaluate(model, samples, token_budget=4096).measures()
    assert found["math/exact_match"] == found["math/thinking/token_accuracy"] == found["math/nothink/exact_match"] == 1.0
    assert found["ocr/exact_match"] < 1.0 and 0.0 < found["ocr/token_accuracy"] < 1.0
    hits = {
        name: found[f"{name}/token_accuracy"] * sum(s.targets for s in samples if s.domain == name) for name in ("math", "ocr")
    }
    assert found["token_accuracy"] == pytest.approx(sum(hits.values()) / sum(sample.targets for sample in samples))


def test_an_example_needs_a_prompt_and_a_target(samples: list[Sample], root: Path) -> None:
    encoded = samples[0].encoded
    encoded.loss_mask[:] = False
    with pytest.raises(ValueError, match="0 target tokens"):
        Sample(encoded, "math", False)
    encoded.loss_mask[:] = True
    with pytest.raises(ValueError, match="expected a prompt"):
        Sample(encoded, "math", False)
