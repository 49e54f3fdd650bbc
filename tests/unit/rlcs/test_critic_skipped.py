"""Critic updates whose loss or gradient is not finite: skipped, named, counted, and too many in a row end the run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_ppo_critic import fresh_critic, prompts, samples  # noqa: F401

from rlcs.advantages import whitened_tokens
from rlcs.critic import Critic
from rlcs.learner import TrainSample


def weights(critic: Critic) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in critic.model.parameters()]


@pytest.fixture
def broken(samples: list[TrainSample]) -> list[TrainSample]:  # noqa: F811
    return [replace(one, reward=float("inf")) if one.id == "p4" else one for one in samples]


@pytest.mark.parametrize("changes", [{}, {"critic": {"lam": 0.9}}])
def test_a_skipped_update_spares_weights_and_optimiser_and_the_others_are_judged_without_it(
    broken: list[TrainSample], changes: dict
) -> None:
    critic = fresh_critic(**changes)
    before, values = weights(critic), critic.values(broken)
    judged, metrics = critic.learn(broken, 0, np.random.default_rng(0))
    assert all(torch.equal(*both) for both in zip(before, weights(critic), strict=True)) and not critic.optimizer.state
    (notice,) = critic.skipped.notices()
    assert notice.startswith("step 0, critic: ") and "1 of 9 samples are not finite: p4" in notice
    assert metrics["skipped_updates"] == 1 and all(np.isfinite(value) for value in metrics.values())
    assert [one.id for one in judged] == [one.id for one in broken if one.id != "p4"]
    if not changes:  # lambda 1: the reward less the value
        raw = [one.reward - value for one, value in zip(broken, values, strict=True) if one.id != "p4"]
        expected = whitened_tokens(torch.cat(raw)).numpy()
        np.testing.assert_allclose(np.concatenate([one.advantage for one in judged]), expected, atol=1e-5)


def test_of_several_updates_only_the_one_that_is_not_finite_is_skipped(broken: list[TrainSample]) -> None:
    critic = fresh_critic(updates_per_step=3)
    before = critic.model.lm_head.weight.detach().clone()
    _, metrics = critic.learn(broken, 0, np.random.default_rng(0))
    assert metrics["skipped_updates"] == 1 and np.isfinite(metrics["loss"])
    head = critic.model.lm_head.weight
    assert int(critic.optimizer.state[head]["step"]) == 2 and not torch.equal(before, head)


def test_too_many_in_a_row_end_the_run_with_the_ids_also_across_a_resume(broken: list[TrainSample]) -> None:
    critic = fresh_critic(max_skipped_updates=1)
    critic.learn(broken, 0, np.random.default_rng(0))
    resumed = fresh_critic(max_skipped_updates=1)
    resumed.load_state_dict(critic.state_dict())
    for one in (critic, resumed):
        with pytest.raises(FloatingPointError, match=r"the critic has diverged.*step 0, critic.*: p4\. step 1.*critic\.lr"):
            one.learn(broken, 1, np.random.default_rng(0))


def test_a_critic_whose_weights_are_not_finite_lets_the_policy_learn_nothing(samples: list[TrainSample]) -> None:  # noqa: F811
    critic = fresh_critic()
    with torch.no_grad():
        critic.model.lm_head.weight[0, 0] = float("nan")
    judged, metrics = critic.learn(samples, 0, np.random.default_rng(0))
    assert judged == [] and set(metrics) == {"lr", "skipped_updates"}
    assert "1 weight tensors are not finite themselves" in critic.skipped.notices()[0]
