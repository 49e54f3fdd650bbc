"""Fixtures of the rollout tests: the nano model with random weights, and its processor."""

import pytest
import torch
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
