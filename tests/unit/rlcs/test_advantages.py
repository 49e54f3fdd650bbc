"""RLOO, REINFORCE++ and generalised advantage estimation against their definitions in NumPy, and their invariants."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.advantages import generalised_advantages, group_advantages, leave_one_out_advantages, whitened_advantages


def batch(seed: int, groups: int = 30, size: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((groups, size)), rng.random((groups, size)) < 0.7, rng.integers(1, 200, (groups, size))


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def test_leave_one_out_takes_off_the_mean_of_the_others() -> None:
    rewards, valid, _ = batch(0)
    expected = np.zeros_like(rewards)
    for p, group in enumerate(rewards):
        members = np.flatnonzero(valid[p])
        for g in members if len(members) > 1 else []:
            expected[p, g] = group[g] - np.mean([group[other] for other in members if other != g])
    np.testing.assert_allclose(leave_one_out_advantages(*tensors(rewards, valid)).numpy(), expected, atol=1e-12)


def test_leave_one_out_is_dr_grpo_scaled_by_the_size_of_the_group() -> None:
    rewards, _, _ = batch(1)
    everyone = torch.ones(rewards.shape, dtype=torch.bool)
    plain = group_advantages(torch.from_numpy(rewards), everyone, normalise=False)
    assert torch.allclose(leave_one_out_advantages(torch.from_numpy(rewards), everyone), plain * 8 / 7, atol=1e-12)


@pytest.mark.parametrize("reward", [0.0, 0.1, 1 / 3, 0.9])
def test_equal_rewards_give_exactly_zero(reward: float) -> None:
    rewards, everyone = torch.full((3, 7), reward), torch.ones(3, 7, dtype=torch.bool)
    lengths = torch.randint(1, 50, (3, 7), generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(3, 7, dtype=torch.float64)
    assert torch.equal(leave_one_out_advantages(rewards, everyone), zeros)
    assert torch.equal(whitened_advantages(rewards, everyone, lengths), zeros)
    assert torch.equal(whitened_advantages(rewards, everyone, lengths, baseline=False), zeros)


@pytest.mark.parametrize("baseline", [True, False])
def test_whitening_counts_a_sample_once_for_each_of_its_tokens(baseline: bool) -> None:
    rewards, valid, lengths = batch(2)
    centred = rewards.copy()
    if baseline:
        centred -= np.array([group[known].mean() if known.any() else 0.0 for group, known in zip(rewards, valid, strict=True)])[
            :, None
        ]
    tokens = np.repeat(centred[valid], lengths[valid])
    expected = np.where(valid, (centred - tokens.mean()) / tokens.std(ddof=1), 0.0)
    got = whitened_advantages(*tensors(rewards, valid, lengths), baseline=baseline)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_what_is_not_valid_changes_nothing() -> None:
    rewards, valid, lengths = batch(3)
    changed = np.where(valid, rewards, np.nan)
    for found in (
        lambda r: leave_one_out_advantages(*tensors(r, valid)),
        lambda r: whitened_advantages(*tensors(r, valid, lengths)),
    ):
        assert torch.equal(found(rewards), found(changed))
        assert not bool(found(changed)[~torch.from_numpy(valid)].any())


def test_a_valid_sample_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        leave_one_out_advantages(torch.tensor([[0.0, torch.nan]]), torch.ones(1, 2, dtype=torch.bool))


def numpy_gae(rewards: np.ndarray, values: np.ndarray, discount: float, smoothing: float) -> np.ndarray:
    """One sample, token by token from its end."""
    found, later, following = np.zeros(len(rewards)), 0.0, 0.0
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + discount * following - values[t]
        found[t] = later = delta + discount * smoothing * later
        following = values[t]
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 70), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.9, 0.99, 1.0]),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_generalised_advantages_agree_with_the_recursion(
    lengths: list[int], discount: float, smoothing: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=sum(lengths)), rng.normal(size=sum(lengths))
    ends = np.cumsum(lengths)
    expected = np.concatenate(
        [
            numpy_gae(rewards[end - n : end], values[end - n : end], discount, smoothing)
            for end, n in zip(ends, lengths, strict=True)
        ]
    )
    advantages, returns = generalised_advantages(
        *tensors(rewards, values), torch.tensor(lengths), discount=discount, smoothing=smoothing
    )
    np.testing.assert_allclose(advantages.numpy(), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(returns.numpy(), expected + values, rtol=1e-9, atol=1e-9)


def test_with_neither_discount_nor_smoothing_an_outcome_is_credited_whole_to_every_token() -> None:
    rewards = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.5])
    values = torch.tensor([0.2, 0.3, 0.9, 0.1, 0.4])
    advantages, returns = generalised_advantages(rewards, values, torch.tensor([3, 2]))
    assert torch.allclose(returns, torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5]))
    assert torch.allclose(advantages, returns - values)


def test_lengths_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="as many tokens as the lengths add up to"):
        generalised_advantages(torch.zeros(3), torch.zeros(3), torch.tensor([1, 1]))
