"""Counts of operations against torch's own counter, and of a pack's work against brute force."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Glm4vMoeConfig, Glm4vMoeForConditionalGeneration, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from rlcs.nano.build import build_model
from rollout.forward import PackedInputs
from rollout.lora import add_adapters
from sft.flops import ModelFlops, PackWork, padded_pairs


def packed_of(lengths: Sequence[int], prompt_of: Sequence[int] | None = None) -> PackedInputs:
    total = sum(lengths)
    return PackedInputs(
        torch.zeros(total, dtype=torch.long),
        torch.zeros(3, total, dtype=torch.long),
        torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32),
        None,
        None if prompt_of is None else torch.tensor(prompt_of),
    )


def counted(model: PreTrainedModel, tokens: int, patches_hw: tuple[int, int] | None = None) -> int:
    """Operations torch counts in a forward and backward pass of one sequence through plain, eager attention."""
    model.config._attn_implementation = model.config.get_text_config()._attn_implementation = "eager"
    ids = torch.arange(tokens)[None] % 200
    inputs = {"input_ids": ids}
    if patches_hw is not None:
        vision = model.config.vision_config
        vision._attn_implementation = "eager"
        height, width = patches_hw
        places = height * width // vision.spatial_merge_size**2
        ids[0, 1 : 1 + places] = model.config.image_token_id
        values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        kinds = (ids == model.config.image_token_id).long()
        inputs |= {
            "pixel_values": torch.randn(height * width, values),
            "image_grid_thw": torch.tensor([[1, height, width]]),
            "mm_token_type_ids": kinds,
        }
    with FlopCounterMode(display=False) as counter:
        model(**inputs, use_cache=False).logits.sum().backward()
    return counter.get_total_flops()


def whole(tokens: int, **seen: int) -> PackWork:
    """The work of eager attention, which computes every pair, and of a head that computes every row."""
    return PackWork(tokens=tokens, pairs=tokens**2, rows=tokens, **seen)


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        vocab_size=300,
    )
    return LlamaForCausalLM(config)


def test_a_text_model_counts_what_torch_counts() -> None:
    model = llama()
    # torch multiplies rotary angles as a matrix product as well: head_dim / 2 numbers a token, without gradient.
    assert ModelFlops.of(model).count(whole(40)) + 2 * 40 * 12 == counted(model, 40)


def test_pictures_count_what_torch_counts() -> None:
    model = build_model(seed=0, hidden_size=96, layers=2, vision_size=32, vision_depth=2)
    work = whole(40, patches=24, patch_pairs=24**2, visual_tokens=6)
    found, expected = ModelFlops.of(model).count(work), counted(model, 40, (4, 6))
    pixels = model.model.visual.patch_embed.proj.weight.numel() * 2 * 24  # no gradient of the pixels is wanted
    assert abs(found - pixels - expected) < 1e-3 * expected  # the rest: rotary angles


def test_frozen_weights_have_no_gradient_of_their_own() -> None:
    model = llama()
    add_adapters(model, rank=4, alpha=8, dropout=0.0, targets="decoder", seed=0)
    found, expected = ModelFlops.of(model).count(whole(40)), counted(model, 40)
    # The first layer's inputs want no gradient, which the count does not look at.
    first = sum(getattr(model.model.layers[0].self_attn, f"{name}_proj").weight.numel() for name in "qkv")
    lora = sum(getattr(model.model.layers[0].self_attn, f"{name}_proj").lora_A["default"].weight.numel() for name in "qkv")
    assert found - 2 * 40 * (first + lora) + 2 * 40 * 12 == expected


def test_a_token_meets_the_experts_chosen_for_it() -> None:
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "moe_intermediate_size": 24,
        "num_hidden_layers": 2,
        "first_k_dense_replace": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "vocab_size": 64,
        "pad_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    }
    vision = {"hidden_size": 16, "depth": 1, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 32}
    with torch.device("meta"):
        model = Glm4vMoeForConditionalGeneration(Glm4vMoeConfig(text_config=text, vision_config=vision))
    layers = model.model.language_model.layers
    linear = sum(m.weight.numel() for m in layers.modules() if isinstance(m, torch.nn.Linear))
    assert ModelFlops.of(model).token == 6 * (linear + 2 * 3 * 32 * 24)


@pytest.mark.parametrize("prompt_of", [None, [-1, 0, 0, -1, -1, 4, 4, 4]])
def test_pairs_are_those_an_attention_mask_would_show(prompt_of: list[int] | None) -> None:
    lengths = [7, 3, 5, 9, 4, 1, 6, 2]
    seen = 0
    for place, length in enumerate(lengths):
        before = 0 if prompt_of is None or prompt_of[place] < 0 else lengths[prompt_of[place]]
        seen += int(torch.ones(length, before + length).tril(before).sum())
    packed = packed_of(lengths, prompt_of)
    assert PackWork.of(packed, 5) == PackWork(tokens=sum(lengths), pairs=seen, rows=5)
    assert padded_pairs(packed) > seen


def test_equal_sequences_are_not_padded() -> None:
    assert padded_pairs(packed_of([6, 6, 6])) == PackWork.of(packed_of([6, 6, 6]), 0).pairs
