"""How the cost of a step of reinforcement learning grows with group size, prompt length, image size and model size.

    python benchmarks/cost_growth.py [--threads 1] [--rounds 3] [--resume]

Generation (the transformers engine) and the update (the learner), responses of one length, random weights: one thing
grows, the rest stays as it is by default. Processor seconds a step, the least of the rounds, which other processes
disturb little; most resident memory of a process that did nothing else; the learner's operations, and how many a processor
second. Last, memory against the size of the vocabulary. Writes benchmarks/results/cost_growth.json and .png.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "cost_growth.json"


@dataclass(frozen=True)
class Case:
    """One step: `groups` of `group` responses of `tokens` to prompts of about `prompt` tokens of text and, if `image` > 0, a
    picture of so many patches of 28 x 28 pixels a side; a model of `hidden` width and `layers`.
    """

    groups: int = 8
    group: int = 8
    tokens: int = 32
    prompt: int = 32
    image: int = 0
    hidden: int = 192
    layers: int = 4
    vocabulary: int = 288
    budget: int = 1024
    rounds: int = 3


GROWTH: dict[str, list[tuple[int, Case]]] = {
    "group size": [(n, Case(group=n)) for n in (2, 4, 8, 16, 32)],
    "prompt length": [(n, Case(prompt=n, budget=4096)) for n in (32, 128, 512, 1024)],
    "image size": [(n * n, Case(image=n, budget=4096)) for n in (2, 4, 8, 16)],
    "model width": [(n, Case(hidden=n, layers=4)) for n in (96, 192, 384, 768)],
    "vocabulary": [(n, Case(groups=2, vocabulary=n, hidden=96, layers=2)) for n in (288, 16_384, 65_536, 262_144)],
}


def measure(case: Case, threads: int) -> dict[str, float]:
    """Runs in a process of its own."""
    import numpy as np
    import torch
    from PIL import Image

    from rlcs.learner import Learner, TrainSample
    from rlcs.nano.build import build_model, build_processor
    from rlcs.rl_config import RlConfig
    from rollout.attention import VARLEN
    from rollout.chat import ChatRenderer
    from rollout.engine import SamplingParams
    from rollout.memory import peak_memory_mb
    from rollout.transformers_engine import TransformersEngine

    torch.set_num_threads(threads)

    class Unending(ChatRenderer):
        def suppressed_ids(self, vocabulary: int) -> np.ndarray:
            return np.union1d(super().suppressed_ids(vocabulary), np.array(self.stop_ids))

    model = build_model(seed=0, hidden_size=case.hidden, layers=case.layers)
    if case.vocabulary > 288:
        model.resize_token_embeddings(case.vocabulary, mean_resizing=False)
    model.config._attn_implementation = VARLEN
    renderer = Unending(build_processor())
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        prompts = []
        for index in range(case.groups):
            text = "".join(rng.choice(list("abcdefgh "), case.prompt))
            content: Any = text
            if case.image:
                side = 28 * case.image
                Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(f"{folder}/{index}.png")
                content = [{"type": "image", "image": f"{index}.png"}, {"type": "text", "text": text}]
            prompts.append(renderer.prompt([{"role": "user", "content": content}], root=Path(folder), thinking=False))
    engine = TransformersEngine(model, renderer)
    config = RlConfig(model="-", problems=Path("-"), out=Path("-"), token_budget=case.budget, lr=1e-6)
    learner = Learner(model, config)
    generator = torch.Generator().manual_seed(0)
    found: dict[str, float] = {"generate": float("inf"), "train": float("inf")}
    for turn in range(case.rounds + 1):  # the first warms up
        began = time.process_time()
        groups = engine.generate(prompts, case.group, SamplingParams(max_new_tokens=case.tokens), generator=generator)
        generated = time.process_time()
        samples = []
        for prompt, completions in zip(prompts, groups, strict=True):
            for one in completions:
                encoded = prompt.encoded.extended(one.token_ids, ~one.forced)
                samples.append(TrainSample(encoded, one.logprobs, float(rng.normal()), prompt.encoded))
        ready = time.process_time()
        metrics = learner.update(samples, 0, rng)
        if turn:
            found["generate"] = min(found["generate"], generated - began)
            found["train"] = min(found["train"], time.process_time() - ready)
    names = ("flops", "passes", "padding_fraction", "unfilled_fraction", "packed_tokens", "trained_tokens")
    return {
        **{name: round(value, 4) for name, value in found.items()},
        "prompt_tokens": float(np.mean([len(prompt.encoded.input_ids) for prompt in prompts])),
        "parameters": float(sum(parameter.numel() for parameter in model.parameters())),
        "peak_memory_mb": round(peak_memory_mb()),
        **{name: metrics[name] for name in names},
        "gflops": round(metrics["flops"] / found["train"] / 1e9, 1),
    }


def in_process(case: Case, threads: int) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case)), "--threads", str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def draw(report: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = [kind for kind in GROWTH if kind != "vocabulary"]
    figure, axes = pyplot.subplots(1, len(GROWTH), figsize=(20, 3.8))
    for axis, kind in zip(axes, kinds, strict=False):
        rows = report["rows"][kind]
        for name in ("generate", "train"):
            axis.plot([row["value"] for row in rows], [row[name] for row in rows], marker="o", label=name)
        axis.set(xlabel=kind, ylabel="processor seconds a step", xscale="log", yscale="log")
        axis.set_xticks([row["value"] for row in rows], [f"{row['value']:,}" for row in rows])
        axis.minorticks_off()
        axis.legend()
    rows = report["rows"]["vocabulary"]
    whole = [4 * row["value"] * row["trained_tokens"] / 2**20 for row in rows]
    least = rows[0]["peak_memory_mb"]
    weights = [16 * (row["parameters"] - rows[0]["parameters"]) / 2**20 for row in rows]
    axes[-1].plot([row["value"] for row in rows], [row["peak_memory_mb"] - least for row in rows], marker="o", label="measured")
    axes[-1].plot([row["value"] for row in rows], weights, ls=":", label="weights, gradients, optimiser")
    axes[-1].plot([row["value"] for row in rows], whole, ls="--", label="one T x V of float32")
    axes[-1].set(xlabel="vocabulary", ylabel="MiB above the smallest", xscale="log")
    axes[-1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resume", action="store_true", help="measure only what the results do not hold yet")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(Case(**json.loads(args.case)), args.threads)))
        return
    command = f"python benchmarks/cost_growth.py --threads {args.threads} --rounds {args.rounds}"
    report: dict[str, Any] = {"command": command, "date": datetime.now(UTC).date().isoformat(), "rows": {}}
    if args.resume:
        report = json.loads(args.results.read_text(encoding="utf-8"))
    rows: dict[str, list[dict[str, float]]] = report["rows"]
    # The smallest of each kind first: a run that is cut short has some of each.
    for place in range(max(len(cases) for cases in GROWTH.values())):
        for kind, cases in GROWTH.items():
            if place >= len(cases) or any(row["value"] == cases[place][0] for row in rows.get(kind, [])):
                continue
            value, case = cases[place]
            rows.setdefault(kind, []).append({"value": value, **in_process(replace(case, rounds=args.rounds), args.threads)})
            print(kind, json.dumps(rows[kind][-1]), flush=True)
            args.results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    draw(report, args.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
