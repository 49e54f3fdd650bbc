"""Variable-length attention on PyTorch's SDPA, for packed sequences on CPUs and GPUs.

Flash-attention's varlen kernels would need a package compiled for each GPU and half precision, and know nothing of prompts
that several responses share.

Importing this module registers `VARLEN` with transformers. Its name holds "flash" on purpose: transformers passes cumulative
sequence lengths (`cu_seq_lens_q`) only to implementations so named, in the decoder and, for GLM-4V's vision tower, per image.
Sequences are laid side by side as [1, heads, T, head_dim]; each attends to itself alone, and a response that shares its prompt
with others (`SharedPrompts`) to that prompt as well. Without sequence lengths the call is transformers' ordinary SDPA, so the
same loaded model also serves padded batches and cached decoding.

Axis suffixes: S sequences (segments) of a pack, R those of them that continue a shared prompt.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

VARLEN = "varlen_flash_sdpa"


@dataclass(frozen=True)
class SharedPrompts:
    """Which sequences of a pack are responses to a prompt that is laid down once: `prompt_of_S` int64 [S] is the
    prompt's place among the sequences, -1 for a sequence that stands by itself.

    A response attends to all of its prompt and causally to itself, so it computes what it would with the prompt before
    it (its position ids must go on from the prompt's).
    """

    cu_seqlens: torch.Tensor
    prompt_of_S: torch.Tensor

    def __post_init__(self) -> None:
        starts, lengths = self.cu_seqlens[:-1].long(), (self.cu_seqlens[1:] - self.cu_seqlens[:-1]).long()
        response = self.prompt_of_S >= 0
        alone, prompt_R = (~response).nonzero().squeeze(1), self.prompt_of_S[response]
        longest_own, longest_prompt = int(lengths[response].max()), int(lengths[prompt_R].max())
        own_rows, own_inside = _padded_rows(starts[response], lengths[response], longest_own)
        prompt_rows, prompt_inside = _padded_rows(starts[prompt_R], lengths[prompt_R], longest_prompt)
        causal = torch.ones(longest_own, longest_own, dtype=torch.bool, device=starts.device).tril()
        seen = torch.cat([prompt_inside[:, None].expand(-1, longest_own, -1), causal.expand(len(prompt_R), -1, -1)], dim=2)
        longest_alone = int(lengths[alone].max())
        alone_rows, alone_inside = _padded_rows(starts[alone], lengths[alone], longest_alone)
        # Worked out once for all layers: what depends on the data makes the CPU wait for a GPU.
        layout = {
            "_alone": (alone_rows.flatten(), alone_inside.flatten().nonzero().squeeze(1), longest_alone),
            "_own": (own_rows, own_inside.flatten().nonzero().squeeze(1)),
            "_keys": torch.cat([prompt_rows, own_rows], dim=1),
            "_seen": seen[:, None],
            "_places": torch.cat([alone_rows[alone_inside], own_rows[own_inside]]),
        }
        for name, value in layout.items():
            object.__setattr__(self, name, value)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float) -> torch.Tensor:
        """[T, heads, head_dim] each -> [T, heads, head_dim]."""
        (alone_rows, alone_real, longest), (own_rows, own_real) = self._alone, self._own  # type: ignore[attr-defined]
        keys, seen, places = self._keys, self._seen, self._places  # type: ignore[attr-defined]
        # Right-padded. Under a causal mask no real query sees a pad key, so no mask is needed.
        lone = (x.index_select(0, alone_rows) for x in (query, key, value))
        out_alone = _equal_length_attention(*lone, length=longest, scale=scale, causal=True).index_select(0, alone_real)
        q = query.index_select(0, own_rows.flatten()).unflatten(0, own_rows.shape).transpose(1, 2)
        k, v = (x.index_select(0, keys.flatten()).unflatten(0, keys.shape).transpose(1, 2) for x in (key, value))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
        out_own = out.transpose(1, 2).flatten(0, 1).index_select(0, own_real)
        return torch.empty_like(query).index_copy(0, places, torch.cat([out_alone, out_own]))


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
