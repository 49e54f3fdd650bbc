"""Many more moments than the tests take, over samplers and objectives, each run killed several times on its way.

    python tests/integration/kill_sweep.py [--moments 200] [--seed 0] [--minutes 60] [--results FILE]

A moment is a call of a seam (kill_driver.py) or, one in three, a time drawn evenly from the run. Policy and problems are those
of the tests (coin_policy.py). A line is printed for each run that ends otherwise than the undisturbed one, and a summary in
the end; the results file holds the summary so far, so that a sweep that is stopped has one. Not collected by pytest.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from coin_policy import write_policy, write_problems
from kill_driver import HALVES
from killed_runs import Driver, Moment, differences, moments

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "kill_sweep.json"

VARIANTS: list[dict[str, Any]] = [
    {"sampler": "rlcs", "updates_per_step": 2, "kl_coef": 0.01, "reference_decay": 0.9},
    {"sampler": "dapo", "advantage": "rloo", "old_logprobs": "trainer", "importance_cap": 2.0},
    {"sampler": "mopps", "advantage": "gae", "critic": {"warmup_steps": 1}, "updates_per_step": 2},
    {"sampler": "pools", "surrogate": "gspo", "schedule": "cosine", "clip_low": 3e-4, "clip_high": 4e-4},
    {"sampler": "greso", "lora": {"rank": 4}},
    {"sampler": "dps", "advantage": "reinforce++"},
    {"sampler": "glm-tiers", "loss_aggregation": "token"},
    {"sampler": "uniform", "think_tokens": 3, "entropy_coef": 0.01},
]


def settings(policy: Path, problems: Path, variant: dict[str, Any]) -> dict[str, Any]:
    """A run of six short steps."""
    common = {"model": str(policy), "problems": str(problems), "threads": 1, "steps": 6, "save_every": 2, "difficulty_every": 2}
    common |= {"groups_per_step": 4, "group_size": 4, "think_tokens": [2, 4], "answer_tokens": 8, "nothink_ratio": 0.5}
    common |= {"verifier_workers": 1, "table_every": 0}
    heldout = {"problems": str(problems), "every_rollouts": 20, "max_per_domain": 2}
    return common | {"heldout": heldout} | variant


def moment(planned: list[Moment], whole_s: float, rng: np.random.Generator) -> Moment:
    if rng.random() < 1 / 3:
        return {"after_s": float(rng.uniform(0, whole_s))}
    return planned[int(rng.integers(len(planned)))]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=200, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="no new run is begun after this time")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    rng, began = np.random.default_rng(options.seed), time.monotonic()
    killed: Counter[str] = Counter()
    faults: list[dict[str, Any]] = []
    report: dict[str, Any] = {}
    runs = 0
    folder = Path(tempfile.mkdtemp(prefix="kill-sweep-"))
    (folder / "policy").mkdir()
    problems = write_problems(folder)
    policy = write_policy(folder / "policy", problems)
    with Driver({**os.environ, "OMP_NUM_THREADS": "1"}) as driver:
        undisturbed: dict[int, tuple[list[Moment], float]] = {}
        while killed.total() < options.moments and time.monotonic() - began < 60 * options.minutes:
            number = runs % len(VARIANTS)
            config = settings(policy, problems, VARIANTS[number])
            whole = folder / f"whole-{number}"
            if number not in undisturbed:
                start = time.monotonic()
                answer = driver.run("rl", config, whole)
                assert answer["status"] == 0, VARIANTS[number]
                undisturbed[number] = moments(answer["calls"], HALVES, rng, rounds=20), time.monotonic() - start
            chain: list[Moment] = []
            for _ in range(4):
                chain.append(moment(*undisturbed[number], rng))
                status = driver.run("rl", config, folder / "run", resume=len(chain) > 1, kill=chain[-1])["status"]
                if status != -9:
                    break
                killed[chain[-1].get("seam", "a time")] += 1
            if status == -9:
                status = driver.run("rl", config, folder / "run", resume=True)["status"]
            found = differences(folder / "run" / "run", whole / "run") if status == 0 else [f"it ended with status {status}"]
            if found:
                faults.append({"variant": VARIANTS[number], "killed": chain, "found": found})
                print(json.dumps(faults[-1]), flush=True)
            shutil.rmtree(folder / "run")
            runs += 1
            counts = {"kills": killed.total(), "runs": runs, "variants": len(undisturbed), "killed at": dict(killed)}
            report = {"date": datetime.now(UTC).date().isoformat(), "seed": options.seed, **counts, "ended otherwise": faults}
            options.results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder)
    print(json.dumps(report))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
