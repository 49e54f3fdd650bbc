"""The RL objective against an independent float64 NumPy implementation, finite differences and its invariants."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.advantages import group_advantages
from rlcs.objective import policy_loss, token_weights, truncated_importance


def everyone(rewards: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(rewards, dtype=torch.bool)


def numpy_advantages(rewards: np.ndarray, valid: np.ndarray, normalise: bool) -> np.ndarray:
    """Group by group with NumPy's own mean and deviation."""
    advantages = np.zeros_like(rewards)
    for group in range(len(rewards)):
        mine = rewards[group, valid[group]]
        if len(mine) < 2 or np.ptp(mine) == 0:
            continue
        advantages[group, valid[group]] = (mine - mine.mean()) / (mine.std(ddof=1) if normalise else 1.0)
    return advantages


def numpy_loss(
    logp: np.ndarray,
    old: np.ndarray,
    advantage: np.ndarray,
    lengths: list[int],
    low: float,
    high: float,
    per_sample: bool,
) -> float:
    """The surrogate token by token, averaged sample by sample, in float64."""
    terms = []
    for new, before, a in zip(logp, old, advantage, strict=True):
        ratio = np.exp(new - before)
        terms.append(-min(ratio * a, min(max(ratio, 1 - low), 1 + high) * a))
    if not per_sample:
        return float(np.mean(terms))
    ends = np.cumsum(lengths)
    return float(np.mean([np.mean(terms[end - length : end]) for end, length in zip(ends, lengths, strict=True) if length]))


@pytest.mark.parametrize("normalise", [True, False])
def test_advantages_agree_with_numpy_group_by_group(normalise: bool) -> None:
    rng = np.random.default_rng(0)
    rewards, valid = rng.random((50, 8)), rng.random((50, 8)) < 0.7
    got = group_advantages(torch.from_numpy(rewards), torch.from_numpy(valid), normalise=normalise)
    np.testing.assert_allclose(got.numpy(), numpy_advantages(rewards, valid, normalise), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", range(2, 40))
def test_equal_rewards_give_advantages_of_exactly_zero(dtype: torch.dtype, size: int) -> None:
    for reward in (0.0, 0.1, 0.3, 0.9, 1.0, 1 / 3):
        rewards = torch.full((1, size), reward, dtype=dtype)
        assert torch.equal(group_advantages(rewards, everyone(rewards)), torch.zeros(1, size, dtype=torch.float64))


def test_rewards_that_differ_by_float32_rounding_alone_give_exactly_zero() -> None:
    rewards = torch.tensor([[0.9, float(np.float32(0.9)), 0.9, 3 * 0.3]], dtype=torch.float64)
    assert group_advantages(rewards, everyone(rewards)).abs().max() == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=16), st.floats(0.1, 10), st.floats(-3, 3))
def test_normalised_advantages_ignore_shift_and_scale_of_rewards(rewards: list[float], scale: float, shift: float) -> None:
    base = torch.tensor([rewards], dtype=torch.float64)
    if float(base.max() - base.min()) < 1e-3:
        return
    torch.testing.assert_close(
        group_advantages(base * scale + shift, everyone(base)),
        group_advantages(base, everyone(base)),
        rtol=1e-8,
        atol=1e-8,
    )


def test_advantages_of_a_group_sum_to_zero_with_unit_deviation() -> None:
    rewards = torch.tensor([[0.0, 1.0, 1.0, 0.25]], dtype=torch.float64)
    advantages = group_advantages(rewards, everyone(rewards))
    assert float(advantages.sum()) == pytest.approx(0, abs=1e-12)
    assert float(advantages.std()) == pytest.approx(1)


def test_a_sample_without_reward_changes_nothing_for_the_rest_of_its_group() -> None:
    rewards = torch.tensor([[0.0, 1.0, 1.0, float("nan")], [0.0, 1.0, 1.0, 0.7]], dtype=torch.float64)
    valid = torch.tensor([[True, True, True, False]] * 2)
    with_hole = group_advantages(rewards, valid)
    alone = group_advantages(rewards[:1, :3], valid[:1, :3])
    assert torch.equal(with_hole[:, :3], alone.expand(2, 3))
    assert with_hole[:, 3].tolist() == [0, 0]


def test_groups_of_fewer_than_two_valid_samples_give_zero() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    valid = torch.tensor([[True, False, False], [False, False, False]])
    assert group_advantages(rewards, valid).abs().max() == 0


def test_a_valid_sample_with_a_reward_that_is_not_a_number_is_refused() -> None:
    rewards = torch.tensor([[1.0, float("nan")]])
    with pytest.raises(ValueError, match="not finite"):
        group_advantages(rewards, everyone(rewards))


@pytest.mark.parametrize("aggregation", ["sample", "token"])
def test_loss_agrees_with_a_token_by_token_float64_computation(aggregation: str) -> None:
    rng = np.random.default_rng(1)
    lengths = [3, 0, 17, 1, 40]
    tokens = sum(lengths)
    logp, old, advantage = rng.normal(-1, 0.4, tokens), rng.normal(-1, 0.4, tokens), rng.normal(0, 1, tokens)
    weights = token_weights(torch.tensor(lengths), aggregation).double()  # type: ignore[arg-type]
    loss, stats = policy_loss(torch.from_numpy(logp), torch.from_numpy(old), torch.from_numpy(advantage), weights)
    assert float(loss) == pytest.approx(numpy_loss(logp, old, advantage, lengths, 0.2, 0.28, aggregation == "sample"), rel=1e-6)
    ratio = np.exp(logp - old)
    metrics = stats.metrics()
    assert metrics["clip_fraction_low"] == pytest.approx(np.mean((ratio < 0.8) & (advantage < 0)))
    assert metrics["clip_fraction_high"] == pytest.approx(np.mean((ratio > 1.28) & (advantage > 0)))
    assert metrics["ratio_mean"] == pytest.approx(ratio.mean())
    assert metrics["ratio_max"] == pytest.approx(ratio.max())
    assert metrics["approx_kl"] == pytest.approx(np.mean(ratio - 1 - np.log(ratio)))
    assert metrics["clip_fraction_low"] > 0 and metrics["clip_fraction_high"] > 0


def test_gradient_of_the_loss_agrees_with_finite_differences() -> None:
    rng = np.random.default_rng(2)
    lengths = [5, 9]
    logp, old, advantage = (torch.from_numpy(rng.normal(-1, 0.3, 14)) for _ in range(3))
    weights = token_weights(torch.tensor(lengths), "sample").double()
    logp.requires_grad_(True)
    policy_loss(logp, old, advantage, weights)[0].backward()
    step = 1e-6
    for token in range(14):
        bump = torch.zeros(14, dtype=torch.float64)
        bump[token] = step
        above, below = (float(policy_loss(logp.detach() + sign * bump, old, advantage, weights)[0]) for sign in (1, -1))
        assert logp.grad is not None
        assert float(logp.grad[token]) == pytest.approx((above - below) / (2 * step), abs=1e-7)


def test_first_gradient_on_policy_is_the_plain_policy_gradient() -> None:
    """At ratio 1 the gradient is -weight * advantage: REINFORCE."""
    logp = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    advantage, weights = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.5, 0.25, 0.25]).double()
    policy_loss(logp, logp.detach(), advantage, weights)[0].backward()
    torch.testing.assert_close(logp.grad, -weights * advantage)


def test_equal_rewards_give_a_gradient_of_exactly_zero() -> None:
    rewards = torch.full((1, 8), 0.9)
    advantage = group_advantages(rewards, everyone(rewards))[0].float()
    logp = torch.randn(8, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    policy_loss(logp, torch.zeros(8), advantage, token_weights(torch.ones(8, dtype=torch.long), "sample"))[0].backward()
    assert logp.grad is not None and torch.equal(logp.grad, torch.zeros(8))


def test_an_extreme_ratio_gives_a_finite_gradient() -> None:
    logp = torch.tensor([0.0, 0.0], requires_grad=True)
    loss, _ = policy_loss(logp, torch.tensor([-500.0, 500.0]), torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5]))
    loss.backward()
    assert logp.grad is not None and bool(logp.grad.isfinite().all())


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=8).filter(any),
    st.integers(1, 7),
    st.sampled_from(["sample", "token"]),
)
def test_loss_and_statistics_do_not_depend_on_how_samples_are_cut_into_micro_batches(
    lengths: list[int], cut: int, aggregation: str
) -> None:
    cut = min(cut, len(lengths) - 1)
    tokens = sum(lengths)
    generator = torch.Generator().manual_seed(tokens)
    logp, old, advantage = (torch.randn(tokens, generator=generator, dtype=torch.float64) for _ in range(3))
    weights = token_weights(torch.tensor(lengths), aggregation).double()  # type: ignore[arg-type]
    whole, whole_stats = policy_loss(logp, old, advantage, weights)
    at = sum(lengths[:cut])
    (first, first_stats), (second, second_stats) = (
        policy_loss(logp[part], old[part], advantage[part], weights[part]) for part in (slice(at), slice(at, None))
    )
    torch.testing.assert_close(first + second, whole)
    assert (first_stats + second_stats).metrics() == pytest.approx(whole_stats.metrics())


def test_samples_without_trained_tokens_leave_the_loss_of_the_others_alone() -> None:
    for aggregation in ("sample", "token"):
        padded = token_weights(torch.tensor([0, 4, 0, 2, 0]), aggregation)  # type: ignore[arg-type]
        assert torch.equal(padded, token_weights(torch.tensor([4, 2]), aggregation))  # type: ignore[arg-type]
        assert float(padded.sum()) == pytest.approx(1)


def test_per_sample_weights_give_short_and_long_samples_the_same_say() -> None:
    weights = token_weights(torch.tensor([2, 8]), "sample")
    assert float(weights[:2].sum()) == pytest.approx(0.5)
    assert float(weights[2:].sum()) == pytest.approx(0.5)


def test_truncated_importance_weights_are_the_ratio_up_to_the_cap_and_carry_no_gradient() -> None:
    old = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    weights = truncated_importance(old, torch.tensor([-1.0, -0.5, -9.0]), cap=2.0)
    torch.testing.assert_close(weights, torch.tensor([1.0, float(np.exp(-0.5)), 2.0]))
    assert not weights.requires_grad


def test_importance_weights_multiply_each_token_of_the_loss() -> None:
    logp, old, advantage = torch.zeros(2), torch.zeros(2), torch.tensor([1.0, 3.0])
    weights, importance = torch.tensor([0.5, 0.5]), torch.tensor([2.0, 0.5])
    loss, _ = policy_loss(logp, old, advantage, weights, importance_T=importance)
    assert float(loss) == pytest.approx(-(0.5 * 2.0 * 1.0 + 0.5 * 0.5 * 3.0))
