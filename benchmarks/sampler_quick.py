"""Mixed-group fraction of the rlcs sampler against uniform sampling, in real training on the same problems and seeds.

    python benchmarks/sampler_quick.py [--config configs/rl/nano.yaml] [--seeds 1] [key=value ...]

A group is mixed when it holds right and wrong answers, and only such a group teaches anything. The fraction is taken
over all generated groups of the run, before any selection; rollouts, tokens and seconds of both runs are printed beside
it. Pass rates are not: each sampler chooses its own problems, so compare the policies with `rlcs eval` on held-out
ones.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from measured_on import measured_on

from rlcs.config import load_config
from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig

SAMPLERS = ("uniform", "rlcs")


def summarise(out: Path, group_size: int) -> dict[str, Any]:
    """Totals of a finished run from its metrics.jsonl."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    groups = sum(row["groups_generated"] for row in rows)
    domains = sorted(key.removesuffix("/mixed_fraction") for key in rows[-1] if key.endswith("/mixed_fraction"))

    def fraction(prefix: str) -> float:
        counted = [row for row in rows if f"{prefix}groups_generated" in row]
        mixed = sum(row[f"{prefix}mixed_fraction"] * row[f"{prefix}groups_generated"] for row in counted)
        return mixed / sum(row[f"{prefix}groups_generated"] for row in counted)

    return {
        "mixed_fraction": fraction(""),
        "by_domain": {name: fraction(f"{name}/") for name in domains if name not in ("thinking", "nothink")},
        "groups_generated": int(groups),
        "groups_trained": int(sum(row["groups_trained"] for row in rows)),
        "rollouts": int(groups) * group_size,
        "tokens": int(sum(row["response_length"] * row["groups_generated"] * group_size for row in rows)),
        "seconds": sum(row["seconds/step"] for row in rows),
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--config", default="configs/rl/nano.yaml")
    parser.add_argument("--seeds", type=int, default=1, help="paired runs, seeds 0, 1, ...")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/sampler_quick"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/sampler_quick.json"))
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args(arguments)
    runs: dict[str, list[dict[str, Any]]] = {sampler: [] for sampler in SAMPLERS}
    for seed in range(options.seeds):
        for sampler in SAMPLERS:
            out = options.out / f"{sampler}-seed{seed}"
            shutil.rmtree(out, ignore_errors=True)
            changes = [*options.overrides, f"sampler={sampler}", f"seed={seed}", f"out={out}"]
            config = load_config(RlConfig, options.config, changes)
            run_rl(config)
            runs[sampler].append({"seed": seed, **summarise(out, config.group_size)})
    fractions = {sampler: mean(run["mixed_fraction"] for run in runs[sampler]) for sampler in SAMPLERS}
    report = {
        "command": " ".join(["python", "benchmarks/sampler_quick.py", *arguments]),
        **measured_on("torch", "transformers", "numpy"),
        "steps": config.steps,
        "mixed_fraction": fractions,
        "ratio": fractions["rlcs"] / fractions["uniform"],
        "runs": runs,
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for sampler in SAMPLERS:
        for run in runs[sampler]:
            parts = ", ".join(f"{name} {value:.3f}" for name, value in run["by_domain"].items())
            print(
                f"{sampler:8} seed {run['seed']}: mixed {run['mixed_fraction']:.3f} of {run['groups_generated']} groups "
                f"({parts}); {run['rollouts']} rollouts, {run['tokens']} tokens, {run['seconds']:.0f} s"
            )
    print(
        f"mixed-group fraction: uniform {fractions['uniform']:.3f}, rlcs {fractions['rlcs']:.3f}, ratio {report['ratio']:.2f}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
