"""Prior strength and discount learned from predictive likelihood: against brute force and against known truths."""

import math

import numpy as np
import pytest
from scipy.stats import betabinom

from rlcs.belief_fit import DISCOUNTS, STRENGTHS, BeliefFit
from rlcs.beta_binomial import log_evidence
from rlcs.difficulty import Difficulty


def test_log_evidence_is_the_beta_binomial_without_its_coefficient() -> None:
    for right, wrong, alpha, beta in ((3, 5, 0.4, 2.5), (0, 8, 1.0, 1.0), (8, 0, 7.0, 0.2)):
        expected = betabinom.logpmf(right, right + wrong, alpha, beta) - math.log(math.comb(right + wrong, right))
        got = log_evidence(*(np.array(float(x)) for x in (right, wrong, alpha, beta)))
        assert got == pytest.approx(expected, rel=1e-10)


def test_the_discount_is_the_posterior_mean_over_the_grid_of_candidates() -> None:
    """Two groups of one problem, scored pair by pair in plain loops."""
    fit = BeliefFit(np.array([0]), strength=2.0, discount=0.98)
    prior, groups = 0.3, [((0.0, 0.0), 1, (6.0, 2.0)), ((6.0, 2.0), 3, (1.0, 7.0))]
    for evidence, age, came in groups:
        fit.observe(np.array([0]), np.array([prior]), np.array([evidence]), np.array([age]), np.array([came]))
    score = {}
    for strength in STRENGTHS:
        for discount in DISCOUNTS:
            total = -0.5 * (math.log(strength / 2.0) / math.log(4.0)) ** 2
            total += -0.5 * (math.log((1 - discount) / 0.02) / math.log(4.0)) ** 2
            for order, (evidence, age, came) in enumerate(groups):
                alpha = strength * prior + evidence[0] * discount**age
                beta = strength * (1 - prior) + evidence[1] * discount**age
                count = int(sum(came))
                chance = betabinom.logpmf(int(came[0]), count, alpha, beta) - math.log(math.comb(count, int(came[0])))
                total += chance * 0.99 ** (len(groups) - 1 - order)
            score[strength, discount] = total
    peak = max(score.values())
    weight = {pair: math.exp(value - peak) for pair, value in score.items()}
    mean_rate = sum(w * math.log(1 - discount) for (_, discount), w in weight.items()) / sum(weight.values())
    assert fit.discount_D[0] == pytest.approx(1 - math.exp(mean_rate), rel=1e-9)


@pytest.mark.parametrize("truth", [0.25, 2.0, 16.0])
def test_the_strength_of_a_tier_is_found_from_first_visits(truth: float) -> None:
    rng = np.random.default_rng(3)
    rates = rng.beta(truth * 0.5, truth * 0.5, 600)
    difficulty = Difficulty(["math"] * 600, ["1"] * 600, [0.5] * 600, cell_strength=1e9)
    for step in range(20):
        indices = np.arange(step * 30, step * 30 + 30)
        difficulty.observe(indices, (rng.random((30, 8)) < rates[indices, None]).astype(float), 0)
    assert abs(math.log(difficulty.prior_strength_C[0] / truth)) < math.log(1.6)


def test_tiers_of_one_domain_keep_strengths_of_their_own() -> None:
    """One tier is half mastered and half out of reach, in the other all problems are alike."""
    rng = np.random.default_rng(0)
    rates = np.concatenate([rng.integers(0, 2, 200).astype(float), np.full(200, 0.5)])
    difficulty = Difficulty(["math"] * 400, ["split"] * 200 + ["alike"] * 200, [0.5] * 400)
    for step in range(20):
        indices = np.r_[step * 10 : step * 10 + 10, 200 + step * 10 : 210 + step * 10]
        difficulty.observe(indices, (rng.random((20, 8)) < rates[indices, None]).astype(float), 0)
    alike, split = difficulty.prior_strength_C
    assert split < 0.3
    assert alike > 8.0


@pytest.mark.parametrize(("drift", "low", "high"), [(0.0, 0.97, 1.0), (1.5, 0.3, 0.85)])
def test_evidence_is_kept_where_pass_rates_stand_still_and_dropped_where_they_move(
    drift: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0.0, 1.0, 60)
    difficulty = Difficulty(["math"] * 60, ["1"] * 60, [None] * 60)
    for version in range(40):
        rates = 1 / (1 + np.exp(-logits))
        difficulty.observe(np.arange(60), (rng.random((60, 8)) < rates[:, None]).astype(float), version)
        logits = logits * np.exp(-drift / 4) + rng.normal(0.0, drift, 60)
    assert low < difficulty.discount_D[0] <= high


def test_learned_beliefs_predict_better_than_the_starting_values() -> None:
    """Prequential log-likelihood of the mixed outcome, on a bimodal tier, learning against not."""
    scores = {}
    for learn in (True, False):
        rng = np.random.default_rng(5)
        rates = rng.beta(0.15, 0.15, 500)
        difficulty = Difficulty(["math"] * 500, ["1"] * 500, [None] * 500, learn=learn)
        errors = []
        for version in range(50):
            indices = rng.permutation(500)[:20]
            outcomes = (rng.random((20, 8)) < rates[indices, None]).astype(float)
            difficulty.observe(indices, outcomes, version)
            errors.append(difficulty.metrics()["mixed_brier"])
        scores[learn] = np.mean(errors[5:])
    assert scores[True] < 0.8 * scores[False]
