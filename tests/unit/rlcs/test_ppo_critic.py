"""The critic of the local engine: values, advantages and updates against plain autograd, brute force and closed forms."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedModel

from rlcs.advantages import whitened_tokens
from rlcs.critic import Critic, build_critic
from rlcs.learner import Learner, TrainSample
from rlcs.nano.build import build_model, build_processor
from rlcs.objective import value_loss
from rlcs.rl_config import RlConfig
from rollout.attention import VARLEN
from rollout.chat import ChatRenderer
from rollout.encoded import Encoded
from rollout.lora import add_adapters


def settings(**changes: Any) -> RlConfig:
    given = {"model": "m", "problems": "p.jsonl", "out": "o", "warmup_steps": 0, "grad_clip": 1e9, "token_budget": 4096}
    return RlConfig(**{**given, "advantage": "gae", **changes})


def fresh_model() -> PreTrainedModel:
    model = build_model(seed=0, hidden_size=96, layers=2, vision_size=32, vision_depth=1)
    model.config._attn_implementation = VARLEN
    return model


def fresh_critic(**changes: Any) -> Critic:
    """Its head is no longer of zeros, so that every weight has a gradient."""
    critic = Critic(fresh_model(), settings(**changes))
    torch.nn.init.normal_(critic.model.lm_head.weight, std=0.05, generator=torch.Generator().manual_seed(1))
    return critic


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> list[Encoded]:
    renderer, root = ChatRenderer(build_processor()), tmp_path_factory.mktemp("images")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 84, 3), dtype=np.uint8)).save(root / "a.png")
    image = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Read the text"}]
    contents: list[Any] = ["Compute 1+2", image, "Compute 33+12 and more"]
    return [renderer.prompt([{"role": "user", "content": one}], root=root, thinking=True).encoded for one in contents]


@pytest.fixture(scope="module")
def samples(prompts: list[Encoded]) -> list[TrainSample]:
    """Nine responses of 4 to 12 random tokens; of every third one two tokens in its midst were forced."""
    rng, made = np.random.default_rng(0), []
    for number in range(9):
        prompt, length = prompts[number // 3], int(rng.integers(4, 13))
        own = np.ones(length, bool)
        own[1:3] = number % 3 > 0
        encoded = prompt.extended(rng.integers(10, 90, length), own)
        logprobs = np.full(int(own.sum()), -1.0, np.float32)
        made.append(TrainSample(encoded, logprobs, float("nan"), prompt, f"p{number}", float(rng.random())))
    return made


def plain_values(model: Any, sample: TrainSample) -> torch.Tensor:
    """Values before each token through transformers' own forward pass, nothing packed, all tokens but the first."""
    media: dict[str, Any] = {}
    if sample.encoded.media:
        media = {
            "pixel_values": torch.from_numpy(sample.encoded.media[0].pixel_values),
            "image_grid_thw": torch.from_numpy(sample.encoded.media[0].grid_thw)[None],
        }
    positions = torch.from_numpy(sample.encoded.position_ids)[:, None]
    logits = model(input_ids=torch.from_numpy(sample.encoded.input_ids)[None], position_ids=positions, **media).logits
    values: torch.Tensor = logits[0, :-1, 0]
    return values


def plain_model(critic: Critic) -> Any:
    critic.model.config._attn_implementation = "sdpa"
    return critic.model


def test_a_new_critic_values_everything_at_zero(samples: list[TrainSample]) -> None:
    assert all(not values.any() for values in Critic(fresh_model(), settings()).values(samples))


@pytest.mark.parametrize("budget", [100_000, 150, 60])
def test_values_are_those_of_one_unpacked_sequence_after_another(samples: list[TrainSample], budget: int) -> None:
    found = fresh_critic(token_budget=budget).values(samples)
    model = plain_model(fresh_critic())
    for sample, values in zip(samples, found, strict=True):
        with torch.no_grad():
            expected = plain_values(model, sample)[torch.from_numpy(sample.encoded.loss_mask[1:])]
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


def advantages_by_hand(critic: Critic, samples: list[TrainSample], gamma: float, lam: float) -> list[np.ndarray]:
    """Unwhitened, token after token from the end in float64; forced tokens are not among the values."""
    found = []
    for sample, values in zip(samples, critic.values(samples), strict=True):
        behind, ahead, own = 0.0, 0.0, np.zeros(len(values))
        for t in reversed(range(len(values))):
            reward = sample.reward if t == len(values) - 1 else 0.0
            behind = reward + gamma * ahead - float(values[t]) + gamma * lam * behind
            own[t], ahead = behind, float(values[t])
        found.append(own)
    return found


@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 1.0), (0.97, 0.8), (1.0, 0.0)])
def test_advantages_are_estimated_with_the_values_before_the_update_and_whitened(
    samples: list[TrainSample], gamma: float, lam: float, updates: int
) -> None:
    changes = {"critic": {"gamma": gamma, "lam": lam, "epochs": 2}, "updates_per_step": updates}
    by_hand = advantages_by_hand(fresh_critic(), samples, gamma, lam)
    everything = np.concatenate(by_hand)
    judged, metrics = fresh_critic(**changes).learn(samples, 0, np.random.default_rng(0))
    for sample, own in zip(judged, by_hand, strict=True):
        np.testing.assert_allclose(sample.advantages_T, (own - everything.mean()) / everything.std(ddof=1), atol=2e-4)
    assert metrics["advantage_std"] == pytest.approx(everything.std(ddof=1), rel=1e-4)


def test_forced_tokens_are_stepped_over_as_verl_does(samples: list[TrainSample]) -> None:
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")
    critic, start = fresh_critic(critic={"lam": 0.9}), max(sample.prompt_length for sample in samples)
    model, width = plain_model(fresh_critic()), 13
    rows = torch.zeros(3, len(samples), width)  # rewards, values and mask of whole responses
    for row, sample in enumerate(samples):
        own = torch.from_numpy(sample.encoded.loss_mask[sample.prompt_length :])
        with torch.no_grad():
            rows[1, row, : len(own)] = plain_values(model, sample)[sample.prompt_length - 1 :]
        rows[2, row, : len(own)] = own
        rows[0, row, int(own.nonzero().max())] = sample.reward
    expected, _ = core_algos.compute_gae_advantage_return(*rows, gamma=1.0, lam=0.9)
    judged, _ = critic.learn(samples, 0, np.random.default_rng(0))
    assert start and (rows[2].sum(1) < torch.tensor([len(s.encoded.input_ids) - s.prompt_length for s in samples])).any()
    torch.testing.assert_close(torch.cat([s.advantages_T for s in judged]), expected[rows[2].bool()], rtol=1e-3, atol=2e-4)


def update_gradient(critic: Critic, samples: list[TrainSample], old: list[torch.Tensor] | None, returns: Any) -> Any:
    """The gradient that an update followed, read off plain gradient descent of rate 1."""
    before = {name: value.detach().clone() for name, value in critic.model.named_parameters()}
    critic.optimizer = torch.optim.SGD(critic.model.parameters(), lr=1.0)  # type: ignore[assignment]
    critic._optimise(samples, old, returns)
    return {name: before[name] - value.detach() for name, value in critic.model.named_parameters()}


@pytest.mark.parametrize("budget", [100_000, 60])
@pytest.mark.parametrize("aggregation", ["sample", "token"])
def test_an_update_follows_the_gradient_of_the_clipped_loss_on_one_sample_at_a_time(
    samples: list[TrainSample], aggregation: str, budget: int
) -> None:
    """Old values lie to either side of the new ones by more and less than the clip."""
    rng = np.random.default_rng(3)
    values = fresh_critic().values(samples)
    old = [one + torch.from_numpy(rng.normal(0, 0.3, len(one)).astype(np.float32)) for one in values]
    returns = [torch.full((len(one),), sample.reward) for one, sample in zip(values, samples, strict=True)]
    changes = {"loss_aggregation": aggregation, "token_budget": budget, "critic": {"value_clip": 0.2}}
    found = update_gradient(fresh_critic(**changes), samples, old, returns)
    model = plain_model(fresh_critic())
    terms = []
    for sample, before, wanted in zip(samples, old, returns, strict=True):
        own = plain_values(model, sample)[torch.from_numpy(sample.encoded.loss_mask[1:])]
        near = torch.clamp(own, before - 0.2, before + 0.2)
        terms.append(0.5 * torch.maximum((own - wanted) ** 2, (near - wanted) ** 2))
    loss = torch.stack([term.mean() for term in terms]).mean() if aggregation == "sample" else torch.cat(terms).mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        scale = float(gradient.abs().max())
        # What was found is a difference of weights near 1.
        torch.testing.assert_close(found[name], gradient, rtol=1e-2, atol=5e-3 * scale + 3e-7)


def test_the_loss_of_values_by_hand_and_by_finite_differences() -> None:
    rng = np.random.default_rng(0)
    values, old, returns, weights = (torch.from_numpy(rng.normal(size=40)) for _ in range(4))
    for clip in (0.3, None):
        expected, cut = 0.0, 0
        for v, o, r, w in zip(*(x.tolist() for x in (values, old, returns, weights)), strict=True):
            near = v if clip is None else min(max(v, o - clip), o + clip)
            expected += 0.5 * w * max((v - r) ** 2, (near - r) ** 2)
            cut += (near - r) ** 2 > (v - r) ** 2
        loss, clipped = value_loss(values, old, returns, weights, clip=clip)
        assert float(loss) == pytest.approx(expected, rel=1e-12) and int(clipped) == cut
        assert torch.autograd.gradcheck(
            lambda x, clip=clip: value_loss(x, old, returns, weights, clip=clip)[0], (values.clone().requires_grad_(),)
        )
    assert cut == 0


def test_whitened_advantages_have_mean_zero_and_deviation_one_and_equal_ones_are_exactly_zero() -> None:
    found = whitened_tokens(torch.tensor([0.25, 1.0, -2.0, 0.5]))
    assert float(found.mean()) == pytest.approx(0, abs=1e-7) and float(found.std()) == pytest.approx(1)
    for equal in (torch.full((7,), 0.1) * 3, torch.tensor([0.4]), torch.zeros(0)):
        assert not whitened_tokens(equal).any()


def test_values_converge_to_the_pass_rates_and_to_the_outcome_once_it_is_decided(prompts: list[Encoded]) -> None:
    """Two prompts of pass rates 3/4 and 1/4; the first token of a response decides, the other two say nothing more. So a
    prompt's whole variance, 3/16, is left before the first token, and none after it.
    """
    made = []
    for prompt, right in ((prompts[0], 3), (prompts[2], 1)):
        for number in range(4):
            good = number < right
            encoded = prompt.extended(np.array([40 if good else 50, 60, 70]), np.ones(3, bool))
            made.append(TrainSample(encoded, np.zeros(3, np.float32), 0.0, prompt, "", float(good)))
    config = settings(lr=3e-3, steps=20, schedule="cosine", critic={"value_clip": None, "epochs": 5})
    critic, rng = Critic(fresh_model(), config), np.random.default_rng(0)
    for step in range(20):
        _, metrics = critic.learn(made, step, rng)
    values = torch.stack(critic.values(made)).numpy()
    rewards = np.array([sample.reward for sample in made])
    np.testing.assert_allclose(values[:, 0], [0.75] * 4 + [0.25] * 4, atol=0.05)
    np.testing.assert_allclose(values[:, 1:], rewards[:, None].repeat(2, 1), atol=0.05)
    # One token in three leaves it unexplained, of 1/4 in all.
    assert metrics["vf_explained_var"] == pytest.approx(1 - (3 / 16 / 3) / (1 / 4), abs=0.03)


def test_a_rewards_worth_falls_by_gamma_for_each_token_ahead(prompts: list[Encoded]) -> None:
    sample = TrainSample(prompts[0].extended(np.arange(40, 45), np.ones(5, bool)), np.zeros(5, np.float32), 0.0, prompts[0])
    critic = Critic(fresh_model(), settings(critic={"gamma": 0.5}))
    _, metrics = critic.learn([replace(sample, reward=1.0)], 0, np.random.default_rng(0))
    assert metrics["return_mean"] == pytest.approx((1 + 0.5 + 0.25 + 0.125 + 0.0625) / 5)


def test_a_value_that_has_moved_by_the_clip_learns_no_more_from_the_same_samples(samples: list[TrainSample]) -> None:
    good, rng = [replace(sample, reward=1.0) for sample in samples], np.random.default_rng(0)
    moved = {}
    for clip in (0.02, None):
        critic = Critic(fresh_model(), settings(lr=3e-3, critic={"value_clip": clip, "epochs": 8}))
        _, metrics = critic.learn(good, 0, rng)
        moved[clip] = float(torch.cat(critic.values(good)).mean())
        assert (metrics["vf_clipfrac"] > 0) == (clip is not None)
    assert moved[0.02] < 0.5 * moved[None]


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8}])
def test_a_restored_critic_goes_on_as_the_original_bit_for_bit(samples: list[TrainSample], lora: Any) -> None:
    def made() -> Critic:
        model = fresh_model()
        if lora is not None:
            add_adapters(model, rank=4, alpha=8, dropout=0.0, targets="decoder", seed=0)
        return Critic(model, settings(lora=lora, lr=1e-3, updates_per_step=2))

    critic, other = made(), made()
    critic.learn(samples, 0, np.random.default_rng(0))
    state = copy.deepcopy(critic.state_dict())  # a checkpoint shares no memory with the run
    assert (len(state["weights"]) < len(list(critic.model.parameters()))) == (lora is not None)
    assert "lm_head.weight" in state["weights"]
    other.load_state_dict(state)
    ends = [one.learn(samples, 1, np.random.default_rng(1)) for one in (critic, other)]
    assert ends[0][1] == ends[1][1]
    assert all(torch.equal(*both) for both in zip(critic.values(samples), other.values(samples), strict=True))
    with pytest.raises(ValueError, match="same model and lora settings"):
        other.load_state_dict({**state, "weights": {"lm_head.weight": state["weights"]["lm_head.weight"], "gone": None}})


def test_a_step_without_samples_changes_nothing() -> None:
    found = Critic(fresh_model(), settings(lr=1e-3)).learn([], 0, np.random.default_rng(0))
    assert found == ([], {"lr": 1e-3, "skipped_updates": 0.0})


def test_the_rate_follows_the_policys_schedule_at_its_own_peak(samples: list[TrainSample]) -> None:
    critic = fresh_critic(lr=1e-3, warmup_steps=4, critic={"lr": 1e-2})
    assert critic.learn(samples[:1], 1, np.random.default_rng(0))[1]["lr"] == pytest.approx(5e-3)


def test_the_head_of_a_bfloat16_critic_is_float32() -> None:
    critic = Critic(fresh_model().to(torch.bfloat16), settings())
    assert critic.model.lm_head.weight.dtype == torch.float32
    assert critic.model.get_input_embeddings().weight.dtype == torch.bfloat16


def test_the_policy_learns_from_an_advantage_for_every_token(samples: list[TrainSample]) -> None:
    """The same number for all tokens is that number; and on policy gradients are linear in advantages."""

    def gradient(advantages: list[Any]) -> torch.Tensor:
        model = fresh_model()
        learner = Learner(model, settings(old_logprobs="trainer"))
        learner.update([replace(s, advantage=a) for s, a in zip(samples, advantages, strict=True)], 0, np.random.default_rng(0))
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    sizes = [len(sample.rollout_logprobs) for sample in samples]
    numbers = np.random.default_rng(0).normal(size=len(samples)).astype(np.float32)
    assert torch.equal(
        gradient([float(x) for x in numbers]), gradient([np.full(n, x) for n, x in zip(sizes, numbers, strict=True)])
    )
    one, two = ([np.random.default_rng(seed).normal(size=n).astype(np.float32) for n in sizes] for seed in (1, 2))
    both = gradient([a + b for a, b in zip(one, two, strict=True)])
    assert float(both.abs().max()) > 0
    torch.testing.assert_close(gradient(one) + gradient(two), both, rtol=1e-3, atol=1e-6)


def test_only_gae_has_a_critic_and_it_begins_as_the_policy(tmp_path: Path) -> None:
    fresh_model().save_pretrained(tmp_path)
    build_processor().save_pretrained(tmp_path)
    assert build_critic(settings(advantage="grpo"), None) is None
    critic = build_critic(settings(model=str(tmp_path)), None)
    assert critic is not None
    policy = fresh_model().state_dict()
    same = [name for name, value in critic.model.state_dict().items() if name != "lm_head.weight"]
    assert same and all(torch.equal(critic.model.state_dict()[name], policy[name]) for name in same)
