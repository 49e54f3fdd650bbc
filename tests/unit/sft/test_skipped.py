"""Updates that are not finite: found, laid to their samples, counted; and nothing of the run is changed by them."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sft_lines import Line, Write
from transformers import PreTrainedModel

from rlcs.nano.build import build_model
from rollout.attention import VARLEN
from rollout.chat import ChatRenderer
from sft.config import SftConfig
from sft.data import load_examples
from sft.optimizers import build_optimizer
from sft.rendering import Renderings
from sft.skipped import NonFiniteUpdate, SkippedUpdates
from sft.update import Sample, trained_groups, update


@pytest.fixture
def samples(renderer: ChatRenderer, write: Write, lines: list[Line]) -> list[Sample]:
    renderings = Renderings(renderer, cache_bytes=1 << 30)
    return [renderings.sample(one, nothink=False) for one in load_examples(write(lines)).examples]


@pytest.fixture
def model() -> PreTrainedModel:
    model = build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1)
    model.config._attn_implementation = VARLEN
    return model


def optimizer_of(model: PreTrainedModel) -> torch.optim.Optimizer:
    config = SftConfig(model="m", data="d", out="o")  # type: ignore[arg-type]
    return build_optimizer(trained_groups(model, config), config)


def test_the_examples_with_a_broken_picture_are_named_and_the_model_and_its_optimiser_spared(
    model: PreTrainedModel, samples: list[Sample]
) -> None:
    optimizer = optimizer_of(model)
    update(model, optimizer, samples, token_budget=4096, grad_clip=1.0)  # so that there are moments to spare
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    place = next(place for place, sample in enumerate(samples) if sample.id == "o1")
    (media,) = samples[place].encoded.media
    media = replace(media, pixel_values=np.full_like(media.pixel_values, np.nan), key="broken")
    samples[place] = replace(samples[place], encoded=replace(samples[place].encoded, media=(media,)))
    with pytest.raises(NonFiniteUpdate, match="1 of 6 samples are not finite: o1") as found:
        update(model, optimizer, samples, token_budget=4096, grad_clip=1.0)
    assert found.value.ids == ["o1"]
    after = model.state_dict(), optimizer.state_dict()["state"]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_overflow_that_no_sample_has_by_itself_is_said_to_be_one(model: PreTrainedModel, samples: list[Sample]) -> None:
    hook = model.get_output_embeddings().weight.register_hook(lambda gradient: torch.full_like(gradient, 2e38))
    with pytest.raises(NonFiniteUpdate, match="each of the 6 samples is finite by itself, their sum is not") as found:
        update(model, optimizer_of(model), samples, token_budget=1, grad_clip=1.0)  # a pack a sample
    hook.remove()
    assert found.value.ids == []


def test_weights_that_are_not_finite_are_not_laid_to_samples(model: PreTrainedModel, samples: list[Sample]) -> None:
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("inf")
    with pytest.raises(NonFiniteUpdate, match="weight tensors are not finite themselves") as found:
        update(model, optimizer_of(model), samples, token_budget=4096, grad_clip=1.0)
    assert found.value.ids == []


def test_more_in_a_row_than_allowed_end_the_run_with_the_ids_of_all_of_them() -> None:
    skipped = SkippedUpdates(2)
    for step, id in ((0, "a"), (1, "b")):
        skipped.skip(step, NonFiniteUpdate(f"1 of 4 samples are not finite: {id}", [id]))
    assert [notice[:7] for notice in skipped.notices()] == ["step 0:", "step 1:"] and not skipped.notices()
    resumed = SkippedUpdates(2)
    resumed.load_state_dict(skipped.state_dict())
    for one in (skipped, resumed):
        with pytest.raises(FloatingPointError, match=r"max_skipped_updates is 2.*finite: a.*finite: b.*finite: c.*lower lr"):
            one.skip(2, NonFiniteUpdate("1 of 4 samples are not finite: c", ["c"]))


def test_an_update_that_is_made_ends_the_row() -> None:
    skipped = SkippedUpdates(1)
    for step in range(5):
        skipped.skip(step, NonFiniteUpdate("nan", []))
        skipped.made()
    assert skipped.state_dict() == []
    with pytest.raises(FloatingPointError):
        SkippedUpdates(0).skip(0, NonFiniteUpdate("nan", []))
