"""A verifier that can be gamed, with real training: what the guard sees, when it says so, and what a quarantine saves.

    python benchmarks/guard/collapse.py [--arms sound warn quarantine none] [--seeds 0] [--steps 60] [--summary] [key=value ...]

Every run starts from the quickstart's SFT checkpoint (`make quickstart` first) on its arithmetic, strings and screens. In all
arms but `sound` arithmetic is paid by "length-bias" (flawed_verifiers.py), for which answers longer than the reference are
right as well. The audit is the quickstart's held-out problems under the repository's own verifiers. Arms:

    sound       arithmetic paid by its own verifier; the guard watches and should stay silent
    warn        the guard accuses and does nothing: the course of a run without it
    quarantine  the domain accused is drawn no more
    none        no guard: that training is the same as under `warn` is checked step by step

Work is kept under --out: runs that are there are kept and unfinished ones go on. Results:
benchmarks/results/guard_collapse.json and .png (collapse_summary.py).
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from collapse_summary import plot, summarise
from rich.console import Console

from rlcs.config import load_config
from rlcs.estimates import paired_change
from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "guard_collapse.json"
ARMS = ("sound", "warn", "quarantine", "none")
FLAWED = {"math": "length-bias"}


def write_problems(source: Path, out: Path) -> None:
    """train.jsonl as it is, flawed.jsonl with the verifiers of `FLAWED`, audit.jsonl; pictures by a link."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to((source / "images").resolve())
    for name, target, verifiers in (
        ("train", "train", {}),
        ("train", "flawed", FLAWED),
        ("heldout", "audit", {}),
    ):
        lines = [json.loads(line) for line in (source / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        lines = [line | ({"verifier": verifiers[line["domain"]]} if line["domain"] in verifiers else {}) for line in lines]
        (out / f"{target}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def settings(arm: str, seed: int, options: argparse.Namespace) -> RlConfig:
    data = options.out / "data"
    changes = [f"model={options.sft}", f"problems={data / ('train' if arm == 'sound' else 'flawed')}.jsonl"]
    changes += [
        f"out={options.out / f'{arm}-{seed}'}",
        f"seed={seed}",
        f"steps={options.steps}",
        "verifier_plugins=[flawed_verifiers]",
    ]
    changes += [
        "domain_weights=null",
        "schedule=constant",
        f"save_every={options.every}",
        "keep_checkpoints=20",
        "table_every=0",
        "loggers=[]",
    ]
    if arm != "none":
        changes += [
            f"guard.problems={data / 'audit.jsonl'}",
            f"guard.max_per_domain={options.audit}",
            f"guard.every_steps={options.every}",
        ]
        changes += [f"guard.on_collapse={'quarantine' if arm == 'quarantine' else 'warn'}"]
    return load_config(RlConfig, options.config, [*changes, *options.overrides])


def train_one(arm: str, seed: int, options: argparse.Namespace) -> None:
    """Brings one run to its end, going on from its last checkpoint; what it says goes to a file beside it."""
    config = settings(arm, seed, options)
    if (config.out / "checkpoints" / f"step-{config.steps:06d}").is_dir():
        return
    resume = (config.out / "checkpoints").is_dir()
    if not resume:
        shutil.rmtree(config.out, ignore_errors=True)
    with config.out.with_suffix(".log").open("a", encoding="utf-8") as log:
        run_rl(config, resume=resume, console=Console(file=log, width=200))


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    path = run / name
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def after_the_alarm(seed: int, arm: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Audit pass rate of each domain over all looks after the alarm, in this arm minus `warn`: mean and 95% interval over
    problems, in points.
    """
    runs = {name: options.out / f"{name}-{seed}" for name in (arm, "warn")}
    alarms = [alert["updates"] for alert in rows(runs["warn"], "alerts.jsonl") if alert["kind"] == "collapse"]
    looks = {name: {row["updates"] for row in rows(run, "guard.jsonl")} for name, run in runs.items()}
    if not alarms or not (shared := sorted(look for look in looks["warn"] & looks[arm] if look > alarms[0])):
        return {}
    rates: dict[str, dict[str, list[float]]] = {}
    for name, run in runs.items():
        tables = [pq.read_table(run / f"audit/step={look:06d}.parquet", columns=["id", "domain", "correct"]) for look in shared]
        table = pa.concat_tables(tables)
        numbers = table.set_column(2, "correct", table["correct"].cast(pa.float64()))
        each = (
            numbers.group_by(["domain", "id"])
            .aggregate([("correct", "mean")])
            .sort_by([("domain", "ascending"), ("id", "ascending")])
        )
        rates[name] = {}
        for row in each.to_pylist():
            rates[name].setdefault(row["domain"], []).append(row["correct_mean"])
    found = {}
    for domain, before in rates["warn"].items():
        change = paired_change(np.array(before), np.array(rates[arm][domain]))
        found[domain] = [round(100 * value, 1) for value in (change.mean, change.low, change.high)]
    return found


def write_summary(options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    runs = {
        f"{arm}-{seed}": {name: rows(options.out / f"{arm}-{seed}", f"{name}.jsonl") for name in ("guard", "alerts", "metrics")}
        for arm in options.arms
        for seed in options.seeds
    }
    report = {
        "command": " ".join(["python", "benchmarks/guard/collapse.py", *arguments]),
        "minus_warn_after_the_alarm": {
            arm: {seed: after_the_alarm(seed, arm, options) for seed in options.seeds} for arm in ("sound", "quarantine")
        },
        **summarise(runs),
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    plot(report["runs"], options.results.with_suffix(".png"))
    return report


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=5, help="steps between looks")
    parser.add_argument("--audit", type=int, default=150, help="audit problems of each domain")
    parser.add_argument("--summary", action="store_true", help="train nothing, summarise what is there")
    parser.add_argument("--config", default=str(ROOT / "configs/rl/nano.yaml"))
    parser.add_argument("--data", type=Path, default=Path("runs/quickstart/data"))
    parser.add_argument("--sft", default="runs/quickstart/sft", help="where every run starts")
    parser.add_argument("--out", type=Path, default=Path("runs/guard"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the training configuration")
    options = parser.parse_args(arguments)
    if not options.summary:
        write_problems(options.data, options.out / "data")
        for seed in options.seeds:
            for arm in options.arms:
                train_one(arm, seed, options)
                print(f"{arm}, seed {seed}: done", flush=True)
    report = write_summary(options, arguments)
    print(json.dumps({name: report[name] for name in report if name != "runs"}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
