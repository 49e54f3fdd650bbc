"""The transformers engine against `model.generate`, teacher-forced forward passes and its own unbatched results."""

import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from rollout.attention import VARLEN
from rollout.chat import Prompt
from rollout.engine import Completion, SamplingParams, ThinkingBudget
from rollout.forward import hidden_states, pack, token_logprobs
from rollout.transformers_engine import TransformersEngine, out_of_memory
from rollout.waves import Part, waves

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=12)


def text(string: str) -> list[dict]:
    return [{"role": "user", "content": string}]


def picture(*names: str) -> list[dict]:
    parts: list[dict] = [{"type": "image", "image": name} for name in names]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "read"}]}]


CLIP = [{"role": "user", "content": [{"type": "video", "video": "clip.gif"}, {"type": "text", "text": "watch"}]}]


@pytest.fixture(scope="module")
def prompts(renderer, root) -> list[Prompt]:
    conversations = [
        text("hello there, how long is this?"),
        picture("a.png"),
        text("q"),
        picture("b.png", "a.png"),
        CLIP,
    ]
    return [renderer.prompt(messages, root=root, thinking=bool(i % 2)) for i, messages in enumerate(conversations)]


@pytest.fixture(params=["sdpa", VARLEN])
def model(nano, request):
    nano.config._attn_implementation = request.param
    yield nano
    nano.config._attn_implementation = "sdpa"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(groups: list[list[Completion]]) -> list[Completion]:
    return [completion for group in groups for completion in group]


def assert_same(left: list[list[Completion]], right: list[list[Completion]]) -> None:
    for one, other in zip(flat(left), flat(right), strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        assert (one.finish_reason, one.text) == (other.finish_reason, other.text)
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def generate_reference(model, renderer, prompt: Prompt, new_tokens: int) -> list[int]:
    """transformers' own greedy decoding of one prompt."""
    encoded = prompt.encoded
    ids = torch.from_numpy(encoded.input_ids)[None]
    images = {}
    stack = {kind: [m for m in encoded.media if m.kind == kind] for kind in ("image", "video")}
    for kind, suffix in (("image", ""), ("video", "_videos")):
        if stack[kind]:
            images[f"pixel_values{suffix}"] = torch.from_numpy(np.concatenate([m.pixel_values for m in stack[kind]]))
            images[f"{kind}_grid_thw"] = torch.from_numpy(np.stack([m.grid_thw for m in stack[kind]]))
    if images:
        images["mm_token_type_ids"] = torch.tensor(renderer.processor.create_mm_token_type_ids(ids.tolist()))
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=list(renderer.stop_ids),
        pad_token_id=0,
        suppress_tokens=renderer.suppressed_ids(model.get_output_embeddings().out_features).tolist(),
        **images,
    )
    return out[0, ids.shape[1] :].tolist()


def test_greedy_tokens_equal_generate_for_prompts_of_different_lengths_with_media(model, renderer, prompts):
    drawn = TransformersEngine(model, renderer).generate(prompts, 2, GREEDY, generator=seeded())
    for prompt, completions in zip(prompts, drawn, strict=True):
        expected = generate_reference(model, renderer, prompt, GREEDY.max_new_tokens)
        assert [completion.token_ids.tolist() for completion in completions] == [expected, expected]


def test_greedy_tokens_equal_generate_for_a_text_only_model(llama, text_renderer):
    prompts = [text_renderer.prompt(text(string), root=Path(), thinking=True) for string in ("hi", "a longer question")]
    drawn = TransformersEngine(llama, text_renderer).generate(prompts, 1, GREEDY, generator=seeded())
    for prompt, [completion] in zip(prompts, drawn, strict=True):
        assert completion.token_ids.tolist() == generate_reference(llama, text_renderer, prompt, GREEDY.max_new_tokens)


def teacher_forced(model, prompt: Prompt, completion: Completion, temperature: float) -> np.ndarray:
    """Log-probabilities of a completion by one unpacked forward pass of the whole model in eager attention."""
    encoded = prompt.encoded
    length = len(encoded.input_ids)
    ids = torch.from_numpy(np.concatenate([encoded.input_ids, completion.token_ids.astype(np.int64)]))[None]
    grown = encoded.position_ids.max() + 1 + np.arange(len(completion.token_ids))
    positions = torch.from_numpy(np.concatenate([encoded.position_ids, np.tile(grown, (3, 1))], axis=1))[:, None]
    embeds = model.get_input_embeddings()(ids)
    for kind, features in (("image", model.model.get_image_features), ("video", model.model.get_video_features)):
        media = [m for m in encoded.media if m.kind == kind]
        if media:
            pixels = torch.from_numpy(np.concatenate([m.pixel_values for m in media]))
            rows = torch.cat(features(pixels, torch.from_numpy(np.stack([m.grid_thw for m in media]))).pooler_output)
            embeds = embeds.masked_scatter((ids == model.config.image_token_id)[..., None], rows)
    hidden = model.model.language_model(inputs_embeds=embeds, position_ids=positions, use_cache=False).last_hidden_state
    logprobs = torch.log_softmax(model.lm_head(hidden)[0, length - 1 : -1] / temperature, dim=-1)
    return logprobs.gather(1, ids[0, length:, None]).squeeze(1).numpy()


@torch.no_grad()
def test_logprobs_equal_a_teacher_forced_forward_pass(nano, renderer, prompts):
    sampling = SamplingParams(temperature=0.8, max_new_tokens=90)  # past the cache's first growth
    budget = ThinkingBudget(think_tokens=20)
    drawn = TransformersEngine(nano, renderer).generate(prompts, 3, sampling, budget, generator=seeded())
    assert max(len(completion.token_ids) for group in drawn for completion in group) > 70
    for prompt, group in zip(prompts, drawn, strict=True):
        for completion in group:
            expected = teacher_forced(nano, prompt, completion, 0.8)
            expected[completion.forced] = 0.0
            np.testing.assert_allclose(completion.logprobs, expected, atol=1e-4)


@torch.no_grad()
def test_logprobs_equal_the_trainers_packed_forward_pass(nano, renderer, prompts):
    nano.config._attn_implementation = VARLEN
    try:
        drawn = TransformersEngine(nano, renderer).generate(prompts, 2, SamplingParams(), generator=seeded(4))
        rollouts = [
            (prompt.encoded.extended(completion.token_ids, ~completion.forced), completion)
            for prompt, group in zip(prompts, drawn, strict=True)
            for completion in group
        ]
        packed = pack([encoded for encoded, _ in rollouts])
        logprobs = token_logprobs(nano, hidden_states(nano, packed)[:-1], packed.input_ids[1:]).numpy()
    finally:
        nano.config._attn_implementation = "sdpa"
    trained = np.concatenate([encoded.loss_mask for encoded, _ in rollouts])[1:]
    expected = np.concatenate([completion.logprobs for _, completion in rollouts])
    np.testing.assert_allclose(logprobs[trained], expected, atol=1e-4)


@torch.no_grad()
def test_first_token_frequencies_match_the_models_distribution_by_chi_square(nano, renderer, prompts):
    count, prompt = 20_000, prompts[1]
    sampling = SamplingParams(temperature=3.0, max_new_tokens=1)
    [drawn] = TransformersEngine(nano, renderer, max_batch=5000).generate([prompt], count, sampling, generator=seeded())
    packed = pack([prompt.encoded])
    nano.config._attn_implementation = VARLEN
    try:
        logits = nano.lm_head(hidden_states(nano, packed)[-1]).double() / 3.0
    finally:
        nano.config._attn_implementation = "sdpa"
    logits[renderer.suppressed_ids(len(logits))] = -torch.inf
    expected = count * logits.softmax(0).numpy()
    observed = np.bincount([completion.token_ids[0] for completion in drawn], minlength=len(expected))
    common = expected > 20
    statistic = float(((observed - expected)[common] ** 2 / expected[common]).sum())
    degrees = int(common.sum())
    assert degrees > 15
    assert statistic < degrees + 4 * (2 * degrees) ** 0.5
    assert abs(observed[common].sum() - expected[common].sum()) < 4 * count**0.5


def test_same_seed_gives_the_same_completions_and_another_seed_others(nano, renderer, prompts):
    engine = TransformersEngine(nano, renderer)
    first, second, third = (engine.generate(prompts, 2, SamplingParams(), generator=seeded(s)) for s in (5, 5, 6))
    assert_same(first, second)
    assert any(a.token_ids.tolist() != b.token_ids.tolist() for a, b in zip(flat(first), flat(third), strict=True))


def test_a_generator_carries_on_between_calls_as_its_state_says(nano, renderer, prompts):
    engine = TransformersEngine(nano, renderer)
    generator = seeded(1)
    engine.generate(prompts[:2], 2, SamplingParams(max_new_tokens=9), generator=generator)
    state = generator.get_state()
    onward = engine.generate(prompts, 1, SamplingParams(), generator=generator)
    resumed = torch.Generator()
    resumed.set_state(state)
    assert_same(onward, engine.generate(prompts, 1, SamplingParams(), generator=resumed))


@pytest.mark.parametrize("budget", [None, ThinkingBudget(10, 10)])
def test_sequences_that_leave_the_batch_do_not_change_the_others(nano, renderer, prompts, budget):
    sampling = SamplingParams(temperature=1.5, max_new_tokens=80)
    kept, dropped = (
        TransformersEngine(nano, renderer, compact_below=share).generate(prompts, 8, sampling, budget, generator=seeded(2))
        for share in (0.0, 1.0)
    )
    assert len({len(completion.token_ids) for group in kept for completion in group}) >= 4
    assert_same(kept, dropped)


def test_prefill_in_small_passes_changes_nothing(nano, renderer, prompts):
    whole, pieces = (
        TransformersEngine(nano, renderer, prefill_tokens=tokens).generate(prompts, 2, SamplingParams(), generator=seeded())
        for tokens in (16384, 1)
    )
    assert_same(whole, pieces)


@pytest.mark.parametrize("max_batch", [1, 3, 4, 64])
def test_waves_give_results_in_the_order_of_the_prompts(nano, renderer, prompts, max_batch):
    drawn = TransformersEngine(nano, renderer, max_batch=max_batch).generate(prompts, 4, GREEDY, generator=seeded())
    assert_same(drawn, TransformersEngine(nano, renderer).generate(prompts, 4, GREEDY, generator=seeded()))


@pytest.mark.parametrize(("n", "max_batch"), [(1, 1), (4, 3), (8, 256), (5, 12), (300, 256)])
def test_waves_hold_every_completion_once_within_the_batch_limit(n, max_batch):
    lengths = [5, 90, 17, 17, 3, 44]
    planned = [wave.members for wave in waves(lengths, n, max_batch)]
    assert all(sum(count for _, count in wave) <= max_batch for wave in planned)
    totals = [sum(count for wave in planned for index, count in wave if index == prompt) for prompt in range(len(lengths))]
    assert totals == [n] * len(lengths)
    assert len(planned) <= -(-len(lengths) // max(1, max_batch // n)) if n <= max_batch else len(planned) <= n * len(lengths)


def test_stop_token_is_kept_in_the_tokens_and_left_out_of_the_text(nano, renderer, prompts):
    sampling = SamplingParams(temperature=2.0, max_new_tokens=60)
    drawn = TransformersEngine(nano, renderer).generate(prompts, 8, sampling, generator=seeded())
    reasons = set()
    for prompt, group in zip(prompts, drawn, strict=True):
        for completion in group:
            reasons.add(completion.finish_reason)
            ends = np.isin(completion.token_ids, renderer.stop_ids)
            assert not ends[:-1].any() and ends[-1] == (completion.finish_reason == "stop")
            body = completion.token_ids[:-1] if ends[-1] else completion.token_ids
            assert completion.text == prompt.prefill + renderer.decode(body)
            assert len(completion.token_ids) == 60 or completion.finish_reason == "stop"
    assert reasons == {"stop", "length"}


def test_further_stop_tokens_end_a_response_and_stay_out_of_its_text(nano, renderer, prompts):
    engine = TransformersEngine(nano, renderer)
    [[whole]] = engine.generate(prompts[:1], 1, GREEDY, generator=seeded())
    stop = int(whole.token_ids[5])
    first = whole.token_ids.tolist().index(stop)
    [[cut]] = engine.generate(prompts[:1], 1, SamplingParams(0.0, 1.0, 12, stop_token_ids=(stop,)), generator=seeded())
    assert cut.token_ids.tolist() == whole.token_ids[: first + 1].tolist() and cut.finish_reason == "stop"
    assert cut.text == prompts[0].prefill + renderer.decode(cut.token_ids[:-1])


def test_seconds_run_from_the_call_to_a_completions_last_token(nano, renderer, prompts):
    sampling = SamplingParams(temperature=2.0, max_new_tokens=60)
    engine = TransformersEngine(nano, renderer, max_batch=16)
    began = time.perf_counter()
    drawn = engine.generate(prompts, 8, sampling, generator=seeded())
    spent = time.perf_counter() - began
    for wave in waves([len(prompt.encoded.input_ids) for prompt in prompts], 8, 16):
        together = sorted((len(one.token_ids), one.seconds) for index, _ in wave.members for one in drawn[index])
        seconds = [seconds for _, seconds in together]
        assert 0 < seconds[0] < seconds[-1] < spent and seconds == sorted(seconds)
    longest, shortest = (pick(range(len(prompts)), key=lambda i: len(prompts[i].encoded.input_ids)) for pick in (max, min))
    assert max(one.seconds for one in drawn[longest]) < min(one.seconds for one in drawn[shortest])  # it waited for its wave


def test_a_prompt_that_leaves_the_response_no_room_is_named_before_anything_is_generated(nano, renderer, root):
    short, long = (renderer.prompt(text("x" * size), root=root, thinking=True, id=f"of-{size}") for size in (3, 4090))
    stream = TransformersEngine(nano, renderer).stream([short, long], 1, GREEDY, generator=seeded())
    with pytest.raises(
        ValueError, match=r"of-4090: 4\d\d\d tokens and up to 12 of response, but the engine takes 4096 in all; lower"
    ):
        next(stream)


def starving(engine: TransformersEngine, sequences: int, error: RuntimeError) -> list[int]:
    """Makes steps of more than `sequences` sequences fail; -> the sizes of all steps, as they come."""
    decode, sizes = engine._decode, []

    def hungry(token_B, *rest):
        sizes.append(len(token_B))
        if len(token_B) > sequences:
            raise error
        return decode(token_B, *rest)

    engine._decode = hungry
    return sizes


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory: x")])
@pytest.mark.parametrize("budget", [None, ThinkingBudget(10, 10)])
def test_a_wave_that_memory_does_not_hold_is_decoded_in_parts_with_the_same_draws(nano, renderer, prompts, error, budget):
    sampling, at_ease, after = SamplingParams(temperature=1.5, max_new_tokens=40), seeded(2), seeded(2)
    expected = TransformersEngine(nano, renderer).generate(prompts, 6, sampling, budget, generator=at_ease)
    engine = TransformersEngine(nano, renderer, compact_below=0.0)
    sizes = starving(engine, 4, error)
    with pytest.warns(RuntimeWarning, match=r"out of memory with \d+ sequences at once; going on with \d+") as told:
        drawn = engine.generate(prompts, 6, sampling, budget, generator=after)
    assert len(told) == 3
    # A draw on the border of two tokens may fall to the other side, by rounding; no more than one in these 30 responses.
    alike = [i for i, (one, other) in enumerate(zip(flat(drawn), flat(expected), strict=True)) if one.text == other.text]
    assert len(alike) >= 29
    assert_same([[flat(drawn)[i] for i in alike]], [[flat(expected)[i] for i in alike]])
    assert torch.equal(after.get_state(), at_ease.get_state())
    assert [size for size in sizes if size > 4] == [30, 12, 6]  # 15 are two prompts and a bit, halved: 12 of 30, then 6
    sizes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = engine.generate(prompts, 6, sampling, budget, generator=seeded(2))
    assert_same(again, drawn)
    assert max(sizes) <= 4  # what has failed once is not tried again


def test_a_single_response_that_memory_does_not_hold_names_its_problem(nano, renderer, root):
    engine = TransformersEngine(nano, renderer)
    starving(engine, 0, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    prompt = renderer.prompt(text("q"), root=root, thinking=True, id="sums/7")
    match = r"sums/7: out of memory on cpu with a single response of up to 12 tokens to its prompt of \d+; .*allocate 2.00 GiB"
    with pytest.warns(RuntimeWarning), pytest.raises(MemoryError, match=match):
        engine.generate([prompt], 4, GREEDY, generator=seeded())


def test_errors_that_are_not_of_memory_are_passed_on(nano, renderer, prompts):
    engine = TransformersEngine(nano, renderer)
    starving(engine, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.generate(prompts, 4, GREEDY, generator=seeded())


def test_the_cpu_allocators_own_error_is_known_for_what_it_is():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert out_of_memory(caught.value)


@pytest.mark.parametrize("members", [((4, 3), (1, 2), (0, 5)), ((2, 7),)])
def test_halves_of_a_wave_hold_its_sequences_and_their_numbers(members):
    size = sum(count for _, count in members)
    whole, left = Part(members, 0, size), [Part(members, 0, size)]
    numbers = whole.uniforms(seeded())
    while any(part.size > 1 for part in left):
        left = [half for part in left for half in (part.halves() if part.size > 1 else (part,))]
        torch.testing.assert_close(torch.cat([part.uniforms(seeded()) for part in left]), numbers, rtol=0, atol=0)
        sequences = [prompt for part in left for prompt, count in part.members for _ in range(count)]
        assert sequences == [prompt for prompt, count in members for _ in range(count)]


def test_placeholders_and_unused_ids_are_never_sampled(nano, renderer, prompts):
    head = nano.lm_head.weight.data
    before = head.clone()
    banned = renderer.suppressed_ids(len(head))
    head[banned] *= 50
    try:
        drawn = TransformersEngine(nano, renderer).generate(prompts, 8, SamplingParams(), generator=seeded())
    finally:
        head.copy_(before)
    tokens = np.concatenate([completion.token_ids for group in drawn for completion in group])
    assert renderer.token_id("<|image|>") in banned and not np.isin(tokens, banned).any()


def test_model_is_given_back_as_the_trainer_left_it(nano, renderer, prompts):
    nano.train()
    nano.config._attn_implementation = VARLEN
    try:
        engine = TransformersEngine(nano, renderer)
        engine.generate(prompts, 1, GREEDY, generator=seeded())
        assert nano.training and nano.config.text_config._attn_implementation == VARLEN
        embeds = nano.get_input_embeddings()(torch.from_numpy(prompts[0].encoded.input_ids)[None])
        nano.model.language_model(inputs_embeds=embeds).last_hidden_state.sum().backward()
        assert nano.get_input_embeddings().weight.grad is not None
    finally:
        nano.zero_grad()
        nano.eval()
        nano.config._attn_implementation = "sdpa"


def test_update_weights_stamps_later_completions_with_the_version(nano, renderer, prompts):
    engine = TransformersEngine(nano, renderer)
    engine.update_weights(nano.named_parameters(), version=7)
    [[completion]] = engine.generate(prompts[:1], 1, GREEDY, generator=seeded())
    assert completion.weight_version == 7


def test_model_with_sliding_window_layers_is_refused(llama, text_renderer):
    llama.config.layer_types = ["full_attention", "sliding_attention"]
    try:
        with pytest.raises(ValueError, match="full attention only"):
            TransformersEngine(llama, text_renderer)
    finally:
        del llama.config.layer_types
