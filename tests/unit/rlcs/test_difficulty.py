"""Difficulty posteriors against mpmath, Monte Carlo and plain arithmetic."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.beta_binomial import mixed_group_probability
from rlcs.difficulty import Difficulty


def exact_mixed(alpha: float, beta: float, group_size: int) -> float:
    """The closed form through mpmath's beta function with 50 digits."""
    with mpmath.workdps(50):
        a, b = mpmath.mpf(alpha), mpmath.mpf(beta)
        base = mpmath.beta(a, b)
        return float(1 - mpmath.beta(a + group_size, b) / base - mpmath.beta(a, b + group_size) / base)


@settings(deadline=None)
@given(st.floats(1e-3, 1e4), st.floats(1e-3, 1e4), st.integers(2, 64))
def test_mixed_probability_agrees_with_mpmath(alpha: float, beta: float, group_size: int) -> None:
    got = mixed_group_probability(np.array([alpha]), np.array([beta]), group_size)[0]
    assert got == pytest.approx(exact_mixed(alpha, beta, group_size), rel=1e-9, abs=1e-14)


def test_mixed_probability_agrees_with_drawing_rates_and_groups() -> None:
    rng = np.random.default_rng(0)
    for alpha, beta, group_size in ((1.0, 1.0, 8), (0.3, 2.0, 4), (9.0, 1.5, 8), (40.0, 40.0, 2)):
        right = rng.binomial(group_size, rng.beta(alpha, beta, 200_000))
        simulated = np.mean((right > 0) & (right < group_size))
        assert mixed_group_probability(np.array(alpha), np.array(beta), group_size) == pytest.approx(simulated, abs=0.005)


def test_a_group_of_one_is_never_mixed() -> None:
    assert mixed_group_probability(np.array([0.5, 3.0]), np.array([2.0, 0.1]), 1) == pytest.approx([0, 0], abs=1e-15)


def test_mixed_probability_is_symmetric_in_right_and_wrong() -> None:
    a, b = np.array([0.5, 3.0, 20.0]), np.array([2.0, 0.1, 1.0])
    np.testing.assert_allclose(mixed_group_probability(a, b, 8), mixed_group_probability(b, a, 8))


def test_parameters_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ValueError, match="not above 0"):
        mixed_group_probability(np.array([0.0]), np.array([1.0]), 8)


def one_cell(size: int, rate: float | None = None, **options: float) -> Difficulty:
    """Strength and discount stay as given."""
    return Difficulty(["math"] * size, ["1"] * size, [rate] * size, **options, learn=False)  # type: ignore[arg-type]


def groups(*rates: float, size: int = 8) -> np.ndarray:
    """One row a rate, with that share of right answers."""
    return np.array([[1.0] * round(rate * size) + [0.0] * (size - round(rate * size)) for rate in rates])


def test_posterior_before_any_evidence_is_the_offline_rate_at_prior_strength() -> None:
    alpha, beta = Difficulty(["math", "math"], ["1", "2"], [0.3, 0.8], prior_strength=5.0).posterior()
    np.testing.assert_allclose(alpha, [1.5, 4.0])
    np.testing.assert_allclose(beta, [3.5, 1.0])


def test_unknown_offline_rates_come_from_their_cell_then_their_domain_then_a_half() -> None:
    difficulty = Difficulty(["math", "math", "math", "math", "ocr"], ["1", "1", "1", "2", None], [0.2, 0.4, None, None, None])
    alpha, beta = difficulty.posterior()
    # The domain's mean is taken over its problems once the cells are filled: (0.2 + 0.4 + 0.3) / 3.
    np.testing.assert_allclose(alpha / (alpha + beta), [0.2, 0.4, 0.3, 0.3, 0.5])


def test_evidence_adds_right_and_wrong_answers_to_the_prior() -> None:
    difficulty = one_cell(1, 0.5, prior_strength=2.0, cell_strength=1e12)  # a cell that does not move
    difficulty.observe(np.array([0]), groups(0.75), version=0)
    alpha, beta = difficulty.posterior()
    assert (alpha[0], beta[0]) == (pytest.approx(1 + 6), pytest.approx(1 + 2))


def test_abstained_samples_count_for_nothing() -> None:
    difficulty = one_cell(2, 0.5, cell_strength=1e12)
    difficulty.observe(np.array([0, 1]), np.array([[1.0, 0.0, np.nan, np.nan], [np.nan] * 4]), version=0)
    alpha, beta = difficulty.posterior()
    np.testing.assert_allclose(alpha, [2, 1])
    np.testing.assert_allclose(beta, [2, 1])
    assert difficulty.seen_at_N.tolist() == [0, -1]


def test_evidence_halves_when_the_discount_says_so_and_variance_grows_with_staleness() -> None:
    difficulty = one_cell(1, 0.5, discount=0.5, cell_strength=1e12)
    difficulty.observe(np.array([0]), groups(1.0), version=3)
    spread = []
    for version in (3, 4, 5, 60):
        difficulty.advance(version)
        alpha, beta = difficulty.posterior()
        assert alpha[0] == pytest.approx(1 + 8 * 0.5 ** (version - 3))
        spread.append(float((alpha * beta / (alpha + beta) ** 2 / (alpha + beta + 1))[0]))
    assert spread == sorted(spread)


def test_aging_in_many_steps_equals_aging_in_one() -> None:
    in_steps, at_once = (one_cell(2, discount=0.9) for _ in range(2))
    for difficulty in (in_steps, at_once):
        difficulty.observe(np.array([0]), groups(0.5), version=1)
    for version in range(2, 30):
        in_steps.advance(version)
    at_once.advance(29)
    np.testing.assert_allclose(in_steps.posterior(), at_once.posterior(), rtol=1e-12)


def test_the_same_problem_twice_in_one_observation_counts_twice() -> None:
    twice, once = (one_cell(1, 0.5, cell_strength=1e12) for _ in range(2))
    twice.observe(np.array([0, 0]), groups(0.5, 0.25), version=0)
    once.observe(np.array([0]), np.concatenate([groups(0.5), groups(0.25)], axis=1), version=0)
    np.testing.assert_allclose(twice.posterior(), once.posterior())


def test_unseen_problems_follow_the_observed_mean_of_their_own_cell() -> None:
    size = 40
    difficulty = Difficulty(["math"] * 2 * size, ["easy"] * size + ["hard"] * size, [None] * 2 * size)
    seen = np.r_[0 : size // 2, size : size + size // 2]
    difficulty.observe(seen, groups(*[1.0] * (size // 2), *[0.125] * (size // 2)), version=0)
    alpha, beta = difficulty.posterior()
    mean = alpha / (alpha + beta)
    assert mean[size - 1] > 0.85
    assert mean[-1] < 0.25


def test_drift_of_a_cell_moves_the_unseen_and_keeps_their_offline_order() -> None:
    rates: list[float | None] = [0.1, 0.2, 0.3, 0.4] * 10
    difficulty = Difficulty(["math"] * 40, ["1"] * 40, rates)
    before = difficulty.posterior()
    difficulty.observe(np.arange(20), groups(*[0.5, 0.625, 0.75, 0.875] * 5), version=0)
    after = difficulty.posterior()
    means = [alpha[20:24] / (alpha[20:24] + beta[20:24]) for alpha, beta in (before, after)]
    assert (means[1] > means[0] + 0.2).all()
    assert (np.diff(means[1]) > 0.02).all()


def test_drawing_the_middling_problems_again_and_again_does_not_pull_the_cell_to_the_middle() -> None:
    """Half of a cell is at 0.5, half at 0; revisits of the former are no news about the rest."""
    difficulty = one_cell(60, discount=1.0)
    difficulty.observe(np.arange(40), groups(*[0.5, 0.0] * 20), version=0)
    for version in range(1, 20):
        difficulty.observe(np.arange(0, 40, 2), groups(*[0.5] * 20), version=version)
    alpha, beta = difficulty.posterior()
    assert (alpha / (alpha + beta))[-1] == pytest.approx(0.25, abs=0.07)


def test_evidence_is_carried_forward_by_what_predictions_for_seen_problems_missed() -> None:
    """Of eight problems with 4 of 8 right, all right the next time: the carry moves by 0.1 * 8/20 * 0.5 / 0.25."""
    beliefs = Difficulty(["math"] * 9, [None] * 9, [0.5] * 9)
    seen = np.arange(8)
    beliefs.observe(seen, groups(*[0.5] * 8), 0)
    assert beliefs.carry_D == pytest.approx([0.0])  # nothing had been seen before
    beliefs.observe(seen, groups(*[1.0] * 8), 1)
    carry = 0.1 * 8 / 20 * 0.5 / 0.25
    assert beliefs.carry_D == pytest.approx([carry])
    prior, strength = float(beliefs.prior_mean(seen)[0]), float(beliefs.prior_strength_C[0])
    alpha, beta = (column[0] for column in beliefs.posterior(seen))
    known = alpha + beta - strength  # 8 answers of now and what the first 8 are still worth, half of them wrong
    wrong = (known - 8) / 2
    odds = (known - wrong) / wrong * np.exp(carry)
    assert alpha == pytest.approx(strength * prior + known * odds / (1 + odds))
    never = beliefs.posterior(np.array([8]))
    assert never[0][0] / (never[0][0] + never[1][0]) == pytest.approx(float(beliefs.prior_mean(np.array([8]))[0]))


def test_carried_evidence_catches_up_with_a_policy_that_learns_or_forgets() -> None:
    """All pass rates move by a tenth of a logit an update; every problem comes back after four."""
    rng = np.random.default_rng(0)
    for drift in (0.1, -0.1):
        moving, still = (Difficulty(["math"] * 80, [None] * 80, [None] * 80, learn=learn) for learn in (True, False))
        ease = rng.normal(-20 * drift, 0.5, 80)
        missed: dict[bool, list[float]] = {True: [], False: []}
        for version in range(40):
            mine = np.arange(80).reshape(4, 20)[version % 4]
            results = (rng.random((20, 8)) < 1 / (1 + np.exp(-ease[mine] - drift * version))[:, None]).astype(float)
            for beliefs in (moving, still):
                alpha, beta = beliefs.posterior(mine)
                missed[beliefs is moving].append(float(results.mean() - (alpha / (alpha + beta)).mean()))
                beliefs.observe(mine, results, version)
        assert abs(np.mean(missed[True][20:])) < 0.5 * abs(np.mean(missed[False][20:]))
        assert np.sign(moving.carry_D[0]) == np.sign(drift)


def test_calibration_reports_predictions_made_before_the_evidence() -> None:
    difficulty = one_cell(2, 0.5, prior_strength=2.0)
    difficulty.observe(np.array([0, 1]), groups(1.0, 0.5), version=0)
    metrics = difficulty.metrics()
    assert metrics["pass_rate_predicted"] == pytest.approx(0.5)
    assert metrics["pass_rate_observed"] == pytest.approx(0.75)
    assert metrics["pass_rate_brier"] == pytest.approx(0.25)
    assert metrics["mixed_predicted"] == pytest.approx(1 - 2 / 9)  # a uniform pass rate and a group of 8
    assert metrics["mixed_observed"] == pytest.approx(0.5)
    assert metrics["mixed_brier"] == pytest.approx(((2 / 9) ** 2 + (7 / 9) ** 2) / 2)


def test_shaped_rewards_and_versions_that_run_backwards_are_refused() -> None:
    difficulty = one_cell(1)
    with pytest.raises(ValueError, match="raw outcomes"):
        difficulty.observe(np.array([0]), np.array([[1.5, 0.0]]), version=0)
    difficulty.advance(5)
    with pytest.raises(ValueError, match="older than 5"):
        difficulty.advance(4)


def test_a_restored_state_continues_bit_by_bit() -> None:
    rng = np.random.default_rng(0)
    whole = Difficulty(["a", "b"] * 50, [str(i % 3) for i in range(100)], [None, 0.4] * 50)
    for version in range(10):
        if version == 5:
            restored = Difficulty(["a", "b"] * 50, [str(i % 3) for i in range(100)], [None, 0.4] * 50)
            restored.load_state_dict(whole.state_dict())
        indices, outcomes = rng.choice(100, 20), rng.integers(0, 2, (20, 8)).astype(float)
        whole.observe(indices, outcomes, version)
        if version >= 5:
            restored.observe(indices, outcomes, version)
    np.testing.assert_array_equal(whole.posterior(), restored.posterior())


def test_state_of_another_problem_file_is_refused() -> None:
    with pytest.raises(ValueError, match="2 problems, this run has 3"):
        one_cell(3).load_state_dict(one_cell(2).state_dict())


def test_a_million_problems_update_and_rank_in_seconds() -> None:
    size = 1_000_000
    difficulty = Difficulty(["math", "ocr"] * (size // 2), ["1"] * size, [None] * size)
    difficulty.observe(np.arange(512), np.eye(512, 8), version=0)
    assert len(mixed_group_probability(*difficulty.posterior(), 8)) == size
