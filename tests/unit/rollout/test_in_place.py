"""Gradients of embedding and head added in place, against autograd's own, and that no other tensor of their size is made."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rollout.head import head_logprobs
from rollout.in_place import embed, gradients_in_place

VOCABULARY, HIDDEN, PADDING = 301, 24, 5


class Tied(torch.nn.Module):
    """Log-probabilities of the next id from an embedding and a layer that may share it."""

    def __init__(self, *, tied: bool, padding: int | None = None, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(VOCABULARY, HIDDEN, padding_idx=padding, dtype=dtype)
        self.middle = torch.nn.Linear(HIDDEN, HIDDEN, dtype=dtype)
        self.head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=False, dtype=dtype)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.middle(embed(self.embedding, ids[:-1])).tanh()
        return head_logprobs(self.head, hidden, ids[1:], width=100)[0].sum()


def packs(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    packs = [torch.randint(VOCABULARY, (40 + 10 * index,), generator=generator) for index in range(count)]
    for ids in packs:
        ids[3:9] = PADDING
        ids[20:30] = 7  # an id that comes often
    return packs


def gradients(model: Tied, within: Callable[[], Any]) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    with within():
        for ids in packs():
            model(ids).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("padding", [None, PADDING])
@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_autograds(tied: bool, padding: int | None, dtype: torch.dtype) -> None:
    model = Tied(tied=tied, padding=padding, dtype=dtype)
    expected, found = gradients(model, nullcontext), gradients(model, gradients_in_place)
    assert found.keys() == expected.keys() and len(found) == (3 if tied else 4)
    rounding = 1e-5 if dtype == torch.float32 else 0.03
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm() / gradient.norm()) < rounding
    if padding is not None and not tied:
        assert not found["embedding.weight"][PADDING].any() and found["embedding.weight"][7].any()


@pytest.mark.parametrize("tied", [True, False])
def test_the_same_packs_give_the_same_bits(tied: bool) -> None:
    model = Tied(tied=tied)
    first = gradients(model, gradients_in_place)
    for _ in range(5):
        again = gradients(model, gradients_in_place)
        assert all(torch.equal(again[name], first[name]) for name in first)


class Largest(TorchDispatchMode):
    """Entries of the largest tensor that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        if isinstance(out, torch.Tensor) and len(returns) == 1 and returns[0].alias_info is None:
            self.entries = max(self.entries, out.numel())
        return out


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("within", "expected"), [(nullcontext, VOCABULARY * HIDDEN), (gradients_in_place, 100 * 69)])
def test_a_later_pack_makes_no_tensor_of_the_weights_size(tied: bool, within: Callable[[], Any], expected: int) -> None:
    model = Tied(tied=tied)
    with within():
        first, *_, last = (model(ids) for ids in packs())
        first.backward()
        with Largest() as largest:
            last.backward()
    assert largest.entries <= expected
    assert within is gradients_in_place or largest.entries == expected


def test_gradients_are_the_weights_own_where_what_is_kept_comes_back_as_another_tensor() -> None:
    """As it does where something hooks what autograd keeps, to count it or to hold it elsewhere."""
    model = Tied(tied=False)
    expected = gradients(model, gradients_in_place)
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone):
        found = gradients(model, gradients_in_place)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_a_hook_on_the_weight_still_sees_its_gradient() -> None:
    model, seen = Tied(tied=True), []
    model.embedding.weight.register_hook(seen.append)
    gradients(model, gradients_in_place)
    assert len(seen) == len(packs())


def test_other_embeddings_are_called_as_they_are() -> None:
    class Doubled(torch.nn.Embedding):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    doubled = Doubled(VOCABULARY, HIDDEN)
    with gradients_in_place():
        found = embed(doubled, packs()[0])
        found.sum().backward()
    torch.testing.assert_close(found, doubled(packs()[0]))
    assert doubled.weight.grad is not None and float(doubled.weight.grad.max()) >= 20


def test_frozen_weights_get_no_gradient() -> None:
    model = Tied(tied=True)
    model.embedding.weight.requires_grad_(False)
    assert gradients(model, gradients_in_place).keys() == {"middle.weight", "middle.bias"}


def test_outside_of_it_autograd_is_asked_as_ever() -> None:
    model = Tied(tied=True)
    with gradients_in_place():
        pass
    found = torch.autograd.grad(model(packs()[0]), list(model.parameters()))
    assert all(bool(gradient.any()) for gradient in found) and model.embedding.weight.grad is None
