"""The forward pass that verl's engine is given for GLM-4V, against the local engine's."""

from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

import torch
from PIL import Image
from transformers import AutoConfig
from verl.utils import flops_counter
from verl.utils.flops_counter import FlopsCounter
from verl.workers.config import FSDPOptimizerConfig
from verl.workers.engine.base import EngineRegistry

from rlcs.learner import learning_rate as rl_rate
from rlcs.rl_config import RlConfig
from rlcs.verl.engine import VENDOR, CriticEngine, PolicyEngine, PositionTable, batch_positions, glm_forward
from rlcs.verl.prompts import model_media, renderer_of
from rlcs.verl.schedule import follow_schedule
from rlcs.verl.sft import sft_settings
from rlcs.verl.translate import verl_config
from rollout.forward import hidden_states, load_policy, pack
from sft.config import SftConfig
from sft.schedule import learning_rate as sft_rate

NANO = str(Path(__file__).parents[4] / "assets" / "nano")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """An image, a video of two frame pairs with an image behind it, and text alone."""
    root = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    for name, height, width in (("a", 56, 84), ("b", 28, 28), ("c", 28, 28), ("d", 28, 28), ("e", 28, 28)):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / f"{name}.png")
    image, video = {"type": "image", "image": "a.png"}, {"type": "video", "video": [f"{name}.png" for name in "bcde"]}
    contents = [[image], [video, image], []]
    return [
        renderer_of(NANO)
        .prompt([{"role": "user", "content": [*content, {"type": "text", "text": "and 3+4?"}]}], root=root, thinking=True)
        .encoded
        for content in contents
    ]


def own_model() -> Any:
    model, _ = load_policy(NANO, varlen=False)
    model.model.forward = MethodType(glm_forward, model.model)
    embeddings = model.model.visual.embeddings
    embeddings.position_embedding = PositionTable(embeddings.position_embedding.weight)
    return model.eval()


def batch(encoded: list[Any]) -> dict[str, torch.Tensor]:
    """As verl's engine lays samples out: padded on the right, media one after the other."""
    samples = [torch.from_numpy(one.input_ids) for one in encoded]
    config = AutoConfig.from_pretrained(NANO)
    positions = batch_positions(samples, [model_media(one) for one in encoded], config)
    longest = max(len(sample) for sample in samples)
    media = [model_media(one) for one in encoded if one.media]
    merged = {name: torch.cat([one[name] for one in media]) for name in (media[0] if media else ())}
    return {
        "input_ids": torch.stack([torch.nn.functional.pad(sample, (0, longest - len(sample))) for sample in samples]),
        "attention_mask": torch.stack([torch.arange(longest) < len(sample) for sample in samples]),
        "position_ids": torch.nested.to_padded_tensor(positions, 0, (len(samples), 4, longest)).transpose(0, 1),
        **merged,
    }


@torch.no_grad()
def test_hidden_states_are_those_of_the_local_engine(encoded: list[Any]) -> None:
    packed, _ = load_policy(NANO)
    expected = hidden_states(packed, pack(encoded))
    found = own_model().model(**batch(encoded)).last_hidden_state
    rows = torch.cat([found[row, : len(one.input_ids)] for row, one in enumerate(encoded)])
    assert torch.allclose(rows, expected, atol=1e-4), (rows - expected).abs().max()


def test_a_batch_without_images_still_runs_the_vision_tower_and_moves_nothing(encoded: list[Any]) -> None:
    model, (text,) = own_model(), encoded[2:]
    plain, _ = load_policy(NANO)
    found = model.model(**batch([text])).last_hidden_state[0]
    assert torch.allclose(found, hidden_states(plain, pack([text])), atol=1e-4)
    found.sum().backward()
    gradients = [parameter.grad for parameter in model.model.visual.parameters()]
    assert all(grad is not None and not grad.any() for grad in gradients)


def test_images_that_do_not_fit_their_tokens_are_refused(encoded: list[Any]) -> None:
    inputs = batch(encoded[:1])
    inputs["input_ids"][0, -1] = renderer_of(NANO).image_token_id
    with pytest.raises(ValueError, match="7 image tokens in the batch but 6 features"):
        own_model().model(**inputs)


def test_the_table_of_positions_keeps_its_name() -> None:
    plain, _ = load_policy(NANO, varlen=False)
    assert own_model().state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("repeats", [1, 4])
def test_positions_are_the_renderers_whether_or_not_all_lengths_are_equal(encoded: list[Any], repeats: int) -> None:
    batched = encoded if repeats == 1 else encoded[:1] * repeats
    ids = [torch.from_numpy(one.input_ids) for one in batched]
    found = batch_positions(ids, [model_media(one) for one in batched], AutoConfig.from_pretrained(NANO))
    assert found.dim() == 3
    for one, positions in zip(batched, found.unbind(), strict=True):
        assert np.array_equal(positions[1:].numpy(), one.position_ids)
        assert positions[0].tolist() == list(range(len(one.input_ids)))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_verl_finds_our_engines_by_their_vendor(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv("VERL_ENGINE_VENDOR", VENDOR)
    monkeypatch.setenv("VERL_ENGINE_DEVICE", device)
    assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is PolicyEngine
    assert EngineRegistry.get_engine_cls("value_model", "fsdp2") is CriticEngine


def test_operations_are_counted_by_the_decoders_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    # verl also looks up what the device could do, on the platform that it found when it was first imported.
    monkeypatch.setattr(flops_counter, "get_device_flops", lambda: 1.0)
    model, _ = load_policy(NANO, varlen=False)
    rate, _ = FlopsCounter(model.config).estimate_flops([100], delta_time=1.0)
    decoder = sum(p.numel() for p in model.model.language_model.parameters()) + model.lm_head.weight.numel()
    assert rate * 1e12 == pytest.approx(6 * decoder * 100, rel=0.1)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("warmup_steps", [0, 1, 4])
def test_the_learning_rate_of_every_step_is_our_own_trainers(schedule: str, warmup_steps: int) -> None:
    common = {"model": NANO, "out": "run", "warmup_steps": warmup_steps, "steps": 20, "lr": 0.3, "engine": "verl"}
    rl = RlConfig.model_validate({**common, "problems": "p.jsonl", "rollout": "vllm", "schedule": schedule})
    sft = SftConfig.model_validate({**common, "data": "d.jsonl", "min_lr_ratio": 1.0 if schedule == "constant" else 0.25})
    for settings, ours in (
        (verl_config(rl, planned=True)["actor_rollout_ref"]["actor"]["optim"], lambda step: rl_rate(rl, step)),
        (sft_settings(sft)["optim"], lambda step: sft_rate(sft, step, 20)),
    ):
        plain = {name: settings[name] for name in ("lr_scheduler_type", "lr_warmup_steps", "min_lr_ratio")}
        engine = Scheduled(FSDPOptimizerConfig(lr=0.3, total_training_steps=20, **plain))
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
        scheduler = engine._build_lr_scheduler(optimizer)
        for step in range(20):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(ours(step), rel=1e-12)
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("schedule", ["linear", "wsd"])
@pytest.mark.parametrize("resumed", [0, 3, 17])
def test_schedules_that_verl_has_no_name_for_are_followed_from_the_step_of_the_checkpoint(schedule: str, resumed: int) -> None:
    settings = RlConfig(
        model=NANO, problems="p.jsonl", out="run", engine="verl", rollout="vllm", lr=0.3, steps=20, warmup_steps=4,
        schedule=schedule, min_lr_ratio=0.1, decay_ratio=0.3,
    )  # type: ignore[arg-type] # fmt: skip
    plain = verl_config(settings, planned=True)["actor_rollout_ref"]["actor"]["optim"]
    named = {name: plain[name] for name in ("lr_scheduler_type", "lr_warmup_steps", "min_lr_ratio")}
    engine = Scheduled(FSDPOptimizerConfig(lr=0.6, total_training_steps=20, **named))  # as a critic's, twice the policy's
    engine.optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.6)
    engine.lr_scheduler = engine._build_lr_scheduler(engine.optimizer)
    for _ in range(resumed):
        engine.optimizer.step()
        engine.lr_scheduler.step()
    follow_schedule(engine, settings, settings.steps)
    for step in range(resumed, 20):
        assert engine.optimizer.param_groups[0]["lr"] == pytest.approx(2 * rl_rate(settings, step), rel=1e-12)
        assert engine.lr_scheduler.get_last_lr() == [engine.optimizer.param_groups[0]["lr"]]
        engine.optimizer.step()
        engine.lr_scheduler.step()


class Scheduled(PolicyEngine):
    """Of an engine its schedule alone."""

    def __init__(self, optimizer_config: FSDPOptimizerConfig) -> None:
        self.optimizer_config = optimizer_config
