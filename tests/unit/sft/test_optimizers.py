"""Optimisers: small steps are not lost in half precision, moments of eight bits do as float32's, both resume exactly."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from rlcs.nano.build import build_model, build_processor
from sft.checkpoint import load_training_state, save_checkpoint
from sft.config import SftConfig
from sft.optimizers import MasterWeights, build_optimizer, require_optimizer, set_learning_rate

needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
KINDS = ["adamw", pytest.param("adamw_8bit", marks=needs_torchao)]


def settings(**changes: Any) -> SftConfig:
    return SftConfig(**{"model": "m", "data": "d", "out": "o", "lr": 1e-5, **changes})


def start(*, dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(64, 96), (7,)]
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).bfloat16().to(dtype)) for shape in shapes]


def run(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Gradients that do not depend on the weights and that bfloat16 holds exactly: the same in either type."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in parameters:
            drift = torch.randn(parameter.shape, generator=generator) + 1.0
            parameter.grad = drift.bfloat16().to(parameter.dtype)
        set_learning_rate(optimizer, 1e-5 * (1.0 - step / 200))
        optimizer.step()
        optimizer.zero_grad()


def groups(parameters: list[torch.nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": parameters[:1], "weight_decay": 0.1}, {"params": parameters[1:], "weight_decay": 0.0}]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_half_precision_are_float32_training_rounded(kind: str) -> None:
    half, single = start(dtype=torch.bfloat16), start()
    config = settings(optimizer=kind)
    run(half, build_optimizer(groups(half), config), range(100))
    run(single, build_optimizer(groups(single), config), range(100))
    for parameter, expected, before in zip(half, single, start(dtype=torch.bfloat16), strict=True):
        assert parameter.dtype == torch.bfloat16 and torch.equal(parameter, expected.bfloat16())
        assert parameter.grad is None
        assert not torch.equal(parameter, before)


def test_without_copies_the_same_steps_round_to_nothing() -> None:
    """What the copies are for: of weights above 0.01 none moves, though each should by up to 1e-3."""
    parameters = start(dtype=torch.bfloat16)
    run(parameters, torch.optim.AdamW(groups(parameters), lr=1e-5, betas=(0.9, 0.95)), range(100))
    for parameter, before in zip(parameters, start(dtype=torch.bfloat16), strict=True):
        large = before.abs() > 0.01
        assert torch.equal(parameter[large], before[large])


def test_float32_weights_have_no_copies_and_the_plain_optimiser() -> None:
    parameters = start()
    optimizer = build_optimizer(groups(parameters), settings())
    assert type(optimizer) is torch.optim.AdamW
    assert [group["params"] for group in optimizer.param_groups] == [parameters[:1], parameters[1:]]


def test_its_kernel_repeats_itself_and_agrees_with_the_plain_one_to_rounding() -> None:
    found = []
    for build in (build_optimizer, build_optimizer, lambda chosen, config: torch.optim.AdamW(chosen, config.lr, config.betas)):
        parameters = start()
        run(parameters, build(groups(parameters), settings()), range(20))
        found.append(parameters)
    for first, again, plain in zip(*found, strict=True):
        assert torch.equal(first, again)
        torch.testing.assert_close(first, plain, rtol=1e-6, atol=1e-8)


@needs_torchao
def test_moments_of_eight_bits_step_nearly_as_float32_ones() -> None:
    single, eight = start(), start()
    run(single, build_optimizer(groups(single), settings()), range(100))
    optimizer = build_optimizer(groups(eight), settings(optimizer="adamw_8bit"))
    run(eight, optimizer, range(100))
    moved, expected = (parameters[0].detach() - start()[0].detach() for parameters in (eight, single))
    assert float((moved - expected).norm() / expected.norm()) < 0.05
    held = optimizer.state[eight[0]]["exp_avg"]
    assert held.codes.dtype == torch.uint8 and held.codes.numel() == eight[0].numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_optimiser_goes_on_bit_for_bit(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Through a checkpoint's files; the weights themselves come from the model's, rounded."""
    config = settings(optimizer=kind)
    whole = start(dtype=dtype)
    run(whole, build_optimizer(groups(whole), config), range(20))

    parameters = start(dtype=dtype)
    optimizer = build_optimizer(groups(parameters), config)
    run(parameters, optimizer, range(10))
    model = build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1)
    save_checkpoint(tmp_path / "c", model, build_processor(), optimizer, {"step": 10})
    saved, _ = load_training_state(tmp_path / "c")
    resumed = [torch.nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    again = build_optimizer(groups(resumed), config)
    again.load_state_dict(saved)
    run(resumed, again, range(10, 20))
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


def test_a_checkpoint_of_a_float32_run_is_not_gone_on_with_in_half_precision() -> None:
    single, half = start(), start(dtype=torch.bfloat16)
    saved = build_optimizer(groups(single), settings()).state_dict()
    optimizer = build_optimizer(groups(half), settings())
    assert isinstance(optimizer, MasterWeights)
    with pytest.raises(ValueError, match="resume with dtype: float32"):
        optimizer.load_state_dict(saved)
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 0.0)


def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchao" else found(name))
    require_optimizer("adamw")
    with pytest.raises(ModuleNotFoundError, match=r"install rlcs\[optimizers\], or set optimizer: adamw"):
        build_optimizer(groups(start()), settings(optimizer="adamw_8bit"))
