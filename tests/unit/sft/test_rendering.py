"""Which tokens are trained, and the cache of rendered examples."""

from pathlib import Path

import pytest
from sft_lines import Line, Write, example
from transformers import PreTrainedTokenizerFast

from rollout.chat import ChatRenderer
from sft.data import Example, load_examples
from sft.rendering import Renderings, check_nothink_form
from sft.update import Sample

CHATML = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


@pytest.fixture
def examples(write: Write, lines: list[Line]) -> list[Example]:
    return load_examples(write(lines)).examples


def trained(renderer: ChatRenderer, sample: Sample) -> str:
    return renderer.decode(sample.encoded.input_ids[sample.encoded.loss_mask])


def context(renderer: ChatRenderer, sample: Sample) -> str:
    return renderer.decode(sample.encoded.input_ids[~sample.encoded.loss_mask])


def test_a_thinking_example_is_trained_on_thought_answer_and_end_of_turn(
    renderer: ChatRenderer, examples: list[Example]
) -> None:
    sample = Renderings(renderer, cache_bytes=0).sample(examples[0], nothink=False)
    assert trained(renderer, sample) == "<think>one and one</think>\n<|begin_of_box|>2<|end_of_box|><|user|>"
    assert context(renderer, sample) == "[gMASK]<sop><|user|>\n1+1<|assistant|>\n"


def test_a_non_thinking_example_is_trained_on_its_answer_and_end_of_turn(
    renderer: ChatRenderer, examples: list[Example]
) -> None:
    sample = Renderings(renderer, cache_bytes=0).sample(examples[0], nothink=True)
    assert trained(renderer, sample) == "<|begin_of_box|>2<|end_of_box|><|user|>"
    assert context(renderer, sample) == "[gMASK]<sop><|user|>\n1+1/nothink<|assistant|>\n<think></think>\n"


def test_an_example_without_a_thought_is_always_in_non_thinking_form(renderer: ChatRenderer, examples: list[Example]) -> None:
    renderings = Renderings(renderer, cache_bytes=0)
    sample = renderings.sample(examples[4], nothink=False)
    assert sample.nothink and context(renderer, sample).endswith("7-5/nothink<|assistant|>\n<think></think>\n")
    assert len(renderings.forms(examples[4], nothink=True)) == 1
    assert [form.nothink for form in renderings.forms(examples[0], nothink=True)] == [False, True]
    assert [form.nothink for form in renderings.forms(examples[0], nothink=False)] == [False]


@pytest.mark.parametrize("nothink", [False, True])
def test_thoughts_of_earlier_turns_are_stripped_and_their_answers_trained(
    renderer: ChatRenderer, write: Write, nothink: bool
) -> None:
    line = example("x", "2+2", think="two twos", answer="4")
    earlier = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "<think>hidden</think>\nit is 2"}]
    [multi] = load_examples(write([{**line, "messages": [*earlier, *line["messages"]]}])).examples
    sample = Renderings(renderer, cache_bytes=0).sample(multi, nothink=nothink)
    assert "hidden" not in renderer.decode(sample.encoded.input_ids)
    response = "<|begin_of_box|>4<|end_of_box|><|user|>"
    thought = "" if nothink else "<think>two twos</think>\n"
    assert trained(renderer, sample) == f"it is 2<|user|>{thought}{response}"


def test_a_kept_example_is_rendered_once_and_pictures_are_held_once(renderer: ChatRenderer, examples: list[Example]) -> None:
    renderings = Renderings(renderer, cache_bytes=1 << 30)
    first, second = renderings.forms(examples[1], nothink=True), renderings.forms(examples[1], nothink=True)
    assert all(one.encoded is other.encoded for one, other in zip(first, second, strict=True))
    again = renderings.sample(examples[5], nothink=False)  # another example that shows the same picture
    assert first[0].encoded.media[0] is first[1].encoded.media[0] is again.encoded.media[0]


def test_examples_beyond_the_cache_are_rendered_anew_to_the_same_tokens(
    renderer: ChatRenderer, examples: list[Example]
) -> None:
    picture = 6 * 1176 * 4 * 2  # 28 x 84 pixels: 12 patches of 1,176 floats
    renderings = Renderings(renderer, cache_bytes=picture + 6000)
    first = [renderings.sample(one, nothink=False).encoded for one in examples]
    second = [renderings.sample(one, nothink=False).encoded for one in examples]
    kept = [one is other for one, other in zip(first, second, strict=True)]
    assert kept[:2] == [True, True] and kept[3] is False
    for one, other in zip(first, second, strict=True):
        assert one.input_ids.tolist() == other.input_ids.tolist() and one.loss_mask.tolist() == other.loss_mask.tolist()


def test_an_example_that_cannot_be_rendered_is_named(
    renderer: ChatRenderer, write: Write, lines: list[Line], root: Path
) -> None:
    examples = load_examples(write(lines)).examples
    (root / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"o1: .*b.png: not a readable image"):
        Renderings(renderer, cache_bytes=0).sample(examples[3], nothink=False)


def test_a_template_whose_non_thinking_prompt_differs_from_the_rewriting_is_refused(renderer: ChatRenderer) -> None:
    check_nothink_form(renderer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=renderer.tokenizer.backend_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    with pytest.raises(ValueError, match=r"use a template like GLM-4.5V's, or nothink_ratio: 0"):
        check_nothink_form(ChatRenderer(tokenizer))
