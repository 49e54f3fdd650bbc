"""The vLLM engine on vLLM's CPU build, real processes and all: against the transformers engine and the trainer's own
forward pass.
"""

import copy
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rlcs.nano.build import build_model, build_processor
from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import Completion, SamplingParams, ThinkingBudget
from rollout.forward import hidden_states, pack
from rollout.transformers_engine import TransformersEngine
from rollout.vllm_engine import VllmEngine, VllmOptions

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=24)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """Random weights with a sharpened head, so that greedy choices have clear margins."""
    model = build_model(seed=0, hidden_size=96, layers=2, vision_size=32, vision_depth=1).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return ChatRenderer(build_processor())


@pytest.fixture(scope="module")
def engine(model, renderer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    checkpoint = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(checkpoint)
    renderer.processor.save_pretrained(checkpoint)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # a test looks into the engine's process
        engine = VllmEngine(checkpoint, renderer, VllmOptions(max_sequences=64, max_length=512, eager=True, sleep=True))
        yield engine
        engine.close()


@pytest.fixture(scope="module")
def prompts(renderer, tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    """Text, one image, two images, a video, text again; every other one thinking."""
    root, rng = tmp_path_factory.mktemp("media"), np.random.default_rng(0)

    def picture(height: int, width: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

    picture(56, 84).save(root / "a.png")
    picture(84, 28).save(root / "b.png")
    first, *rest = (picture(56, 56) for _ in range(4))
    first.save(root / "clip.gif", save_all=True, append_images=rest, duration=500)
    parts: list[list[dict]] = [
        [],
        [{"type": "image", "image": "a.png"}],
        [{"type": "image", "image": "b.png"}, {"type": "image", "image": "a.png"}],
        [{"type": "video", "video": "clip.gif"}],
        [],
    ]
    return [
        renderer.prompt(
            [{"role": "user", "content": [*media, {"type": "text", "text": f"what is this, {index}?"}]}],
            root=root,
            thinking=bool(index % 2),
            id=f"problem-{index}",
        )
        for index, media in enumerate(parts)
    ]


def flat(groups: list[list[Completion]]) -> list[Completion]:
    return [completion for group in groups for completion in group]


def assert_same_tokens(left: list[list[Completion]], right: list[list[Completion]]) -> None:
    for one, other in zip(flat(left), flat(right), strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        assert (one.finish_reason, one.text) == (other.finish_reason, other.text)
        assert one.forced.tolist() == other.forced.tolist()


@torch.no_grad()
def assert_trainers_logprobs(model, renderer, prompts, groups: list[list[Completion]], temperature: float = 1.0) -> None:
    """Log-probabilities are those of the trainer's forward pass, over the tokens that may be drawn.

    Of random weights the others (media placeholders, unused rows) have much of the mass, of a trained policy none.
    """
    suppressed = renderer.suppressed_ids(model.lm_head.out_features)
    for prompt, group in zip(prompts, groups, strict=True):
        start = len(prompt.encoded.input_ids)
        for completion in group:
            encoded = prompt.encoded.extended(completion.token_ids, np.ones(len(completion.token_ids), bool))
            logits = model.lm_head(hidden_states(model, pack([encoded]))[start - 1 : -1]) / temperature
            logits[:, suppressed] = float("-inf")
            tokens = torch.from_numpy(completion.token_ids.astype(np.int64))
            expected = torch.log_softmax(logits, 1).gather(1, tokens[:, None]).squeeze(1).numpy()
            expected[completion.forced] = 0.0
            np.testing.assert_allclose(completion.logprobs, expected, atol=2e-3)  # the head multiplies errors by 20


def test_greedy_tokens_and_logprobs_equal_the_transformers_engines_for_text_images_and_video(engine, model, renderer, prompts):
    expected = TransformersEngine(model, renderer).generate(prompts, 1, GREEDY, generator=seeded())
    found = engine.generate(prompts, 1, GREEDY, generator=seeded())
    assert_same_tokens(found, expected)
    assert_trainers_logprobs(model, renderer, prompts, found)


def test_new_weights_are_served_without_a_restart_vision_tower_and_all(engine, model, renderer, prompts):
    before = engine.generate(prompts, 1, GREEDY, generator=seeded())
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.1 * parameter.std() * torch.randn(parameter.shape, generator=seeded(1)))
    process = engine.process_ids()
    engine.update_weights(changed.named_parameters(), version=7)
    after = engine.generate(prompts, 1, GREEDY, generator=seeded())
    assert [one.token_ids.tolist() for one in flat(before)] != [one.token_ids.tolist() for one in flat(after)]
    assert_same_tokens(after, TransformersEngine(changed, renderer).generate(prompts, 1, GREEDY, generator=seeded()))
    assert_trainers_logprobs(changed, renderer, prompts, after)
    assert (engine.process_ids(), {one.weight_version for one in flat(after)}) == (process, {7})
    engine.update_weights(model.named_parameters(), version=8)
    assert_same_tokens(engine.generate(prompts, 1, GREEDY, generator=seeded()), before)


def test_ctrl_c_at_the_terminal_does_not_end_vllms_processes(engine, prompts):
    """The terminal sends it to them too; when generation ends is for the process that started them to say."""
    before, processes, restarts = engine.generate(prompts, 1, GREEDY, generator=seeded()), engine.process_ids(), engine.restarts
    for process in processes:
        os.kill(process, signal.SIGINT)
    assert_same_tokens(engine.generate(prompts, 1, GREEDY, generator=seeded()), before)
    assert (engine.process_ids(), engine.restarts) == (processes, restarts)


def test_logprobs_are_those_of_the_sampling_distribution_at_its_temperature(engine, model, renderer, prompts):
    sampling = SamplingParams(temperature=0.7, max_new_tokens=40)
    groups = engine.generate(prompts, 3, sampling, ThinkingBudget(20, None), generator=seeded(2))
    assert_trainers_logprobs(model, renderer, prompts, groups, temperature=0.7)


def test_seeds_decide_the_draws_and_samples_of_a_group_differ(engine, prompts):
    sampling = SamplingParams(max_new_tokens=24)
    first, same, other = (engine.generate(prompts, 4, sampling, generator=seeded(seed)) for seed in (3, 3, 4))
    assert [one.token_ids.tolist() for one in flat(first)] == [one.token_ids.tolist() for one in flat(same)]
    assert [one.token_ids.tolist() for one in flat(first)] != [one.token_ids.tolist() for one in flat(other)]
    assert all(len({tuple(one.token_ids.tolist()) for one in group}) == 4 for group in first)


def test_greedy_responses_under_a_budget_equal_the_transformers_engines(engine, model, renderer, prompts):
    for budget in (ThinkingBudget(6, 9), ThinkingBudget(0, 4), ThinkingBudget(5, None), ThinkingBudget(None, 3)):
        expected = TransformersEngine(model, renderer).generate(prompts, 1, GREEDY, budget, generator=seeded())
        found = engine.generate(prompts, 1, GREEDY, budget, generator=seeded())
        assert_same_tokens(found, expected)
        if budget.think_tokens is not None:
            assert any(completion.forced.any() for completion in flat(found))


def test_every_prompt_may_have_a_budget_of_its_own(engine, prompts):
    budgets = [ThinkingBudget(think, 4) for think in range(len(prompts))]
    groups = engine.generate(prompts, 2, SamplingParams(max_new_tokens=60), budgets, generator=seeded())
    for prompt, budget, group in zip(prompts, budgets, groups, strict=True):
        for completion in group:
            if prompt.thinking and completion.forced.any():
                assert np.flatnonzero(completion.forced)[0] - budget.think_tokens in (0, 1)  # <think> itself is not counted
            assert len(completion.token_ids) <= budget.think_tokens + 1 + 2 + 4


def test_looping_responses_end_where_the_transformers_engine_ends_them(engine, model, renderer, prompts):
    sampling = SamplingParams(temperature=0.0, max_new_tokens=200, stop_repetition=16)
    for budget in (None, ThinkingBudget(30, 150)):
        expected = TransformersEngine(model, renderer).generate(prompts, 1, sampling, budget, generator=seeded())
        found = engine.generate(prompts, 1, sampling, budget, generator=seeded())
        assert_same_tokens(found, expected)
        assert_trainers_logprobs(model, renderer, prompts, found)
        looped = [one for one in flat(found) if one.finish_reason == "repetition"]
        assert looped and all(len(one.token_ids) < 180 for one in looped)


def test_further_stop_tokens_end_a_response(engine, model, renderer, prompts):
    [[whole]] = engine.generate(prompts[:1], 1, GREEDY, generator=seeded())
    sampling = SamplingParams(temperature=0.0, max_new_tokens=24, stop_token_ids=(int(whole.token_ids[4]),))
    found = engine.generate(prompts, 1, sampling, generator=seeded())
    assert_same_tokens(found, TransformersEngine(model, renderer).generate(prompts, 1, sampling, generator=seeded()))
    assert found[0][0].finish_reason == "stop" and len(found[0][0].token_ids) <= 5


def test_seconds_run_from_the_submission_to_a_completions_last_token(engine, prompts):
    budgets = [ThinkingBudget(0, 100 if index else 1) for index in range(len(prompts))]
    began = time.perf_counter()
    groups = engine.generate(prompts, 2, SamplingParams(max_new_tokens=120), budgets, generator=seeded())
    spent = time.perf_counter() - began
    assert all(0 < one.seconds < spent for one in flat(groups))
    assert max(one.seconds for one in groups[0]) < max(one.seconds for one in flat(groups[1:]))


def test_a_group_sends_its_image_once_encodes_it_once_and_computes_its_prompt_once(engine, renderer, prompts, tmp_path):
    """The image is a new one, the prompt longer than one block of the prefix cache, 128 tokens on the CPU."""

    def count_encoded(worker):
        model, worker.encoded = worker.model_runner.model, 0
        encode = model.embed_multimodal

        def counted(**kwargs):
            worker.encoded += len(kwargs.get("image_grid_thw", ()))
            return encode(**kwargs)

        model.embed_multimodal = counted

    def encoded(worker):
        return worker.encoded

    sent, outputs, core = [], [], engine._engine.engine_core
    add, generate = core.add_request_async, engine._engine.generate

    async def adding(request):
        sent.extend(feature.data is not None for feature in request.mm_features)
        await add(request)

    async def generating(*arguments):
        async for output in generate(*arguments):
            outputs.append(output)
            yield output

    Image.fromarray(np.random.default_rng(7).integers(0, 256, (56, 56, 3), dtype=np.uint8)).save(tmp_path / "new.png")
    content = [{"type": "image", "image": "new.png"}, {"type": "text", "text": "x" * 150}]
    prompt = renderer.prompt([{"role": "user", "content": content}], root=tmp_path, thinking=True)
    engine._await(engine._engine.collective_rpc(count_encoded))
    core.add_request_async, engine._engine.generate = adding, generating
    try:
        engine.generate([prompt], 6, SamplingParams(max_new_tokens=8), generator=seeded())
        assert sent == [True, *[False] * 5]
        engine.generate([prompt], 2, SamplingParams(max_new_tokens=8), generator=seeded())
    finally:
        del core.add_request_async, engine._engine.generate
    assert sent == [True, *[False] * 7]  # nor again in another call, under the same weights
    assert engine._await(engine._engine.collective_rpc(encoded)) == [1]
    cached = sorted(output.num_cached_tokens for output in outputs)
    assert cached == [0, *[128] * 7]


def test_after_sleeping_the_engine_says_what_it_said_before(engine, prompts):
    before = engine.generate(prompts, 1, GREEDY, generator=seeded())
    engine.sleep()
    engine.wake()
    assert_same_tokens(engine.generate(prompts, 1, GREEDY, generator=seeded()), before)


def test_groups_come_as_they_finish(engine, prompts):
    """The group with the shortest answers is there before the others."""
    budgets = [ThinkingBudget(0, 100 if index else 1) for index in range(len(prompts))]
    stream = engine.stream(prompts, 2, SamplingParams(max_new_tokens=120), budgets, generator=seeded())
    order = [index for index, _ in stream]
    assert sorted(order) == list(range(len(prompts))) and order[0] == 0


def test_a_prompt_too_long_for_the_engine_is_named(engine, renderer):
    long = renderer.prompt([{"role": "user", "content": "x" * 600}], root=Path(), thinking=True, id="the-long-one")
    with pytest.raises(ValueError, match=r"the-long-one: 6\d\d tokens and up to 24 of response.* 512 in all"):
        engine.generate([long], 1, GREEDY, generator=seeded())


def test_after_a_kill_the_engine_starts_again_with_the_last_weights_and_loses_nothing(engine, model, renderer, prompts):
    sampling = SamplingParams(max_new_tokens=300)
    budget = ThinkingBudget(200, 90)
    engine.update_weights(model.named_parameters(), version=11)
    many = prompts * 6
    whole = engine.generate(many, 4, sampling, budget, generator=seeded(5))
    (victim,) = engine.process_ids()

    def kill() -> None:
        time.sleep(0.5)
        os.kill(victim, signal.SIGKILL)

    threading.Thread(target=kill).start()
    again = engine.generate(many, 4, sampling, budget, generator=seeded(5))
    assert engine.restarts == 1 and engine.process_ids() != [victim]
    assert [len(group) for group in again] == [4] * len(many)
    matching = [one.token_ids.tolist() == two.token_ids.tolist() for one, two in zip(flat(whole), flat(again), strict=True)]
    assert np.mean(matching) > 0.9  # same seeds, same weights; sums of another batch may round a draw over an edge
    expected = TransformersEngine(model, renderer).generate(prompts, 1, GREEDY, generator=seeded())
    assert_same_tokens(engine.generate(prompts, 1, GREEDY, generator=seeded()), expected)


def test_an_engine_that_died_between_calls_is_started_again_with_the_weights_to_come(engine, model, renderer, prompts):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.1 * parameter.std() * torch.randn(parameter.shape, generator=seeded(2)))
    restarts, (victim,) = engine.restarts, engine.process_ids()
    os.kill(victim, signal.SIGKILL)
    engine.sleep()
    engine.wake()
    engine.update_weights(changed.named_parameters(), version=12)
    assert engine.restarts == restarts + 1
    found = engine.generate(prompts, 1, GREEDY, generator=seeded())
    assert_same_tokens(found, TransformersEngine(changed, renderer).generate(prompts, 1, GREEDY, generator=seeded()))
    assert {one.weight_version for one in flat(found)} == {12}
