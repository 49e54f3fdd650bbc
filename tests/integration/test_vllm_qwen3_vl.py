"""The vLLM engine with a small Qwen3-VL, real processes and all, against the transformers engine."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rollout.attention import VARLEN
from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import Completion, SamplingParams
from rollout.forward import hidden_states, pack
from rollout.transformers_engine import TransformersEngine
from rollout.vllm_engine import VllmEngine, VllmOptions

sys.path.append(str(Path(__file__).parents[1] / "unit" / "rollout"))
from qwen3_vl import build_model, build_processor

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=24)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    model = build_model()
    model.config._attn_implementation = VARLEN
    return model


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return ChatRenderer(build_processor())


@pytest.fixture(scope="module")
def engine(model, renderer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    checkpoint = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(checkpoint)
    renderer.processor.save_pretrained(checkpoint)
    engine = VllmEngine(checkpoint, renderer, VllmOptions(max_sequences=64, max_length=512, eager=True))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts(renderer, tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    """Text, one image, two images, the same image again, text again."""
    root, rng = tmp_path_factory.mktemp("media"), np.random.default_rng(0)
    for name, size in (("a.png", (64, 96, 3)), ("b.png", (128, 32, 3))):
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(root / name)
    return [
        renderer.prompt(
            [
                {
                    "role": "user",
                    "content": [
                        *({"type": "image", "image": name} for name in names),
                        {"type": "text", "text": f"what is this, {index}?"},
                    ],
                }
            ],
            root=root,
            thinking=True,
            id=f"problem-{index}",
        )
        for index, names in enumerate([[], ["a.png"], ["b.png", "a.png"], ["a.png"], []])
    ]


def tokens(groups: list[list[Completion]]) -> list[list[int]]:
    return [completion.token_ids.tolist() for group in groups for completion in group]


@torch.no_grad()
def assert_trainers_logprobs(model, renderer, prompts: list[Prompt], groups: list[list[Completion]]) -> None:
    suppressed = renderer.suppressed_ids(model.lm_head.out_features)
    for prompt, group in zip(prompts, groups, strict=True):
        start = len(prompt.encoded.input_ids)
        for completion in group:
            sample = prompt.encoded.extended(completion.token_ids, ~completion.forced)
            logits = model.lm_head(hidden_states(model, pack([sample]))[start - 1 : -1])
            logits[:, suppressed] = -torch.inf
            drawn = torch.from_numpy(completion.token_ids.astype(np.int64))[:, None]
            expected = torch.log_softmax(logits, dim=-1).gather(1, drawn).squeeze(1)
            np.testing.assert_allclose(completion.logprobs, expected.numpy(), atol=2e-3)


def test_greedy_tokens_and_logprobs_equal_the_transformers_engines_for_text_and_images(engine, model, renderer, prompts):
    ours = engine.generate(prompts, 2, GREEDY, generator=torch.Generator())
    theirs = TransformersEngine(model, renderer).generate(prompts, 2, GREEDY, generator=torch.Generator())
    assert tokens(ours) == tokens(theirs)
    assert len({tuple(said) for said in tokens(ours)}) >= 4, "the images say nothing"
    drawn = engine.generate(prompts, 2, SamplingParams(max_new_tokens=24), generator=torch.Generator().manual_seed(1))
    assert_trainers_logprobs(model, renderer, prompts, drawn)


def test_new_weights_are_served_without_a_restart_deep_features_and_tied_head_and_all(engine, model, renderer, prompts):
    for version, (part, moved) in enumerate({"deepstack_merger_list": [1, 2, 3], "embed_tokens": [0, 1, 2, 3, 4]}.items(), 1):
        before = tokens(engine.generate(prompts, 1, GREEDY, generator=torch.Generator()))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if part in name:
                    parameter[::2] *= -1.5
        engine.update_weights(model.named_parameters(), version)
        ours = engine.generate(prompts, 1, GREEDY, generator=torch.Generator())
        theirs = TransformersEngine(model, renderer).generate(prompts, 1, GREEDY, generator=torch.Generator())
        assert tokens(ours) == tokens(theirs)
        assert [index for index, said in enumerate(tokens(ours)) if said != before[index]] == moved
