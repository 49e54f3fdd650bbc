"""Real training under several samplers, paired by seed, to a budget of rollouts.

    python benchmarks/curriculum/train.py [--samplers uniform dapo glm-tiers mopps rlcs] [--seeds 0 1 2 3 4]
        [--budget 16384] [--jobs 1] [key=value ...]

Every run starts from the same SFT checkpoint (by default the quickstart's: `make quickstart` first), with the settings of
--config but a constant learning rate, so that a run may end where its budget does. About every `--every` rollouts the
held-out problems are answered (`heldout` of rlcs/rl_config.py); the last time is at or past the budget.

Work is kept under `--out`: runs that are there are kept and unfinished ones go on, so the command can be stopped at any time
and started again. `--jobs` runs that many at once, each in a process of its own (set OMP_NUM_THREADS=1 on a CPU). The summary
and its curves are written when all have ended, or with `--summary` of what is there. "seconds" are processor seconds on a CPU,
so that work beside it does not count, and wall time on a GPU.

What is made of the curves: training_summary.py.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from training_summary import Point, plot, summarise

from rlcs.config import load_config
from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig
from rlcs.samplers import SAMPLERS

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "curriculum_training.json"


def settings(name: str, seed: int, options: argparse.Namespace) -> RlConfig:
    """The configuration of one run."""
    changes = [f"sampler={name}", f"seed={seed}", f"out={run_path(name, seed, options)}", f"model={options.sft}"]
    changes += [f"heldout.problems={options.heldout}", f"heldout.every_rollouts={options.every}"]
    changes += [f"heldout.samples={options.samples}", f"max_rollouts={options.budget}", "steps=1000000", "schedule=constant"]
    changes += ["keep_checkpoints=1", "table_every=0", "loggers=[]"]
    return load_config(RlConfig, options.config, [*changes, *options.overrides])


def run_path(name: str, seed: int, options: argparse.Namespace) -> Path:
    return Path(options.out) / f"{name}-{seed}"


def train_one(name: str, seed: int, options: argparse.Namespace) -> None:
    """Brings one run to its budget, going on from its last checkpoint; what it says goes to a file beside it."""
    config = settings(name, seed, options)
    rows = heldout_rows(config.out)
    if rows and rows[-1]["rollouts"] >= options.budget:
        return
    resume = (config.out / "checkpoints").is_dir()
    if not resume:
        shutil.rmtree(config.out, ignore_errors=True)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with config.out.with_suffix(".log").open("a", encoding="utf-8") as log:
        run_rl(config, resume=resume, console=Console(file=log, width=160))


def heldout_rows(run: Path) -> list[dict[str, Any]]:
    file = run / "heldout.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def curve(run: Path, *, on_gpu: bool) -> list[Point]:
    """The points of a run as far as it has come."""
    clock = "seconds" if on_gpu else "cpu_seconds"
    rows = heldout_rows(run)
    return [Point(row["updates"], row["rollouts"], row["tokens"], row[clock], row["pass_rate"]) for row in rows]


def write_summary(options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """Curves and summary of all runs, up to the budget or to where the shortest of them has come."""
    device = settings("uniform", 0, options).device
    curves: dict[str, dict[int, list[Point]]] = {}
    for name in options.samplers:
        found = {seed: curve(run_path(name, seed, options), on_gpu=device != "cpu") for seed in options.seeds}
        curves[name] = {seed: points for seed, points in found.items() if len(points) > 1}
    ends = [points[-1].rollouts for runs in curves.values() for points in runs.values()]
    report = {
        "command": " ".join(["python", "benchmarks/curriculum/train.py", *arguments]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "transformers", "numpy")},
        },
        "summary": summarise(curves, min(options.budget, *ends)) if len(ends) > 1 else {},
        "summary_of_most": summarise(curves, min(options.budget, *ends), share=0.9) if len(ends) > 1 else {},
        "curves": {
            name: {seed: [asdict(point) for point in points] for seed, points in runs.items()} for name, runs in curves.items()
        },
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    plot(curves, options.results.with_suffix(".png"))
    return report


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--samplers", nargs="+", choices=sorted(SAMPLERS), default=["uniform", "dapo", "glm-tiers", "mopps", "rlcs"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--budget", type=int, default=16_384, help="rollouts of a run")
    parser.add_argument("--every", type=int, default=2048, help="rollouts between evaluations, about")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--summary", action="store_true", help="train nothing, summarise what is there")
    parser.add_argument("--config", default=str(ROOT / "configs/rl/nano.yaml"))
    parser.add_argument("--heldout", default="runs/quickstart/data/heldout.jsonl", help="held-out problems")
    parser.add_argument("--samples", type=int, default=1, help="responses to each held-out problem in each mode")
    parser.add_argument("--sft", default="runs/quickstart/sft", help="where every run starts")
    parser.add_argument("--out", type=Path, default=Path("runs/curriculum"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the training configuration")
    options = parser.parse_args(arguments)
    if not options.summary:
        # Seed by seed, so that what is done when it is stopped is paired.
        pairs = [(name, seed) for seed in options.seeds for name in options.samplers]
        with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as jobs:
            running = {jobs.submit(train_one, name, seed, options): (name, seed) for name, seed in pairs}
            for done in as_completed(running):
                done.result()
                print("sampler {}, seed {}: done".format(*running[done]), flush=True)
    print(json.dumps(write_summary(options, arguments)["summary"], indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
