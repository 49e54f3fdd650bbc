"""The collapse test: its bound against enumeration, its false alarms and its power against thousands of simulated runs.

Axis suffixes: R runs, L looks, N problems.
"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcs.collapse import WIDTHS, compare, examine, share_of_level, sign_tail


def answered(rate_LN: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Pass rates over `samples` responses to each problem."""
    return rng.binomial(samples, rate_LN) / samples


def first_alarms(audit_RLN: np.ndarray, reward_RLN: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """First look with a significant collapse, and with a significant decline, of each run; 0 for none."""
    first_2R = np.zeros((2, len(audit_RLN)), np.int64)
    for look in range(1, audit_RLN.shape[1]):
        found = compare(*(values[:, : look + 1] for values in (audit_RLN, reward_RLN, reward_RLN)))
        assert found is not None
        for first_R, p_R in zip(first_2R, (found.collapse, found.decline), strict=True):
            first_R[(first_R == 0) & (p_R <= level * share_of_level(look))] = look
    return first_2R[0], first_2R[1]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_no_sum_of_random_signs_passes_its_bound(weights: list[float]) -> None:
    scale = float(np.sqrt(np.square(weights).sum()))
    if scale < 1e-6:
        return
    sums = np.array([np.dot(signs, weights) for signs in product((-1, 1), repeat=len(weights))]) / scale
    for x in np.unique(np.round(sums[sums > 1e-9], 9)):
        assert (sums >= x - 1e-9).mean() <= float(sign_tail(np.array(x))) + 1e-12


def test_the_bound_is_met_where_its_constant_comes_from() -> None:
    # Two equal weights reach sqrt(2) with both signs plus: one case of four.
    assert float(sign_tail(np.array(np.sqrt(2.0)))) == pytest.approx(0.25)


def test_the_level_is_spent_but_never_overspent() -> None:
    spent = np.cumsum([share_of_level(look) for look in range(1, 100_001)])
    assert (spent < 1).all()
    assert spent[-1] == pytest.approx(1, abs=1e-3)


def test_a_look_compares_every_earlier_stretch_that_the_last_does_not_overlap() -> None:
    for looks in range(1, 12):
        found = examine(*np.zeros((3, looks, 3)), 0.01)
        if looks == 1:
            assert found is None
            continue
        # All p-values of an unchanged domain are 1: the correction alone is left.
        assert found is not None and found[0].p == found[1].p == 1.0
    starts = {width: [s for s in range(12) if s + width <= 12 - width] for width in WIDTHS}
    fallen = np.zeros((12, 400))
    fallen[:6] = 1
    found = examine(fallen, 1 - fallen, np.zeros_like(fallen), 0.01)
    assert found is not None
    comparisons = sum(len(found) for found in starts.values())
    assert found[0].p == pytest.approx(2 * float(sign_tail(np.array(20.0))) * comparisons)


@pytest.mark.parametrize(("problems", "mean", "runs"), [(20, 0.05, 2000), (20, 0.5, 2000), (60, 0.8, 1000)])
def test_an_unchanged_domain_is_seldom_accused(problems: int, mean: float, runs: int) -> None:
    """Twelve looks at problems of constant and very different chances, while the reward rises without end."""
    level, rng = 0.2, np.random.default_rng(problems)
    rate_RLN = np.broadcast_to(rng.beta(2 * mean, 2 * (1 - mean), (runs, 1, problems)), (runs, 12, problems))
    reward_RLN = answered(np.clip(rate_RLN + np.linspace(0, 0.5, 12)[:, None], 0, 1), 2, rng)
    collapse_R, decline_R = first_alarms(answered(rate_RLN, 2, rng), reward_RLN, level)
    # Within three standard errors of the level; in truth far below it, a sum of bounds.
    assert (decline_R > 0).mean() <= level + 3 * np.sqrt(level * (1 - level) / runs)
    assert (collapse_R > 0).mean() <= (decline_R > 0).mean()


def test_an_unchanged_mean_over_problems_that_change_is_seldom_accused() -> None:
    """Every problem's chance is drawn anew at every look, from the same distribution."""
    rng = np.random.default_rng(4)
    audit_RLN = answered(rng.beta(1, 1, (1000, 12, 40)), 2, rng)
    _, decline_R = first_alarms(audit_RLN, audit_RLN, 0.2)
    assert (decline_R > 0).mean() <= 0.2 + 3 * np.sqrt(0.16 / 1000)


def test_learning_is_no_collapse_and_neither_is_a_reward_that_falls_along() -> None:
    rng, shape = np.random.default_rng(5), (200, 16, 100)
    for course_L, declines in ((np.linspace(0.3, 0.8, 16), False), (np.linspace(0.8, 0.3, 16), True)):
        audit_RLN, reward_RLN = (answered(np.broadcast_to(course_L[:, None], shape), 2, rng) for _ in range(2))
        collapse_R, decline_R = first_alarms(audit_RLN, reward_RLN, 0.01)
        assert not collapse_R.any()
        assert (decline_R > 0).all() if declines else not decline_R.any()


@pytest.mark.parametrize(("problems", "fall", "power"), [(100, 0.3, 0.95), (300, 0.15, 0.9)])
def test_a_collapse_is_found_within_a_few_looks(problems: int, fall: float, power: float) -> None:
    """The audit rises for ten looks, then falls within four looks by `fall` while the reward goes on rising."""
    rng, runs = np.random.default_rng(1), 200
    course_L = np.concatenate([np.linspace(-0.1, 0, 10), -fall * np.array([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])])
    gain_L = np.concatenate([np.linspace(-0.1, 0, 10), 0.05 * np.arange(1, 9)])
    rate_R1N = np.clip(rng.normal(0.55, 0.2, (runs, 1, problems)), 0, 1)
    audit_RLN, reward_RLN = (answered(np.clip(rate_R1N + by_L[:, None], 0, 1), 2, rng) for by_L in (course_L, gain_L))
    collapse_R, _ = first_alarms(audit_RLN, reward_RLN, 0.01)
    found_R = collapse_R > 0
    assert found_R.mean() >= power
    assert (collapse_R[found_R] > 9).all()  # never before it began
    assert np.median(collapse_R[found_R]) <= 9 + 6


def test_the_alarm_says_since_when_and_by_how_much() -> None:
    rng = np.random.default_rng(2)
    rate_L = np.array([0.4, 0.6, 0.8, 0.8, 0.3])
    audit_LN = answered(np.tile(rate_L[:, None], 200), 4, rng)
    reward_LN = answered(np.tile(np.array([0.4, 0.5, 0.6, 0.7, 0.95])[:, None], 200), 4, rng)
    found = examine(audit_LN, reward_LN, np.zeros_like(audit_LN), 0.01)
    assert found is not None and found[0].significant
    change = found[0]
    assert change.now == (4, 4)
    assert change.before in ((2, 2), (3, 3))
    (start, _) = change.before
    difference_N = audit_LN[4] - audit_LN[start]
    assert change.audit_now - change.audit_before == pytest.approx(difference_N.mean())
    assert change.audit_change.mean == pytest.approx(difference_N.mean())
    assert change.audit_change.low < -0.5 < change.audit_change.high
    assert change.reward_now == pytest.approx(reward_LN[4].mean())


def test_right_answers_that_give_way_to_paid_wrong_ones_are_a_collapse_though_the_reward_stands_still() -> None:
    """And forgetting is none: the verifier passes no more wrong answers than before, its reward falls along."""
    rng, shape = np.random.default_rng(6), (100, 8, 100)
    right_L = np.array([0.6, 0.6, 0.6, 0.6, 0.5, 0.4, 0.3, 0.2])
    for passed_L, collapses in ((np.full(8, 0.7), True), (right_L + 0.1, False)):
        draw_RLN = rng.random(shape)
        audit_RLN, reward_RLN = ((draw_RLN < by_L[:, None]).astype(float) for by_L in (right_L, passed_L))
        accused_R = np.zeros(100, bool)
        for look in range(1, 8):
            found = compare(*(v[:, : look + 1] for v in (audit_RLN, reward_RLN, reward_RLN * (1 - audit_RLN))))
            assert found is not None
            accused_R |= found.collapse <= 0.01 * share_of_level(look)
        assert accused_R.all() if collapses else not accused_R.any()


def test_small_falls_are_passed_over_however_certain() -> None:
    audit_LN, reward_LN = np.ones((2, 4000)), np.zeros((2, 4000))
    audit_LN[1, :120], reward_LN[1, :120] = 0, 1  # three points, no doubt about them
    for least_fall, accused in ((0.02, True), (0.031, False)):
        found = examine(audit_LN, reward_LN, np.zeros_like(audit_LN), 0.01, least_fall=least_fall)
        assert found is not None
        assert [change.significant for change in found] == [accused, accused]


def test_problems_that_the_verifier_could_not_judge_are_left_out() -> None:
    rng = np.random.default_rng(3)
    audit_LN = answered(np.array([[0.9], [0.4]]) * np.ones(80), 1, rng)
    reward_LN = 1 - audit_LN
    unknown = rng.random((2, 80)) < 0.3
    audit_LN[unknown] = np.nan
    both = ~unknown.any(axis=0)
    found, expected = (compare(audit_LN[:, kept], reward_LN[:, kept], reward_LN[:, kept]) for kept in (slice(None), both))
    assert found is not None and expected is not None
    assert found.decline == pytest.approx(float(expected.decline))
    assert found.decline < 0.01
    nothing = compare(*np.full((3, 3, 5), np.nan))
    assert nothing is not None and nothing.decline == 1
