"""Brier scores and reliability bins against hand computation and simulated truth."""

import numpy as np
import pytest

from rlcs.calibration import Calibration


def test_brier_scores_and_means_are_those_of_plain_arithmetic_per_domain() -> None:
    calibration = Calibration(["gui", "math"])
    outcomes = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    calibration.observe(np.array([0, 1]), np.array([1.0, 3.0]), np.array([1.0, 1.0]), outcomes)
    found = calibration.metrics()
    assert found["gui/pass_rate_predicted"] == pytest.approx(0.5)
    assert found["math/pass_rate_brier"] == pytest.approx(0.25**2)
    assert found["pass_rate_brier"] == pytest.approx((0.25 + 0.25**2) / 2)
    # Beta(1, 1): each number of right answers of 4 is equally likely, so 3 of 5 are mixed. Beta(3, 1): all right has
    # probability 3/7, all wrong 3! 4! / 7! * 1 = 1/35.
    assert found["gui/mixed_predicted"] == pytest.approx(3 / 5)
    assert found["math/mixed_predicted"] == pytest.approx(1 - 3 / 7 - 1 / 35)
    assert found["math/mixed_brier"] == pytest.approx((1 - 3 / 7 - 1 / 35) ** 2)


def test_groups_with_an_abstention_are_not_compared() -> None:
    calibration = Calibration(["math"])
    calibration.observe(np.array([0]), np.array([1.0]), np.array([1.0]), np.array([[1.0, np.nan]]))
    assert calibration.metrics() == {}
    assert calibration.reliability().num_rows == 0


def test_reliability_of_a_belief_that_is_right_lies_on_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    calibration = Calibration(["math"])
    alpha, beta = rng.uniform(0.2, 6.0, (2, 20_000))
    outcomes = (rng.random((20_000, 8)) < rng.beta(alpha, beta)[:, None]).astype(float)
    calibration.observe(np.zeros(20_000, int), alpha, beta, outcomes)
    table = calibration.reliability().to_pylist()
    assert {row["quantity"] for row in table} == {"pass_rate", "mixed"}
    assert sum(row["groups"] for row in table if row["quantity"] == "mixed") == 20_000
    for row in table:
        if row["groups"] > 500:
            assert row["observed"] == pytest.approx(row["predicted"], abs=0.04)
            assert row["from"] <= row["predicted"] <= row["to"]


def test_bins_add_up_over_a_run_and_survive_a_checkpoint() -> None:
    whole, first, second = (Calibration(["math"]) for _ in range(3))
    batches = [(np.array([0, 0]), np.array([2.0, 0.5]), np.array([1.0, 4.0]), np.array([[1.0, 0.0], [0.0, 0.0]])) for _ in "ab"]
    for batch in batches:
        whole.observe(*batch)
    first.observe(*batches[0])
    second.load_state_dict(first.state_dict())
    second.observe(*batches[1])
    assert second.reliability() == whole.reliability()
    assert second.metrics() == whole.metrics()
