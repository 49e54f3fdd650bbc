"""Did the posterior's predictions come true in the training runs? Reliability of both, by sampler and domain.

    python benchmarks/curriculum/reliability.py [--out runs/curriculum] [--samplers uniform dapo glm-tiers mopps rlcs]

Reads the runs that train.py left under `--out`. Before each step every sampler's posterior predicts, of each group it is
about to generate, the pass rate and the chance of being mixed; a run keeps the sums of what was predicted and what came in
ten bins of the prediction. Here they are added up over seeds. "Brier" is the mean squared error of the predictions (a group's
pass rate is one observation of up to eight answers, so its error is mostly that of the draw); "constant" is that of always
predicting the mean that came, which no one knew beforehand. Writes benchmarks/results/curriculum_reliability.json and .png.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).resolve().parent.parent / "results" / "curriculum_reliability.json"
QUANTITIES = ("mixed", "pass_rate")
PARTS = ("predicted", "observed", "brier")
COLOURS = {"gui": "#0072b2", "math": "#d55e00", "ocr": "#009e73"}


def runs_of(name: str, out: Path) -> list[Path]:
    return sorted(path for path in out.glob(f"{name}-[0-9]*") if (path / "calibration").is_dir())


def bins_of(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Bins at the end of each run, added up: groups, mean prediction, mean of what came."""
    last = pa.concat_tables(pq.read_table(max((run / "calibration").glob("*.parquet"))) for run in runs)
    columns = {name: last[name].to_numpy(zero_copy_only=False) for name in last.column_names}
    sums: dict[tuple[str, str, float], np.ndarray] = {}
    for row in range(last.num_rows):
        key = (columns["quantity"][row], columns["domain"][row], float(columns["from"][row]))
        groups = columns["groups"][row]
        added = groups * np.array([1.0, columns["predicted"][row], columns["observed"][row]])
        sums[key] = sums.get(key, np.zeros(3)) + added
    return [
        {
            "quantity": quantity,
            "domain": domain,
            "from": round(start, 1),
            "groups": int(count),
            "predicted": round(predicted / count, 3),
            "observed": round(observed / count, 3),
        }
        for (quantity, domain, start), (count, predicted, observed) in sorted(sums.items())
    ]


def scores_of(runs: Sequence[Path]) -> dict[str, dict[str, dict[str, float]]]:
    """{quantity: {domain: groups, means of prediction and outcome, Brier}} over the steps of all runs."""
    rows = [json.loads(line) for run in runs for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for quantity in QUANTITIES:
        found[quantity] = {}
        for domain in COLOURS:
            key = f"sampler/{domain}/{quantity}"
            seen = [row for row in rows if f"{key}_brier" in row]
            weight = np.array([row[f"{domain}/groups_generated"] for row in seen])
            mean = {part: float(np.average([row[f"{key}_{part}"] for row in seen], weights=weight)) for part in PARTS}
            found[quantity][domain] = {"groups": int(weight.sum()), **{part: round(value, 4) for part, value in mean.items()}}
            if quantity == "mixed":
                found[quantity][domain]["constant"] = round(mean["observed"] * (1.0 - mean["observed"]), 4)
    return found


def plot(bins: dict[str, list[dict[str, Any]]], path: Path) -> None:
    figure, grid = plt.subplots(2, len(bins), figsize=(2.6 * len(bins), 5.4), sharex=True, sharey=True, squeeze=False)
    for column, (name, rows) in enumerate(bins.items()):
        for line, quantity in enumerate(QUANTITIES):
            axes = grid[line, column]
            axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
            for domain, colour in COLOURS.items():
                mine = [row for row in rows if row["quantity"] == quantity and row["domain"] == domain]
                sizes = [min(90.0, 4.0 + row["groups"] / 20) for row in mine]
                places = [row["predicted"] for row in mine], [row["observed"] for row in mine]
                axes.scatter(*places, s=sizes, color=colour, alpha=0.75, label=domain, linewidths=0)
            axes.set(xlim=(0, 1), ylim=(0, 1))
            if line == 0:
                axes.set_title(name)
            else:
                axes.set_xlabel("predicted")
            if column == 0:
                axes.set_ylabel({"mixed": "mixed groups", "pass_rate": "pass rate"}[quantity])
    grid[0, 0].legend(frameon=False, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/curriculum"))
    parser.add_argument("--samplers", nargs="+", default=["uniform", "dapo", "glm-tiers", "mopps", "rlcs"])
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    runs = {name: runs_of(name, options.out) for name in options.samplers}
    if missing := [name for name, found in runs.items() if not found]:
        raise SystemExit(f"no runs of {', '.join(missing)} under {options.out}; run benchmarks/curriculum/train.py first")
    bins = {name: bins_of(found) for name, found in runs.items()}
    scores = {name: scores_of(found) for name, found in runs.items()}
    for name, found in scores.items():
        for domain, mixed in found["mixed"].items():
            rate = found["pass_rate"][domain]
            print(
                f"| {name} | {domain} | {mixed['groups']:,} | {mixed['predicted']:.3f} | {mixed['observed']:.3f} | "
                f"{mixed['brier']:.3f} | {mixed['constant']:.3f} | {rate['predicted']:.3f} | {rate['observed']:.3f} |"
            )
    report = {"runs": {name: len(found) for name, found in runs.items()}, "scores": scores, "bins": bins}
    options.results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    plot(bins, options.results.with_suffix(".png"))


if __name__ == "__main__":
    main(sys.argv[1:])
