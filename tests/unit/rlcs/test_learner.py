"""The learner against plain, unpacked autograd, and what must not change a gradient."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedModel

from rlcs.learner import Learner, TrainSample, learning_rate
from rlcs.nano.build import build_model, build_processor
from rlcs.reference import build_reference
from rlcs.rl_config import RlConfig
from rlcs.sample_packs import update_parts
from rollout.attention import VARLEN
from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import SamplingParams, ThinkingBudget
from rollout.transformers_engine import TransformersEngine
from sft.skipped import NonFiniteUpdate


def settings(**changes: Any) -> RlConfig:
    return RlConfig(**{"model": "m", "problems": "p.jsonl", "out": "o", "warmup_steps": 0, "grad_clip": 1e9, **changes})


def fresh_model() -> PreTrainedModel:
    model = build_model(seed=0, hidden_size=96, layers=2, vision_size=32, vision_depth=1)
    model.config._attn_implementation = VARLEN
    return model


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return ChatRenderer(build_processor())


@pytest.fixture(scope="module")
def prompts(renderer: ChatRenderer, tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    root = tmp_path_factory.mktemp("images")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 84, 3), dtype=np.uint8)).save(root / "a.png")
    image = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Read the text"}]
    return [
        renderer.prompt([{"role": "user", "content": content}], root=root, thinking=thinking)
        for content, thinking in (("Compute 1+2", True), (image, True), ("Compute 33+12 and more", False))
    ]


@pytest.fixture(scope="module")
def samples(prompts: list[Prompt], renderer: ChatRenderer) -> list[TrainSample]:
    """Twelve responses of a random policy, cut by budgets so that some hold forced tokens."""
    engine = TransformersEngine(fresh_model(), renderer)
    generator = torch.Generator().manual_seed(0)
    groups = engine.generate(prompts, 4, SamplingParams(max_new_tokens=24), ThinkingBudget(6, 9), generator=generator)
    rng = np.random.default_rng(0)
    made = []
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            encoded = prompt.encoded.extended(completion.token_ids, ~completion.forced)
            own = completion.logprobs[~completion.forced]
            made.append(TrainSample(encoded, own, float(rng.normal()), prompt.encoded))
    assert any((~sample.encoded.loss_mask[-10:]).any() for sample in made)
    return made


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def gradient_of_update(samples: list[TrainSample], **changes: Any) -> dict[str, torch.Tensor]:
    model = fresh_model()
    Learner(model, settings(**changes)).update(samples, 0, np.random.default_rng(0))
    return gradients(model)


def plain_gradient(samples: list[TrainSample], config: RlConfig) -> dict[str, torch.Tensor]:
    """One sample after another through transformers' own forward pass and the textbook loss."""
    model = fresh_model()
    model.config._attn_implementation = "sdpa"
    terms = []
    for sample in samples:
        ids = torch.from_numpy(sample.encoded.input_ids)[None]
        media: dict[str, Any] = {}
        if sample.encoded.media:
            media = {
                "pixel_values": torch.from_numpy(sample.encoded.media[0].pixel_values),
                "image_grid_thw": torch.from_numpy(sample.encoded.media[0].grid_thw)[None],
            }
        positions = torch.from_numpy(sample.encoded.position_ids)[:, None]
        logits = model(input_ids=ids, position_ids=positions, **media).logits[0]
        mask = torch.from_numpy(sample.encoded.loss_mask)
        chosen = torch.log_softmax(logits[:-1] / config.temperature, -1).gather(1, ids[0, 1:, None])[mask[1:], 0]
        ratio = (chosen - torch.from_numpy(sample.rollout_logprobs)).exp()
        clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
        terms.append(-torch.minimum(ratio * sample.advantage, clipped * sample.advantage))
    if config.loss_aggregation == "sample":
        loss = torch.stack([term.mean() for term in terms]).mean()
    else:
        loss = torch.cat(terms).mean()
    loss.backward()
    return gradients(model)


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], rtol: float = 2e-4) -> None:
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(second[name], gradient, rtol=rtol, atol=rtol * scale + 1e-9)


@pytest.mark.parametrize("aggregation", ["sample", "token"])
def test_gradient_equals_that_of_plain_autograd_on_one_sample_at_a_time(samples: list[TrainSample], aggregation: str) -> None:
    changes = {"loss_aggregation": aggregation, "temperature": 0.7}
    assert_same(plain_gradient(samples, settings(**changes)), gradient_of_update(samples, **changes))


@pytest.mark.parametrize("aggregation", ["sample", "token"])
def test_gradient_does_not_depend_on_how_samples_are_packed(samples: list[TrainSample], aggregation: str) -> None:
    longest = max(len(sample.encoded.input_ids) for sample in samples)
    whole, split = (
        gradient_of_update(samples, token_budget=budget, loss_aggregation=aggregation) for budget in (100_000, longest)
    )
    assert_same(whole, split)


@pytest.mark.parametrize("budget", [100_000, 150, 90])
def test_samples_of_one_prompt_share_its_computation_and_no_gradient_changes(samples: list[TrainSample], budget: int) -> None:
    """The smaller budgets part groups over several packs, each with the prompt again."""
    alone = [replace(sample, prompt=None) for sample in samples]
    assert_same(gradient_of_update(alone), gradient_of_update(samples, token_budget=budget))


def test_a_shared_prompt_is_packed_once(samples: list[TrainSample], prompts: list[Prompt]) -> None:
    metrics = Learner(fresh_model(), settings(token_budget=100_000)).update(samples, 0, np.random.default_rng(0))
    responses = sum(len(sample.encoded.input_ids) - sample.prompt_length for sample in samples)
    assert metrics["packed_tokens"] == responses + sum(len(prompt.encoded.input_ids) for prompt in prompts)


def test_samples_of_several_updates_share_prompts_within_each(samples: list[TrainSample]) -> None:
    alone = [replace(sample, prompt=None) for sample in samples]
    weights = []
    for chosen in (samples, alone):
        model = fresh_model()
        Learner(model, settings(updates_per_step=3, lr=1e-3)).update(chosen, 0, np.random.default_rng(0))
        weights.append({name: value.clone() for name, value in model.named_parameters()})
    # Adam divides by the gradient's size, so rounding shows where gradients are nearly zero.
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=2e-4) for name in weights[0])


def test_forced_tokens_change_the_context_but_earn_no_gradient_of_their_own(samples: list[TrainSample]) -> None:
    """Were they trained too, the gradient would differ."""
    forced = [sample for sample in samples if (~sample.encoded.loss_mask[-10:]).any()]
    assert_same(plain_gradient(forced, settings()), gradient_of_update(forced))


def test_zero_advantages_leave_the_weights_bit_for_bit(samples: list[TrainSample]) -> None:
    model, before = fresh_model(), fresh_model().state_dict()
    none = [TrainSample(sample.encoded, sample.rollout_logprobs, 0.0) for sample in samples]
    Learner(model, settings()).update(none, 0, np.random.default_rng(0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(float(gradient.abs().max()) == 0 for gradient in gradients(model).values())


def test_on_policy_samples_have_ratio_one_and_nothing_clipped(samples: list[TrainSample]) -> None:
    metrics = Learner(fresh_model(), settings()).update(samples, 0, np.random.default_rng(0))
    assert metrics["ratio_mean"] == pytest.approx(1, abs=1e-4)
    assert metrics["ratio_max"] == pytest.approx(1, abs=1e-3)
    assert metrics["logprob_gap_max"] < 1e-3
    assert metrics["clip_fraction_low"] == metrics["clip_fraction_high"] == 0
    assert metrics["trained_tokens"] == sum(len(sample.rollout_logprobs) for sample in samples)
    assert 0 < metrics["entropy"] < np.log(512)


def test_trainer_logprobs_give_the_same_gradient_as_rollout_logprobs_on_policy(samples: list[TrainSample]) -> None:
    assert_same(gradient_of_update(samples), gradient_of_update(samples, old_logprobs="trainer"), rtol=2e-3)


def test_importance_cap_scales_tokens_by_how_unlikely_the_rollout_found_them(samples: list[TrainSample]) -> None:
    """A rollout that reports every token e times likelier than the trainer does weighs each by 1/e."""
    shifted = [TrainSample(sample.encoded, sample.rollout_logprobs + 1.0, sample.advantage) for sample in samples]
    plain = gradient_of_update(samples, old_logprobs="trainer")
    weighted = gradient_of_update(shifted, old_logprobs="trainer", importance_cap=2.0)
    assert_same({name: gradient / np.e for name, gradient in plain.items()}, weighted, rtol=2e-3)


def test_the_entropy_bonus_adds_its_gradient_to_the_losss(samples: list[TrainSample]) -> None:
    """Where rewards say nothing only the bonus is left: twice its weight gives twice the gradient, and steps along it raise the
    entropy.
    """
    dull = [TrainSample(sample.encoded, sample.rollout_logprobs, 0.0) for sample in samples]
    once, twice = (gradient_of_update(dull, entropy_coef=coef) for coef in (0.1, 0.2))
    assert_same({name: 2 * gradient for name, gradient in once.items()}, twice, rtol=1e-3)
    model = fresh_model()
    learner, rng = Learner(model, settings(entropy_coef=0.1, lr=1e-3)), np.random.default_rng(0)
    entropies = [learner.update(dull, step, rng)["entropy"] for step in range(4)]
    assert entropies == sorted(entropies) and entropies[-1] > entropies[0] + 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"surrogate": "gspo"},
        {"surrogate": "cispo"},
        {"dual_clip": 3.0},
        {"old_logprobs": "trainer", "importance_cap": 2.0, "importance": "mask"},
    ],
)
def test_on_policy_every_objective_has_the_same_gradient(samples: list[TrainSample], changes: dict[str, Any]) -> None:
    assert_same(gradient_of_update(samples), gradient_of_update(samples, **changes), rtol=2e-3)


def test_constant_aggregation_divides_by_the_longest_response_there_can_be(samples: list[TrainSample]) -> None:
    found = gradient_of_update(samples, loss_aggregation="constant", think_tokens=86, answer_tokens=10)
    whole = gradient_of_update(samples, loss_aggregation="token")
    tokens = sum(len(sample.rollout_logprobs) for sample in samples)
    assert_same({name: gradient * tokens / (100 * len(samples)) for name, gradient in whole.items()}, found, rtol=2e-3)


def test_importance_weights_are_reported_with_the_share_that_the_cap_took(samples: list[TrainSample]) -> None:
    """The first sample's tokens came half as likely from the rollout engine, all others alike."""
    shifted = [
        TrainSample(
            sample.encoded, sample.rollout_logprobs - (np.float32(np.log(2.0)) if number == 0 else 0.0), sample.advantage
        )
        for number, sample in enumerate(samples)
    ]
    share = len(samples[0].rollout_logprobs) / sum(len(sample.rollout_logprobs) for sample in samples)
    metrics = Learner(fresh_model(), settings(old_logprobs="trainer", importance_cap=1.5)).update(
        shifted, 0, np.random.default_rng(0)
    )
    assert metrics["importance_capped_fraction"] == pytest.approx(share)
    assert metrics["importance_mean"] == pytest.approx(1 + 0.5 * share, rel=1e-3)
    uncapped = Learner(fresh_model(), settings()).update(samples, 0, np.random.default_rng(0))
    assert "importance_mean" not in uncapped


def test_mismatch_with_the_rollout_engine_is_measured_as_a_divergence(samples: list[TrainSample]) -> None:
    """An engine that reports every token e^0.1 likelier: k3 of a log ratio of -0.1."""
    shifted = [TrainSample(sample.encoded, sample.rollout_logprobs + 0.1, sample.advantage) for sample in samples]
    metrics = Learner(fresh_model(), settings()).update(shifted, 0, np.random.default_rng(0))
    assert metrics["rollout_kl"] == pytest.approx(np.exp(-0.1) - 1 + 0.1, rel=1e-2)
    assert metrics["logprob_gap_mean"] == pytest.approx(0.1, rel=1e-2)


@pytest.mark.parametrize("old_logprobs", ["rollout", "trainer"])
def test_several_updates_a_step_move_the_ratio_of_the_later_ones_off_one(samples: list[TrainSample], old_logprobs: str) -> None:
    metrics = {}
    for updates in (1, 3):
        config = settings(updates_per_step=updates, lr=3e-3, old_logprobs=old_logprobs)
        learner = Learner(fresh_model(), config)
        metrics[updates] = learner.update(samples, 0, np.random.default_rng(0))
        assert {int(state["step"]) for state in learner.optimizer.state.values()} == {updates}
    assert metrics[1]["approx_kl"] < 1e-6 < metrics[3]["approx_kl"]
    assert metrics[3]["trained_tokens"] == metrics[1]["trained_tokens"]


@pytest.mark.parametrize("old_logprobs", ["rollout", "trainer"])
def test_every_pass_over_a_step_divides_it_anew_and_is_held_to_the_policy_before_the_first(
    samples: list[TrainSample], old_logprobs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(updates_per_step=2, epochs_per_step=3, lr=1e-3, old_logprobs=old_logprobs)
    learner, rng = Learner(fresh_model(), config), np.random.default_rng(0)
    drawn: list[np.ndarray] = []

    def recorded(*division: Any) -> list[np.ndarray]:
        drawn.extend(update_parts(*division))
        return drawn[-2:]

    monkeypatch.setattr("rlcs.learner.update_parts", recorded)
    metrics = learner.update(samples, 0, rng)
    assert max(int(state["step"]) for state in learner.optimizer.state.values()) == 6
    passes = [sorted(np.concatenate(drawn[first : first + 2]).tolist()) for first in (0, 2, 4)]
    assert passes == [list(range(len(samples)))] * 3
    assert len({tuple(part.tolist()) for part in drawn}) > 2
    assert metrics["trained_tokens"] == 3 * sum(len(sample.rollout_logprobs) for sample in samples)
    # With the log-probabilities of the latest policy below the ratio this would be 0 in every update.
    distance = [metrics[f"update/{number}/approx_kl"] for number in range(1, 7)]
    assert distance[0] < 1e-6 < min(distance[1:]) and distance[-1] > distance[1]
    assert metrics["approx_kl"] == pytest.approx(np.mean(distance), rel=0.2)
    assert metrics["loss"] == pytest.approx(np.mean([metrics[f"update/{number}/loss"] for number in range(1, 7)]))


def test_two_passes_are_two_updates_of_which_the_second_is_off_policy(samples: list[TrainSample]) -> None:
    """The same by hand: two learners' updates on the same samples, log-probabilities of the rollout below both ratios."""
    models = fresh_model(), fresh_model()
    Learner(models[0], settings(epochs_per_step=2, lr=1e-3)).update(samples, 0, np.random.default_rng(0))
    learner = Learner(models[1], settings(lr=1e-3))
    for _ in range(2):
        metrics = learner.update(samples, 0, np.random.default_rng(0))
    assert "update/1/approx_kl" not in metrics and metrics["approx_kl"] > 1e-6
    first, second = models[0].state_dict(), models[1].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_steps_too_small_for_bfloat16_weights_add_up_in_float32_copies(samples: list[TrainSample]) -> None:
    model = fresh_model().bfloat16()
    learner = Learner(model, settings(dtype="bfloat16", lr=1e-6))
    before = {name: value.clone() for name, value in model.named_parameters()}
    for step in range(3):
        learner.update(samples, step, np.random.default_rng(0))
    copies = [copy for group in learner.optimizer.param_groups for copy in group["params"]]
    moved, stuck = 0, 0
    for copy, (name, value) in zip(copies, model.named_parameters(), strict=True):
        assert copy.dtype == torch.float32 and torch.equal(value, copy.bfloat16())
        moved += int((copy != before[name].float()).sum())
        stuck += int(((copy != before[name].float()) & (value == before[name])).sum())
    assert stuck > max(0, 0.9 * moved)


def test_later_passes_are_clipped_as_the_policy_moves(samples: list[TrainSample]) -> None:
    config = settings(epochs_per_step=4, lr=1e-2, clip_low=0.05, clip_high=0.05)
    metrics = Learner(fresh_model(), config).update(samples, 0, np.random.default_rng(0))
    clipped = [metrics[f"update/{n}/clip_fraction_low"] + metrics[f"update/{n}/clip_fraction_high"] for n in range(1, 5)]
    assert clipped[0] == 0 < min(clipped[1:])


def test_updates_raise_the_probability_of_the_better_response(samples: list[TrainSample]) -> None:
    model = fresh_model()
    learner = Learner(model, settings(lr=1e-3))
    good, bad = ([TrainSample(samples[i].encoded, samples[i].rollout_logprobs, sign)] for i, sign in ((4, 1.0), (5, -1.0)))
    before = [float(learner._logprobs(group)[0].sum()) for group in (good, bad)]
    learner.update([*good, *bad], 0, np.random.default_rng(0))
    after = [float(learner._logprobs(group)[0].sum()) for group in (good, bad)]
    assert after[0] > before[0] and after[1] < before[1]


def test_gradient_is_clipped_to_its_norm(samples: list[TrainSample]) -> None:
    found = gradient_of_update(samples, grad_clip=1e-3)
    norm = torch.stack([gradient.norm() for gradient in found.values()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_an_update_that_is_not_finite_is_skipped_with_its_samples_named_and_nothing_else_touched(
    samples: list[TrainSample],
) -> None:
    """The second of three updates holds a sample without a finite advantage; the others are as if it had not been there."""
    config = settings(updates_per_step=3, max_skipped_updates=1, old_logprobs="trainer")
    order = np.array_split(np.random.default_rng(0).permutation(len(samples)), 3)
    broken = list(samples)
    broken[order[1][0]] = replace(samples[order[1][0]], advantage=float("inf"), id="p7")
    learner = Learner(fresh_model(), config)
    metrics = learner.update(broken, 0, np.random.default_rng(0))
    assert metrics["skipped_updates"] == 1 and all(np.isfinite(value) for value in metrics.values())
    (notice,) = learner.skipped.notices()
    assert "1 of 4 samples are not finite: p7" in notice

    class Without(Learner):
        def _optimise(self, chosen: Any, *arguments: Any, **options: Any) -> tuple[float, float]:
            if any(sample.id == "p7" for sample in chosen):
                raise NonFiniteUpdate("left out by the test", ["p7"])
            return super()._optimise(chosen, *arguments, **options)

    other = Without(fresh_model(), config)
    work = ("passes", "flops", "mfu", "padding_fraction", "unfilled_fraction")  # of what was skipped as well
    expected = other.update(broken, 0, np.random.default_rng(0))
    assert {k: v for k, v in expected.items() if k not in work} == {k: v for k, v in metrics.items() if k not in work}
    assert all(torch.equal(a, b) for a, b in zip(learner.model.parameters(), other.model.parameters(), strict=True))
    assert {int(state["step"]) for state in learner.optimizer.state.values()} == {2}


def test_a_step_without_any_finite_update_leaves_weights_optimiser_and_reference_and_the_next_one_too_many_ends_the_run(
    samples: list[TrainSample], tmp_path: Path
) -> None:
    fresh_model().save_pretrained(tmp_path)
    build_processor().save_pretrained(tmp_path)
    config = settings(model=str(tmp_path), max_skipped_updates=1, kl_coef=0.1, reference_decay=0.5)
    model, before = fresh_model(), fresh_model().state_dict()
    reference = build_reference(model, config)
    assert reference is not None
    learner = Learner(model, config, reference)
    broken = [replace(samples[0], advantage=float("nan"), id="p0"), replace(samples[5], id="p5")]
    assert learner.update(broken, 0, np.random.default_rng(0)) == {"lr": config.lr, "skipped_updates": 1.0}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not learner.optimizer.state
    assert all(torch.equal(value, before[name]) for name, value in reference.state_dict().items())
    with pytest.raises(FloatingPointError, match=r"2 updates in a row.*step 0: .*: p0\. step 1: .*: p0\. Resume"):
        learner.update(broken, 1, np.random.default_rng(0))


def test_log_probabilities_must_match_the_trained_tokens(samples: list[TrainSample]) -> None:
    with pytest.raises(ValueError, match="rollout log-probabilities"):
        TrainSample(samples[0].encoded, samples[0].rollout_logprobs[:-1], 1.0)


def test_learning_rate_is_that_of_the_step_among_the_runs() -> None:
    config = settings(lr=1.0, warmup_steps=4, steps=104, schedule="cosine")
    assert [learning_rate(config, step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert learning_rate(config, 54) == pytest.approx(0.55)
    assert learning_rate(config, 104) == pytest.approx(0.1)
    assert learning_rate(settings(lr=1.0, warmup_steps=0), 999) == 1.0
