"""Samplers: proportions, no replacement, the moderate window, deferral and retirement, oversampling, exact resume."""

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.beta_binomial import mixed_group_probability
from rlcs.difficulty import Difficulty
from rlcs.samplers import CurriculumSampler, DomainShares, Sampler, UniformSampler, balanced_subset, group_outcome

DOMAINS = ["math"] * 60 + ["ocr"] * 30 + ["gui"] * 10


def uniform(domains: list[str], seed: int = 0, **options: object) -> UniformSampler:
    difficulty = Difficulty(domains, [None] * len(domains), [None] * len(domains))
    return UniformSampler(domains, difficulty, group_size=8, seed=seed, **options)  # type: ignore[arg-type]


def curriculum(
    domains: list[str], rates: Sequence[float | None] | None = None, seed: int = 0, **options: object
) -> CurriculumSampler:
    """Tiers are the problems themselves: no problem learns from another. `rates` are trusted like 100 answers. A step
    generates no more groups than it wants unless `options` say so.
    """
    tiers = [str(index) for index in range(len(domains))]
    strength = 100.0 if rates else 2.0
    rates = rates or [None] * len(domains)
    difficulty = Difficulty(domains, tiers, rates, cell_strength=1e12, prior_strength=strength, learn=False)
    options = {"max_expansion": 1.0, **options}
    return CurriculumSampler(domains, difficulty, group_size=8, seed=seed, **options)  # type: ignore[arg-type]


def outcomes(*right: int, size: int = 8) -> np.ndarray:
    return np.array([[1.0] * count + [0.0] * (size - count) for count in right])


def test_uniform_draws_every_problem_of_a_domain_once_before_any_again() -> None:
    sampler = uniform(DOMAINS)
    seen = Counter(int(index) for _ in range(30) for index in sampler.draw(10))
    for start, stop in ((0, 60), (60, 90), (90, 100)):
        counts = [seen[index] for index in range(start, stop)]
        assert max(counts) - min(counts) <= 1
        assert min(counts) == 3


@given(st.integers(1, 100), st.integers(1, 12), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_no_sampler_draws_a_problem_twice_in_one_step(n: int, steps: int, seed: int) -> None:
    for make in (uniform, curriculum):
        sampler: Sampler = make(DOMAINS, seed=seed)  # type: ignore[operator]
        for _ in range(steps):
            drawn = sampler.draw(n)
            assert len(drawn) == n == len(set(drawn.tolist()))


@pytest.mark.parametrize("make", [uniform, curriculum])
def test_domains_keep_their_proportions_over_a_run(make: Callable[..., Sampler]) -> None:
    for weights, expected in ((None, (0.6, 0.3, 0.1)), ({"math": 1, "ocr": 1, "gui": 2}, (0.25, 0.25, 0.5))):
        sampler = make(DOMAINS, domain_weights=weights)
        names = Counter(DOMAINS[index] for _ in range(50) for index in sampler.draw(7))
        for name, share in zip(("math", "ocr", "gui"), expected, strict=True):
            assert names[name] / 350 == pytest.approx(share, abs=0.01)


def test_draws_a_small_domain_cannot_supply_go_to_the_others() -> None:
    shares = DomainShares(["big"] * 50 + ["small"] * 2, {"big": 1.0, "small": 1.0})
    for _ in range(20):
        assert shares.split(10).tolist() == [8, 2]


def test_more_groups_than_problems_and_unknown_domains_are_refused() -> None:
    with pytest.raises(ValueError, match="lower groups_per_step"):
        uniform(["math"] * 5).draw(6)
    with pytest.raises(ValueError, match="unknown: maths"):
        DomainShares(["math"], {"maths": 1.0})


def test_curriculum_prefers_problems_in_the_window_by_far() -> None:
    rates = [0.02] * 100 + [0.5] * 100 + [0.97] * 100
    sampler = curriculum(["math"] * 300, rates, explore=0.0, review=0.0)
    drawn = np.concatenate([sampler.draw(20) for _ in range(20)])
    assert ((drawn >= 100) & (drawn < 200)).all()


def test_within_the_window_likelier_mixed_problems_are_drawn_more_often() -> None:
    sampler = curriculum(["math"] * 200, [0.21] * 100 + [0.5] * 100, explore=0.0, review=0.0, sharpness=8.0)
    drawn = np.concatenate([sampler.draw(10) for _ in range(200)])
    ratio = np.mean(drawn >= 100) / np.mean(drawn < 100)
    mixed = sampler.snapshot()["mixed_probability"]
    assert ratio == pytest.approx((mixed[150] / mixed[50]) ** 8.0, rel=0.2)


def test_exploration_reaches_uncertain_problems_outside_the_window() -> None:
    sampler = curriculum(["math"] * 200, [0.15] * 100 + [0.5] * 100, explore=0.2, review=0.0)
    drawn = np.concatenate([sampler.draw(20) for _ in range(50)])
    assert 0.03 < np.mean(drawn < 100) < 0.2


def test_a_domain_without_moderate_problems_still_fills_its_share() -> None:
    sampler = curriculum(["easy"] * 20 + ["mid"] * 20, [0.99] * 20 + [0.5] * 20)
    drawn = sampler.draw(20)
    assert (drawn < 20).sum() == 10


def test_a_problem_drawn_rests_for_some_steps_unless_its_domain_has_no_other() -> None:
    sampler = curriculum(["a"] * 30, [0.5] * 30, rest=2, explore=0.0, review=0.0)
    drawn = []
    for version in range(12):
        drawn.append(set(sampler.draw(8).tolist()))
        sampler.observe(np.array(sorted(drawn[-1])), outcomes(*[4] * 8), version)
    for earlier, middle, later in zip(drawn, drawn[1:], drawn[2:], strict=False):
        assert not earlier & middle and not earlier & later and not middle & later
    assert len(sampler.draw(30)) == 30  # most of them rest


def test_a_problem_never_solved_rests_twice_as_long_each_time() -> None:
    sampler = curriculum(["math"] * 40, [0.05] * 1 + [0.5] * 39, defer_updates=4, review=1.0, max_expansion=1.0)
    version, rests = 0, []
    for _ in range(4):
        sampler.observe(np.array([0]), outcomes(0), version)
        rest = 0
        while sampler.snapshot()["state"][0] == "deferred":
            assert 0 not in sampler.draw(20)
            rest += 1
            sampler.difficulty.advance(version + rest)
        rests.append(rest)
        version += rest
        assert sampler.snapshot()["state"][0] == "due"
        assert 0 in sampler.draw(20)
    assert rests == [4, 8, 16, 32]


def test_one_right_answer_ends_a_deferral() -> None:
    sampler = curriculum(["math"] * 10, [0.05] * 10, rest=0)
    sampler.observe(np.array([0]), outcomes(0), 0)
    sampler.observe(np.array([0]), outcomes(1), 1)
    assert sampler.snapshot()["state"][0] == "outside"


def test_mastered_problems_are_drawn_at_the_review_rate_only() -> None:
    sampler = curriculum(["math"] * 200, [0.97] * 100 + [0.5] * 100, explore=0.1, review=0.1)
    drawn = np.concatenate([sampler.draw(20) for _ in range(100)])
    assert np.mean(drawn < 100) == pytest.approx(0.1, abs=0.02)


def mixed_probability(rate: float, strength: float = 100.0, group_size: int = 8) -> float:
    return float(mixed_group_probability(np.array(strength * rate), np.array(strength * (1 - rate)), group_size))


def test_a_domain_draws_as_many_groups_as_its_predictions_need_to_fill_its_share_up_to_the_cap() -> None:
    rates = [0.5] * 100 + [0.1] * 100 + [0.02] * 100
    sampler = curriculum(["a"] * 100 + ["b"] * 100 + ["c"] * 100, rates, max_expansion=3.0, explore=0.0, review=0.0)
    drawn = np.bincount(sampler.draw(30) // 100)
    assert drawn.tolist() == [math.ceil(10 / mixed_probability(0.5)), math.ceil(10 / mixed_probability(0.1)), 30]
    assert sampler.metrics()["expansion/b"] == pytest.approx(drawn[1] / 10)


def test_the_expansion_is_corrected_by_what_came_of_the_groups_predicted_to_be_mixed() -> None:
    sampler = curriculum(["a"] * 200, [0.5] * 200, max_expansion=4.0, memory=0.5, explore=0.0, review=0.0)
    sampler.observe(np.arange(8), outcomes(4, 4, 4, 4, 8, 8, 0, 0), 0)  # half of what was predicted
    predicted = mixed_probability(0.5)
    assert len(sampler.draw(20)) == math.ceil(20 / (predicted * 0.5 / predicted))
    sampler.observe(np.arange(8, 16), outcomes(*[4] * 8), 1)  # the moving average: 0.75 came for each one predicted
    assert len(sampler.draw(20)) == pytest.approx(20 / 0.75, abs=1)


def test_a_domain_short_of_mixed_groups_draws_again_for_itself_within_the_cap() -> None:
    sampler = curriculum(["a"] * 100 + ["b"] * 100, [0.5] * 200, max_expansion=1.6, explore=0.0, review=0.0)
    drawn = sampler.draw(20)
    right = np.where(drawn < 100, 4, np.where(np.arange(len(drawn)) % 2, 4, 8))  # every other group of b is all right
    sampler.observe(drawn, outcomes(*right), 0)
    more = sampler.refill(20, drawn, outcomes(*right))
    short = 10 - int(((drawn >= 100) & (right == 4)).sum())
    assert (more >= 100).all() and not set(more) & set(drawn.tolist())
    assert short <= len(more) <= 16 - int((drawn >= 100).sum())
    assert sampler.metrics()["expansion/b"] == pytest.approx(((drawn >= 100).sum() + len(more)) / 10)
    sampler.observe(more, outcomes(*[8] * len(more)), 0)
    everything = np.concatenate([drawn, more])
    assert not len(sampler.refill(20, everything, outcomes(*right, *[8] * len(more))))  # max_refills is 1


def test_without_expansion_a_step_generates_what_it_wants_and_no_more() -> None:
    sampler = curriculum(["a"] * 100, [0.5] * 100)
    drawn = sampler.draw(10)
    sampler.observe(drawn, outcomes(*[8] * 10), 0)
    assert len(drawn) == 10
    assert not len(sampler.refill(10, drawn, outcomes(*[8] * 10)))


def test_groups_that_abstained_do_not_count_as_invalid() -> None:
    sampler = curriculum(["a"] * 10)
    sampler.observe(np.array([0, 1]), np.array([[1.0, 0.0], [np.nan, np.nan]]), 0)
    assert sampler.metrics()["invalid/a"] == 0.0


def test_a_domain_without_any_mixed_group_is_named_and_keeps_a_tenth_of_its_share_until_signal_returns() -> None:
    sampler = curriculum(["good"] * 100 + ["dead"] * 100)
    for version in range(30):
        sampler.observe(np.r_[0:5, 100:105], outcomes(*[4] * 5, *[0] * 5), version)
    assert (sampler.metrics()["silent/dead"], sampler.metrics()["silent/good"]) == (1.0, 0.0)
    drawn = np.concatenate([sampler.draw(22) for _ in range(10)])
    assert (drawn >= 100).mean() == pytest.approx(0.1 / 1.1, abs=0.01)
    sampler.observe(np.array([100]), outcomes(4), 30)
    sampler.draw(22)
    assert sampler.metrics()["domain_share/dead"] == pytest.approx(0.5)


def test_above_its_floor_the_share_of_a_domain_follows_the_variance_of_its_outcomes() -> None:
    sampler = curriculum(["a"] * 100 + ["b"] * 100, domain_floor=0.4)
    sampler.observe(np.r_[0:4, 100:104], outcomes(*[4] * 4, *[2] * 4), 0)  # variances 1/4 and 3/16
    sampler.draw(10)
    typical = (1 / 4 + 3 / 16) / 2
    lean_a, lean_b = 0.4 + 0.6 * (1 / 4) / typical, 0.4 + 0.6 * (3 / 16) / typical
    assert sampler.metrics()["domain_share/a"] == pytest.approx(lean_a / (lean_a + lean_b))


def test_per_token_weighs_a_cell_by_the_length_of_its_responses() -> None:
    sampler = curriculum(["a"] * 400, [0.5] * 400, per_token=True, explore=0.0, review=0.0, sharpness=0.0)
    for index in range(400):  # every problem is its own cell; the second half answers at four times the length
        sampler.observe(np.array([index]), outcomes(4), 0, np.array([40.0 if index < 200 else 160.0]))
    drawn = np.concatenate([sampler.draw(10) for _ in range(200)])
    assert np.mean(drawn < 200) / np.mean(drawn >= 200) == pytest.approx(4.0, rel=0.2)


def test_outcome_of_a_group_is_read_from_its_known_samples() -> None:
    nan = np.nan
    rows = np.array([[1, 0, nan], [1, 1, nan], [0, 0, 0], [1, nan, nan], [nan, nan, nan]])
    assert group_outcome(rows) == ["mixed", "all-right", "all-wrong", "abstained", "abstained"]


@given(st.lists(st.tuples(st.integers(1, 7), st.integers(0, 2)), max_size=30), st.tuples(*[st.integers(0, 6)] * 3))
def test_balanced_subset_keeps_the_groups_nearest_to_half_of_each_domain(
    groups: list[tuple[int, int]], quotas: tuple[int, int, int]
) -> None:
    results = outcomes(*[right for right, _ in groups]).reshape(-1, 8)
    domains = np.array([domain for _, domain in groups], int)
    kept = balanced_subset(results, domains, np.array(quotas))
    assert kept.tolist() == sorted(set(kept.tolist()))
    for domain, quota in enumerate(quotas):
        mine = [position for position in range(len(groups)) if domains[position] == domain]
        taken = [position for position in kept.tolist() if domains[position] == domain]
        assert len(taken) == min(quota, len(mine))
        distance = {position: abs(groups[position][0] - 4) for position in mine}
        assert sorted(distance[p] for p in taken) == sorted(distance.values())[: len(taken)]


def test_selection_keeps_the_proportions_of_the_domains() -> None:
    sampler = curriculum(["a"] * 50 + ["b"] * 50)
    indices = np.r_[0:10, 50:70]
    kept = sampler.select(indices, outcomes(*[4] * 30), 16)
    assert np.bincount(indices[kept] // 50).tolist() == [8, 8]


def play(sampler: Sampler, steps: range) -> list[list[int]]:
    """A run whose outcomes depend on problem and step alone."""
    history = []
    for step in steps:
        drawn = sampler.draw(12)
        right = [(int(index) * 7 + step) % 9 for index in drawn]
        sampler.observe(drawn, outcomes(*right), step)
        history.append(drawn.tolist())
    return history


@pytest.mark.parametrize("make", [uniform, curriculum])
@given(cut=st.integers(0, 20), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=15)
def test_a_split_run_draws_what_the_whole_run_draws(make: Callable[..., Sampler], cut: int, seed: int) -> None:
    whole = play(make(DOMAINS, seed=seed), range(20))
    first = make(DOMAINS, seed=seed)
    before = play(first, range(cut))
    second = make(DOMAINS, seed=seed + 1)  # whatever the new process was seeded with
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    after = play(second, range(cut, 20))
    assert before + after == whole


def test_seeds_decide_the_draws() -> None:
    for make in (uniform, curriculum):
        first, same, other = (play(make(DOMAINS, seed=seed), range(3)) for seed in (1, 1, 2))  # type: ignore[operator]
        assert first == same != other


def test_curriculum_meets_more_mixed_groups_than_uniform_on_a_population_of_fixed_rates() -> None:
    """Rates from near 0 to near 1, unknown to the sampler, half of a tier's problems unlike the rest."""
    rng = np.random.default_rng(0)
    tiers = [str(index % 5) for index in range(1000)]
    rates = np.clip(np.array([0.97, 0.85, 0.5, 0.1, 0.01])[np.arange(1000) % 5] + rng.normal(0, 0.05, 1000), 0.001, 0.999)
    mixed = {}
    for name in ("uniform", "rlcs"):
        difficulty = Difficulty(["math"] * 1000, tiers, [None] * 1000)
        make = UniformSampler if name == "uniform" else CurriculumSampler
        sampler: Sampler = make(["math"] * 1000, difficulty, group_size=8, seed=0)
        answers, count = np.random.default_rng(1), []
        for step in range(40):
            drawn = sampler.draw(32)
            results = (answers.random((len(drawn), 8)) < rates[drawn][:, None]).astype(float)
            sampler.observe(drawn, results, step)
            count += [verdict == "mixed" for verdict in group_outcome(results)]
        mixed[name] = np.mean(count)
    assert mixed["rlcs"] > 1.5 * mixed["uniform"]


def test_coverage_and_age_count_problems_once_each() -> None:
    sampler = uniform(["a"] * 4 + ["b"] * 4)
    sampler.observe(np.array([0, 1, 4]), outcomes(4, 4, 4), 2)
    sampler.observe(np.array([1]), outcomes(4), 6)
    metrics = sampler.metrics()
    assert (metrics["coverage"], metrics["coverage/a"], metrics["coverage/b"]) == (3 / 8, 2 / 4, 1 / 4)
    assert (metrics["age/a"], metrics["age/b"]) == ((4 + 0) / 2, 4)
