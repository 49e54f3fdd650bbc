"""Tiled log-probabilities against float64 autograd over whole logits, and what is held in memory on the way."""

from collections.abc import Callable

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rollout import head as head_module
from rollout.head import head_logprobs, tile_width

ROWS, HIDDEN, VOCABULARY = 37, 24, 301


def case(*, bias: bool = False, dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=bias)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    hidden = torch.randn(ROWS, HIDDEN, generator=generator)
    return head.to(dtype), hidden.to(dtype).requires_grad_(), torch.randint(VOCABULARY, (ROWS,), generator=generator)


def expected(
    head: torch.nn.Linear, hidden: torch.Tensor, targets: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """(log-probabilities, entropies, leaves) in float64, all logits at once."""
    leaves = [x.detach().double().requires_grad_() for x in (hidden, *head.parameters())]
    logits = torch.nn.functional.linear(leaves[0], leaves[1], *leaves[2:]) / temperature
    logprobs = torch.log_softmax(logits, dim=1)
    return logprobs.gather(1, targets[:, None]).squeeze(1), -(logprobs.exp() * logprobs).sum(1), leaves


@pytest.mark.parametrize("width", [1, 7, 100, 301, 5000])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("temperature", "kept"), [(1.0, 0), (0.7, 0), (0.7, 150)])
def test_values_and_gradients_are_those_of_whole_logits(
    width: int, bias: bool, temperature: float, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "_CPU_KEPT", kept * ROWS)
    head, hidden, targets = case(bias=bias)
    logprobs, entropies = head_logprobs(head, hidden, targets, temperature=temperature, with_entropy=True, width=width)
    true_logprobs, true_entropies, leaves = expected(head, hidden, targets, temperature)
    assert entropies is not None
    torch.testing.assert_close(logprobs.double(), true_logprobs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropies.double(), true_entropies, rtol=1e-5, atol=1e-5)
    weights = torch.linspace(-1, 2, ROWS)
    (weights @ logprobs + weights.square() @ entropies).backward()
    (weights.double() @ true_logprobs + weights.double().square() @ true_entropies).backward()
    for leaf, found in zip(leaves, (hidden, *head.parameters()), strict=True):
        assert leaf.grad is not None and found.grad is not None
        torch.testing.assert_close(found.grad.double(), leaf.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kept", [0, 150, VOCABULARY])
def test_only_log_probabilities_or_only_entropies_may_be_in_the_loss(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "_CPU_KEPT", kept * ROWS)
    for chosen in (0, 1):
        head, hidden, targets = case()
        found, true = head_logprobs(head, hidden, targets, with_entropy=True, width=64), expected(head, hidden, targets, 1.0)
        part = found[chosen]
        assert part is not None
        part.sum().backward()
        true[chosen].sum().backward()
        assert hidden.grad is not None and true[2][0].grad is not None
        torch.testing.assert_close(hidden.grad.double(), true[2][0].grad, rtol=1e-4, atol=1e-5)


def test_bfloat16_agrees_to_its_rounding() -> None:
    head, hidden, targets = case(dtype=torch.bfloat16)
    logprobs, _ = head_logprobs(head, hidden, targets, width=50)
    logprobs.sum().backward()
    true, _, leaves = expected(head, hidden, targets, 1.0)
    true.sum().backward()
    assert logprobs.dtype == torch.float32 and hidden.grad is not None and hidden.grad.dtype == torch.bfloat16
    torch.testing.assert_close(logprobs.double(), true, rtol=0.02, atol=0.1)
    assert leaves[0].grad is not None
    assert float((hidden.grad.double() - leaves[0].grad).norm() / leaves[0].grad.norm()) < 0.02


def test_a_frozen_head_gets_no_gradient() -> None:
    head, hidden, targets = case()
    head.requires_grad_(False)
    head_logprobs(head, hidden, targets, width=50)[0].sum().backward()
    assert head.weight.grad is None and hidden.grad is not None


def test_no_tokens_have_no_log_probabilities() -> None:
    head, hidden, targets = case()
    assert [len(x) for x in head_logprobs(head, hidden[:0], targets[:0], with_entropy=True) if x is not None] == [0, 0]


class Largest(TorchDispatchMode):
    """Notes the most numbers that a tensor computed under it held."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.untyped_storage().nbytes() // one.itemsize)
        return found


@pytest.mark.parametrize("with_entropy", [False, True])
def test_logits_of_the_whole_vocabulary_are_never_held(with_entropy: bool) -> None:
    rows, vocabulary = 2048, 12_000
    head, targets = torch.nn.Linear(8, vocabulary, bias=False), torch.randint(vocabulary, (rows,))
    hidden = torch.randn(rows, 8, requires_grad=True)

    def largest(logprobs: Callable[[], torch.Tensor]) -> int:
        with Largest() as seen:
            logprobs().sum().backward()
        return seen.numbers

    tiled = largest(lambda: head_logprobs(head, hidden, targets, with_entropy=with_entropy)[0])
    whole = largest(lambda: torch.log_softmax(head(hidden), dim=1).gather(1, targets[:, None]))
    assert whole == rows * vocabulary  # so the measure would see it
    assert tiled == rows * tile_width(rows, vocabulary, on_gpu=False) < whole / 4
