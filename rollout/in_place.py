"""Gradients of embedding and head that are added to what is there, without a tensor of the weight's size of their own.

Autograd hands a parameter's gradient on as a tensor of its size. A small model's embedding is its largest tensor, mostly the
head's too, and such a tensor then waits from the first operation of a backward pass, the head's, to the last. Megatron-LM adds
weights' gradients up alike (`gradient_accumulation_fusion`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F

_IN_PLACE = ContextVar("gradients in place", default=False)


@contextmanager
def gradients_in_place() -> Iterator[None]:
    """What `embed` and `rollout.head.head_logprobs` compute within it adds its weight's gradient to its `.grad` itself.

    For losses on which `backward` is called: `torch.autograd.grad` would not be given these gradients.
    """
    token = _IN_PLACE.set(True)
    try:
        yield
    finally:
        _IN_PLACE.reset(token)


def in_place(weight: torch.Tensor) -> bool:
    """Whether a gradient of `weight` is to be added to its `.grad`; not where a hook wants to see it."""
    return _IN_PLACE.get() and weight.is_leaf and weight.requires_grad and not weight._backward_hooks


class _Embedded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_VD: torch.Tensor, ids_T: torch.Tensor, padding: int | None) -> torch.Tensor:
        ctx.padding = padding
        ctx.parameter = weight_VD  # itself: what is saved for the backward pass may come back as another tensor
        ctx.save_for_backward(ids_T)
        return F.embedding(ids_T, weight_VD)

    @staticmethod
    def backward(ctx: Any, grad_TD: torch.Tensor) -> tuple[None, None, None]:  # type: ignore[override]
        weight_VD, (ids_T,) = ctx.parameter, ctx.saved_tensors
        if ctx.padding is not None:
            grad_TD = grad_TD.masked_fill((ids_T == ctx.padding)[:, None], 0.0)
        if weight_VD.grad is None:
            weight_VD.grad = torch.zeros_like(weight_VD)
        if grad_TD.is_cuda:  # each of the two adds up in a settled order on one kind of device alone
            weight_VD.grad.index_put_((ids_T,), grad_TD, accumulate=True)
        else:
            weight_VD.grad.index_add_(0, ids_T, grad_TD)
        return None, None, None


def embed(embedding: torch.nn.Module, ids_T: torch.Tensor) -> torch.Tensor:
    """[T, D]: `embedding(ids_T)`, and its gradient in place within `gradients_in_place` if it is PyTorch's plain embedding."""
    found: torch.Tensor
    if torch.is_grad_enabled() and _plain(embedding) and in_place(embedding.weight):
        found = _Embedded.apply(embedding.weight, ids_T, embedding.padding_idx)
    else:
        found = embedding(ids_T)
    return found


def _plain(module: torch.nn.Module) -> TypeGuard[torch.nn.Embedding]:
    if type(module) is not torch.nn.Embedding or module._forward_hooks or module._forward_pre_hooks:
        return False
    return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
