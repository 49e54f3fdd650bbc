"""Forward and backward passes of one model side by side on a CPU's cores.

A small model's products end in microseconds, and cores that share one wait for each other after every operation: two of them
made an update of the embedded model 1.4 times as fast as one. A pass on each core waits for nobody (docs/speed.md).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import torch
from transformers import PreTrainedModel

from rollout.in_place import gradients_in_place
from rollout.memory import LARGE, gradient_bytes, returned_meanwhile

_MOST_REPEATED = 1.05  # tokens computed, when prompts are cut from their groups to fit a lane, to those of whole groups

Pack = TypeVar("Pack")
Found = TypeVar("Found")
Backward = Callable[[torch.Tensor], None]
"""Adds the gradient of a loss to those of its lane."""


@dataclass(frozen=True)
class Lanes:
    """How many passes go at once, and the tokens that each may have: together no more than one pass alone would."""

    count: int
    token_budget: int


def plan_lanes(model: PreTrainedModel, token_budget: int, units: Callable[[int], Sequence[int]]) -> Lanes:
    """As many lanes as PyTorch has threads, or fewer; the plan depends on that number and on lengths alone.

    `units(budget)`: tokens of what a pass cannot divide, when passes have `budget`; of 0, each sequence's. A lane must hold the
    longest sequence, and prompts that are computed more than once may cost a twentieth. One lane on a GPU, for a model whose
    gradients are more than 64 MiB, which every lane has its own of, and for one with dropout, whose draws would come in any
    order.
    """
    if model.device.type != "cpu" or torch.get_num_threads() == 1 or _draws(model):
        return Lanes(1, token_budget)
    most = min(torch.get_num_threads(), token_budget // max(units(0)), 1 + LARGE // max(gradient_bytes(model), 1))
    whole = sum(units(token_budget)) if most > 1 else 0
    for count in range(most, 1, -1):
        lengths = units(token_budget // count)
        if len(lengths) >= count and sum(lengths) <= _MOST_REPEATED * whole:
            return Lanes(count, token_budget // count)
    return Lanes(1, token_budget)


def run_passes(
    model: PreTrainedModel,
    packs: Sequence[Pack],
    lengths: Sequence[int],
    one_pass: Callable[[Pack, Backward], Found],
    lanes: int,
) -> list[Found]:
    """What `one_pass(pack, backward)` returns for each pack, which it calls `backward` on the loss of; the gradients are added
    to the parameters'. `lengths`: tokens of each pack.

    With several lanes `one_pass` runs in threads. A lane's packs are settled beforehand and gradients added up in the order of
    lanes, so the same number of lanes gives the same bits. An error of a pass is raised when the other lanes have ended.
    """
    if lanes == 1 or len(packs) < 2:
        with gradients_in_place(), returned_meanwhile(model) as give_back:

            def backward(loss: torch.Tensor) -> None:
                give_back()  # what the forward pass had for a while
                loss.backward()

            give_back()
            return [one_pass(pack, backward) for pack in packs]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    shares = _shares(lengths, lanes)
    sums = [_LaneSum(trained) for _ in shares]

    def lane(number: int) -> list[Found]:
        return [one_pass(packs[index], sums[number].add) for index in shares[number]]

    with _divided_threads(lanes) as threads, ThreadPoolExecutor(lanes, "lane", torch.set_num_threads, (threads,)) as pool:
        found = [future.result() for future in [pool.submit(lane, number) for number in range(len(shares))]]
    for one in sums:
        one.add_to_parameters()
    order = [index for share in shares for index in share]
    by_pack = dict(zip(order, chain.from_iterable(found), strict=True))
    return [by_pack[index] for index in range(len(packs))]


class _LaneSum:
    """The gradients of a lane's packs, apart from the parameters' own."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._parameters = parameters
        self._gradients: list[torch.Tensor | None] = [None] * len(parameters)

    def add(self, loss: torch.Tensor) -> None:
        for index, found in enumerate(torch.autograd.grad(loss, self._parameters, allow_unused=True)):
            own = self._gradients[index]
            if own is not None and found is not None:
                own.add_(found)
            elif found is not None:  # a copy: what autograd returns may be one tensor for two parameters, or a view
                self._gradients[index] = found.clone(memory_format=torch.contiguous_format)

    def add_to_parameters(self) -> None:
        """A parameter without a gradient takes over the sum itself, so no more is to be added to it afterwards."""
        for parameter, own in zip(self._parameters, self._gradients, strict=True):
            if own is not None:
                parameter.grad = own if parameter.grad is None else parameter.grad.add_(own)


def _shares(lengths: Sequence[int], lanes: int) -> list[list[int]]:
    """Packs of each lane: the longest first, each to the lane that has least to do."""
    shares: list[list[int]] = [[] for _ in range(lanes)]
    load = [0] * lanes
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        least = load.index(min(load))
        shares[least].append(index)
        load[least] += lengths[index]
    return [share for share in shares if share]


@contextmanager
def _divided_threads(lanes: int) -> Iterator[int]:
    """PyTorch's threads a lane; they are as they were afterwards."""
    before = torch.get_num_threads()
    each = max(1, before // lanes)
    torch.set_num_threads(each)
    try:
        yield each
    finally:
        torch.set_num_threads(before)


def _draws(model: PreTrainedModel) -> bool:
    return any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())
