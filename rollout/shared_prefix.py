"""KV cache whose prompt part is shared by all completions of a prompt, and the attention that reads it.

Completions of one prompt attend to one copy of its keys and values with a matrix product over the group (the idea of
Hydragen, arXiv 2402.05099), and to their own generated tokens by themselves; the two softmaxes are merged exactly by
their log-sum-exp. Generated parts all have one length, so they need neither padding nor mask.

Axis suffixes: P prompts, S prompt tokens (right-padded), G completions a prompt, B sequences, T generated tokens, H
query heads, K key-value heads, R query heads a key-value head, D head dimension.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from rollout.attention import varlen_attention

SHARED_PREFIX = "shared_prefix"
_GROWTH = 64  # generated tokens by which the cache grows
# Prompts of at most so many tokens, and any whose copies come to at most so many, are copied rather than shared: where the
# two layouts cost the same on a CPU (two to three key-value heads of 64).
_SHORT, _FEW = 96, 4096

_Pair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values."""


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention and its normaliser: query [..., Q, D], key, value [..., N, D], bias broadcast to [..., Q, N] ->
    (output [..., Q, D], log-sum-exp [..., Q, 1])."""
    scores = (query @ key.transpose(-1, -2)).float()  # the softmax in float32, as the trainer's attention kernels do
    if bias is not None:
        scores += bias
    peak = scores.amax(-1, keepdim=True)
    weights = scores.sub_(peak).exp_()
    total = weights.sum(-1, keepdim=True)
    return (weights.to(value.dtype) @ value) / total, peak + total.log()


def _attend_joined(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """Softmax attention as `_attend`, output alone. A CPU's kernel is made for many queries a head: for the few that there are
    here it takes as long as two products on one core, and up to three times as long on two.
    """
    if query.device.type != "cpu":
        return scaled_dot_product_attention(query, key, value, bias, scale=scale)
    scores = ((query * scale) @ key.transpose(-1, -2)).float()
    if bias is not None:
        scores += bias
    return scores.softmax(-1).to(value.dtype) @ value


def copies_prompts(longest: int, prompts: int, sequences: int) -> bool:
    """Whether prompts of up to `longest` tokens are copied for each of their sequences."""
    return longest <= _SHORT or longest * (sequences - prompts) <= _FEW


class SharedPrefixCache:
    """Keys and values of P prompts and of the sequences generated from them.

    `lengths_P`: prompt lengths; `prompt_of_B`: each sequence's prompt, ascending. Prompts are written in slices by
    passes with `prefill(first, last)` set, then each decoding pass appends one token to every sequence.
    """

    def __init__(self, lengths_P: torch.Tensor, prompt_of_B: torch.Tensor, layers: int) -> None:
        self._lengths_P = lengths_P
        self._prefix: list[_Pair | None] = [None] * layers
        self._generated: list[_Pair | None] = [None] * layers
        self._rows: slice | None = None
        self._joined_from: int | None = None  # where generated tokens begin once prompts are copied
        self._joined_bias: torch.Tensor | None = None
        self.length = 0  # generated tokens in the cache
        self._lay_out(prompt_of_B)

    def _lay_out(self, prompt_of_B: torch.Tensor) -> None:
        """Gives sequence b cell prompt * G + (its rank among the prompt's sequences) of the P x G grid of queries, or
        joins the two parts where that is cheaper.
        """
        self.prompt_of_B = prompt_of_B
        self._join_cheap()
        if self._joined_from is not None:
            return
        count_P = torch.bincount(prompt_of_B, minlength=len(self._lengths_P))
        self._group = int(count_P.max())
        first_P = count_P.cumsum(0) - count_P
        rank_B = torch.arange(len(prompt_of_B), device=prompt_of_B.device) - first_P[prompt_of_B]
        self._cell_B = prompt_of_B * self._group + rank_B
        self._full = len(prompt_of_B) == len(self._lengths_P) * self._group
        longest = int(self._lengths_P.max())
        pad_PS = torch.arange(longest, device=prompt_of_B.device) >= self._lengths_P[:, None]
        self._bias = torch.zeros(pad_PS.shape, device=pad_PS.device).masked_fill_(pad_PS, float("-inf"))[:, None, None]
        self._ragged = bool(pad_PS.any())

    def _join_cheap(self) -> None:
        """Copies the prompts for their sequences, for good, once that is cheap; what is written so far moves along."""
        longest = int(self._lengths_P.max())
        cheap = copies_prompts(longest, len(self._lengths_P), len(self.prompt_of_B))
        if cheap and (self._joined_from is None or self.length == 0):
            self._joined_from = longest
            if self.length:
                self._generated = [self._with_prompts(layer) for layer in range(len(self._prefix))]
        self._joined_bias = None
        self._padded = int(self._lengths_P.min()) < (self._joined_from or 0)

    def _with_prompts(self, layer: int) -> _Pair:
        """Prompts and generated tokens of all sequences in one tensor, each [B, K, S + T, D]."""
        prompts, generated = self._prefix[layer], self._generated[layer]
        assert prompts is not None
        self._prefix[layer] = None
        copies = prompts[0][self.prompt_of_B], prompts[1][self.prompt_of_B]
        if generated is None:
            return copies
        keys, values = (torch.cat([a, b[:, :, : self.length]], 2) for a, b in zip(copies, generated, strict=True))
        return keys, values

    def prefill(self, first: int, last: int) -> None:
        """The next pass holds prompts first..last-1 packed into one row."""
        self._rows = slice(first, last)

    def decode(self) -> None:
        """The next pass holds one new token of every sequence."""
        self._rows = None
        self.length += 1

    def write_prefix(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Stores packed prompts' keys and values, each [1, K, total tokens, D]."""
        assert self._rows is not None
        shape = (len(self._lengths_P), key.shape[1], int(self._lengths_P.max()), key.shape[3])
        stored = self._prefix[layer] or (key.new_zeros(shape), value.new_zeros(shape))
        self._prefix[layer] = stored
        lengths = self._lengths_P[self._rows]
        inside = torch.arange(shape[2], device=lengths.device) < lengths[:, None]
        for packed, padded in zip((key, value), stored, strict=True):
            padded[self._rows].transpose(1, 2)[inside] = packed[0].transpose(0, 1)

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        """Appends one token's key and value [B, K, 1, D] and attends: query [B, H, 1, D] -> [B, 1, H, D]."""
        batch, kv_heads, _, width = key.shape
        start = self._joined_from or 0
        keys, values = self._grown(layer, key, value)
        last = start + self.length - 1
        keys[:, :, last], values[:, :, last] = key[:, :, 0], value[:, :, 0]
        keys, values = keys[:, :, : last + 1], values[:, :, : last + 1]
        query = query.view(batch, kv_heads, -1, width)  # B K R D
        if self._joined_from is not None:
            found = _attend_joined(query, keys, values, self._bias_of(query, last + 1), scale)
            return found.reshape(batch, 1, -1, width)
        query = query * scale
        own, own_norm = _attend(query, keys, values, None)
        prompt, prompt_norm = self._attend_prefix(layer, query)
        share = torch.sigmoid(own_norm - prompt_norm)  # softmax weight of the generated part against the prompt
        return (prompt + share * (own - prompt)).to(value.dtype).reshape(batch, 1, -1, width)

    def _grown(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> _Pair:
        """The sequences' keys and values, with room for one more token."""
        stored = self._generated[layer]
        if stored is None and self._joined_from is not None:
            stored = self._with_prompts(layer)
        used = (self._joined_from or 0) + self.length - 1
        if stored is None or stored[0].shape[2] <= used:
            shape = (*key.shape[:2], used + max(_GROWTH, self.length - 1), key.shape[3])
            grown = (key.new_empty(shape), value.new_empty(shape))
            for new, old in zip(grown, stored or (), strict=stored is not None):
                new[:, :, :used] = old[:, :, :used]
            self._generated[layer] = stored = grown
        return stored

    def _bias_of(self, query: torch.Tensor, length: int) -> torch.Tensor | None:
        """-inf where a copied prompt is padding, 0 elsewhere, [B, 1, 1, length] of the query's type; None without padding."""
        if not self._padded:
            return None
        assert self._joined_from is not None
        if self._joined_bias is None or self._joined_bias.shape[3] < length:
            at = torch.arange(length + _GROWTH, device=query.device)
            padding_PS = (at >= self._lengths_P[:, None]) & (at < self._joined_from)
            bias_PS = query.new_zeros(padding_PS.shape).masked_fill_(padding_PS, float("-inf"))
            self._joined_bias = bias_PS[self.prompt_of_B][:, None, None]
        return self._joined_bias[..., :length]

    def _attend_prefix(self, layer: int, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Query [B, K, R, D] -> output [B, K, R, D] and log-sum-exp [B, K, R, 1], over the shared prompt."""
        stored = self._prefix[layer]
        assert stored is not None
        prompts, group = len(self._lengths_P), self._group
        _, kv_heads, ratio, width = query.shape
        cells = query
        if not self._full:
            cells = query.new_zeros(prompts * group, *query.shape[1:]).index_copy_(0, self._cell_B, query)
        grid = cells.view(prompts, group, kv_heads, ratio, width).transpose(1, 2).flatten(2, 3)  # P K GR D
        out, norm = _attend(grid, *stored, self._bias if self._ragged else None)

        def back(x: torch.Tensor) -> torch.Tensor:
            x = x.unflatten(2, (group, ratio)).transpose(1, 2).flatten(0, 1)
            return x if self._full else x[self._cell_B]

        return back(out), back(norm)

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every sequence but those at `rows` (int64, ascending), and prompts that have none left."""
        self._generated = [stored and (stored[0][rows], stored[1][rows]) for stored in self._generated]
        live_P, prompt_of_B = self.prompt_of_B[rows].unique_consecutive(return_inverse=True)
        if len(live_P) < len(self._lengths_P):
            self._lengths_P = self._lengths_P[live_P]
            longest = int(self._lengths_P.max())
            self._prefix = [
                stored and (stored[0][live_P, :, :longest], stored[1][live_P, :, :longest]) for stored in self._prefix
            ]
        self._lay_out(prompt_of_B)


def shared_prefix_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    shared_prefix_cache: SharedPrefixCache,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface. With `cu_seq_lens_q` a packed prefill that also fills the cache; else one
    decoding step.
    """
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    if cu_seq_lens_q is not None:
        shared_prefix_cache.write_prefix(layer, key, value)
        return varlen_attention(module, query, key, value, None, scaling=scaling, is_causal=True, cu_seq_lens_q=cu_seq_lens_q)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return shared_prefix_cache.attend(layer, query, key, value, scale), None


AttentionInterface.register(SHARED_PREFIX, shared_prefix_attention)
AttentionMaskInterface.register(SHARED_PREFIX, sdpa_mask)
