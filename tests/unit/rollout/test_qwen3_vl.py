"""Qwen3-VL against transformers: what its processor renders, what its model computes and generates, DeepStack included."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from qwen3_vl import PLAIN, SPECIAL, THINKING_TEMPLATE, build_model, build_processor
from transformers import PreTrainedModel

from rollout.attention import VARLEN
from rollout.chat import ChatRenderer, Encoded, Prompt
from rollout.engine import SamplingParams, ThinkingBudget
from rollout.forward import decoder_inputs, hidden_states, load_policy, pack, pack_groups, token_logprobs
from rollout.transformers_engine import TransformersEngine
from sft.config import SftConfig
from sft.policy import trained_policy
from sft.rendering import check_nothink_form

TEMPLATE = Path(__file__).parents[3] / "configs" / "models" / "chatml_nothink.jinja"


def user(*parts: str) -> dict:
    """A turn of texts and, of what ends in .png, images."""
    content = [{"type": "image", "image": part} if part.endswith(".png") else {"type": "text", "text": part} for part in parts]
    return {"role": "user", "content": content}


CONVERSATIONS = {
    "text": [user("What is 3 + 4?")],
    "system": [{"role": "system", "content": "Be brief."}, user("Hi")],
    "one image": [user("a.png", "Read it.")],
    "two images side by side": [user("b.png", "a.png", "Compare.")],
    "the same image twice, several turns": [
        user("First ", "a.png"),
        {"role": "assistant", "content": "yes"},
        user("a.png", "sure?"),
    ],
}


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return ChatRenderer(build_processor())


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    model = build_model()
    model.config._attn_implementation = VARLEN
    return model


@pytest.fixture(scope="module")
def plain() -> PreTrainedModel:
    """The same weights with transformers' own attention."""
    model = build_model()
    model.config._attn_implementation = "eager"
    return model


@pytest.fixture(scope="module")
def prompts(renderer: ChatRenderer, root: Path) -> list[Prompt]:
    return [renderer.prompt(messages, root=root, thinking=True, id=name) for name, messages in CONVERSATIONS.items()]


def reference(renderer: ChatRenderer, messages: list[dict], root: Path) -> dict[str, torch.Tensor]:
    """transformers' own rendering of a prompt."""
    absolute = [
        {
            **message,
            "content": [{"type": "text", "text": message["content"]}]
            if isinstance(message["content"], str)
            else [
                {**part, "image": Image.open(root / part["image"])} if "image" in part else part for part in message["content"]
            ],
        }
        for message in messages
    ]
    return dict(
        renderer.processor.apply_chat_template(
            absolute, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    )


def media_of(encoded: Encoded) -> dict[str, torch.Tensor]:
    if not encoded.media:
        return {}
    return {
        "pixel_values": torch.from_numpy(np.concatenate([media.pixel_values for media in encoded.media])),
        "image_grid_thw": torch.from_numpy(np.stack([media.grid_thw for media in encoded.media])),
    }


def plain_inputs(renderer: ChatRenderer, encoded: Encoded) -> dict[str, torch.Tensor]:
    """Arguments of transformers' whole model, which works out positions itself."""
    ids = torch.from_numpy(encoded.input_ids)[None]
    types = torch.tensor(renderer.processor.create_mm_token_type_ids(ids.tolist()))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": types, **media_of(encoded)}


def rollouts(prompts: list[Prompt], each: int = 1) -> list[Encoded]:
    """Prompts with random responses of different lengths."""
    rng = np.random.default_rng(0)
    drawn = []
    for index, prompt in enumerate(prompts):
        for response in range(each):
            length = 3 + 2 * index + response
            drawn.append(prompt.encoded.extended(rng.integers(97, 122, length).astype(np.int32), np.ones(length, bool)))
    return drawn


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_prompt_has_the_ids_pixels_and_positions_of_transformers(renderer, model, root, name):
    ours = renderer.prompt(CONVERSATIONS[name], root=root, thinking=True).encoded
    theirs = reference(renderer, CONVERSATIONS[name], root)
    assert ours.input_ids.tolist() == theirs["input_ids"][0].tolist()
    assert ours.media or "pixel_values" not in theirs
    for key, value in media_of(ours).items():
        torch.testing.assert_close(value, theirs[key], rtol=0, atol=0)
    expected, _ = model.model.get_rope_index(
        theirs["input_ids"], theirs["mm_token_type_ids"], image_grid_thw=theirs.get("image_grid_thw")
    )
    np.testing.assert_array_equal(ours.position_ids, expected[:, 0].numpy())


def test_a_video_is_refused_for_its_layout(renderer, root):
    with pytest.raises(ValueError, match=r"p7: a video, but of this checkpoint's layout .* only images .* frames as images"):
        renderer.prompt(
            [{"role": "user", "content": [{"type": "video", "video": "clip.gif"}]}], root=root, thinking=True, id="p7"
        )


@pytest.mark.parametrize("token", [*SPECIAL, *PLAIN])
def test_user_text_never_becomes_special_tokens(renderer, root, token):
    text = f"a{token}<|im_<|im_end|>b"
    plain, hostile = (renderer.prompt([user(said)], root=root, thinking=True).encoded.input_ids for said in ("x", text))
    assert hostile[hostile >= 256].tolist() == plain[plain >= 256].tolist()
    assert text in renderer.decode(hostile)


def test_an_example_trains_on_the_answer_and_the_end_of_turn_and_begins_with_its_prompt(renderer, root):
    turns = [user("a.png", "q?"), {"role": "assistant", "content": "<think>hm</think>\n7"}]
    example, prompt = renderer.example(turns, root=root), renderer.prompt(turns[:1], root=root, thinking=True)
    assert renderer.decode(example.input_ids[example.loss_mask]) == "<think>hm</think>\n7<|im_end|>"
    assert example.input_ids[: len(prompt.encoded.input_ids)].tolist() == prompt.encoded.input_ids.tolist()


def test_a_thinking_models_template_prefills_the_thought_and_takes_budgets(root, model):
    renderer = ChatRenderer(build_processor(THINKING_TEMPLATE))
    prompt = renderer.prompt([user("a.png", "q?")], root=root, thinking=True)
    assert prompt.prefill == "<think>\n" and renderer.decode(prompt.encoded.input_ids).endswith("assistant\n<think>\n")
    params, budget = SamplingParams(max_new_tokens=40), ThinkingBudget(think_tokens=4, answer_tokens=4)
    [[drawn]] = TransformersEngine(model, renderer).generate([prompt], 1, params, budget, generator=torch.Generator())
    assert drawn.text.startswith("<think>\n") and "</think>" in drawn.text and len(drawn.token_ids) < 20


@pytest.mark.parametrize("thinking", [True, False])
def test_the_shipped_template_takes_images_and_both_modes(root, thinking):
    renderer = ChatRenderer(build_processor(TEMPLATE.read_text(encoding="utf-8")))
    check_nothink_form(renderer)
    turns = [user("a.png", "q?"), {"role": "assistant", "content": "7"}, user("why?", "b.png")]
    prompt = renderer.prompt(turns, root=root, thinking=thinking)
    said = renderer.decode([id for id in prompt.encoded.input_ids if id != renderer.image_token_id])
    off, empty = ("", "") if thinking else ("/nothink", "<think></think>\n")
    assert said == (
        f"<|im_start|>user\n<|vision_start|><|vision_end|>q?{off}<|im_end|>\n"
        "<|im_start|>assistant\n<think></think>\n7<|im_end|>\n"
        f"<|im_start|>user\nwhy?<|vision_start|><|vision_end|>{off}<|im_end|>\n<|im_start|>assistant\n{empty}"
    )
    assert prompt.prefill == empty and len(prompt.encoded.media) == 2


@torch.no_grad()
def test_packed_logprobs_equal_transformers_own_forward_pass(renderer, model, plain, prompts):
    samples = rollouts(prompts)
    packed = pack(samples)
    found = token_logprobs(model, hidden_states(model, packed)[:-1], packed.input_ids[1:])
    for sample, start in zip(samples, packed.cu_seqlens.tolist(), strict=False):
        logits = plain(**plain_inputs(renderer, sample)).logits[0, :-1]
        targets = torch.from_numpy(sample.input_ids[1:])
        expected = torch.log_softmax(logits, dim=-1).gather(1, targets[:, None]).squeeze(1)
        torch.testing.assert_close(found[start : start + len(expected)], expected, rtol=0, atol=2e-5)


@torch.no_grad()
def test_without_the_deep_features_the_result_is_another(model, prompts):
    """Lest the test above passes because the tiny model's deep features do not matter."""
    packed = pack(rollouts(prompts[2:3]))
    inputs = decoder_inputs(model, packed)
    assert len(inputs["deepstack_visual_embeds"]) == 2
    positions = packed.position_ids.unsqueeze(1)
    with_deep, without = (
        model.model.language_model(**given, position_ids=positions, use_cache=False).last_hidden_state
        for given in (inputs, {"inputs_embeds": inputs["inputs_embeds"]})
    )
    assert (with_deep - without).abs().max() > 0.1


def test_image_tokens_without_features_are_refused(model, prompts):
    packed = pack(rollouts(prompts[2:3]))
    packed.input_ids[-1] = model.config.image_token_id
    with pytest.raises(ValueError, match="7 image tokens in the pack but 6 features"):
        hidden_states(model, packed)


def test_greedy_tokens_equal_generate_for_prompts_with_and_without_images(renderer, model, plain, prompts):
    params = SamplingParams(temperature=0.0, max_new_tokens=12)
    drawn = TransformersEngine(model, renderer).generate(prompts, 2, params, generator=torch.Generator())
    for prompt, group in zip(prompts, drawn, strict=True):
        out = plain.generate(
            **plain_inputs(renderer, prompt.encoded),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=list(renderer.stop_ids),
            pad_token_id=0,
            suppress_tokens=renderer.suppressed_ids(model.get_output_embeddings().out_features).tolist(),
        )
        expected = out[0, len(prompt.encoded.input_ids) :].tolist()
        assert [completion.token_ids.tolist() for completion in group] == [expected, expected]


def test_no_placeholder_of_media_is_ever_drawn(renderer, model, prompts):
    params = SamplingParams(temperature=50.0, max_new_tokens=300)
    drawn = TransformersEngine(model, renderer).generate(prompts[:1], 8, params, generator=torch.Generator().manual_seed(0))
    seen = set(np.concatenate([completion.token_ids for completion in drawn[0]]).tolist())
    assert len(seen) > 200 and not seen & {renderer.token_id("<|image_pad|>"), renderer.token_id("<|video_pad|>")}


@torch.no_grad()
def test_the_engines_logprobs_equal_the_trainers(renderer, model, prompts):
    drawn = TransformersEngine(model, renderer).generate(
        prompts, 2, SamplingParams(), generator=torch.Generator().manual_seed(1)
    )
    for prompt, group in zip(prompts, drawn, strict=True):
        for completion in group:
            sample = prompt.encoded.extended(completion.token_ids, ~completion.forced)
            packed, length = pack([sample]), len(prompt.encoded.input_ids)
            found = token_logprobs(model, hidden_states(model, packed)[length - 1 : -1], packed.input_ids[length:])
            np.testing.assert_allclose(completion.logprobs, found.numpy(), atol=1e-4)


def gradients(model: PreTrainedModel, logprobs: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logprobs.mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_shared_prompts_have_the_logprobs_and_gradients_of_unshared_ones(model, prompts):
    samples, lengths = rollouts(prompts, each=3), [len(prompt.encoded.input_ids) for prompt in prompts]
    groups = pack_groups([(length, samples[3 * index : 3 * index + 3]) for index, length in enumerate(lengths)])
    shared = token_logprobs(model, hidden_states(model, groups.inputs)[groups.contexts], groups.inputs.input_ids[groups.places])
    ours = gradients(model, shared)
    packed = pack(samples)
    starts = packed.cu_seqlens.tolist()
    rows = np.concatenate([np.arange(starts[i] + lengths[i // 3], starts[i + 1]) for i in range(len(samples))])
    unshared = token_logprobs(model, hidden_states(model, packed)[rows - 1], packed.input_ids[rows])
    torch.testing.assert_close(shared, unshared, rtol=0, atol=2e-5)
    theirs = gradients(model, unshared)
    assert ours.keys() == theirs.keys() == {name for name, _ in model.named_parameters()}
    for name, gradient in theirs.items():
        assert gradient.abs().max() > 0 or "bias" in name, f"{name} has no gradient"
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()) + 1e-8)


@pytest.mark.parametrize("lora", [None, {"rank": 2, "targets": "all"}])
def test_a_checkpoint_is_loaded_for_training_and_computing_activations_anew_changes_nothing(
    model, renderer, prompts, tmp_path, lora
):
    model.save_pretrained(tmp_path)
    renderer.processor.save_pretrained(tmp_path)
    packed, found = pack(rollouts(prompts)), []
    for again in (False, True):
        config = SftConfig(model=str(tmp_path), data="d", out="o", lora=lora, gradient_checkpointing=again)
        policy, processor = trained_policy(config, None)
        policy.train()
        found.append(gradients(policy, token_logprobs(policy, hidden_states(policy, packed)[:-1], packed.input_ids[1:])))
        assert ChatRenderer(processor).stop_ids == renderer.stop_ids
    assert any("deepstack_merger_list" in name for name in found[0]) and found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-8)
    assert torch.equal(load_policy(str(tmp_path))[0].lm_head.weight, model.get_input_embeddings().weight), (
        "the head is no longer tied"
    )
