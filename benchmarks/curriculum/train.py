"""Real training of the nano model under several samplers, paired by seed, to a budget of rollouts.

    python benchmarks/curriculum/train.py [--samplers uniform dapo glm-tiers mopps rlcs] [--seeds 0 1 2 3 4]
        [--budget 12000]

Every run starts from the quickstart's SFT checkpoint (`make quickstart` first) on its training problems, with the settings
of configs/rl/nano.yaml but a constant learning rate, so that a run may end where its budget does. About every `--every`
rollouts the checkpoint is evaluated on the held-out problems (`--samples` responses in each mode, `rlcs eval`). A run ends
with the first evaluation at or past the budget.

Work is kept under runs/curriculum and skipped when it is there: stop the command at any time and start it again, or run
it once for each core with other seeds (OMP_NUM_THREADS=1) and then once for all of them. The summary is written after
every run that ends: benchmarks/results/curriculum_training.json, and the curves .png beside it. Seconds are processor
seconds of training, evaluations left out, so that work beside it does not count.

Rollouts, tokens and seconds to the target are read off each run's curve by linear interpolation, and compared within
seeds. The target is the mean over seeds of what `uniform` holds at the end of its budget. A run that never reaches it counts
with its whole budget and is marked: its ratio is then a lower bound.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib as mpl
import numpy as np
from scipy.special import stdtrit

from rlcs.config import load_config
from rlcs.eval_config import EvalConfig
from rlcs.evaluate import run_eval
from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig
from rlcs.samplers import SAMPLERS
from sft.checkpoint import resolve_model

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "curriculum_training.json"
COLOURS = dict(
    zip(SAMPLERS, ("#000000", "#e69f00", "#56b4e9", "#f0e442", "#cc79a7", "#009e73", "#d55e00", "#0072b2"), strict=True)
)
COSTS = ("rollouts", "tokens", "seconds")


@dataclass(frozen=True)
class Point:
    """One evaluation: what training had cost until then, and held-out pass@1 by domain."""

    step: int
    rollouts: int
    tokens: int
    seconds: float
    """Processor seconds of training."""
    pass_rates: dict[str, float]

    @property
    def score(self) -> float:
        """Mean over the domains."""
        return mean(self.pass_rates.values())


def train_one(name: str, seed: int, out: Path, options: argparse.Namespace) -> list[Point]:
    """The curve of one run, going on from what `out` already holds."""
    curve_file = out / "curve.json"
    points = [Point(**row) for row in json.loads(curve_file.read_text())] if curve_file.exists() else []
    while not points or points[-1].rollouts < options.budget:
        if not points:
            points.append(start(options))
            continue
        step = points[-1].step + pace(name, points, options.every)
        last = out / "run" / "checkpoints"
        changes = [f"sampler={name}", f"seed={seed}", f"model={options.sft}", f"out={out / 'run'}", f"steps={step}"]
        changes += [
            "schedule=constant",
            "save_every=1000",
            "keep_checkpoints=1",
            "table_every=0",
            "loggers=[]",
            *options.overrides,
        ]
        begun = time.process_time()
        run_rl(load_config(RlConfig, options.config, changes), resume=last.is_dir() and any(last.iterdir()))
        seconds = points[-1].seconds + time.process_time() - begun
        points.append(Point(step, *spent(out / "run", step), seconds, held_out(str(out / "run"), out, step, options)))
        write_atomically(curve_file, [asdict(point) for point in points])
    return points


def start(options: argparse.Namespace) -> Point:
    """The common start of all runs, evaluated once."""
    file = options.out / "start.json"
    if not file.exists():
        write_atomically(file, asdict(Point(0, 0, 0, 0.0, held_out(options.sft, options.out, 0, options))))
    return Point(**json.loads(file.read_text()))


def write_atomically(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(content))
    partial.replace(path)


def pace(name: str, points: list[Point], every: int) -> int:
    """Steps to the next evaluation, about `every` rollouts on: a step of DAPO costs several of uniform sampling."""
    if len(points) == 1:
        return 2 if name in ("dapo", "greso") else 6
    recent = points[-1].rollouts - points[-2].rollouts
    return max(1, round(every * (points[-1].step - points[-2].step) / recent))


def spent(run: Path, step: int) -> tuple[int, int]:
    """(rollouts, tokens) of the first `step` steps."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()][:step]
    return int(sum(row["rollouts"] for row in rows)), int(sum(row["tokens"] for row in rows))


def held_out(source: str, scratch: Path, step: int, options: argparse.Namespace) -> dict[str, float]:
    """Sampled pass@1 of each domain, both modes together, of the last checkpoint in `source`."""
    out = scratch / f"eval-{os.getpid()}"
    changes = [f"model={resolve_model(source)}", f"out={out}", f"samples={options.samples}", "greedy=false"]
    changes += [f"seed={1000 + step}", *([f"problems={options.heldout}"] if options.heldout else [])]
    rows = run_eval(load_config(EvalConfig, options.eval_config, changes)).responses.to_pylist()
    shutil.rmtree(out)
    domains = sorted({row["domain"] for row in rows})
    return {d: mean(float(row["correct"] or 0) for row in rows if row["domain"] == d) for d in domains}


def cost_to(points: list[Point], target: float, cost: str) -> tuple[float, bool]:
    """(`cost` at which the curve first reaches `target`, whether it does); its whole cost where it does not."""
    for before, after in pairwise(points):
        if after.score >= target:
            share = 0.0 if before.score >= target else (target - before.score) / (after.score - before.score)
            return getattr(before, cost) + share * (getattr(after, cost) - getattr(before, cost)), True
    return getattr(points[-1], cost), False


def interval(values: list[float]) -> list[float]:
    """[mean, low, high] with the 95% Student interval over seeds; the mean alone for one seed."""
    centre = mean(values)
    if len(values) < 2:
        return [round(centre, 4)]
    half = float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return [round(centre, 4), round(centre - half, 4), round(centre + half, 4)]


def score_at(points: list[Point], rollouts: float) -> float:
    return float(np.interp(rollouts, [point.rollouts for point in points], [point.score for point in points]))


def summarise(curves: dict[str, dict[int, list[Point]]], budget: int) -> dict[str, Any]:
    """Costs to the target, as ratios within seeds to uniform and DAPO, and scores at the budget."""
    seeds = sorted(set.intersection(*(set(runs) for runs in curves.values())))
    if not seeds or "uniform" not in curves:
        return {}
    target = mean(score_at(curves["uniform"][seed], budget) for seed in seeds)
    table: dict[str, Any] = {}
    for name, runs in curves.items():
        row: dict[str, Any] = {"score_at_budget": interval([score_at(runs[seed], budget) for seed in seeds])}
        row["gain_over_uniform"] = interval(
            [score_at(runs[seed], budget) - score_at(curves["uniform"][seed], budget) for seed in seeds]
        )
        row["reached"] = sum(cost_to(runs[seed], target, "rollouts")[1] for seed in seeds)
        for cost in COSTS:
            row[f"{cost}_to_target"] = interval([cost_to(runs[seed], target, cost)[0] for seed in seeds])
            for other in ("uniform", "dapo"):
                if other in curves:
                    pairs = [(cost_to(runs[s], target, cost)[0], cost_to(curves[other][s], target, cost)[0]) for s in seeds]
                    row[f"{cost}_ratio_to_{other}"] = interval([mine / theirs for mine, theirs in pairs])
        table[name] = row
    return {"seeds": seeds, "target": round(target, 4), "budget": budget, "samplers": table}


def plot(curves: dict[str, dict[int, list[Point]]], path: Path) -> None:
    """Mean held-out pass@1 over seeds with 95% bands, against each cost."""
    figure, axes = plt.subplots(1, len(COSTS), figsize=(13, 4), sharey=True)
    for axis, cost in zip(axes, COSTS, strict=True):
        for name, runs in curves.items():
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


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--samplers", nargs="+", choices=sorted(SAMPLERS), default=["uniform", "dapo", "glm-tiers", "mopps", "rlcs"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--budget", type=int, default=12_000, help="rollouts of a run")
    parser.add_argument("--every", type=int, default=1536, help="rollouts between evaluations, about")
    parser.add_argument("--config", default=str(ROOT / "configs/rl/nano.yaml"))
    parser.add_argument("--eval-config", default=str(ROOT / "configs/eval/nano.yaml"))
    parser.add_argument("--heldout", help="held-out problems; absent, those of --eval-config")
    parser.add_argument("--samples", type=int, default=1, help="responses to each held-out problem in each mode")
    parser.add_argument("--sft", default="runs/quickstart/sft", help="where every run starts")
    parser.add_argument("--out", type=Path, default=Path("runs/curriculum"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the training configuration")
    options = parser.parse_args(arguments)
    curves: dict[str, dict[int, list[Point]]] = {}
    for seed in options.seeds:
        for name in options.samplers:
            print(f"sampler {name}, seed {seed}", flush=True)
            curves.setdefault(name, {})[seed] = train_one(name, seed, options.out / f"{name}-{seed}", options)
            report = {
                "command": " ".join(["python", "benchmarks/curriculum/train.py", *arguments]),
                "date": datetime.now(UTC).date().isoformat(),
                "machine": {
                    "cores": len(os.sched_getaffinity(0)),
                    "python": platform.python_version(),
                    **{package: version(package) for package in ("torch", "transformers", "numpy")},
                },
                "summary": summarise(curves, options.budget),
                "curves": {
                    n: {s: [asdict(point) for point in points] for s, points in runs.items()} for n, runs in curves.items()
                },
            }
            options.results.parent.mkdir(parents=True, exist_ok=True)
            options.results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            plot(curves, options.results.with_suffix(".png"))
    print(json.dumps(report["summary"], indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
