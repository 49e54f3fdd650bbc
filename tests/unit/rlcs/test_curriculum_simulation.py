"""The synthetic learner that samplers are compared on, and what is made of its runs."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "curriculum"))

from contestants import ABLATIONS, CONTESTANTS
from regimes import REGIMES, TAILS
from simulated_run import Setting, Trace, simulate
from simulation_summary import cost_to, summarise, table
from synthetic_learner import DOMAINS, TIERS, SyntheticLearner, World

from rlcs.difficulty import Difficulty

QUIET = replace(TAILS, noise=0.0, false_verdict=0.0)
SMALL = Setting(train=300, heldout=200, groups_per_step=8)
SHORT = replace(TAILS, steps=20, rate=6.0)


def learner(regime: object = QUIET, train: int = 400) -> SyntheticLearner:
    world = World.of(regime, 0, train=train, heldout=200)  # type: ignore[arg-type]
    return SyntheticLearner(world, regime, seed=0, groups_per_step=8)  # type: ignore[arg-type]


def answered(policy: SyntheticLearner, count: int = 100) -> tuple[np.ndarray, np.ndarray]:
    indices = np.arange(count)
    return indices, policy.answer(indices, 8)[0]


def test_groups_all_right_or_all_wrong_teach_nothing() -> None:
    policy = learner()
    indices, verdicts = answered(policy)
    equal = verdicts.min(1) == verdicts.max(1)
    assert 20 < equal.sum() < 90
    before = policy.pass_rate()
    policy.train(indices[equal], verdicts[equal])
    assert np.array_equal(policy.pass_rate(), before)


def test_a_step_without_groups_changes_nothing() -> None:
    policy = learner(TAILS)
    before = policy.pass_rate()
    policy.train(np.zeros(0, np.int64), np.zeros((0, 8)))
    assert np.array_equal(policy.pass_rate(), before)


def test_one_mixed_group_raises_the_skills_by_the_formula() -> None:
    policy = learner()
    indices, verdicts = answered(policy)
    group = int(np.flatnonzero((verdicts.sum(1) > 0) & (verdicts.sum(1) < 8))[0])
    domain, tier = int(policy.world.domain_N[group]), int(policy.world.tier_N[group])
    policy.train(indices[[group]], verdicts[[group]])
    right = verdicts[group].mean()
    for d in range(len(DOMAINS)):
        for t in range(TIERS):
            expected = QUIET.rate / 8 * right * (1 - right) * 0.5 ** abs(t - tier) * (1.0 if d == domain else 0.1)
            assert policy.skill_DT[d, t] == pytest.approx(expected)
    assert policy.memory_N[group] == pytest.approx(right * (1 - right))
    assert policy.memory_N.astype(bool).sum() == 1


def test_a_problem_in_memory_moves_the_skills_less() -> None:
    fresh, repeated = learner(), learner()
    repeated.memory_N[:] = 1.0
    gains = []
    for policy in (fresh, repeated):
        policy._truly_right = {0: np.array([True] * 4 + [False] * 4)}
        policy.train(np.array([0]), np.array([[1.0] * 4 + [0.0] * 4]))
        gains.append(policy.skill_DT.max())
    assert gains[1] == pytest.approx(gains[0] / 2)


@pytest.mark.parametrize(("normalise", "factor"), [(0.0, 2.0), (0.5, 2.0**0.5), (1.0, 1.0)])
def test_twice_the_groups_move_the_skills_as_the_optimiser_says(normalise: float, factor: float) -> None:
    gains = []
    for groups in (2, 4):
        policy = learner(replace(QUIET, normalise=normalise, within=0.0, between=0.0))
        same = np.flatnonzero((policy.world.domain_N == 0) & (policy.world.tier_N == 0))[:groups]
        policy._truly_right = {int(index): np.array([True, False]) for index in same}
        policy.train(same, np.array([[1.0, 0.0]] * groups))
        gains.append(policy.skill_DT[0, 0])
    assert gains[1] / gains[0] == pytest.approx(factor)


def test_false_verdicts_on_impossible_problems_teach_nothing() -> None:
    policy = learner(replace(QUIET, false_verdict=0.3, impossible=1.0, trivial=0.0))
    indices, verdicts = answered(policy)
    assert 0.1 < verdicts.mean() < 0.5
    policy.train(indices, verdicts)
    assert not policy.skill_DT.any()


def test_pass_rates_are_probabilities_and_those_of_answers() -> None:
    policy = learner()
    policy.skill_DT += np.random.default_rng(0).normal(0, 3, policy.skill_DT.shape)
    rates = policy.pass_rate()
    assert rates.min() >= 0.0 and rates.max() <= 1.0
    assert (rates == 0.0).mean() == pytest.approx(TAILS.impossible, abs=0.06)
    verdicts = policy.answer(np.arange(400), 400)[0]
    assert np.abs(verdicts.mean(1) - rates[:400]).max() < 4.5 * 0.5 / 20
    assert policy.heldout_pass_rate() == pytest.approx(np.mean([float(rate) for rate in rates[400:]]))


def test_hard_tiers_are_out_of_reach_at_first_and_answers_of_hard_tiers_are_longer() -> None:
    policy = learner(train=3000)
    world = policy.world
    mean_T = [policy.pass_rate()[(world.tier_N == t) & (world.ease_N < 5)].mean() for t in range(TIERS)]
    assert mean_T == sorted(mean_T, reverse=True) and mean_T[-1] < 0.05
    lengths = policy.answer(np.arange(3000), 8)[1].mean(1)
    length_T = np.array([lengths[world.tier_N[:3000] == t].mean() for t in range(TIERS)])
    assert np.all(length_T[1:] / length_T[:-1] > 1.25)


@pytest.mark.parametrize("name", ["mopps", "rlcs"])
def test_a_run_is_determined_by_its_seed(name: str) -> None:
    first, again, other = (simulate(CONTESTANTS[name], SHORT, seed, SMALL) for seed in (3, 3, 4))
    assert np.array_equal(first.score, again.score) and np.array_equal(first.tokens, again.tokens)
    assert not np.array_equal(first.score[:5], other.score[:5])


@pytest.mark.parametrize("name", sorted(set(CONTESTANTS) - {"rlcs"}))
def test_samplers_said_not_to_read_the_posterior_draw_the_same_with_it(name: str) -> None:
    without = simulate(CONTESTANTS[name], replace(TAILS, steps=8), 0, SMALL)
    with_it = simulate(replace(CONTESTANTS[name], difficulty=Difficulty), replace(TAILS, steps=8), 0, SMALL)
    assert np.array_equal(without.score, with_it.score)


@pytest.mark.parametrize("name", sorted(set(CONTESTANTS) - {"rlcs", "glm-tiers"}))
def test_samplers_said_not_to_read_offline_rates_draw_the_same_with_them(name: str) -> None:
    without, with_them = (
        simulate(CONTESTANTS[name], replace(TAILS, steps=8), 0, replace(SMALL, graded=g)) for g in (False, True)
    )
    assert np.array_equal(without.score, with_them.score)


def test_every_sampler_trains_for_twenty_steps_within_the_budget() -> None:
    runs = {name: [simulate(one, SHORT, seed, SMALL) for seed in range(2)] for name, one in CONTESTANTS.items()}
    budget = 20 * SMALL.groups_per_step * SMALL.group_size
    for name, traces in runs.items():
        for trace in traces:
            assert budget <= trace.rollouts[-1], name
            assert trace.rollouts[-2] < budget, name
            assert 0 < trace.trained <= trace.mixed < trace.groups, name
            assert np.all((trace.score > 0) & (trace.score < 1)), name
    assert len(runs["uniform"][0].score) == 21
    summary = summarise(runs, {name: runs[name] for name in ("uniform", "dapo")})
    assert summary["contestants"]["uniform"]["rollouts_ratio_to_uniform"] == [1.0, 1.0, 1.0]
    assert len(table(summary, 2).splitlines()) == 2 + len(CONTESTANTS)


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_every_ablation_trains(name: str) -> None:
    trace = simulate(ABLATIONS[name], replace(TAILS, steps=3), 0, SMALL)
    assert trace.trained > 0
    assert 0.0 < trace.calibration["mixed_predicted"] < 1.0


@pytest.mark.parametrize("name", sorted(REGIMES))
def test_uniform_sampling_leaves_half_of_what_can_be_solved_near_mastery(name: str) -> None:
    """What the learning rate of each regime was set by."""
    regime = REGIMES[name]
    world = World.of(regime, 0, train=2000, heldout=1000)
    policy = SyntheticLearner(world, regime, seed=0, groups_per_step=32)
    order = np.random.default_rng(0)
    for _ in range(regime.steps):
        indices = order.choice(2000, 32, replace=False)
        verdicts = policy.answer(indices, 8)[0]
        mixed = verdicts.min(1) < verdicts.max(1)
        policy.train(indices[mixed], verdicts[mixed])
    mastered = (policy.pass_rate(np.s_[2000:])[world.solvable_N[2000:]] > 0.9).mean()
    assert 0.4 < mastered < 0.65


def trace_of(score: list[float], rollouts: list[int]) -> Trace:
    return Trace(np.array(rollouts), np.array(rollouts) * 100.0, np.array(score), 1, 1, 1, 1, {})


def test_the_cost_of_a_target_is_interpolated_between_steps_and_infinite_when_missed() -> None:
    trace = trace_of([0.1, 0.2, 0.15, 0.4], [0, 80, 160, 240])
    assert cost_to(trace, 0.15, "rollouts") == pytest.approx(40.0)
    assert cost_to(trace, 0.3, "rollouts") == pytest.approx(160 + 80 * 0.6)
    assert cost_to(trace, 0.3, "steps") == pytest.approx(2.6)
    assert cost_to(trace, 0.3, "tokens") == pytest.approx(20800.0)
    assert cost_to(trace, 0.05, "rollouts") == 0.0
    assert cost_to(trace, 0.5, "rollouts") == np.inf


def test_ratios_pair_the_seeds_and_misses_count_with_what_they_spent() -> None:
    uniform = [trace_of([0.0, 0.5, 1.0], [0, 100, 200]), trace_of([0.0, 0.5, 1.0], [0, 200, 400])]
    half = [trace_of([0.0, 1.0, 1.0], [0, 100, 200]), trace_of([0.0, 1.0, 1.0], [0, 200, 400])]
    missed = [trace_of([0.0, 0.1, 0.2], [0, 100, 200]), trace_of([0.0, 0.1, 0.2], [0, 200, 400])]
    found = summarise({"uniform": uniform, "half": half, "missed": missed}, {"uniform": uniform})
    assert found["target"] == 0.5
    assert found["contestants"]["half"]["rollouts_ratio_to_uniform"] == [0.5, 0.5, 0.5]
    assert found["contestants"]["half"]["reached"] == 2
    assert found["contestants"]["missed"]["rollouts_ratio_to_uniform"] == [2.0, 2.0, 2.0]
    assert found["contestants"]["missed"]["reached"] == 0
