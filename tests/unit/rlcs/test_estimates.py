"""Estimates and their intervals against scipy, enumeration and simulation."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcs.estimates import average, mean_interval, paired_change, pass_at_k, wilson_interval

NAN = float("nan")


def test_mean_interval_is_scipys_t_interval() -> None:
    values = np.random.default_rng(0).random(37)
    found, expected = mean_interval(values), stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.mean, found.n, found.df) == (pytest.approx(values.mean()), 37, 36)


def test_problems_of_which_nothing_is_known_are_left_out() -> None:
    assert mean_interval(np.array([0.2, NAN, 0.8, NAN])) == mean_interval(np.array([0.2, 0.8]))


def test_one_problem_has_a_mean_but_no_interval_and_none_has_neither() -> None:
    one, none = mean_interval(np.array([0.25])), mean_interval(np.array([NAN]))
    assert one.mean == 0.25 and np.isnan([one.low, one.high]).all()
    assert np.isnan([none.mean, none.low, none.high]).all() and none.n == 0


def test_the_interval_clustered_by_problem_covers_the_true_rate_where_one_over_responses_does_not() -> None:
    """Pass rates ~ Beta(0.5, 0.5), so the responses to one problem are much alike."""
    rng = np.random.default_rng(1)
    clustered = naive = 0
    trials, problems, samples = 2000, 60, 8
    for _ in range(trials):
        rates = rng.beta(0.5, 0.5, problems)
        outcomes = rng.random((problems, samples)) < rates[:, None]
        by_problem, by_response = mean_interval(outcomes.mean(1)), mean_interval(outcomes.ravel().astype(float))
        clustered += by_problem.low <= 0.5 <= by_problem.high
        naive += by_response.low <= 0.5 <= by_response.high
    assert clustered / trials == pytest.approx(0.95, abs=0.015)
    assert naive / trials < 0.7


def test_paired_change_is_scipys_interval_of_the_paired_test() -> None:
    rng = np.random.default_rng(2)
    before = rng.random(50)
    after = before + 0.1 + 0.05 * rng.standard_normal(50)
    found, expected = paired_change(before, after), stats.ttest_rel(after, before).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    unpaired = stats.ttest_ind(after, before).confidence_interval(0.95)
    assert found.high - found.low < 0.3 * (unpaired.high - unpaired.low)


def test_paired_change_uses_the_problems_known_in_both() -> None:
    found = paired_change(np.array([0.0, NAN, 0.5, 0.25]), np.array([0.5, 1.0, NAN, 0.25]))
    assert (found.mean, found.n) == (0.25, 2)
    with pytest.raises(ValueError, match="same problems"):
        paired_change(np.zeros(2), np.zeros(3))


def test_the_average_of_two_domains_has_welchs_interval() -> None:
    """The half sum of two independent means is half the difference of one from the negative of the other."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(1, 1, 12), rng.normal(2, 4, 30)
    found = average([mean_interval(first), mean_interval(second)])
    expected = stats.ttest_ind(first, -second, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low / 2, expected.high / 2))
    assert found.mean == pytest.approx((first.mean() + second.mean()) / 2) and found.n == 42


def test_an_average_with_an_unknown_part_has_no_interval() -> None:
    found = average([mean_interval(np.array([0.0, 1.0])), mean_interval(np.array([1.0]))])
    assert found.mean == 0.75 and np.isnan([found.low, found.high]).all()
    certain = average([mean_interval(np.ones(3)), mean_interval(np.zeros(3))])
    assert (certain.mean, certain.low, certain.high) == (0.5, 0.5, 0.5)


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_all_draws_of_k_that_hold_a_right_response(case: tuple[int, int, int]) -> None:
    n, right, k = case
    outcomes = [True] * right + [False] * (n - right)
    share = np.mean([any(draw) for draw in combinations(outcomes, k)])
    assert pass_at_k(np.array(right), np.array(n), k) == pytest.approx(share)


def test_pass_at_k_is_accurate_for_many_samples() -> None:
    exact = 1 - comb(990, 100) / comb(1000, 100)
    assert pass_at_k(np.array([10]), np.array([1000]), 100)[0] == pytest.approx(exact, rel=1e-12)


def test_pass_at_k_is_unbiased() -> None:
    right = np.random.default_rng(4).binomial(6, 0.3, 200_000)
    assert pass_at_k(right, np.full(len(right), 6), 4).mean() == pytest.approx(1 - 0.7**4, abs=2e-3)


def test_pass_at_k_is_unknown_with_fewer_than_k_known_responses() -> None:
    found = pass_at_k(np.array([3, 1, 0, 0]), np.array([4, 3, 3, 0]), 4)
    assert found[0] == 1.0 and np.isnan(found[1:]).all()
    with pytest.raises(ValueError, match="more right"):
        pass_at_k(np.array([2]), np.array([1]), 1)
    with pytest.raises(ValueError, match="at least 1"):
        pass_at_k(np.array([1]), np.array([1]), 0)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (20, 20), (7, 20), (1, 3), (299, 300)])
def test_wilson_interval_is_scipys(successes: int, n: int) -> None:
    found = wilson_interval(successes, n)
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.mean == successes / n


def test_no_trials_have_no_rate() -> None:
    assert np.isnan(wilson_interval(0, 0).mean)
    with pytest.raises(ValueError, match="successes <= trials"):
        wilson_interval(3, 2)
