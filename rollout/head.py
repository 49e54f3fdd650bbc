"""Log-probabilities and entropies from hidden states, without the logits of a whole pack or of the whole vocabulary at once.

Axis suffixes: T tokens, V vocabulary, D hidden, W a tile of the vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import torch

from rollout.in_place import in_place

_CPU_TILE, _GPU_TILE = 2**20, 2**27
_CPU_KEPT, _GPU_KEPT = 2**25, 2**27
_LEAST_WIDTH = 128
_LOW = -1e30  # below any logit; minus infinity would give NaN where it is multiplied by a sum of 0


def tile_width(rows: int, vocabulary: int, *, on_gpu: bool) -> int:
    """Entries of the vocabulary whose logits are there at once: those of `rows` tokens then stay in a CPU's cache (4 MiB of
    float32), or keep a GPU's matrix products large (512 MiB).
    """
    return min(vocabulary, max(_LEAST_WIDTH, (_GPU_TILE if on_gpu else _CPU_TILE) // max(rows, 1)))


def kept_width(rows: int, vocabulary: int, *, on_gpu: bool) -> int:
    """Entries of the vocabulary whose exponentials may be kept for the backward pass, at most 128 MiB, or 512 MiB on a GPU."""
    return min(vocabulary, (_GPU_KEPT if on_gpu else _CPU_KEPT) // max(rows, 1))


class _TiledLogprobs(torch.autograd.Function):
    """Two passes over tiles of the vocabulary: forwards for the normaliser, as in online softmax (arXiv 1805.02867), backwards
    for the gradient, with the tile's logits computed anew beyond the first `kept` entries. Each tile of the head's gradient is
    written once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: torch.Tensor,
        targets_T: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        temperature: float,
        width: int,
        kept: int,
        with_entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        rows = len(targets_T)
        ctx.set_materialize_grads(False)
        ctx.parameter = weight_VD if in_place(weight_VD) else None  # itself, not what comes back of what is saved
        ctx.temperature, ctx.width, ctx.kept = temperature, width, {}
        peak_T = torch.full((rows,), _LOW, device=hidden_TD.device)
        total_T, moment_T, chosen_T = (torch.zeros_like(peak_T) for _ in range(3))
        for first, weight_WD, bias_W in _tiles(weight_VD, bias_V, width):
            logits_TW = _logits(hidden_TD, weight_WD, bias_W, temperature)
            inside_T, places_T1 = _places(targets_T, first, logits_TW.shape[1])
            chosen_T = torch.where(inside_T, logits_TW.gather(1, places_T1).squeeze(1), chosen_T)
            higher_T = torch.maximum(peak_T, logits_TW.amax(1))
            drop_T = peak_T - higher_T
            logits_TW.sub_(higher_T[:, None])
            if with_entropy:
                weights_TW = logits_TW.exp()
                moment_T = drop_T.exp() * (moment_T + drop_T * total_T) + logits_TW.mul_(weights_TW).sum(1)
            else:
                weights_TW = logits_TW.exp_()
            total_T = drop_T.exp() * total_T + weights_TW.sum(1)
            peak_T = higher_T
            if first + weights_TW.shape[1] <= kept:
                ctx.kept[first] = weights_TW, higher_T
            del logits_TW, weights_TW  # else they would be held while the next tile is computed
        normaliser_T = peak_T + total_T.log()
        entropy_T = total_T.log() - moment_T / total_T if with_entropy else None
        ctx.save_for_backward(hidden_TD, targets_T, weight_VD, bias_V, normaliser_T, entropy_T)
        return chosen_T - normaliser_T, entropy_T

    @staticmethod
    def backward(ctx: Any, grad_T: torch.Tensor | None, entropy_grad_T: torch.Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        hidden_TD, targets_T, weight_VD, bias_V, normaliser_T, entropy_T = ctx.saved_tensors
        wants_hidden, _, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        grad_T = torch.zeros_like(normaliser_T) if grad_T is None else grad_T
        hidden_grad_TD = torch.zeros_like(hidden_TD, dtype=torch.float32) if wants_hidden else None
        earlier_VD = None if ctx.parameter is None else ctx.parameter.grad
        weight_grad_VD = (torch.empty_like(weight_VD) if earlier_VD is None else earlier_VD) if wants_weight else None
        bias_grad_V = torch.empty_like(bias_V) if wants_bias else None
        for first, weight_WD, bias_W in _tiles(weight_VD, bias_V, ctx.width):
            # With p the distribution and H its entropy: d logprob / d logit = [target] - p, dH / d logit = -p (log p + H).
            kept, logprobs_TW, probs_TW = ctx.kept.pop(first, None), None, None
            if kept is not None and entropy_grad_T is None:
                grad_TW = kept[0].mul_((kept[1] - normaliser_T).exp_().mul_(-grad_T)[:, None])
            else:
                logprobs_TW = _logits(hidden_TD, weight_WD, bias_W, ctx.temperature).sub_(normaliser_T[:, None])
                if entropy_grad_T is None:
                    grad_TW = logprobs_TW.exp_().mul_(-grad_T[:, None])
                else:
                    probs_TW = logprobs_TW.exp()
                    slope_TW = logprobs_TW.add_(entropy_T[:, None]).mul_(-entropy_grad_T[:, None])
                    grad_TW = slope_TW.sub_(grad_T[:, None]).mul_(probs_TW)
                    del slope_TW
            inside_T, places_T1 = _places(targets_T, first, grad_TW.shape[1])
            grad_TW.scatter_add_(1, places_T1, torch.where(inside_T, grad_T, 0.0)[:, None])
            if ctx.temperature != 1.0:
                grad_TW.div_(ctx.temperature)
            last = first + grad_TW.shape[1]
            if bias_grad_V is not None:
                bias_grad_V[first:last] = grad_TW.sum(0)
            grad_TW = grad_TW.to(weight_VD.dtype)
            if hidden_grad_TD is not None:
                hidden_grad_TD += grad_TW @ weight_WD
            if weight_grad_VD is not None and earlier_VD is None:
                torch.mm(grad_TW.t(), hidden_TD, out=weight_grad_VD[first:last])
            elif weight_grad_VD is not None:
                weight_grad_VD[first:last].addmm_(grad_TW.t(), hidden_TD)
            del kept, logprobs_TW, probs_TW, grad_TW
        if hidden_grad_TD is not None:
            hidden_grad_TD = hidden_grad_TD.to(hidden_TD.dtype)
        if ctx.parameter is not None and wants_weight:
            ctx.parameter.grad, weight_grad_VD = weight_grad_VD, None
        return hidden_grad_TD, None, weight_grad_VD, bias_grad_V, None, None, None, None


def _tiles(
    weight_VD: torch.Tensor, bias_V: torch.Tensor | None, width: int
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor | None]]:
    """(first entry, rows of the weight, entries of the bias) of each tile."""
    for first in range(0, len(weight_VD), width):
        yield first, weight_VD[first : first + width], None if bias_V is None else bias_V[first : first + width]


def _logits(hidden_TD: torch.Tensor, weight_WD: torch.Tensor, bias_W: torch.Tensor | None, temperature: float) -> torch.Tensor:
    """Float32 [T, W] of its own memory, over the temperature."""
    logits_TW = torch.nn.functional.linear(hidden_TD, weight_WD, bias_W).float()
    return logits_TW if temperature == 1.0 else logits_TW.div_(temperature)


def _places(targets_T: torch.Tensor, first: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which targets lie in the tile, and [T, 1] their places in it, some place of it for those that do not."""
    places_T = targets_T - first
    return (places_T >= 0) & (places_T < width), places_T.clamp(0, width - 1)[:, None]


def head_logprobs(
    head: Any,
    hidden_TD: torch.Tensor,
    targets_T: torch.Tensor,
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
    width: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probability [T] in nats of `targets_T[t]` under softmax(head(hidden_TD[t]) / temperature) and, if asked for, the
    distribution's entropy [T] in nats, both float32. `head`: a linear layer; `width`: tokens of the vocabulary to look at
    at once.
    """
    if not len(targets_T):
        nothing = hidden_TD.new_zeros(0, dtype=torch.float32)
        return nothing, nothing if with_entropy else None
    width = width or tile_width(len(targets_T), len(head.weight), on_gpu=hidden_TD.is_cuda)
    learns = torch.is_grad_enabled() and any(
        one is not None and one.requires_grad for one in (hidden_TD, head.weight, head.bias)
    )
    kept = kept_width(len(targets_T), len(head.weight), on_gpu=hidden_TD.is_cuda) if learns else 0
    found: Any = _TiledLogprobs.apply(hidden_TD, targets_T, head.weight, head.bias, temperature, width, kept, with_entropy)
    return found
