"""Fixtures of the rollout tests: the nano model with random weights, its processor, and a folder of images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Glm4vForConditionalGeneration, Glm4vProcessor, LlamaConfig, LlamaForCausalLM

from rlcs.nano.build import build_model, build_processor
from rollout.chat import ChatRenderer


@pytest.fixture(scope="session")
def processor() -> Glm4vProcessor:
    return build_processor()


@pytest.fixture(scope="session")
def renderer(processor: Glm4vProcessor) -> ChatRenderer:
    return ChatRenderer(processor)


@pytest.fixture(scope="session")
def nano() -> Glm4vForConditionalGeneration:
    """Random weights with a sharpened head, so that greedy choices have clear margins."""
    model = build_model(seed=0, hidden_size=96, layers=2, vision_size=32, vision_depth=1).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.png 56 x 84, b.png 84 x 28, clip/ of five 56 x 56 frames, clip.gif of four at 2 frames per second."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)

    def picture(height: int, width: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

    picture(56, 84).save(folder / "a.png")
    picture(84, 28).save(folder / "b.png")
    (folder / "clip").mkdir()
    for index in range(5):
        picture(56, 56).save(folder / "clip" / f"{index:03}.png")
    first, *rest = (picture(56, 56) for _ in range(4))
    first.save(folder / "clip.gif", save_all=True, append_images=rest, duration=500)
    return folder


CHATML = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


@pytest.fixture(scope="session")
def text_renderer() -> ChatRenderer:
    """A text-only tokenizer with a ChatML template that knows nothing of thinking."""
    tokenizer = build_processor().tokenizer
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}, replace_extra_special_tokens=False
    )
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = CHATML
    return ChatRenderer(tokenizer)


@pytest.fixture(scope="session")
def llama(text_renderer: ChatRenderer) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=288,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model
