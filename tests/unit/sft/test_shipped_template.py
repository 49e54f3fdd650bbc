"""The chat template shipped for text models: the two modes, and SFT examples that begin as their prompts do."""

from pathlib import Path

import numpy as np
import pytest

from rlcs.nano.build import build_processor
from rollout.chat import ChatRenderer
from sft.rendering import check_nothink_form

TEMPLATE = Path(__file__).parents[3] / "configs" / "models" / "chatml_nothink.jinja"


@pytest.fixture(scope="module")
def chatml() -> ChatRenderer:
    """A ChatML tokenizer whose box tokens and `/nothink` are ordinary text, as Qwen3's."""
    tokenizer = build_processor().tokenizer
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}, replace_extra_special_tokens=False
    )
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8")
    return ChatRenderer(tokenizer)


def test_prompts_of_both_modes_are_laid_out_as_glm_45v_lays_out_its_own(chatml: ChatRenderer) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "1+1"}]
    thinking, nothink = (chatml.prompt(messages, root=Path(), thinking=thinks) for thinks in (True, False))
    begin = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\n1+1"
    assert chatml.decode(thinking.encoded.input_ids) == f"{begin}<|im_end|>\n<|im_start|>assistant\n"
    assert chatml.decode(nothink.encoded.input_ids) == f"{begin}/nothink<|im_end|>\n<|im_start|>assistant\n<think></think>\n"


def test_examples_begin_with_the_tokens_of_their_prompts(chatml: ChatRenderer) -> None:
    check_nothink_form(chatml)
    question, answer = {"role": "user", "content": "1+1"}, {"role": "assistant", "content": "<think>a</think>\n2"}
    prompt = chatml.prompt([question], root=Path(), thinking=True).encoded.input_ids
    example = chatml.example([question, answer], root=Path())
    assert np.array_equal(example.input_ids[: len(prompt)], prompt)
    trained = example.input_ids[example.loss_mask]
    assert chatml.decode(trained) == "<think>a</think>\n2<|im_end|>"
