"""The rule of every published sampler against examples computed by hand or by another way."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from rlcs.difficulty import Difficulty
from rlcs.samplers import (
    DapoSampler,
    DpsSampler,
    GlmTiersSampler,
    GresoSampler,
    MoppsSampler,
    PoolsSampler,
    Sampler,
)

RIGHT, WRONG, MIXED = 8, 0, 4  # right answers of a group of eight


def outcomes(*right: int) -> np.ndarray:
    return np.array([[1.0] * count + [0.0] * (8 - count) for count in right]).reshape(-1, 8)


def build(
    make: Any,
    domains: list[str],
    rates: Sequence[float | None] | None = None,
    tiers: Sequence[str | None] | None = None,
    seed: int = 0,
    **options: Any,
) -> Any:
    difficulty = Difficulty(domains, tiers or [None] * len(domains), rates or [None] * len(domains))
    return make(domains, difficulty, group_size=8, seed=seed, **options)


class Step:
    """The groups generated in one step so far."""

    def __init__(self, sampler: Sampler, n: int, version: int = 0) -> None:
        self.sampler, self.n, self.version = sampler, n, version
        self.wanted = sampler.draw(n)
        self.seen, self.outcomes = np.zeros(0, np.int64), np.zeros((0, 8))

    def answer(self, *right: int) -> np.ndarray:
        """What the sampler asks for next when the groups it wanted have these numbers of right answers."""
        assert len(right) == len(self.wanted)
        self.sampler.observe(self.wanted, outcomes(*right), self.version)
        self.seen = np.concatenate([self.seen, self.wanted])
        self.outcomes = np.concatenate([self.outcomes, outcomes(*right)])
        self.wanted = self.sampler.refill(self.n, self.seen, self.outcomes)
        return self.wanted

    def trained(self) -> list[int]:
        """Places, in order of generation, of the groups trained on."""
        mixed = np.flatnonzero(np.ptp(self.outcomes, axis=1) > 0)
        return mixed[self.sampler.select(self.seen[mixed], self.outcomes[mixed], self.n)].tolist()


# DAPO


def test_dapo_generates_full_batches_until_there_are_as_many_mixed_groups_as_wanted() -> None:
    step = Step(build(DapoSampler, ["math"] * 40), 4)
    assert len(step.wanted) == 4
    assert len(step.answer(MIXED, RIGHT, WRONG, RIGHT)) == 4  # one of four
    assert len(step.answer(WRONG, MIXED, RIGHT, MIXED)) == 4  # three of four
    assert len(step.answer(RIGHT, MIXED, MIXED, MIXED)) == 0
    assert step.trained() == [0, 5, 7, 9]


def test_dapo_gives_up_after_the_last_batch_and_trains_on_what_there_is() -> None:
    step = Step(build(DapoSampler, ["math"] * 40, max_batches=3, batch_ratio=1.5), 4)
    assert len(step.wanted) == 6
    assert len(step.answer(RIGHT, RIGHT, RIGHT, RIGHT, RIGHT, MIXED)) == 6
    assert len(step.answer(*[WRONG] * 6)) == 6
    assert len(step.answer(*[WRONG] * 6)) == 0
    assert step.trained() == [5]


def test_dapo_refills_only_the_domain_that_lacks_groups_and_lends_the_surplus_in_the_end() -> None:
    domains = ["a"] * 20 + ["b"] * 20
    step = Step(build(DapoSampler, domains, max_batches=2, batch_ratio=2.0), 4)
    assert [domains[index] for index in step.wanted] == ["a"] * 4 + ["b"] * 4
    assert [domains[index] for index in step.answer(MIXED, MIXED, RIGHT, MIXED, WRONG, WRONG, MIXED, WRONG)] == ["b"] * 4
    assert len(step.answer(*[WRONG] * 4)) == 0
    assert step.trained() == [0, 1, 3, 6]  # two of each wanted; b has one


def test_dapo_trains_on_each_domains_share_before_it_lends_any() -> None:
    step = Step(build(DapoSampler, ["a"] * 20 + ["b"] * 20, batch_ratio=2.0), 4)
    assert len(step.answer(*[MIXED] * 4, WRONG, MIXED, MIXED, MIXED)) == 0
    assert step.trained() == [0, 1, 5, 6]


def test_dapo_does_not_count_a_group_that_abstained() -> None:
    sampler = build(DapoSampler, ["math"] * 40)
    seen = sampler.draw(1)
    group = np.array([[1.0] + [np.nan] * 7])
    sampler.observe(seen, group, 0)
    assert len(sampler.refill(1, seen, group)) == 1


# GRESO


def test_greso_keeps_a_problem_by_the_power_of_its_streak_without_variance() -> None:
    sampler = build(GresoSampler, ["math"] * 10, p_easy=0.5, p_hard=0.4)
    history = {0: [RIGHT] * 3, 1: [WRONG] * 2, 2: [RIGHT, RIGHT, MIXED], 3: [WRONG, WRONG, RIGHT], 4: [RIGHT] * 12}
    for problem, rights in history.items():
        for right in rights:
            sampler.observe(np.array([problem]), outcomes(right), 0)
    np.testing.assert_allclose(sampler.keep_probability(np.arange(6)), [0.125, 0.16, 1.0, 0.5, 0.01, 1.0])


def test_greso_draws_problems_with_a_streak_as_often_as_it_keeps_them() -> None:
    sampler = build(GresoSampler, ["math"] * 4000, batch_ratio=1.0)
    for _ in range(2):
        sampler.observe(np.arange(2000), outcomes(*[WRONG] * 2000), 0)
    drawn = sampler.draw(1000)
    assert np.mean(drawn < 2000) == pytest.approx(0.25 / 1.25, abs=0.04)


def test_greso_moves_both_probabilities_by_the_last_steps_groups_once_the_first_epoch_is_over() -> None:
    sampler = build(GresoSampler, ["math"] * 10, batch_ratio=1.0, max_batches=1, target_zero_variance=0.3)
    came = [RIGHT, WRONG] + [MIXED] * 8  # a tenth each, targets a tenth and a fifth
    expected = [(0.5, 0.5), (0.5, 0.5), (0.49, 0.51), (0.48, 0.52)]
    for version, (easy, hard) in enumerate(expected):
        drawn = sampler.draw(10)
        assert (sampler.metrics()["p_easy"], sampler.metrics()["p_hard"]) == pytest.approx((easy, hard))
        sampler.observe(np.sort(drawn), outcomes(*came), version)


def test_greso_probabilities_stay_in_their_range() -> None:
    sampler = build(GresoSampler, ["math"] * 4, batch_ratio=1.0, max_batches=1, p_step=0.3, p_range=(0.1, 0.6))
    for version in range(4):
        drawn = sampler.draw(4)
        sampler.observe(drawn, outcomes(*[RIGHT] * 4), version)
    sampler.draw(4)
    assert (sampler.metrics()["p_easy"], sampler.metrics()["p_hard"]) == (0.1, 0.6)


def test_greso_sizes_a_further_batch_by_what_is_missing_and_the_last_batchs_waste() -> None:
    step = Step(build(GresoSampler, ["math"] * 200), 8)
    assert len(step.wanted) == 12
    # 5 missing at a quarter valid: 1.25 * 5 / 0.25 = 25, more than a full batch.
    assert len(step.answer(*[MIXED] * 3, *[RIGHT] * 9)) == 12
    # 1 missing at a third valid: 1.25 * 1 / (1/3) = 3.75.
    assert len(step.answer(*[MIXED] * 4, *[WRONG] * 8)) == 3
    # 1 missing and nothing valid: a full batch.
    assert len(step.answer(WRONG, WRONG, WRONG)) == 12
    assert len(step.answer(*[MIXED] * 12)) == 0
    assert step.trained() == [0, 1, 2, 12, 13, 14, 15, 27]


def test_greso_fills_a_first_batch_even_when_everything_would_be_skipped() -> None:
    sampler = build(GresoSampler, ["math"] * 30)
    for _ in range(20):
        sampler.observe(np.arange(30), outcomes(*[RIGHT] * 30), 0)
    for _ in range(10):
        drawn = sampler.draw(10)
        assert len(drawn) == len(set(drawn.tolist())) >= 10


# GLM tiers


def test_glm_expansion_is_the_moving_average_of_the_capped_ratio() -> None:
    sampler = build(GlmTiersSampler, ["math"] * 100, max_expansion=4.0, memory=0.8)
    indices = np.arange(4)
    for came, expected, drawn in (
        ([MIXED, MIXED, RIGHT, WRONG], 2.0, 20),  # 1 / (1 - 1/2)
        ([MIXED, RIGHT, RIGHT, WRONG], 2.4, 24),  # 0.8 * 2 + 0.2 * 4
        ([RIGHT, RIGHT, WRONG, WRONG], 2.72, 28),  # 0.8 * 2.4 + 0.2 * cap
        ([MIXED, MIXED, MIXED, MIXED], 2.376, 24),  # 0.8 * 2.72 + 0.2 * 1
    ):
        sampler.observe(indices, outcomes(*came), 0)
        assert sampler.expansion == pytest.approx(expected)
        assert len(sampler.draw(10)) == drawn


def test_glm_tier_ratios_lean_to_the_middle_and_follow_what_comes() -> None:
    rates = np.repeat([0.05, 0.2, 0.5, 0.84, 0.95], 20)
    sampler = build(GlmTiersSampler, ["math"] * 100, rates.tolist(), memory=0.8)
    weights = np.array([0.05 * 0.95, 0.2 * 0.8, 0.25, 0.84 * 0.16, 0.95 * 0.05])
    np.testing.assert_allclose(sampler.tier_ratios(0), weights / weights.sum(), rtol=1e-5)
    drawn = np.concatenate([sampler.draw(20) for _ in range(150)])
    np.testing.assert_allclose(np.bincount(drawn // 20) / 3000, weights / weights.sum(), atol=0.03)

    sampler.observe(np.array([60, 61]), outcomes(RIGHT, RIGHT), 0)  # two easy problems, now at 0.92: very easy
    p_easy = 0.8 * 0.84 + 0.2 * 1.0
    moved = np.array([20, 20, 20, 18, 22]) * np.array([0.0475, 0.16, 0.25, p_easy * (1 - p_easy), 0.0475])
    np.testing.assert_allclose(sampler.tier_ratios(0), moved / moved.sum(), rtol=1e-5)
    assert sampler.snapshot()["difficulty_tier"][[59, 60, 62]].tolist() == ["medium", "very easy", "easy"]


def test_glm_weight_of_a_tier_has_a_floor() -> None:
    sampler = build(GlmTiersSampler, ["math"] * 40, [0.5] * 20 + [0.02] * 20, floor=0.25)
    np.testing.assert_allclose(sampler.tier_ratios(0), [0.2, 0, 0.8, 0, 0], atol=1e-6)


def test_glm_problems_without_a_pass_rate_start_in_the_tier_of_their_human_label() -> None:
    tiers, rates = ["low", "low", "high", "high"], [0.95, None, 0.05, None]
    sampler = build(GlmTiersSampler, ["math"] * 4, rates, tiers)
    assert sampler.snapshot()["difficulty_tier"].tolist() == ["very easy", "very easy", "very hard", "very hard"]


def test_glm_trains_on_the_most_balanced_groups() -> None:
    sampler = build(GlmTiersSampler, ["math"] * 20)
    sampler.draw(3)
    assert sampler.select(np.arange(6), outcomes(1, 4, 7, 3, 6, 5), 3).tolist() == [1, 3, 5]


# Pools


def test_pools_follow_the_last_group_only() -> None:
    sampler = build(PoolsSampler, ["math"] * 6)
    sampler.observe(np.arange(4), outcomes(RIGHT, WRONG, RIGHT, 7), 0)
    assert sampler.snapshot()["pool"].tolist() == ["easy", "hard", "easy", "normal", "normal", "normal"]
    sampler.observe(np.array([0, 1, 3]), outcomes(7, RIGHT, WRONG), 1)
    assert sampler.snapshot()["pool"].tolist() == ["normal", "easy", "easy", "hard", "normal", "normal"]


def test_pools_supply_their_fractions_of_a_step() -> None:
    sampler = build(PoolsSampler, ["math"] * 100, easy_fraction=0.1, hard_fraction=0.2)
    sampler.observe(np.arange(40), outcomes(*[RIGHT] * 20, *[WRONG] * 20), 0)
    for _ in range(10):
        assert np.bincount(sampler.draw(20) // 20, minlength=5)[:2].tolist() == [2, 4]
    small = np.concatenate([sampler.draw(3) for _ in range(1000)])
    assert np.mean(small < 20) == pytest.approx(0.1, abs=0.025)
    assert np.mean((small >= 20) & (small < 40)) == pytest.approx(0.2, abs=0.03)


def test_pools_too_small_for_their_fraction_are_made_up_by_the_normal_one_and_it_by_them() -> None:
    sampler = build(PoolsSampler, ["math"] * 20, easy_fraction=0.3, hard_fraction=0.3)
    sampler.observe(np.array([0]), outcomes(RIGHT), 0)
    drawn = sampler.draw(10)
    assert len(drawn) == 10
    assert 0 in drawn
    sampler.observe(np.arange(18), outcomes(*[RIGHT] * 12, *[WRONG] * 6), 1)
    drawn = sampler.draw(16)
    assert len(set(drawn.tolist())) == 16
    assert {18, 19} <= set(drawn.tolist())


# MoPPS


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), max_size=20), st.sampled_from([0.0, 0.5, 1.0]))
@settings(deadline=None)
def test_mopps_posterior_is_the_discounted_count(history: list[tuple[int, int]], discount: float) -> None:
    sampler = build(MoppsSampler, ["math"] * 3, discount=discount, prior=(2.0, 3.0))
    alpha, beta = [2.0] * 3, [3.0] * 3
    for version, (problem, right) in enumerate(history):
        sampler.observe(np.array([problem]), outcomes(right), version)
        alpha[problem] = discount * alpha[problem] + (1 - discount) * 2.0 + right
        beta[problem] = discount * beta[problem] + (1 - discount) * 3.0 + (8 - right)
    np.testing.assert_allclose(sampler.success_posterior(), [alpha, beta], rtol=1e-5)


def test_mopps_counts_only_known_outcomes() -> None:
    sampler = build(MoppsSampler, ["math"] * 2)
    sampler.observe(np.array([1]), np.array([[1, 1, 0] + [np.nan] * 5]), 0)
    np.testing.assert_allclose(sampler.success_posterior(), [[1, 3], [1, 2]])


def test_mopps_draws_problems_whose_rate_lies_at_one_half() -> None:
    sampler = build(MoppsSampler, ["math"] * 50, candidates=10)
    rates = np.repeat([0.0, 0.25, 0.5, 0.75, 1.0], 10)
    sampler.observe(np.arange(50), (np.arange(4000) < 4000 * rates[:, None]).astype(float), 0)
    assert sorted(sampler.draw(10).tolist()) == list(range(20, 30))


def test_mopps_prefers_one_of_two_problems_as_often_as_its_posterior_sample_is_nearer() -> None:
    sampler = build(MoppsSampler, ["math"] * 2, candidates=2)
    sampler.observe(np.array([0]), outcomes(6), 0)  # Beta(7, 3); the other's is uniform
    share = np.mean([sampler.draw(1)[0] == 0 for _ in range(4000)])
    # The uniform sample is farther from one half than x with probability 1 - 2 |x - 1/2|.
    expected, _ = integrate.quad(lambda x: stats.beta.pdf(x, 7, 3) * (1 - 2 * abs(x - 0.5)), 0, 1)
    assert share == pytest.approx(expected, abs=0.03)


def test_mopps_considers_the_candidates_only() -> None:
    sampler = build(MoppsSampler, ["math"] * 400, candidates=2)
    sampler.observe(np.arange(390), outcomes(*[RIGHT] * 390), 0)
    rest = [np.sum(sampler.draw(20) >= 390) for _ in range(200)]
    assert np.mean(rest) <= 1.1  # 40 candidates hold one of the ten better problems on average


# DPS


def test_dps_predicts_by_the_expected_transitions() -> None:
    sampler = build(DpsSampler, ["math"] * 2, decay=0.5, prior=1.0)
    sampler.observe(np.array([0]), outcomes(MIXED), 0)
    # From a uniform belief all three transitions into "partial" are equally likely: its row of counts is 4/3, the others 1.
    np.testing.assert_allclose(sampler.predict(np.array([0, 1])), [[0.3, 0.4, 0.3], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    sampler.observe(np.array([1]), outcomes(WRONG), 1)
    # Half of what was counted is left: 7/6 of 19/6, whatever the belief.
    np.testing.assert_allclose(sampler.predict(np.array([0, 1])), [[6 / 19, 7 / 19, 6 / 19], [0.4, 0.3, 0.3]], rtol=1e-6)


def reference(history: list[dict[int, int]], decay: float, prior: float) -> np.ndarray:
    """The published recursion, carried out for each of three problems at every step."""
    predictions = []
    for problem in range(3):
        counts, belief = np.full((3, 3), prior), np.full(3, 1 / 3)
        prediction = belief
        for step in history:
            expected = counts / counts.sum(axis=0)
            after = prediction
            counts = decay * counts + (1 - decay) * prior
            if problem in step:
                state = {WRONG: 0, MIXED: 1, RIGHT: 2}[step[problem]]
                after = np.eye(3)[state]
                joint = np.outer(after, belief) * expected
                counts = counts + joint / joint.sum()
            belief = after
            prediction = (counts / counts.sum(axis=0)) @ belief
        predictions.append(prediction)
    return np.array(predictions)


@given(
    st.lists(st.dictionaries(st.integers(0, 2), st.sampled_from([RIGHT, WRONG, MIXED]), max_size=3), max_size=12),
    st.sampled_from([0.0, 0.5, 0.7, 1.0]),
    st.sampled_from([0.5, 1.0]),
    st.booleans(),
)
@settings(deadline=None)
def test_dps_agrees_with_the_recursion_carried_out_step_by_step(
    history: list[dict[int, int]], decay: float, prior: float, drawn: bool
) -> None:
    sampler = build(DpsSampler, ["math"] * 4, decay=decay, prior=prior, candidates=4)
    for version, step in enumerate(history):
        if drawn:
            sampler.draw(1)  # brings records up to date, which must not change what they say
        groups = {**step, 3: MIXED}  # a fourth problem is seen at every step
        sampler.observe(np.array(list(groups)), outcomes(*groups.values()), version)
    np.testing.assert_allclose(sampler.predict(np.arange(3)), reference(history, decay, prior), atol=1e-5)


def test_dps_forgets_a_problem_not_seen_for_long() -> None:
    sampler = build(DpsSampler, ["math"] * 2, decay=0.5)
    sampler.observe(np.array([0]), outcomes(RIGHT), 0)
    sampler.observe(np.array([1]), outcomes(RIGHT), 200)
    np.testing.assert_allclose(sampler.predict(np.array([0])), [[1 / 3, 1 / 3, 1 / 3]], atol=1e-7)


def test_dps_draws_the_problems_most_likely_to_be_partially_solved() -> None:
    sampler = build(DpsSampler, ["math"] * 30, candidates=10)
    came = [RIGHT] * 10 + [MIXED] * 5 + [WRONG] * 10
    sampler.observe(np.arange(25), outcomes(*came), 0)
    assert set(sampler.draw(5).tolist()) == {10, 11, 12, 13, 14}
    # Next come those never seen, at a third, before all that were solved or not at all.
    assert set(sampler.draw(10).tolist()) == {10, 11, 12, 13, 14, 25, 26, 27, 28, 29}
