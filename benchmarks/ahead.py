"""Rollouts one step ahead (`max_staleness: 1`) against the exact mode: seconds a step, and what is learned.

    python benchmarks/ahead.py time [--engines transformers vllm] [--steps 8] [--rounds 2]
    python benchmarks/ahead.py learn [--seeds 0] [key=value ...]

Both start from the quickstart's SFT checkpoint (`make quickstart` first; --run names another run of it), with the settings of
configs/rl/nano.yaml.

`time`: every contender is a process of its own on `--threads` threads a side; they take turns, and seconds are medians over the
steps of all rounds, the first two of each left out. The rate is next to nothing, so that every contender has the same
responses to generate and to learn from. `exact_all` is the exact mode with all cores for each part in turn, which is what the
overlap has to beat.

`learn`: the same number of steps and of rollouts a step in both modes, by seed, then `rlcs eval` of configs/eval/nano.yaml on
the held-out problems. Runs that are there are kept, unfinished ones go on. Writes benchmarks/results/ahead.json, one entry for
each part.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from measured_on import measured_on

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "ahead.json"
MODES = {"exact": 0, "ahead": 1}
READ = (
    "seconds/step",
    "seconds/generate",
    "seconds/train",
    "time/learner_idle",
    "time/engine_idle",
    "tokens",
    "policy/packed_tokens",
)


def rlcs(arguments: list[str], threads: int) -> None:
    """The command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    code = "import sys; from rlcs.cli import main; sys.exit(main())"
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise ChildProcessError(f"rlcs {' '.join(arguments)} ended with {found.returncode}:\n{found.stderr[-3000:]}")


def rl_arguments(run: Path, out: Path, staleness: int, changes: list[str]) -> list[str]:
    fixed = [f"model={run / 'sft'}", f"problems={run / 'data/train.jsonl'}", f"out={out}", f"max_staleness={staleness}"]
    return ["rl", str(ROOT / "configs/rl/nano.yaml"), *fixed, "loggers=[]", "table_every=0", *changes]


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def time_part(options: argparse.Namespace) -> dict[str, Any]:
    """Medians over steps of every contender of every engine, and the exact modes' seconds over those of the mode ahead."""
    contenders = {"exact": (0, options.threads), "ahead": (1, options.threads), "exact_all": (0, os.cpu_count() or 1)}
    steps: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for engine in options.engines:
            served = ["rollout=vllm", "vllm.eager=true", "vllm.max_length=1024", "vllm.max_sequences=256"]
            for name, (staleness, threads) in contenders.items():
                with tempfile.TemporaryDirectory() as folder:
                    changes = [f"steps={options.steps}", "save_every=1000", "lr=1e-30", "sampler=uniform", f"threads={threads}"]
                    changes += ["difficulty_every=1000", *(served if engine == "vllm" else []), *options.overrides]
                    rlcs(rl_arguments(options.run, Path(folder) / "run", staleness, changes), threads)
                    steps.setdefault(f"{engine}/{name}", []).extend(rows_of(Path(folder) / "run")[2:-1])
                    print(engine, name, [round(row["seconds/step"], 2) for row in rows_of(Path(folder) / "run")], flush=True)
    found: dict[str, Any] = {}
    for engine in options.engines:
        medians = {name: {key: median(row[key] for row in steps[f"{engine}/{name}"]) for key in READ} for name in contenders}
        ahead = medians["ahead"]["seconds/step"]
        ratios = {f"{name}_over_ahead": medians[name]["seconds/step"] / ahead for name in ("exact", "exact_all")}
        found[engine] = {
            "threads": options.threads,
            "steps": options.steps,
            "rounds": options.rounds,
            **ratios,
            "medians": medians,
        }
    return found


def learn_part(options: argparse.Namespace) -> dict[str, Any]:
    """Held-out pass rates after the run of every mode and seed, and those of the checkpoint they began with."""
    found: dict[str, Any] = {}
    for seed in options.seeds:
        for name, staleness in MODES.items():
            out = options.out / f"{name}-{seed}"
            arguments = rl_arguments(options.run, out / "rl", staleness, [f"seed={seed}", "save_every=6", *options.overrides])
            if not (out / "eval/eval.json").exists():
                rlcs([*arguments, *(["--resume"] if (out / "rl").exists() else [])], options.threads)
                fixed = [f"model={out / 'rl'}", f"problems={options.run / 'data/heldout.jsonl'}", f"out={out / 'eval'}"]
                rlcs(["eval", str(ROOT / "configs/eval/nano.yaml"), *fixed], options.threads)
            rows = rows_of(out / "rl")
            found[f"{name}-{seed}"] = {
                "steps": len(rows),
                "rollouts": sum(row["rollouts"] for row in rows),
                "rollout_kl": median(row.get("policy/rollout_kl", 0.0) for row in rows),
                "clipped": median(
                    row.get("policy/clip_fraction_low", 0) + row.get("policy/clip_fraction_high", 0) for row in rows
                ),
                "pass_rate": pass_rates(out / "eval/eval.json"),
            }
            print(name, seed, found[f"{name}-{seed}"]["pass_rate"], flush=True)
    return {"before": pass_rates(options.run / "eval-sft/eval.json"), "after": found}


def pass_rates(path: Path) -> dict[str, list[float]]:
    """Of every domain and of all: pass@1 over both modes with its 95% interval."""
    groups = json.loads(path.read_text(encoding="utf-8"))["groups"]
    return {
        str(group["domain"] or "all"): [group["pass_at"]["1"][name] for name in ("mean", "low", "high")]
        for group in groups
        if group["tier"] is None and group["mode"] == "both"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["time", "learn"])
    parser.add_argument("--run", type=Path, default=ROOT / "runs/quickstart")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/ahead")
    parser.add_argument("--engines", nargs="+", choices=["transformers", "vllm"], default=["transformers", "vllm"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options, options.overrides = parser.parse_known_args()
    found = time_part(options) if options.part == "time" else learn_part(options)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    stamp = {**measured_on("torch", "transformers"), "changes": options.overrides}
    if options.part == "time":
        for engine in options.engines:
            results.setdefault("time", {})[engine] = {**stamp, **found[engine]}
    else:
        results["learn"] = {**stamp, **found}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results[options.part], indent=1))


if __name__ == "__main__":
    main()
