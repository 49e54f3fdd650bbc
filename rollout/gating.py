"""What a gated MLP's elementwise operations return, computed again in the backward pass instead of kept.

Of down(silu(gate) * up) autograd keeps four tensors of the MLP's width, a response's largest: gate, up, silu(gate) and the
product, of which the last two follow from the first two. Selective activation recomputation (Korthikanti et al., arXiv
2205.05198, section 5), of what costs no matrix product.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

_PRODUCTS = {torch.mul, torch.Tensor.mul, torch.Tensor.__mul__}


@contextmanager
def gating_again() -> Iterator[None]:
    """For a `with` around a forward pass: the backward pass computes silu(gate) and silu(gate) * up again, with the operations
    that made them, so gradients are the same bit for bit. Every operation takes some microseconds longer.

    Not inside activation checkpointing, which is of the same hooks, and of which only the innermost apply.
    """
    watch = _Watch()
    try:
        with torch.autograd.graph.saved_tensors_hooks(watch.keep, _take), watch:
            yield
    finally:
        watch.forget()  # autograd holds the watch as long as what it keeps


class _Again:
    """How a tensor is made."""

    __slots__ = ("function", "inputs")

    def __init__(self, function: Callable[..., torch.Tensor], *inputs: "torch.Tensor | _Again") -> None:
        self.function, self.inputs = function, inputs

    def make(self) -> torch.Tensor:
        return self.function(*[one.make() if isinstance(one, _Again) else one for one in self.inputs])


@dataclass(frozen=True, slots=True)
class _Kept:
    """Instead of a tensor: how it is made, and its shape."""

    again: _Again
    shape: torch.Size


class _Watch(TorchFunctionMode):
    """Sees the functions that a thread calls, and knows how the last result of a gating was made.

    It holds that result until the next one, so that no other tensor can be where it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: tuple[torch.Tensor, _Again] | None = None

    def forget(self) -> None:
        self._last = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.silu and args and result.data_ptr() != args[0].data_ptr():  # not where it was done in place
            self._last = result, _Again(F.silu, args[0].detach())
        elif func in _PRODUCTS and not kwargs and self._last is not None:
            made, again = self._last
            if any(one is made for one in args):
                self._last = result, _Again(torch.mul, *[again if one is made else _detached(one) for one in args])
        return result

    def keep(self, tensor: torch.Tensor) -> torch.Tensor | _Kept:
        if self._last is None:
            return tensor
        made, again = self._last
        if made._version or not _same_numbers(tensor, made):  # another tensor, or the result was written over since
            return tensor
        return _Kept(again, tensor.shape)


def _take(kept: torch.Tensor | _Kept) -> torch.Tensor:
    if isinstance(kept, torch.Tensor):
        return kept
    with torch.no_grad():
        return kept.again.make().view(kept.shape)


def _detached(factor: Any) -> Any:
    return factor.detach() if isinstance(factor, torch.Tensor) else factor


def _same_numbers(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Of the same memory in the same order, if in another shape."""
    both = one.is_contiguous() and other.is_contiguous()
    return both and one.data_ptr() == other.data_ptr() and one.numel() == other.numel() and one.dtype == other.dtype
