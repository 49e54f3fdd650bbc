"""What training curves of several samplers say: costs to a target, scores, intervals, pictures. Used by train.py.

A run's curve is measured at some points with some noise, so the first point above a target comes early by luck. Costs are
therefore read off the mean curve over seeds after monotone (isotonic) regression: the rollouts at which it first holds the
target, and the tokens and seconds that the runs had spent there on average. The target is a share of what the mean curve of
`uniform` gains over the budget; a sampler that never holds it counts with the whole budget, its ratio is then a lower bound.
Intervals of ratios: percentiles over 2,000 resamples of the seeds, which stay paired; five seeds give rough ones.

Axis suffixes: S seeds, R rollouts on a grid from 0 to the budget.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib as mpl
import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import stdtrit

from rlcs.samplers import SAMPLERS

mpl.use("Agg")
from matplotlib import pyplot as plt

COSTS = ("rollouts", "tokens", "seconds")
COLOURS = dict(
    zip(SAMPLERS, ("#000000", "#e69f00", "#56b4e9", "#f0e442", "#cc79a7", "#009e73", "#d55e00", "#0072b2"), strict=True)
)
GRID = 400
RESAMPLES = 2000


@dataclass(frozen=True)
class Point:
    """One evaluation: what training had cost until then, and held-out pass@1 by domain."""

    step: int
    rollouts: int
    tokens: int
    seconds: float
    pass_rates: dict[str, float]

    @property
    def score(self) -> float:
        """Mean over the domains."""
        return mean(self.pass_rates.values())


def on_grid(runs: Sequence[Sequence[Point]], value: str, grid_R: np.ndarray) -> np.ndarray:
    """`value` of the points ("score" or a cost) between them, float64 [S, R]."""
    return np.array([np.interp(grid_R, [p.rollouts for p in run], [getattr(p, value) for p in run]) for run in runs])


def held_from(curve_R: np.ndarray, target: float) -> int | None:
    """Place on the grid from which the monotone regression of a curve holds `target`; None where it never does."""
    places = np.flatnonzero(isotonic_regression(curve_R).x >= target - 1e-12)
    return int(places[0]) if len(places) else None


def target_of(uniform_SR: np.ndarray, share: float) -> float:
    """What the mean curve holds after `share` of its gain."""
    curve_R = isotonic_regression(uniform_SR.mean(0)).x
    return float(curve_R[0] + share * (curve_R[-1] - curve_R[0]))


def costs_to_target(
    scores: Mapping[str, np.ndarray], costs: Mapping[str, Mapping[str, np.ndarray]], share: float
) -> dict[str, dict[str, float]]:
    """{sampler: {cost: spent when it reaches the target, "reached": 1 or 0}} of curves [S, R]."""
    target = target_of(scores["uniform"], share)
    found = {}
    for name, score_SR in scores.items():
        place = held_from(score_SR.mean(0), target)
        at = score_SR.shape[1] - 1 if place is None else place
        found[name] = {cost: float(costs[name][cost][:, at].mean()) for cost in COSTS} | {"reached": float(place is not None)}
    return found


def interval(values: Sequence[float]) -> list[float]:
    """[mean, low, high] with the 95% Student interval over seeds; the mean alone for one seed."""
    centre = mean(values)
    if len(values) < 2:
        return [round(centre, 4)]
    half = float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return [round(centre, 4), round(centre - half, 4), round(centre + half, 4)]


def summarise(curves: Mapping[str, Mapping[int, Sequence[Point]]], budget: float, share: float = 1.0) -> dict[str, Any]:
    """Costs to the target as ratios to uniform and DAPO, and scores, over the seeds that every sampler has."""
    seeds = sorted(set.intersection(*(set(runs) for runs in curves.values())))
    if not seeds or "uniform" not in curves:
        return {}
    grid_R = np.linspace(0.0, budget, GRID)
    runs = {name: [found[seed] for seed in seeds] for name, found in curves.items()}
    scores = {name: on_grid(found, "score", grid_R) for name, found in runs.items()}
    costs = {name: {cost: on_grid(found, cost, grid_R) for cost in COSTS} for name, found in runs.items()}
    whole = costs_to_target(scores, costs, share)
    rng, resampled = np.random.default_rng(0), []
    for _ in range(RESAMPLES if len(seeds) > 1 else 0):
        drawn = rng.integers(0, len(seeds), len(seeds))
        part = {name: {cost: values[drawn] for cost, values in found.items()} for name, found in costs.items()}
        resampled.append(costs_to_target({name: score[drawn] for name, score in scores.items()}, part, share))
    table: dict[str, Any] = {}
    for name in curves:
        gain_S = scores[name] - scores["uniform"]
        row: dict[str, Any] = {
            "score_at_budget": interval(scores[name][:, -1].tolist()),
            "gain_over_uniform_at_budget": interval(gain_S[:, -1].tolist()),
            "gain_over_uniform_on_average": interval(gain_S.mean(1).tolist()),
            "reached": bool(whole[name]["reached"]),
        }
        for cost in COSTS:
            row[f"{cost}_to_target"] = round(whole[name][cost], 1)
            for other in (other for other in ("uniform", "dapo") if other in curves):
                ratios = [one[name][cost] / max(one[other][cost], 1e-9) for one in resampled]
                spread = np.percentile(ratios, [2.5, 97.5]).round(3).tolist() if ratios else []
                row[f"{cost}_ratio_to_{other}"] = [round(whole[name][cost] / max(whole[other][cost], 1e-9), 3), *spread]
        table[name] = row
    target = target_of(scores["uniform"], share)
    return {"seeds": seeds, "target": round(target, 4), "share_of_gain": share, "budget": budget, "samplers": table}


def plot(curves: Mapping[str, Mapping[int, Sequence[Point]]], path: Path) -> None:
    """Mean held-out pass@1 over seeds with 95% bands, against each cost."""
    figure, axes = plt.subplots(1, len(COSTS), figsize=(13, 4), sharey=True)
    for axis, cost in zip(axes, COSTS, strict=True):
        for name, runs in curves.items():
            if not runs:
                continue
            end = min(getattr(points[-1], cost) for points in runs.values())
            grid = np.linspace(0, end, 40)
            scores = np.array(
                [np.interp(grid, [getattr(p, cost) for p in points], [p.score for p in points]) for points in runs.values()]
            )
            centre = scores.mean(0)
            axis.plot(grid, centre, color=COLOURS[name], label=name)
            if len(scores) > 1:
                half = stdtrit(len(scores) - 1, 0.975) * scores.std(0, ddof=1) / len(scores) ** 0.5
                axis.fill_between(grid, centre - half, centre + half, color=COLOURS[name], alpha=0.15, linewidth=0)
        axis.set_xlabel(cost)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("held-out pass@1, mean of domains")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
