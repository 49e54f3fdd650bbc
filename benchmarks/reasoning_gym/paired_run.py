"""A short paired run of reinforcement learning on the graded problems: two samplers from the same checkpoint and seed.

    python benchmarks/reasoning_gym/paired_run.py [--samplers uniform rlcs] [KEY=VALUE ...]

Settings are those of rl.yaml with the overrides; each run is evaluated before and after on held-out problems (eval.yaml). One
seed and a dozen steps show that the whole chain runs on a real language model and what the samplers draw. They do not show
which sampler trains better. Runs already there are kept, unfinished ones go on. Writes
benchmarks/results/reasoning_gym_training.json.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlcs.config import load_config
from rlcs.estimates import mean_interval, paired_change
from rlcs.eval_config import EvalConfig
from rlcs.evaluate import run_eval
from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig
from rlcs.samplers import SAMPLERS

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "reasoning_gym_training.json"
CURVES = {
    "mixed": "mixed_fraction",
    "predicted": "sampler/mixed_predicted",
    "pass rate": "pass_rate",
    "reward": "reward",
    "format errors": "format_error_fraction",
    "rollouts": "rollouts",
    "tokens": "tokens",
    "seconds": "seconds/step",
}


def train(sampler: str, overrides: Sequence[str]) -> Path:
    """The run of one sampler, brought to its last step."""
    config = load_config(RlConfig, HERE / "rl.yaml", [*overrides, f"sampler={sampler}"])
    config = config.model_copy(update={"out": config.out / sampler})
    rows = metrics_of(config.out)
    if not rows or rows[-1]["step"] + 1 < config.steps:
        run_rl(config, resume=(config.out / "checkpoints").is_dir())
    return config.out


def metrics_of(run: Path) -> list[dict[str, Any]]:
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def pass_rates(model: Path | None, out: Path) -> dict[str, float]:
    """Held-out pass rate of each problem under the last checkpoint in `model` (None: that of eval.yaml)."""
    file = out / "pass_rates.json"
    if not file.exists():
        config = load_config(EvalConfig, HERE / "eval.yaml", [] if model is None else [f"model={model}"])
        rows = run_eval(config.model_copy(update={"out": out})).responses.to_pylist()
        correct: dict[str, list[float]] = {}
        for row in rows:
            correct.setdefault(row["id"], []).append(float(row["correct"] or 0))
        file.write_text(json.dumps({id: float(np.mean(values)) for id, values in correct.items()}), encoding="utf-8")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def summary(rows: Sequence[Mapping[str, Any]], before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Any]:
    """Curves of a run and its held-out change: `before` and `after` are pass rates by problem."""
    ids = list(before)
    old, new = (np.array([rates[id] for id in ids]) for rates in (before, after))
    change, whole = paired_change(old, new), mean_interval(new)
    return {
        "curves": {name: [round(float(row[key]), 4) for row in rows if key in row] for name, key in CURVES.items()},
        "mixed_fraction": round(float(np.mean([row["mixed_fraction"] for row in rows])), 4),
        "held_out": [round(value, 4) for value in (whole.mean, whole.low, whole.high)],
        "held_out_change": [round(value, 4) for value in (change.mean, change.low, change.high)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", nargs="+", choices=sorted(SAMPLERS), default=["uniform", "rlcs"])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    scratch = load_config(RlConfig, HERE / "rl.yaml").out.parent
    before = pass_rates(None, scratch / "eval-sft")
    report: dict[str, Any] = {"held_out_before": round(float(np.mean(list(before.values()))), 4), "runs": {}}
    for sampler in options.samplers:
        run = train(sampler, options.overrides)
        report["runs"][sampler] = summary(metrics_of(run), before, pass_rates(run, scratch / f"eval-{sampler}"))
        print(sampler, json.dumps({key: value for key, value in report["runs"][sampler].items() if key != "curves"}))
        RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
