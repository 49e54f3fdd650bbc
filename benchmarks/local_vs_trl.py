"""The local loop against TRL's GRPOTrainer and SFTTrainer: same model, data, batch, group, lengths, steps and CPU.

    pip install 'rlcs[trl]'
    python benchmarks/local_vs_trl.py [--only NAME ...] [--rounds 3] [--threads 2] [--runs runs] [--before DIR]
    python benchmarks/local_vs_trl.py --search NAME [--settings JSON ...] [--threads 2]      TRL's settings

Contenders take turns, each time in a process of its own (benchmarks/local_vs_trl_contenders.py); the first step of each is
left out. Figures are medians over all steps of all rounds, ratios medians of each round's. "tokens/s" counts, for
reinforcement learning, tokens generated in a step over its seconds, generation, training and all else; for fine-tuning, tokens
of prompts and responses. All responses have one length (which spares TRL its padding). "peak memory" is the process's most
resident memory from its start. The smollm2 workloads need the model and the problems of benchmarks/reasoning_gym. `--search`
tries TRL's settings one by one (`TRIED`, or those given) and writes what it found into the results under "tried".
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from measured_on import measured_on

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "local_vs_trl.json"
PACKAGES = ("torch", "transformers", "trl", "accelerate", "datasets")

SMALL = {"kind": "rl", "model": "assets/nano", "batch": 16, "group": 8, "tokens": 40, "budget": 1024, "steps": 4}
LARGER = {"model": "runs/reasoning_gym/smollm2", "budget": 512}
# Groups of 8 with responses of 16 tokens: benchmarks/reasoning_gym/rl.yaml, with fewer groups.
RL_LARGER = {**SMALL, **LARGER, "batch": 4, "tokens": 16, "steps": 3, "source": "runs/reasoning_gym/data/problems.jsonl"}
WORKLOADS: dict[str, dict[str, Any]] = {
    # 40 tokens is what a response of the quickstart has on average.
    "rl nano text": {**SMALL, "source": "text"},
    "rl nano pictures": {**SMALL, "source": "pictures"},
    "rl smollm2": RL_LARGER,
    # What less memory costs in speed: ours with activations computed anew, TRL as it is fastest.
    "rl smollm2 recomputed": {**RL_LARGER, "ours": {"gradient_checkpointing": True}},
    "sft nano text": {**SMALL, "kind": "sft", "batch": 32, "steps": 16, "source": "text"},
    "sft nano pictures": {**SMALL, "kind": "sft", "batch": 32, "steps": 16, "source": "pictures"},
    "sft smollm2": {**SMALL, **LARGER, "kind": "sft", "batch": 12, "steps": 4, "source": "runs/reasoning_gym/data/sft.jsonl"},
}

TRL: dict[str, dict[str, Any]] = {
    "rl nano text": {"micro": 32, "attention": "eager"},
    "rl nano pictures": {"micro": 32},
    "rl smollm2": {"micro": 8},
    "rl smollm2 recomputed": {"micro": 8},
    "sft smollm2": {"micro": 4, "padding_free": True},
}
"""TRL's fastest settings for a workload, over those common to all (`TRL_COMMON`), of those that train on the same loss. Passes
without padding do so with SmolLM2 but not with the nano model: its mean loss is then 8.58 where it is 5.45.
"""

TRIED: dict[str, list[dict[str, Any]]] = {
    "rl": [
        {},
        {"micro": 64},
        {"micro": 32},
        {"micro": 16},
        {"micro": 8},
        {"micro": 32, "attention": "eager"},
        {"micro": 32, "bf16": True},
        {"micro": 32, "dtype": "bfloat16"},
        {"micro": 32, "cache_implementation": "static"},
        {"micro": 32, "use_transformers_continuous_batching": True},
        {"micro": 32, "gradient_checkpointing": True},
        {"micro": 32, "optim": "adamw_torch"},
    ],
    "sft": [
        {},
        {"micro": 16},
        {"micro": 8},
        {"micro": 6},
        {"micro": 4},
        {"micro": 2},
        {"micro": 8, "train_sampling_strategy": "group_by_length"},
        {"padding_free": True},
        {"micro": 16, "padding_free": True},
        {"micro": 8, "padding_free": True},
        {"micro": 6, "padding_free": True},
        {"micro": 4, "padding_free": True},
        {"micro": 2, "padding_free": True},
        {"micro": 8, "padding_free": True, "attention": "eager"},
        {"attention": "eager"},
        {"bf16": True},
        {"dtype": "bfloat16"},
        {"gradient_checkpointing": True},
        {"optim": "adamw_torch"},
    ],
}
"""What `--search` tries; a setting that fails is reported with its error."""


def run(
    contender: str, workload: dict[str, Any], folder: Path, threads: int, trl: dict[str, Any], root: Path = ROOT
) -> dict[str, Any]:
    """One run in a process of its own, of the code in `root`. Raises RuntimeError with the last line of what it said when it
    failed.
    """
    kept = {name: value for name, value in workload.items() if name != "source"}
    with tempfile.TemporaryDirectory(dir=folder) as out:
        spec = {
            **kept,
            "contender": contender,
            "threads": threads,
            "data": str(folder / "data" / "rows.jsonl"),
            "out": f"{out}/run",
            "trl": {"source": workload["source"]} if contender == "prepare" else trl,
        }
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": str(root),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        command = [sys.executable, str(root / "benchmarks" / "local_vs_trl_contenders.py"), json.dumps(spec)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=root)
    line = next((line for line in done.stdout.splitlines() if line.startswith("result: ")), None)
    if line is None:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1][:300])
    return dict(json.loads(line.removeprefix("result: ")))


def located(workload: dict[str, Any], runs: Path) -> dict[str, Any]:
    """The workload with its model and source as paths; `runs` stands for the directory of that name."""

    def path(name: str) -> str:
        if name in ("text", "pictures"):
            return name
        return str(runs / Path(name).relative_to("runs") if name.startswith("runs/") else ROOT / name)

    return {**workload, "model": path(workload["model"]), "source": path(workload["source"])}


def compare(name: str, workload: dict[str, Any], rounds: int, threads: int, before: Path | None) -> dict[str, Any]:
    """Rounds of the contenders, who goes first alternating."""
    contenders = {"rlcs": ("rlcs", ROOT), "trl": ("trl", ROOT)} | ({"before": ("rlcs", before)} if before else {})
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run("prepare", workload, folder, threads, {})
        for turn in range(rounds):
            for contender in list(found)[:: 1 if turn % 2 == 0 else -1]:
                kind, root = contenders[contender]
                found[contender].append(run(kind, workload, folder, threads, TRL.get(name, {}), root))
    row: dict[str, Any] = {contender: summary(runs) for contender, runs in found.items()}
    pairs = list(zip(found["rlcs"], found["trl"], strict=True))
    row["speed ratio"] = round(median(rate(ours) / rate(theirs) for ours, theirs in pairs), 2)
    row["speed ratio of each round"] = [round(rate(ours) / rate(theirs), 2) for ours, theirs in pairs]
    if before:
        row["speed ratio to before"] = round(
            median(rate(ours) / rate(old) for ours, old in zip(found["rlcs"], found["before"], strict=True)), 2
        )
    row["memory ratio"] = round(median(ours["peak_memory_mb"] / theirs["peak_memory_mb"] for ours, theirs in pairs), 2)
    return row


def rate(one: dict[str, Any]) -> float:
    """Tokens a second of a run."""
    return float(sum(one["tokens"]) / sum(one["seconds"]))


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    def over_steps(key: str, digits: int = 3) -> float:
        return round(median(value for one in runs for value in one[key]), digits)

    found = {
        "seconds a step": over_steps("seconds"),
        "processor seconds a step": over_steps("cpu_seconds"),
        "tokens/s": round(median(rate(one) for one in runs), 1),
        "tokens a step": over_steps("tokens", 0),
        "peak memory MiB": round(median(one["peak_memory_mb"] for one in runs)),
    }
    return (
        found
        | mean_loss(runs)
        | {key: over_steps(key) for key in ("trained", "generate", "train", "mfu", "padding", "unfilled") if key in runs[0]}
    )


def mean_loss(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Of fine-tuning, whose every example is learned once: contenders and settings that do the same work have the same, but
    for what the order of examples and of sums makes of it.
    """
    return {"mean loss": round(median(one["loss"] for one in runs), 5)} if "loss" in runs[0] else {}


def search(workload: dict[str, Any], threads: int, tried: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Speed and memory with each of TRL's settings, or how it failed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run("prepare", workload, folder, threads, {})
        samples = workload["batch"] * (workload["group"] if workload["kind"] == "rl" else 1)
        for settings in tried:
            if samples % settings.get("micro", samples):  # TRL would train on fewer samples a step
                continue
            try:
                one = run("trl", workload, folder, threads, settings)
                row: dict[str, Any] = {
                    "tokens/s": round(rate(one), 1),
                    "tokens a processor second": round(sum(one["tokens"]) / sum(one["cpu_seconds"]), 1),
                    "peak memory MiB": round(one["peak_memory_mb"]),
                } | mean_loss([one])
            except RuntimeError as error:
                row = {"error": str(error)}
            yield {"settings": settings, **row}


def save(report: dict[str, Any], results: Path) -> None:
    results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--search", nargs="+", choices=WORKLOADS, default=[])
    parser.add_argument("--settings", nargs="+", type=json.loads, metavar="JSON", help="what --search tries")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    report = json.loads(args.results.read_text(encoding="utf-8")) if args.results.exists() else {}
    for name in args.search or args.only:
        workload = located(WORKLOADS[name], args.runs)
        about = {**measured_on(*PACKAGES), "threads": args.threads}
        if args.search:
            rows: list[dict[str, Any]] = []
            report.setdefault("tried", {})[name] = {**about, "rows": rows}
            for row in search(workload, args.threads, args.settings or TRIED[workload["kind"]]):
                rows.append(row)
                print(name, json.dumps(row), flush=True)
                save(report, args.results)
        else:
            found = compare(name, workload, args.rounds, args.threads, args.before and args.before.resolve())
            settings = {key: value for key, value in WORKLOADS[name].items() if key != "source"}
            report[name] = {
                "command": f"python benchmarks/local_vs_trl.py --only {name!r} --rounds {args.rounds} --threads {args.threads}"
                + (" --before DIR" if args.before else ""),
                **about,
                "workload": settings,
                "trl settings": TRL.get(name, {}),
                **found,
            }
            print(
                name,
                json.dumps({key: found[key] for key in ("rlcs", "trl", "speed ratio", "memory ratio")}, indent=1),
                flush=True,
            )
            save(report, args.results)


if __name__ == "__main__":
    main()
