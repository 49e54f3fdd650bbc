"""Variable-length attention on PyTorch's SDPA, for packed sequences on CPUs and GPUs.

Flash-attention's varlen kernels would need a package compiled for each GPU and half precision, and know nothing of prompts
that several responses share.

Importing this module registers `VARLEN` with transformers. Its name holds "flash" on purpose: transformers passes cumulative
sequence lengths (`cu_seq_lens_q`) only to implementations so named, in the decoder and, for GLM-4V's vision tower, per image.
Sequences are laid side by side as [1, heads, T, head_dim]; each attends to itself alone, and a response that shares its prompt
with others (`SharedPrompts`) to that prompt as well. Without sequence lengths the call is transformers' ordinary SDPA, so the
same loaded model also serves padded batches and cached decoding.

Axis suffixes: S sequences (segments) of a pack; B of them attend in one call, padded to L tokens, after prompts padded to P.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rollout.kept import KeptRows, gathered

VARLEN = "varlen_flash_sdpa"
# Pairs of query and key that take as long as one more call, forwards and backwards, on a CPU (docs/speed.md).
_CALL = 16_384
# Rows of keys in all calls to rows of a pack from which they are gathered again: below, it takes time and frees little.
_REPEATED = 2


@dataclass(frozen=True)
class SharedPrompts:
    """Which sequences of a pack are responses to a prompt that is laid down once: `prompt_of_S` int64 [S] is the
    prompt's place among the sequences, -1 for a sequence that stands by itself.

    A response attends to all of its prompt and causally to itself, so it computes what it would with the prompt before
    it (its position ids must go on from the prompt's).

    A call has each response's own copy of its prompt's keys and values, and padding. With `gather_again` the backward pass
    makes these copies anew from the pack's rows instead of keeping them, where they are many. Not inside activation
    checkpointing (`rollout.kept`).
    """

    cu_seqlens: torch.Tensor
    prompt_of_S: torch.Tensor
    gather_again: bool = False
    _again: bool = field(init=False, repr=False)
    _batches: "list[_Batch]" = field(init=False, repr=False)
    _places: torch.Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        starts, lengths = self.cu_seqlens[:-1].long(), (self.cu_seqlens[1:] - self.cu_seqlens[:-1]).long()
        # Worked out once for all layers: what depends on the data makes the CPU wait for a GPU.
        batches = [
            _Batch.of(starts, lengths, torch.tensor(members, device=starts.device), self.prompt_of_S)
            for members in padded_batches(lengths.tolist(), self.prompt_of_S.tolist())
        ]
        object.__setattr__(self, "_batches", batches)
        rows = sum((batch.rows if batch.keys is None else batch.keys).numel() for batch in batches)
        object.__setattr__(self, "_again", self.gather_again and rows > _REPEATED * int(lengths.sum()))
        firsts = np.cumsum([0, *[batch.rows.numel() for batch in batches]])
        places = torch.cat([batch.real + first for batch, first in zip(batches, firsts.tolist(), strict=False)])
        order = torch.cat([batch.rows.flatten().index_select(0, batch.real) for batch in batches])
        object.__setattr__(self, "_places", torch.empty_like(places).index_copy_(0, order, places))

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float) -> torch.Tensor:
        """[T, heads, head_dim] each -> [T, heads, head_dim]."""
        kept = KeptRows() if self._again else None
        padded = [batch.attend(query, key, value, scale, kept) for batch in self._batches]
        out: torch.Tensor = _Rows.apply(self._places, *padded)
        if kept is not None:
            for one, batch in zip(padded, self._batches, strict=True):
                kept.are_rows(one, out, batch.rows)
        return out


class _Rows(torch.autograd.Function):
    """[T, heads, head_dim]: the pack's rows out of padded [B, heads, L, head_dim] of each batch, at their places in all these.

    PyTorch's functions would keep one more copy of the rows for their backward pass, or add up gradients row after row.
    """

    @staticmethod
    def forward(ctx: Any, places_T: torch.Tensor, *padded: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(places_T)
        ctx.shapes = [(one.shape[0], one.shape[2]) for one in padded]
        return torch.cat([one.transpose(1, 2).flatten(0, 1) for one in padded]).index_select(0, places_T)

    @staticmethod
    def backward(ctx: Any, grad_THD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (places_T,) = ctx.saved_tensors
        sizes = [count * longest for count, longest in ctx.shapes]
        flat = grad_THD.new_zeros(sum(sizes), *grad_THD.shape[1:]).index_copy_(0, places_T, grad_THD)
        return None, *[
            part.unflatten(0, shape).transpose(1, 2) for part, shape in zip(flat.split(sizes), ctx.shapes, strict=True)
        ]


@dataclass(frozen=True)
class _Batch:
    """B sequences of a pack that attend in one call, padded on the right: `rows` int64 [B, L] are their rows in the pack,
    `real` the places in B x L that are no padding. `keys` int64 [B, P + L] are the rows they see, their prompts' first, and
    `seen` bool [B, 1, L, P + L] which of these; None where they have no shared prompts.
    """

    rows: torch.Tensor
    real: torch.Tensor
    keys: torch.Tensor | None
    seen: torch.Tensor | None

    @classmethod
    def of(cls, starts: torch.Tensor, lengths: torch.Tensor, members: torch.Tensor, prompt_of_S: torch.Tensor) -> "_Batch":
        longest = int(lengths[members].max())
        rows, inside = _padded_rows(starts[members], lengths[members], longest)
        real, prompt_B = inside.flatten().nonzero().squeeze(1), prompt_of_S[members]
        if int(prompt_B[0]) < 0:
            return cls(rows, real, None, None)
        prompt_rows, prompt_inside = _padded_rows(starts[prompt_B], lengths[prompt_B], int(lengths[prompt_B].max()))
        causal = torch.ones(longest, longest, dtype=torch.bool, device=starts.device).tril()
        seen = torch.cat([prompt_inside[:, None].expand(-1, longest, -1), causal.expand(len(members), -1, -1)], dim=2)
        return cls(rows, real, torch.cat([prompt_rows, rows], dim=1), seen[:, None])

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, kept: KeptRows | None
    ) -> torch.Tensor:
        """[T, heads, head_dim] each -> [B, heads, L, head_dim]. What its backward pass needs is held in `kept`."""
        keys = self.rows if self.keys is None else self.keys
        sources = ((query, self.rows), (key, keys), (value, keys))
        q, k, v = (gathered(source, rows) for source, rows in sources)
        # Without prompts a causal mask is enough: no real query then sees a pad key.
        causal, gqa = self.seen is None, q.shape[1] != k.shape[1]
        with nullcontext() if kept is None else kept.hooks():
            out = F.scaled_dot_product_attention(q, k, v, self.seen, is_causal=causal, scale=scale, enable_gqa=gqa)
        if kept is not None:
            for copy, (source, rows) in zip((q, k, v), sources, strict=True):
                kept.are_rows(copy, source, rows)
        return out


def padded_batches(lengths_S: Sequence[int], prompt_of_S: Sequence[int]) -> list[list[int]]:
    """Which sequences attend in one call, padded to the longest of them: those that stand by themselves, and responses to
    shared prompts, each cut by length where that saves more pairs of query and key than a call costs.
    """
    lengths, prompt_of = np.asarray(lengths_S), np.asarray(prompt_of_S)
    prompts = np.where(prompt_of >= 0, lengths[prompt_of], 0)
    kinds = (np.flatnonzero(prompt_of < 0), np.flatnonzero(prompt_of >= 0))
    return [
        batch.tolist() for kind in kinds for batch in _cut(kind[np.argsort(lengths[kind], kind="stable")], lengths, prompts)
    ]


def _cut(rising: np.ndarray, lengths: np.ndarray, prompts: np.ndarray) -> list[np.ndarray]:
    """Sequences of rising length in as many parts as pay."""
    count, own, seen = len(rising), lengths[rising], prompts[rising]
    if count < 2:
        return [rising][:count]
    shorter, longer = np.maximum.accumulate(seen), np.maximum.accumulate(seen[::-1])[::-1]
    whole = count * own[-1] * (own[-1] + longer[0])
    first = np.arange(1, count)
    parts = first * own[:-1] * (own[:-1] + shorter[:-1]) + (count - first) * own[-1] * (own[-1] + longer[1:])
    best = int(parts.argmin())
    if whole - parts[best] <= _CALL:
        return [rising]
    return [*_cut(rising[: best + 1], lengths, prompts), *_cut(rising[best + 1 :], lengths, prompts)]


def _padded_rows(starts: torch.Tensor, lengths: torch.Tensor, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of sequences padded on the right to `longest`, int64 [S, longest] (0 for padding), and where they are real."""
    offsets = torch.arange(longest, device=starts.device)
    inside = offsets < lengths[:, None]
    return torch.where(inside, starts[:, None] + offsets, 0), inside


def _equal_length_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, length: int, scale: float, causal: bool
) -> torch.Tensor:
    """Attention of N sequences of one length laid end to end: [N*L, heads, head_dim] each -> [N*L, heads, head_dim]."""
    q, k, v = (x.unflatten(0, (-1, length)).transpose(1, 2) for x in (query, key, value))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2).flatten(0, 1)


def _causal_ragged(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    longest: int,
    scale: float,
) -> torch.Tensor:
    """Right-pads every sequence to the longest. Under a causal mask no real query sees a pad key, so no mask is needed."""
    rows, _ = _padded_rows(starts, lengths, longest)
    padded = _equal_length_attention(
        *(x.index_select(0, rows.flatten()) for x in (query, key, value)), length=longest, scale=scale, causal=True
    )
    sequence_T = torch.repeat_interleave(lengths, output_size=len(query))
    offset_T = torch.arange(len(query), device=starts.device) - starts[sequence_T]
    return padded.index_select(0, sequence_T * longest + offset_T)


def _bidirectional_ragged(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, starts: torch.Tensor, lengths: torch.Tensor, scale: float
) -> torch.Tensor:
    """One batched call for each distinct length: images come in few sizes, and a batch needs no mask."""
    out = torch.empty_like(query)
    for length in lengths.unique().tolist():
        mine = starts[lengths == length]
        rows = (mine[:, None] + torch.arange(length, device=starts.device)).flatten()
        part = _equal_length_attention(
            *(x.index_select(0, rows) for x in (query, key, value)), length=length, scale=scale, causal=False
        )
        out = out.index_copy(0, rows, part)
    return out


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | torch.Tensor | None = None,
    shared_prompts: SharedPrompts | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query [B, H, T, D], key and value [B, KV, T, D] -> ([B, T, H, D], None).

    With `cu_seq_lens_q` (int [S+1], from 0 to T) B must be 1 and the S sequences attend block-diagonally. `max_length_q`,
    the longest of them, spares a GPU the wait when the caller has it as a number.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal
        )
    if query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        raise ValueError(
            f"packed attention wants one row with as many keys as queries, found query {tuple(query.shape)} and key "
            f"{tuple(key.shape)}; pack into one row and pass no KV cache"
        )
    if dropout:
        raise ValueError("packed attention has no dropout; set attention_dropout to 0 in the model's config")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rows = [x[0].transpose(0, 1) for x in (query, key, value)]
    if shared_prompts is not None:
        return shared_prompts.attend(*rows, scale=scale).unsqueeze(0), None
    lengths = (cu_seq_lens_q[1:] - cu_seq_lens_q[:-1]).long()
    starts = cu_seq_lens_q[:-1].long()
    longest = int(lengths.max() if max_length_q is None else max_length_q)
    if longest * len(lengths) == len(rows[0]):
        out = _equal_length_attention(*rows, length=longest, scale=scale, causal=causal)
    elif causal:
        out = _causal_ragged(*rows, starts=starts, lengths=lengths, longest=longest, scale=scale)
    else:
        out = _bidirectional_ragged(*rows, starts=starts, lengths=lengths, scale=scale)
    return out.unsqueeze(0), None


AttentionInterface.register(VARLEN, varlen_attention)
AttentionMaskInterface.register(VARLEN, sdpa_mask)
