"""Floating-point operations of a training pass, counted from the model and the lengths of its packs alone.

A multiplication and an addition are two operations. Counted are matrix products: linear layers, convolutions, attention and
the output head, 2 operations a weight and token forwards, twice that backwards (Kaplan et al., arXiv 2001.08361, section 2.1;
PaLM, arXiv 2204.02311, appendix B). What is computed anew (gradient checkpointing, chunks of the head) and what padding adds
are no work of the model and not in `PackWork`, so that the share of a machine's peak they leave is the model FLOPs utilisation
(MFU) of the literature.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import nn
from transformers import PreTrainedModel

from rollout.attention import padded_batches
from rollout.forward import PackedInputs


@dataclass(frozen=True)
class PackWork:
    """What a packed pass holds: `tokens` of the decoder, `pairs` of a query and a key it sees, `rows` through the head,
    `patches` of images, `patch_pairs` (every patch of an image sees every other) and `visual_tokens` they become.
    """

    tokens: int = 0
    pairs: int = 0
    rows: int = 0
    patches: int = 0
    patch_pairs: int = 0
    visual_tokens: int = 0

    def __add__(self, other: Self) -> "PackWork":
        return PackWork(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @classmethod
    def of(cls, packed: PackedInputs, rows: int, *, merge_area: int = 4) -> "PackWork":
        """Of a pack of which `rows` hidden states go through the head. A response sees its shared prompt and itself."""
        lengths_S, prompt_S = _lengths(packed)
        pairs = int((lengths_S * (lengths_S + 1) // 2 + lengths_S * prompt_S).sum())
        seen = {}
        if packed.media is not None:
            patches_N = packed.media.grids_N3.long().prod(1)
            patches = int(patches_N.sum())
            seen = {
                "patches": patches,
                "patch_pairs": int(patches_N.square().sum()),
                "visual_tokens": patches // merge_area,
            }
        return cls(int(lengths_S.sum()), pairs, rows, **seen)


def padded_pairs(packed: PackedInputs) -> int:
    """Pairs of query and key that `rollout.attention` computes for the pack, padding included."""
    lengths_S, prompt_S = _lengths(packed)
    if packed.prompt_of_S is None:
        longest = int(lengths_S.max())
        return len(lengths_S) * longest * (longest + 1) // 2
    found = 0
    for members in padded_batches(lengths_S.tolist(), packed.prompt_of_S.tolist()):
        own, prompt = int(lengths_S[members].max()), int(prompt_S[members].max())
        found += len(members) * (own * (own + prompt) if prompt else own * (own + 1) // 2)
    return found


def _lengths(packed: PackedInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Lengths [S] of the sequences and [S] of the shared prompts they continue, 0 for those that continue none."""
    lengths_S = (packed.cu_seqlens[1:] - packed.cu_seqlens[:-1]).long().cpu()
    if packed.prompt_of_S is None:
        return lengths_S, torch.zeros_like(lengths_S)
    prompt_of_S = packed.prompt_of_S.cpu()
    return lengths_S, torch.where(prompt_of_S >= 0, lengths_S[prompt_of_S.clamp(min=0)], 0)


@dataclass(frozen=True)
class ModelFlops:
    """Operations of one forward and backward pass for each unit of a `PackWork`."""

    token: int
    pair: int
    row: int
    patch: int = 0
    patch_pair: int = 0
    visual_token: int = 0

    @classmethod
    def of(cls, model: PreTrainedModel) -> "ModelFlops":
        """Counts the weights that each token meets. A frozen weight has no gradient of its own, a frozen vision tower no
        backward pass at all; a token meets `num_experts_per_tok` of a mixture's experts.
        """
        config = model.config
        text, vision = config.get_text_config(), getattr(config, "vision_config", None)
        decoder = model.model.language_model if vision is not None else model.model
        head = model.get_output_embeddings()
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        found = {
            "token": sum(_products(module, text) for module in decoder.modules()),
            "pair": 12 * text.num_hidden_layers * text.num_attention_heads * width,
            "row": _passes(head.weight) * head.weight.numel(),
        }
        if vision is not None:
            visual = model.model.visual
            passes = 3 if any(parameter.requires_grad for parameter in visual.parameters()) else 1
            products = {
                name: (_products(module) if passes == 3 else 2 * _weights(module)) for name, module in visual.named_modules()
            }
            inner = {name: count for name, count in products.items() if name.startswith(("blocks", "patch_embed"))}
            found["patch"] = sum(inner.values())
            found["visual_token"] = sum(products.values()) - found["patch"]
            found["patch_pair"] = passes * 4 * vision.depth * vision.hidden_size
        return cls(**found)

    def count(self, work: PackWork) -> int:
        """Operations of the work."""
        return (
            self.token * work.tokens
            + self.pair * work.pairs
            + self.row * work.rows
            + self.patch * work.patches
            + self.patch_pair * work.patch_pairs
            + self.visual_token * work.visual_tokens
        )


def _passes(weight: torch.Tensor) -> int:
    """Operations a weight takes for each token: forwards, for the input's gradient and, where it is trained, for its own."""
    return 6 if weight.requires_grad else 4


def _weights(module: nn.Module) -> int:
    return module.weight.numel() if isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv3d)) else 0


def _products(module: nn.Module, config: object = None) -> int:
    """Operations for each token of the module's own weights, those of its children left out."""
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv3d)):
        return _passes(module.weight) * module.weight.numel()
    experts = [one for one in module.parameters(recurse=False) if one.ndim == 3]  # stacked, [experts, out, in]
    chosen = getattr(config, "num_experts_per_tok", None) or 0
    return sum(_passes(one) * one.numel() * chosen // one.shape[0] for one in experts)
