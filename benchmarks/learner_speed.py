"""Learner speed with a group's prompt computed once against once for every response, on the same samples.

    python benchmarks/learner_speed.py [--groups 32] [--group 8] [--tokens 40] [--budget 1024] [--rounds 5]

Prompts are the training problems that `rlcs tasks` renders (a third each of arithmetic, strings and screens), responses
are random tokens of `--tokens` on average, the model is the embedded one. Both updates are made in turn from the same
weights; the medians of their seconds, trained tokens per second and tokens of their packs are printed, with the largest
difference between their gradients.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from rlcs.learner import Learner, TrainSample
from rlcs.problems import load_problems
from rlcs.rl_config import RlConfig
from rlcs.tasks.write import write_tasks
from rollout.chat import ChatRenderer
from rollout.forward import load_policy

ROOT = Path(__file__).resolve().parent.parent


def random_samples(renderer: ChatRenderer, folder: Path, groups: int, group: int, tokens: int) -> list[TrainSample]:
    """`groups` problems with `group` responses each, of geometric length around `tokens`, with random advantages."""
    write_tasks(folder / "data", train=groups, heldout=1, sft=1, sft_heldout=1, seed=0)
    problems = load_problems(folder / "data" / "train.jsonl")
    rng = np.random.default_rng(0)
    samples = []
    for problem in (problems[index] for index in np.linspace(0, len(problems) - 1, groups).astype(int)):
        prompt = renderer.prompt(problem.messages, root=problem.root, thinking=True, id=problem.id).encoded
        for _ in range(group):
            ids = rng.integers(0, 256, size=min(4 * tokens, rng.geometric(1 / tokens)))
            encoded = prompt.extended(ids, np.ones(len(ids), bool))
            samples.append(TrainSample(encoded, np.full(len(ids), -5.0, np.float32), float(rng.normal()), prompt))
    return samples


def measured_update(samples: list[TrainSample], config: RlConfig) -> tuple[float, dict[str, float], dict[str, torch.Tensor]]:
    """(seconds, metrics, gradients) of one update of the embedded model."""
    model, _ = load_policy(config.model)
    learner = Learner(model, config)
    start = time.perf_counter()
    metrics = learner.update(samples, 0, np.random.default_rng(0))
    spent = time.perf_counter() - start
    return spent, metrics, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("groups", 32), ("group", 8), ("tokens", 40), ("budget", 1024), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    model = str(ROOT / "assets/nano")
    config = RlConfig(model=model, problems=Path("-"), out=Path("-"), token_budget=args.budget, lr=1e-6, grad_clip=1e9)
    with tempfile.TemporaryDirectory() as folder:
        renderer = ChatRenderer(load_policy(model)[1])
        shared = random_samples(renderer, Path(folder), args.groups, args.group, args.tokens)
    layouts = {"once a group": shared, "once a response": [replace(sample, prompt=None) for sample in shared]}
    timings: dict[str, list[float]] = {name: [] for name in layouts}
    found: dict[str, Any] = {}
    for _ in range(args.rounds):
        for name, samples in layouts.items():
            spent, metrics, gradients = measured_update(samples, config)
            timings[name].append(spent)
            found[name] = (metrics, gradients)
    rows = {}
    for name, (metrics, _) in found.items():
        spent = median(timings[name])
        rows[name] = {
            "seconds": round(spent, 3),
            "trained_tokens_per_s": round(metrics["trained_tokens"] / spent),
            "packed_tokens": int(metrics["packed_tokens"]),
        }
        print(f"prompt {name:16} {json.dumps(rows[name])}")
    once, each = (gradients for _, gradients in found.values())
    scale = max(float(gradient.abs().max()) for gradient in each.values())
    gap = max(float((once[name] - each[name]).abs().max()) for name in each) / scale
    ratio = rows["once a response"]["seconds"] / rows["once a group"]["seconds"]
    print(f"speed ratio {ratio:.2f}; largest difference of a gradient, of the largest gradient: {gap:.1e}")


if __name__ == "__main__":
    main()
