"""PPO against GRPO on the nano model: the same SFT checkpoint, problems, sampler and number of responses, paired by seed.

    python benchmarks/ppo_vs_grpo.py [--seeds 0 1 2] [--quickstart runs/quickstart] [--out runs/ppo_vs_grpo] [--threads 0]

Runs configs/rl/nano.yaml and configs/rl/nano_ppo.yaml, answers the held-out problems with every final policy and with the SFT
checkpoint (configs/eval/nano.yaml), and writes benchmarks/results/ppo_vs_grpo.json. `make quickstart`
makes the checkpoint and the problems. Runs that are there are kept and unfinished ones go on, so the command can be stopped and
started again; --summary writes the results of those that are there. "gain" is pass@1 after less before, paired by problem, with
its 95% interval over problems: it says nothing of how seeds differ, for which look at the seeds.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from rlcs.config import load_config
from rlcs.estimates import paired_change
from rlcs.eval_config import EvalConfig
from rlcs.eval_summary import Scores, as_json
from rlcs.evaluate import Evaluation, run_eval
from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = {"grpo": ROOT / "configs" / "rl" / "nano.yaml", "ppo": ROOT / "configs" / "rl" / "nano_ppo.yaml"}
LAST = 10  # steps at the end of a run over which the critic's figures are averaged


def train(name: str, seed: int, options: argparse.Namespace) -> Path:
    """The run directory of a finished run."""
    out = options.out / f"{name}-{seed}"
    changes = [f"seed={seed}", f"out={out}", f"model={options.quickstart / 'sft'}", f"threads={options.threads}"]
    changes += [f"problems={options.quickstart / 'data' / 'train.jsonl'}", "table_every=0", "loggers=[]"]
    changes += options.ppo if name == "ppo" else []
    config = load_config(RlConfig, CONFIGS[name], changes)
    if not (out / "checkpoints" / f"step-{config.steps:06d}").is_dir():
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.with_suffix(".log").open("a", encoding="utf-8") as log:
            run_rl(config, resume=(out / "checkpoints").is_dir(), console=Console(file=log, width=160))
    return out


def evaluated(model: Path, out: Path, options: argparse.Namespace) -> Evaluation:
    """The evaluation of a checkpoint, made where it is not there."""
    if not (out / "eval.json").is_file():
        changes = [f"model={model}", f"out={out}", f"problems={options.quickstart / 'data' / 'heldout.jsonl'}"]
        changes += [f"threads={options.threads}", f"samples={options.samples}", "greedy=false"]
        config = load_config(EvalConfig, ROOT / "configs" / "eval" / "nano.yaml", changes)
        run_eval(config, console=Console(quiet=True), tables=False)
    return Evaluation.read(out)


def gains(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Per domain and over all problems: pass@1 of either and the paired change."""
    first, second = Scores.of(before.responses), Scores.of(after.responses)
    if first.ids != second.ids:
        raise ValueError("the two evaluations are of different problems")
    rates = first.pass_at(1), second.pass_at(1)
    found = {}
    for domain in [*dict.fromkeys(first.domains.tolist()), "all"]:
        chosen = np.ones(len(first.ids), bool) if domain == "all" else first.domains == domain
        change = as_json(paired_change(rates[0][chosen], rates[1][chosen]))
        found[domain] = {"before": float(rates[0][chosen].mean()), "after": float(rates[1][chosen].mean()), "gain": change}
    return found


def spent(run: Path) -> dict[str, float]:
    """What a run cost, and at its end what its critic knew."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {name: float(sum(row[name] for row in rows)) for name in ("rollouts", "tokens", "cpu_seconds/step")}
    found["steps"] = len(rows)
    for name in ("vf_explained_var", "loss", "vf_clipfrac"):
        known = [row[f"critic/{name}"] for row in rows[-LAST:] if row.get(f"critic/{name}") is not None]
        found |= {f"critic_{name}": float(np.mean(known))} if known else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", choices=sorted(CONFIGS), default=sorted(CONFIGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quickstart", type=Path, default=ROOT / "runs" / "quickstart")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "ppo_vs_grpo")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "ppo_vs_grpo.json")
    parser.add_argument("--samples", type=int, default=6, help="responses to each held-out problem in each mode")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--ppo", nargs="*", default=[], help="further settings of the PPO runs, key=value")
    parser.add_argument("--summary", action="store_true", help="only write the results of what is there")
    options = parser.parse_args()
    runs = {}
    for seed in options.seeds:
        for name in options.algorithms:
            out = options.out / f"{name}-{seed}"
            if options.summary and not (out / "eval" / "eval.json").is_file():
                continue
            before = evaluated(options.quickstart / "sft", options.out / "sft-eval", options)
            found = gains(before, evaluated(train(name, seed, options), out / "eval", options))
            samples = Evaluation.read(out / "eval").config.samples
            runs[out.name] = {**spent(out), "samples": samples, "heldout": found}
            print(out.name, {domain: f"{100 * row['gain']['mean']:+.1f}" for domain, row in found.items()}, flush=True)
    report = {"date": datetime.now(UTC).date().isoformat(), "torch": torch.__version__, "ppo": options.ppo, "runs": runs}
    options.results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
