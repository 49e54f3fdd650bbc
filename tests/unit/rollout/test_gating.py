"""Gatings computed again: the same gradients bit for bit, and two tensors of the MLP's width less held."""

import copy
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaForCausalLM, PreTrainedModel

from rollout import gating
from rollout.attention import VARLEN
from rollout.forward import PackedInputs, hidden_states
from rollout.gating import gating_again
from rollout.lora import add_adapters

TOKENS, HIDDEN, INNER = 50, 24, 96


class Gated(torch.nn.Module):
    """The MLP of Llama and GLM-4.5V's experts."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.up = (torch.nn.Linear(HIDDEN, INNER, bias=False, dtype=dtype) for _ in range(2))
        self.down = torch.nn.Linear(INNER, HIDDEN, bias=False, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Joint(Gated):
    """GLM-4's, whose gate and up are one product, and multiplied in the other order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = F.linear(x, torch.cat([self.gate.weight, self.up.weight])).chunk(2, dim=-1)
        return self.down(up * F.silu(gate))


class Ungated(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x))) + self.down(F.silu(input=self.up(x)))


class InPlace(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x) + 0.0, inplace=True) * self.up(x))


class Doubled(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.silu(self.gate(x))
        return self.down(2.0 * gate * gate * F.silu(self.up(x)) * gate)


class WrittenOver(Gated):
    """Its product is changed before it is kept."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = F.silu(self.gate(x)) * self.up(x)
        return self.down(product.add_(1.0))


def trained(mlp: Gated) -> tuple[int, list[torch.Tensor]]:
    """(bytes held between forward and backward pass by PyTorch's account, gradients)."""
    mlp.zero_grad(set_to_none=True)
    dtype = mlp.down.weight.dtype
    x = torch.randn(1, TOKENS, HIDDEN, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    gc.collect()  # else what other tests left might be freed meanwhile, and counted
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        out = mlp(x)
    held = sum(event.self_cpu_memory_usage for event in seen.key_averages())
    out.float().square().sum().backward()
    return held, [one.grad for one in (x, *mlp.parameters()) if one.grad is not None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "fewer"), [(Gated, 2), (Joint, 2), (Ungated, None), (InPlace, None), (Doubled, None), (WrittenOver, None)]
)
def test_gradients_are_the_same_bits(kind: Callable[[torch.dtype], Gated], fewer: int | None, dtype: torch.dtype) -> None:
    mlp = kind(dtype)
    held, expected = trained(mlp)

    def again(x: torch.Tensor, forward: Callable[[torch.Tensor], torch.Tensor] = mlp.forward) -> torch.Tensor:
        with gating_again():
            return forward(x)

    mlp.forward = again  # type: ignore[method-assign]
    held_again, found = trained(mlp)
    assert len(found) == len(expected) == 4 and all(map(torch.equal, found, expected))
    assert held_again <= held
    if fewer is not None:
        assert held - held_again == fewer * TOKENS * INNER * dtype.itemsize


def packed() -> PackedInputs:
    ids = np.random.default_rng(0).integers(0, 200, 70)
    positions = torch.from_numpy(np.r_[0:40, 0:30]).expand(3, -1)
    return PackedInputs(torch.from_numpy(ids), positions, torch.tensor([0, 40, 70], dtype=torch.int32), None)


@pytest.mark.parametrize(("checkpointing", "lora"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("model", ["nano", "llama"])
def test_a_models_gradients_are_the_same_bits_and_checkpointing_keeps_its_own(
    model: str, checkpointing: bool, lora: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy: LlamaForCausalLM | PreTrainedModel = copy.deepcopy(request.getfixturevalue(model)).train()
    policy.config._attn_implementation = VARLEN
    if lora:
        add_adapters(policy, rank=4, alpha=8, dropout=0.0, targets="decoder", seed=0)
        for parameter in policy.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    if checkpointing:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    kept: list[Any] = []
    take = gating._Watch.keep
    monkeypatch.setattr(gating._Watch, "keep", lambda self, tensor: kept.append(take(self, tensor)) or kept[-1])

    def gradients() -> list[torch.Tensor]:
        policy.zero_grad(set_to_none=True)
        hidden_states(policy, packed()).square().sum().backward()
        return [parameter.grad for parameter in policy.parameters() if parameter.grad is not None]

    expected = gradients()
    assert not kept, "a small model keeps all"
    monkeypatch.setattr("rollout.memory.LARGE", 0)
    found = gradients()
    assert len(found) == len(expected) and all(map(torch.equal, found, expected))
    layers = 0 if checkpointing else policy.config.get_text_config().num_hidden_layers
    assert sum(isinstance(one, gating._Kept) for one in kept) == 2 * layers


def test_a_pass_without_gradients_is_not_watched(llama: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollout.memory.LARGE", 0)
    monkeypatch.setattr(gating, "_Watch", lambda: pytest.fail("nothing is kept of it"))
    with torch.no_grad():
        hidden_states(llama, packed())
