"""What is made of the curves of real training runs (benchmarks/curriculum/train.py)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "curriculum"))

from train import Point, cost_to, interval, pace, score_at, summarise


def curve(*scores: float, rollouts: int = 100) -> list[Point]:
    """One evaluation every `rollouts` rollouts, ten tokens and a hundredth of a second each."""
    return [
        Point(k, k * rollouts, k * rollouts * 10, k * rollouts / 100, {"a": score, "b": score})
        for k, score in enumerate(scores)
    ]


def test_cost_to_the_target_is_interpolated_and_a_miss_costs_the_whole_run() -> None:
    points = curve(0.1, 0.2, 0.4)
    assert cost_to(points, 0.3, "rollouts") == (pytest.approx(150), True)
    assert cost_to(points, 0.3, "tokens") == (pytest.approx(1500), True)
    assert cost_to(points, 0.5, "rollouts") == (200, False)


def test_ratios_are_taken_within_seeds_at_the_mean_final_score_of_uniform() -> None:
    summary = summarise(
        {
            "uniform": {0: curve(0.0, 0.2, 0.4), 1: curve(0.0, 0.2, 0.4, rollouts=200)},
            "rlcs": {0: curve(0.0, 0.4, 0.5), 1: curve(0.0, 0.4, 0.5, rollouts=200)},
        },
        budget=200,
    )
    assert summary["target"] == pytest.approx((0.4 + 0.2) / 2)
    row = summary["samplers"]["rlcs"]
    assert row["rollouts_ratio_to_uniform"][0] == pytest.approx(0.5)
    assert (row["reached"], summary["seeds"]) == (2, [0, 1])
    assert row["gain_over_uniform"][0] == pytest.approx(((0.5 - 0.4) + (0.4 - 0.2)) / 2)


def test_the_interval_is_students_over_seeds() -> None:
    assert interval([1.0]) == [1.0]
    mean, low, high = interval([1.0, 2.0, 3.0])  # s = 1, t(0.975; 2) = 4.3027
    assert (mean, high - mean, mean - low) == (2.0, pytest.approx(4.3027 / 3**0.5, abs=1e-3), pytest.approx(2.484, abs=1e-3))


def test_evaluations_keep_their_distance_in_rollouts_whatever_a_step_costs() -> None:
    assert pace("uniform", curve(0.1), 1536) == 6
    assert pace("dapo", [*curve(0.1), Point(2, 1800, 0, 0.0, {"a": 0.1})], 1536) == 2
    assert pace("dapo", [*curve(0.1), Point(2, 8000, 0, 0.0, {"a": 0.1})], 1536) == 1


def test_scores_between_evaluations_are_interpolated() -> None:
    assert score_at(curve(0.1, 0.3), 50) == pytest.approx(0.2)
