"""Does the posterior of `rlcs.difficulty` predict the answers of a real language model?

    python benchmarks/reasoning_gym/calibration.py [--repeats 10]

Reads the counts that grade.py wrote (benchmarks/results/reasoning_gym_grades.json). The sixteen answers to each problem are
dealt into two halves. One is evidence, the other is what is to be predicted: the problem's pass rate, the probability that any
of eight answers is right (pass@8), and that the group is mixed. Of the evidence 0, 2, 4 or all 8 answers of the problem are
known, and all 8 of four fifths of the other problems. Repeats deal anew and draw other folds; intervals are over problems, of
their means over the repeats. Reliability bins are of the first deal.

Prints tables and writes benchmarks/results/reasoning_gym_calibration.json and .png. About 15 seconds on one core; needs
neither model nor reasoning-gym.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from predictions import (
    CHUNK,
    QUANTITIES,
    Answers,
    Prediction,
    calibration_error,
    folded_beliefs,
    group_rows,
    losses,
    observed,
    others_rate,
    reliability,
    thinned,
)
from rich.console import Console
from rich.table import Table

from rlcs.difficulty import Difficulty
from rlcs.estimates import Estimate, mean_interval, paired_change
from rlcs.plots import PALETTE, STYLE

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).resolve().parent.parent / "results"
GRADES, OUT = RESULTS / "reasoning_gym_grades.json", RESULTS / "reasoning_gym_calibration.json"
KNOWN = (0, 2, 4, 8)
POSTERIOR = "posterior"
LABELS = {"pass_rate": "pass rate", "pass_at_g": "pass@8", "mixed": "mixed group"}

Predictions = dict[int, dict[str, Prediction]]


def predict(answers: Answers, evidence_N: np.ndarray, rng: np.random.Generator) -> Predictions:
    """Known answers -> method -> prediction, from one half of the answers."""
    half, size = answers.half, len(evidence_N)
    everything = np.zeros(size, np.int64)
    means = {
        "cell mean": Prediction.of_rate(others_rate(evidence_N, answers.cell_N, half), half),
        "global mean": Prediction.of_rate(others_rate(evidence_N, everything, half), half),
    }
    found: Predictions = {}
    for known in KNOWN:
        methods = {
            name: Prediction.of_beta(*folded_beliefs(answers, evidence_N, known, rng, learn=learn), half)
            for name, learn in ((POSTERIOR, True), ("fixed strength", False))
        }
        right_N = thinned(evidence_N, half, known, rng)
        methods["flat prior"] = Prediction.of_beta(1.0 + right_N, 1.0 + known - right_N, half)
        if known:
            methods["raw frequency"] = Prediction.of_rate(right_N / known, half)
        if known == half:
            graded = Difficulty(answers.datasets, answers.levels, (evidence_N / half).tolist())
            methods["grade as prior"] = Prediction.of_beta(*graded.posterior(), half)
        found[known] = methods | means
    return found


def evaluate(answers: Answers, repeats: int, seed: int) -> dict[str, Any]:
    """All figures of the report. See the module's docstring."""
    total: dict[tuple[int, str, str], np.ndarray] = defaultdict(lambda: np.zeros(len(answers.right_N)))
    said: dict[tuple[int, str, str], list[float]] = defaultdict(list)
    first: Predictions = {}
    first_came: dict[str, np.ndarray] = {}
    overall: dict[str, float] = defaultdict(float)
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        evidence_N, held_N = answers.halves(rng)
        predictions, came = predict(answers, evidence_N, rng), observed(held_N, answers.half)
        first, first_came = first or predictions, first_came or came
        for quantity in QUANTITIES:
            overall[quantity] += float(came[quantity].mean()) / repeats
        for known, methods in predictions.items():
            for method, prediction in methods.items():
                for quantity, loss_N in losses(prediction, held_N, answers.half).items():
                    total[known, method, quantity] += loss_N / repeats
                    said[known, method, quantity].append(float(getattr(prediction, quantity).mean()))
    rows = []
    for (known, method, quantity), loss_N in total.items():
        bins = reliability(getattr(first[known][method], quantity), first_came[quantity], binary=quantity != "pass_rate")
        versus = paired_change(total[known, POSTERIOR, quantity], loss_N)
        rows.append(
            {
                "known": known,
                "method": method,
                "quantity": quantity,
                "loss": _numbers(mean_interval(loss_N)),
                "loss_minus_posterior": _numbers(versus),
                "predicted": round(float(np.mean(said[known, method, quantity])), 4),
                "calibration_error": round(calibration_error(bins), 4),
                "bins": [[round(one.predicted, 4), *_numbers(one.came), int(one.came.n)] for one in bins],
            }
        )
    names = np.array(answers.datasets)
    by_dataset = {
        str(name): {
            f"{method}, {known} known": {
                quantity: round(float(total[known, method, quantity][names == name].mean()), 5) for quantity in QUANTITIES
            }
            for known, method in dict.fromkeys((known, method) for known, method, _ in total)
        }
        for name in dict.fromkeys(answers.datasets)
    }
    came_mean = {quantity: round(value, 4) for quantity, value in overall.items()}
    return {"problems": len(names), "repeats": repeats, "observed": came_mean, "rows": rows, "by_dataset": by_dataset}


def _numbers(estimate: Estimate) -> list[float]:
    return [round(value, 5) for value in (estimate.mean, estimate.low, estimate.high)]


def learned_strengths(answers: Answers, seed: int) -> dict[str, list[float]]:
    """What the prior of each dataset's levels is worth, in answers, after one pass over all problems."""
    belief = Difficulty(answers.datasets, answers.levels, [None] * len(answers.datasets))
    order = np.random.default_rng(seed).permutation(len(answers.datasets))
    for start in range(0, len(order), CHUNK):
        part = order[start : start + CHUNK]
        belief.observe(part, group_rows(answers.right_N[part], 2 * answers.half), 0)
    found: dict[str, dict[str, float]] = {}
    for index, (name, level) in enumerate(zip(answers.datasets, answers.levels, strict=True)):
        found.setdefault(name, {})[level] = round(float(belief.prior_strength_C[belief.cell_N[index]]), 2)
    return {name: list(levels.values()) for name, levels in found.items()}


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Reliability of the posterior's three predictions, and below the error of each method by answers known."""
    rows = {(row["known"], row["method"], row["quantity"]): row for row in report["rows"]}
    with mpl.rc_context(STYLE):
        figure, grid = plt.subplots(2, 3, figsize=(9.0, 6.2), layout="constrained")
        for column, quantity in enumerate(QUANTITIES):
            axes = grid[0, column]
            axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle=(0, (4, 3)))
            for place, known in enumerate((0, 2, 8)):
                bins = np.array(rows[known, POSTERIOR, quantity]["bins"])
                spread = np.nan_to_num(np.abs(bins[:, 2:4] - bins[:, 1:2]).T)
                nudged = bins[:, 0] + 0.008 * (place - 1)
                axes.errorbar(
                    nudged, bins[:, 1], spread, color=PALETTE[place], marker="o", markersize=4, elinewidth=1, label=known
                )
            axes.set_title(LABELS[quantity])
            axes.set_xlabel("predicted")
            below = grid[1, column]
            for place, method in enumerate(dict.fromkeys(row["method"] for row in report["rows"])):
                points = [
                    (known, rows[known, method, quantity]["loss"][0]) for known in KNOWN if (known, method, quantity) in rows
                ]
                below.plot(*zip(*points, strict=True), color=PALETTE[place], marker="o", markersize=4, label=method)
            below.set_xticks(KNOWN)
            below.set_xlabel("answers known of the problem")
            below.set_title("squared error to the true rate" if quantity == "pass_rate" else "Brier score", fontweight="normal")
            below.set_ylim(bottom=0)
        grid[0, 0].set_ylabel("came, with 95% interval")
        grid[0, 0].legend(title="answers known", fontsize=8, title_fontsize=8)
        figure.legend(*grid[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
        figure.savefig(path, dpi=150, facecolor="white")
        plt.close(figure)


def show(report: Mapping[str, Any], console: Console) -> None:
    for quantity in QUANTITIES:
        table = Table(title=f"{LABELS[quantity]}; came {report['observed'][quantity]:.3f}", title_justify="left")
        for column in ("known", "method", "predicted", "loss", "minus posterior's", "calibration error"):
            table.add_column(column, justify="left" if column == "method" else "right")
        for row in report["rows"]:
            if row["quantity"] == quantity:
                mean, low, high = row["loss_minus_posterior"]
                versus = "" if row["method"] == POSTERIOR else f"{mean:+.4f} ({low:+.4f} .. {high:+.4f})"
                numbers = (f"{row['predicted']:.3f}", f"{row['loss'][0]:.4f}", versus, f"{row['calibration_error']:.3f}")
                table.add_row(str(row["known"]), row["method"], *numbers)
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grades", type=Path, default=GRADES)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    graded = json.loads(options.grades.read_text(encoding="utf-8"))
    answers = Answers.of(graded["right"], graded["settings"]["samples"])
    report = evaluate(answers, options.repeats, options.seed)
    report["learned_strength"] = learned_strengths(answers, options.seed)
    console = Console(width=120)
    show(report, console)
    for name, strengths in report["learned_strength"].items():
        console.print(f"learned strength of {name}'s levels: {strengths}")
    options.out.write_text(json.dumps(report, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")
    draw(report, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
