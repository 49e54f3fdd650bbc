"""Builds the nano GLM-4V model from nothing: config, seeded initial weights, tokenizer, processor, chat template.

The architecture is transformers' `Glm4vForConditionalGeneration` in small: ViT with 2D-RoPE and a 3D patch convolution, 2 x 2
downsampling, MLP merger, decoder with 3D-RoPE and GLM-4's sandwich norms.
"""

from pathlib import Path

import torch
from torch import nn
from transformers import (
    GenerationConfig,
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    PreTrainedTokenizerFast,
)

from rlcs.nano.tokenizer import STOP_TOKENS, VOCAB_SIZE, build_tokenizer

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
CELL = 28  # pixels a side that one visual token covers: patch 14 x merge 2, as GLM-4V
_EMBED_STD = 0.5
_BRANCH_GAIN = 0.4


def nano_config(
    tokenizer: PreTrainedTokenizerFast, *, hidden_size: int = 192, layers: int = 4, vision_size: int = 96, vision_depth: int = 3
) -> Glm4vConfig:
    """Sizes of the nano model; the defaults give about 2.4 million parameters."""
    ids = tokenizer.convert_tokens_to_ids
    head_dim = 32
    return Glm4vConfig(
        text_config={
            "vocab_size": VOCAB_SIZE,
            "hidden_size": hidden_size,
            "intermediate_size": hidden_size * 8 // 3,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden_size // head_dim,
            "num_key_value_heads": max(1, hidden_size // head_dim // 3),
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 1.0,
                "mrope_section": [4, 6, 6],
            },
            "pad_token_id": ids("<|endoftext|>"),
            "eos_token_id": list(ids(list(STOP_TOKENS))),
        },
        vision_config={
            "depth": vision_depth,
            "hidden_size": vision_size,
            "num_heads": vision_size // head_dim,
            "intermediate_size": 2 * hidden_size,
            "out_hidden_size": hidden_size,
            "image_size": 8 * CELL,
            "patch_size": CELL // 2,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=ids("<|image|>"),
        video_token_id=ids("<|video|>"),
        image_start_token_id=ids("<|begin_of_image|>"),
        image_end_token_id=ids("<|end_of_image|>"),
        video_start_token_id=ids("<|begin_of_video|>"),
        video_end_token_id=ids("<|end_of_video|>"),
        tie_word_embeddings=False,
    )


def _initialise(model: Glm4vForConditionalGeneration, seed: int) -> None:
    """Fan-in initial weights that let visual tokens be heard.

    transformers' default (std 0.02 everywhere) left the vision tower's output at a standard deviation of 0.005 against 0.02
    for text, under unit-variance branches of the sandwich norms: the decoder could not hear it. Here every linear map keeps
    variance, text embeddings and image features start at the same scale, and each residual branch adds a fraction of it.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=fan_in**-0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=_EMBED_STD, generator=generator)
        elif name.endswith(("post_self_attn_layernorm", "post_mlp_layernorm")):
            nn.init.constant_(module.weight, _BRANCH_GAIN)
    nn.init.normal_(model.lm_head.weight, std=0.02, generator=generator)
    _match_scale(model, generator)


@torch.no_grad()
def _match_scale(model: Glm4vForConditionalGeneration, generator: torch.Generator) -> None:
    """Rescales the merger's last map so that features of random images have the text embeddings' standard deviation."""
    patch = model.config.vision_config
    width = patch.in_channels * patch.temporal_patch_size * patch.patch_size**2
    pixels = torch.randn(16 * 64, width, generator=generator)
    features = model.model.visual(pixels, grid_thw=torch.tensor([[1, 8, 8]] * 16)).pooler_output
    model.model.visual.merger.down_proj.weight.mul_(_EMBED_STD / features.std())


def build_processor() -> Glm4vProcessor:
    """Tokenizer, image and video processors and chat template as GLM-4V's processor; images of whole cells stay as they are."""
    tokenizer = build_tokenizer()
    size = {"shortest_edge": CELL * CELL, "longest_edge": CELL * CELL * 1024}
    return Glm4vProcessor(
        image_processor=Glm4vImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Glm4vVideoProcessor(size=size),
        chat_template=CHAT_TEMPLATE.read_text(encoding="utf-8"),
    )


def build_model(*, seed: int = 0, **sizes: int) -> Glm4vForConditionalGeneration:
    """A freshly initialised nano model (float32); `sizes` as in `nano_config`."""
    tokenizer = build_tokenizer()
    model = Glm4vForConditionalGeneration(nano_config(tokenizer, **sizes))
    _initialise(model, seed)
    stop_ids = tokenizer.convert_tokens_to_ids(list(STOP_TOKENS))
    model.generation_config = GenerationConfig(
        eos_token_id=stop_ids, pad_token_id=tokenizer.pad_token_id, do_sample=True, temperature=1.0
    )
    return model


def save_nano(model: Glm4vForConditionalGeneration, out: Path) -> None:
    """Writes model and processor so that plain AutoProcessor and AutoModelForImageTextToText load them."""
    model.save_pretrained(out)
    build_processor().save_pretrained(out)
