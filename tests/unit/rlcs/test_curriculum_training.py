"""What is made of the curves of real training runs (benchmarks/curriculum/training_summary.py)."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "curriculum"))

from training_summary import Point, held_from, interval, on_grid, summarise


def curve(*scores: float, rollouts: int = 100) -> list[Point]:
    """One evaluation every `rollouts` rollouts, ten tokens and a hundredth of a second each."""
    return [
        Point(k, k * rollouts, k * rollouts * 10, k * rollouts / 100, {"a": score, "b": score})
        for k, score in enumerate(scores)
    ]


def test_curves_are_interpolated_between_evaluations() -> None:
    grid = np.array([0.0, 50.0, 100.0])
    np.testing.assert_allclose(on_grid([curve(0.1, 0.3)], "score", grid), [[0.1, 0.2, 0.3]])
    np.testing.assert_allclose(on_grid([curve(0.1, 0.3)], "tokens", grid), [[0, 500, 1000]])


def test_a_lucky_evaluation_does_not_count_as_having_reached_the_target() -> None:
    # Monotone regression pools 0.4 with the lower values after it: 0.1, then 0.25 throughout, then 0.5.
    assert held_from(np.array([0.1, 0.4, 0.2, 0.15, 0.5]), 0.3) == 4
    assert held_from(np.array([0.1, 0.4, 0.2, 0.15, 0.5]), 0.25) == 1
    assert held_from(np.array([0.1, 0.2]), 0.3) is None


def test_ratios_are_of_what_the_mean_curves_had_cost_at_uniforms_final_score() -> None:
    summary = summarise(
        {
            "uniform": {0: curve(0.0, 0.2, 0.4), 1: curve(0.0, 0.2, 0.4)},
            "rlcs": {0: curve(0.0, 0.4, 0.5), 1: curve(0.0, 0.4, 0.5)},
            "dapo": {0: curve(0.0, 0.1, 0.2), 1: curve(0.0, 0.1, 0.2), 7: curve(0.0, 0.9, 0.9)},
        },
        budget=200,
    )
    rows = summary["samplers"]
    assert (summary["target"], summary["seeds"]) == (0.4, [0, 1])
    assert rows["rlcs"]["rollouts_ratio_to_uniform"] == pytest.approx([0.5, 0.5, 0.5], abs=0.005)
    assert rows["rlcs"]["tokens_ratio_to_uniform"][0] == pytest.approx(0.5, abs=0.005)
    assert rows["rlcs"]["gain_over_uniform_at_budget"][0] == pytest.approx(0.1)
    assert rows["rlcs"]["gain_over_uniform_on_average"][0] == pytest.approx(0.125, abs=0.002)  # triangle and trapezium over 200
    assert (rows["dapo"]["reached"], rows["dapo"]["rollouts_to_target"]) == (False, 200)


def test_intervals_of_ratios_come_from_resampled_seeds() -> None:
    fast, slow = curve(0.0, 0.4, 0.4), curve(0.0, 0.2, 0.4)
    same = summarise({"uniform": {0: slow, 1: slow}, "rlcs": {0: fast, 1: fast}}, budget=200)
    mixed = summarise({"uniform": {0: slow, 1: slow}, "rlcs": {0: fast, 1: slow}}, budget=200)
    low, high = mixed["samplers"]["rlcs"]["rollouts_ratio_to_uniform"][1:]
    assert same["samplers"]["rlcs"]["rollouts_ratio_to_uniform"][1:] == pytest.approx([0.5, 0.5], abs=0.005)
    assert (low, high) == (pytest.approx(0.5, abs=0.005), pytest.approx(1.0, abs=0.005))


def test_the_interval_is_students_over_seeds() -> None:
    assert interval([1.0]) == [1.0]
    mean, low, high = interval([1.0, 2.0, 3.0])  # s = 1, t(0.975; 2) = 4.3027
    assert (mean, high - mean, mean - low) == (2.0, pytest.approx(4.3027 / 3**0.5, abs=1e-3), pytest.approx(2.484, abs=1e-3))
