"""Packed forward passes: many conversations in one row, every distinct image encoded once, logits never held whole.

Axis suffixes: T tokens of the pack, S sequences, N images (video frames), P patches, D hidden, V vocabulary.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)

from rollout.attention import VARLEN, SharedPrompts
from rollout.gating import gating_again
from rollout.head import head_logprobs
from rollout.in_place import embed
from rollout.memory import is_large


class MediaLike(Protocol):
    """What packing needs of an image or video: see `rollout.chat.Media`."""

    pixel_values: np.ndarray
    grid_thw: np.ndarray
    key: str


class EncodedLike(Protocol):
    """What packing needs of a rendered conversation: see `rollout.chat.Encoded`."""

    @property
    def input_ids(self) -> np.ndarray: ...

    @property
    def position_ids(self) -> np.ndarray: ...

    @property
    def media(self) -> Sequence[Any]: ...


@dataclass(frozen=True)
class MediaBatch:
    """Distinct images of a pack: pixels float [P, C], grids int [N, 3] with t = 1, and for each image token of the pack
    the row of its feature in the vision tower's output."""

    pixels_PC: torch.Tensor
    grids_N3: torch.Tensor
    feature_rows: torch.Tensor


@dataclass(frozen=True)
class PackedInputs:
    """S conversations side by side: ids int64 [T], M-RoPE positions int64 [3, T], cumulative lengths int32 [S+1]."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    cu_seqlens: torch.Tensor
    media: MediaBatch | None
    prompt_of_S: torch.Tensor | None = None
    """Int64 [S] where responses share prompts (`rollout.attention.SharedPrompts`); None where nothing is shared."""

    def to(self, device: torch.device | str) -> "PackedInputs":
        media = self.media and MediaBatch(
            self.media.pixels_PC.to(device), self.media.grids_N3.to(device), self.media.feature_rows.to(device)
        )
        return PackedInputs(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.cu_seqlens.to(device),
            media,
            self.prompt_of_S if self.prompt_of_S is None else self.prompt_of_S.to(device),
        )


def load_policy(path: str, *, device: str = "cpu", dtype: str = "float32", varlen: bool = True) -> tuple[PreTrainedModel, Any]:
    """Loads (model, processor) from a Hugging Face directory; a text-only model comes with its tokenizer.

    `varlen` selects attention that understands packed sequences, `rollout.attention.VARLEN`.
    """
    config = AutoConfig.from_pretrained(path)
    multimodal = getattr(config, "vision_config", None) is not None
    family = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
    model = family.from_pretrained(path, dtype=getattr(torch, dtype), attn_implementation="sdpa").to(device)
    if varlen:
        # Set after loading: from_pretrained looks for a compiled kernel behind every name that holds "flash".
        model.config._attn_implementation = VARLEN
    processor = (AutoProcessor if multimodal else AutoTokenizer).from_pretrained(path)
    return model, processor


def _pack_media(samples: Sequence[EncodedLike], merge_area: int) -> MediaBatch | None:
    first_row: dict[str, int] = {}
    pixels, grids, feature_rows = [], [], []
    row = 0
    for sample in samples:
        for media in sample.media:
            t, h, w = (int(x) for x in media.grid_thw)
            features = t * h * w // merge_area
            if media.key not in first_row:
                first_row[media.key] = row
                row += features
                pixels.append(media.pixel_values)
                grids += [(1, h, w)] * t
            feature_rows.append(np.arange(first_row[media.key], first_row[media.key] + features))
    if not pixels:
        return None
    return MediaBatch(
        torch.from_numpy(np.concatenate(pixels)), torch.tensor(grids), torch.from_numpy(np.concatenate(feature_rows))
    )


def pack(samples: Sequence[EncodedLike], *, merge_size: int = 2) -> PackedInputs:
    """Lays conversations end to end. Media with the same key are encoded once and their features used many times."""
    if not samples:
        raise ValueError("nothing to pack: expected at least one rendered conversation")
    lengths = [len(sample.input_ids) for sample in samples]
    return PackedInputs(
        torch.from_numpy(np.concatenate([sample.input_ids for sample in samples])).long(),
        torch.from_numpy(np.concatenate([sample.position_ids for sample in samples], axis=1)).long(),
        torch.from_numpy(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)),
        _pack_media(samples, merge_size**2),
    )


@dataclass(frozen=True)
class PackedGroups:
    """Conversations of which some begin with the same prompt, each prompt laid down once.

    Over the tokens after the prompts, conversation by conversation: `places` int64 [T'] are their rows in the pack,
    `contexts` int64 [T'] the rows whose hidden states predict them.
    """

    inputs: PackedInputs
    places: np.ndarray
    contexts: np.ndarray


def pack_groups(groups: Sequence[tuple[int, Sequence[EncodedLike]]], *, merge_size: int = 2) -> PackedGroups:
    """Packs groups of (prompt length, conversations that agree up to there, images included; all images lie there).

    A prompt of length 0 is that of conversations that share nothing; one conversation is no group either, and stands
    undivided in the pack.
    """
    ids, positions, lengths, prompt_of, media = [], [], [], [], []
    places, contexts = [], []
    row = 0

    def lay(sample: EncodedLike, part: slice, prompt: int) -> int:
        nonlocal row
        ids.append(sample.input_ids[part])
        positions.append(sample.position_ids[:, part])
        lengths.append(len(ids[-1]))
        prompt_of.append(prompt)
        row += lengths[-1]
        return row - lengths[-1]

    for shared, samples in groups:
        if len(samples) == 1 or not shared:
            for sample in samples:
                start = lay(sample, slice(None), -1)
                media.append(sample)
                places.append(np.arange(start + max(shared, 1), row))
                contexts.append(places[-1] - 1)
            continue
        prompt = len(lengths)
        start = lay(samples[0], slice(0, shared), -1)
        media.append(samples[0])
        for sample in samples:
            first = lay(sample, slice(shared, None), prompt)
            places.append(np.arange(first, row))
            contexts.append(np.concatenate([[start + shared - 1], places[-1][:-1]]))
    inputs = PackedInputs(
        torch.from_numpy(np.concatenate(ids)).long(),
        torch.from_numpy(np.concatenate(positions, axis=1)).long(),
        torch.from_numpy(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)),
        _pack_media(media, merge_size**2),
        torch.tensor(prompt_of) if max(prompt_of) >= 0 else None,
    )
    return PackedGroups(inputs, np.concatenate(places), np.concatenate(contexts))


def decoder_inputs(model: PreTrainedModel, packed: PackedInputs) -> dict[str, Any]:
    """What the decoder of a packed batch begins with, as keyword arguments: `inputs_embeds` [1, T, D], image features in the
    places of its image tokens.

    Qwen3-VL's vision tower also gives features of inner layers, which its decoder adds to the image tokens after its own first
    layers (DeepStack, arXiv 2406.04334): `deepstack_visual_embeds`, a list of [image tokens, D], and `visual_pos_masks` [1, T].
    """
    embeds_TD = embed(model.get_input_embeddings(), packed.input_ids)
    if packed.media is None:
        return {"inputs_embeds": embeds_TD[None]}
    visual, rows = model.model.visual, packed.media.feature_rows
    seen = visual(packed.media.pixels_PC.to(visual.dtype), grid_thw=packed.media.grids_N3)
    visual_T = packed.input_ids == model.config.image_token_id
    places = visual_T.nonzero().squeeze(1)
    if len(places) != len(rows):
        raise ValueError(f"{len(places)} image tokens in the pack but {len(rows)} features")
    features = seen.pooler_output.index_select(0, rows).to(embeds_TD.dtype)
    inputs = {"inputs_embeds": embeds_TD.index_copy(0, places, features)[None]}
    inner = getattr(seen, "deepstack_features", None)
    if inner is None:
        return inputs
    deep = [one.index_select(0, rows) for one in inner]
    return {**inputs, "visual_pos_masks": visual_T[None], "deepstack_visual_embeds": deep}


def hidden_states(model: PreTrainedModel, packed: PackedInputs) -> torch.Tensor:
    """Last hidden states [T, D] of a packed batch; each sequence sees only itself and the prompt it continues. For GLM-4V
    and Qwen3-VL models and causal LMs.
    """
    inputs = decoder_inputs(model, packed)
    multimodal = getattr(model.config, "vision_config", None) is not None
    decoder = model.model.language_model if multimodal else model.model
    longest = int((packed.cu_seqlens[1:] - packed.cu_seqlens[:-1]).max())
    # A ready 4-D mask keeps transformers from building its own T x T one; varlen attention reads the lengths alone.
    no_mask = inputs["inputs_embeds"].new_empty((1, 1, 0, 0)) if model.config._attn_implementation == VARLEN else None
    checkpointing = model.is_gradient_checkpointing
    shared = {}
    if packed.prompt_of_S is not None:
        shared["shared_prompts"] = SharedPrompts(packed.cu_seqlens, packed.prompt_of_S, gather_again=not checkpointing)
    if shared and model.config._attn_implementation != VARLEN:
        raise ValueError(f"shared prompts need attention {VARLEN!r}, the model has {model.config._attn_implementation!r}")
    frugal = torch.is_grad_enabled() and not checkpointing and is_large(model)
    with gating_again() if frugal else nullcontext():
        output = decoder(
            **inputs,
            attention_mask=no_mask,
            position_ids=packed.position_ids.unsqueeze(1) if multimodal else packed.position_ids[:1],
            use_cache=False,
            cu_seq_lens_q=packed.cu_seqlens,
            cu_seq_lens_k=packed.cu_seqlens,
            max_length_q=longest,
            max_length_k=longest,
            **shared,
        )
    return output.last_hidden_state[0]


def token_logprobs(
    model: PreTrainedModel,
    hidden_TD: torch.Tensor,
    targets_T: torch.Tensor,
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Log-probability [T] in nats of `targets_T[t]` under softmax(lm_head(hidden_TD[t]) / temperature), float32.

    The caller aligns the two (hidden state t predicts token t + 1). Logits T x V are never held whole (`rollout.head`).
    `with_entropy` also returns the distribution's entropy [T] in nats.
    """
    head = model.get_output_embeddings()
    logprobs, entropies = head_logprobs(head, hidden_TD, targets_T, temperature=temperature, with_entropy=with_entropy)
    return logprobs if entropies is None else (logprobs, entropies)
