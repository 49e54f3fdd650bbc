"""What simulated runs come to: costs to a target with paired intervals, tables, curves.

Axis suffixes: K seeds, S steps, B points of a budget axis.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from simulated_run import Trace

from rlcs.estimates import mean_interval

mpl.use("Agg")
from matplotlib import pyplot as plt

AXES = ("rollouts", "tokens", "steps")
_POINTS = 41
_COLOURS = {
    "uniform": "#000000",
    "dapo": "#d55e00",
    "glm-tiers": "#e69f00",
    "pools": "#999999",
    "greso": "#cc79a7",
    "mopps": "#009e73",
    "dps": "#56b4e9",
    "rlcs": "#0072b2",
}

Runs = Mapping[str, Sequence[Trace]]
"""Traces of each contestant, one a seed, in the same order of seeds."""


def spent(trace: Trace, axis: str) -> np.ndarray:
    """What had been spent on `axis` after each step [S + 1]."""
    values: np.ndarray = np.arange(len(trace.score)) if axis == "steps" else getattr(trace, axis)
    return values.astype(np.float64)


def score_at(trace: Trace, amount: float | np.ndarray, axis: str = "rollouts") -> np.ndarray:
    """Held-out pass rate once `amount` was spent on `axis`, interpolated between steps; the last one beyond the end."""
    return np.interp(amount, spent(trace, axis), trace.score)


def cost_to(trace: Trace, target: float, axis: str) -> float:
    """What had been spent on `axis` when the held-out pass rate first reached `target`, interpolated between steps;
    infinite when it never did.
    """
    reached = np.flatnonzero(trace.score >= target)
    if not len(reached):
        return float("inf")
    step, cost = int(reached[0]), spent(trace, axis)
    if step == 0:
        return 0.0
    before, after = trace.score[step - 1], trace.score[step]
    return float(cost[step - 1] + (cost[step] - cost[step - 1]) * (target - before) / (after - before))


def target_of(uniform: Sequence[Trace]) -> float:
    """The target: what uniform sampling has reached, on average over the seeds, with half of the budget."""
    return round(float(np.mean([score_at(trace, trace.rollouts[-1] / 2) for trace in uniform])), 3)


def interval(values_K: np.ndarray, digits: int = 4) -> list[float]:
    """[mean, low, high] with the 95% t interval over seeds."""
    found = mean_interval(values_K)
    return [round(value, digits) for value in (found.mean, found.low, found.high)]


def ratio(cost_K: np.ndarray, control_K: np.ndarray) -> list[float]:
    """[ratio, low, high]: geometric mean over the seeds of cost over the control's cost, with the t interval of the
    paired logarithms.
    """
    found = mean_interval(np.log(cost_K / control_K))
    return [round(float(np.exp(value)), 3) for value in (found.mean, found.low, found.high)]


def summarise(runs: Runs, controls: Runs) -> dict[str, Any]:
    """Numbers of every contestant of `runs`, with ratios to each of `controls` ("uniform" among them sets the target).

    A run that never reached the target counts with all it spent, so that its cost and its ratios are lower bounds;
    `reached` says how many seeds did. Ratios where the control itself fell short are upper bounds for those seeds.
    """
    target = target_of(controls["uniform"])
    budget = min(trace.rollouts[-1] for traces in (*runs.values(), *controls.values()) for trace in traces)

    def costs(traces: Sequence[Trace], axis: str) -> np.ndarray:
        return np.array([min(cost_to(trace, target, axis), spent(trace, axis)[-1]) for trace in traces])

    rows = {}
    for name, traces in runs.items():
        row: dict[str, Any] = {"reached": sum(cost_to(trace, target, "rollouts") < np.inf for trace in traces)}
        for axis in AXES:
            row[f"{axis}_to_target"] = interval(costs(traces, axis), 0)
            for control, others in controls.items():
                row[f"{axis}_ratio_to_{control}"] = ratio(costs(traces, axis), costs(others, axis))
        final_K = np.array([score_at(trace, budget) for trace in traces])
        row["score_at_budget"] = interval(final_K)
        for control, others in controls.items():
            row[f"score_minus_{control}"] = interval(final_K - np.array([score_at(trace, budget) for trace in others]))
        row["mixed_fraction"] = interval(np.array([trace.mixed / trace.groups for trace in traces]))
        row["wasted_fraction"] = interval(np.array([1.0 - trace.trained / trace.groups for trace in traces]))
        row["problems_trained_on"] = interval(np.array([trace.distinct for trace in traces]), 0)
        row["groups_a_step"] = interval(np.array([trace.groups / (len(trace.score) - 1) for trace in traces]), 1)
        row["calibration"] = {
            key: round(float(np.mean([trace.calibration[key] for trace in traces])), 4) for key in traces[0].calibration
        }
        rows[name] = row
    start = float(np.mean([trace.score[0] for trace in controls["uniform"]]))
    return {"start": round(start, 4), "target": target, "budget_rollouts": int(budget), "contestants": rows}


def table(summary: Mapping[str, Any], seeds: int) -> str:
    """The summary as a Markdown table; `>=` marks costs that include runs which never reached the target."""
    head = (
        "| sampler | rollouts to target | to uniform | to DAPO | tokens to uniform | steps to target | score at budget "
        "| minus uniform | mixed | wasted | problems trained on |"
    )
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for name, row in summary["contestants"].items():
        bound = ">= " if row["reached"] < seeds else ""
        mean, low, high = row["rollouts_to_target"]
        cells = [
            name,
            f"{bound}{mean:,.0f} ({low:,.0f}-{high:,.0f})",
            bound + _with_interval(row["rollouts_ratio_to_uniform"], 2),
            bound + _with_interval(row["rollouts_ratio_to_dapo"], 2),
            bound + _with_interval(row["tokens_ratio_to_uniform"], 2),
            f"{bound}{row['steps_to_target'][0]:.0f}",
            f"{row['score_at_budget'][0]:.3f}",
            _with_interval(row["score_minus_uniform"], 3),
            f"{row['mixed_fraction'][0]:.2f}",
            f"{row['wasted_fraction'][0]:.2f}",
            f"{row['problems_trained_on'][0]:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_interval(estimate: Sequence[float], digits: int) -> str:
    mean, low, high = (f"{value:.{digits}f}" for value in estimate)
    return f"{mean} ({low}..{high})"


def curves(traces: Sequence[Trace], axis: str, grid_B: np.ndarray) -> np.ndarray:
    """Held-out pass rate of every seed [K, B] at the amounts `grid_B` spent on `axis`."""
    return np.stack([score_at(trace, grid_B, axis) for trace in traces])


def banded(values_KB: np.ndarray) -> np.ndarray:
    """Mean and ends of the 95% interval over seeds at each point [3, B]."""
    found = [mean_interval(values_K) for values_K in values_KB.T]
    return np.array([[one.mean for one in found], [one.low for one in found], [one.high for one in found]])


def plot(settings: Mapping[str, Runs], path: Path) -> None:
    """One row a setting: held-out pass rate by rollouts, its paired difference to uniform sampling, and by tokens."""
    figure, grid = plt.subplots(len(settings), 3, figsize=(13, 3.1 * len(settings)), squeeze=False)
    for axes, (name, runs) in zip(grid, settings.items(), strict=True):
        least = {axis: min(spent(trace, axis)[-1] for traces in runs.values() for trace in traces) for axis in AXES}
        for panel, (axis, paired) in zip(axes, (("rollouts", False), ("rollouts", True), ("tokens", False)), strict=True):
            grid_B = np.linspace(0.0, least[axis], _POINTS)
            for sampler, traces in runs.items():
                values_KB = curves(traces, axis, grid_B)
                if paired:
                    values_KB = values_KB - curves(runs["uniform"], axis, grid_B)
                mean_B, low_B, high_B = banded(values_KB)
                front = 3 if sampler == "rlcs" else 2
                panel.plot(grid_B, mean_B, color=_COLOURS[sampler], label=sampler, linewidth=1.4, zorder=front)
                panel.fill_between(grid_B, low_B, high_B, color=_COLOURS[sampler], alpha=0.15, linewidth=0)
            panel.set(xlabel=axis, title=f"{name}: {'minus uniform, paired' if paired else 'held-out pass rate'}")
            panel.grid(alpha=0.3)
    grid[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=75, pil_kwargs={"optimize": True})
    plt.close(figure)
