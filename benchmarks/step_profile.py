"""Where the time of one step goes, by part of the model and of the loop; two states of the code side by side.

    python benchmarks/step_profile.py [--before DIR] [--only NAME ...] [--repeats 5] [--runs runs]

Profiles generation (the transformers engine) and the update (the learner) of reinforcement learning, and the update of
fine-tuning, on one thread, each in a process of its own; with --before also under the code that DIR holds, a checkout of a
former state, in turn with it. Every operation's own time is the least over the repeats, which all run the same operations in
the same order, so that other processes disturb little. A backward operation belongs to what the forward one it came of does.
"python" is what no operation accounts for, the profiler's own share included; so shares are right, and the sums are higher than
an unprofiled step's processor seconds, which stand beside them. Writes benchmarks/results/step_profile.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from measured_on import measured_on

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "step_profile.json"
SMOLLM2 = "runs/reasoning_gym/smollm2"

# Groups, responses of a group, tokens of each, token budget: about half of what local_vs_trl.py takes.
CASES: dict[str, dict[str, Any]] = {
    "rl nano": {"model": "assets/nano", "groups": 8, "group": 8, "tokens": 32, "budget": 1024},
    "sft nano": {"model": "assets/nano", "groups": 16, "group": 1, "tokens": 64, "budget": 1024},
    "rl smollm2": {"model": SMOLLM2, "groups": 2, "group": 8, "tokens": 8, "budget": 512},
    "sft smollm2": {"model": SMOLLM2, "groups": 6, "group": 1, "tokens": 64, "budget": 512},
}

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::convolution", "aten::mkldnn_convolution")
PARTS = (
    ("lm_head", "output head and loss"),
    ("norm", "norms"),
    ("rotary", "rotary embeddings"),
    ("act_fn", "activation"),
    ("mlp", "activation"),
    ("self_attn", "rotary embeddings"),  # what else is element by element there
    ("attn", "rotary embeddings"),
    ("embed", "embeddings"),
    ("layers", "residuals"),
)


def part_of(scope: str, operation: str) -> str:
    """The row of the table an operation goes to; `scope`: the innermost module it ran in, "" for none."""
    name = scope.removeprefix("module: ")
    leaf = name.rpartition(".")[2]
    if "scaled_dot_product" in operation or "softmax" in operation:
        return "attention"
    if operation in PRODUCTS:
        return "matrix products" if name and leaf != "attn" else "output head and loss"
    if leaf.endswith("attn") and operation in ("aten::index_select", "aten::index_copy_", "aten::index", "aten::new_zeros"):
        return "attention"
    for sign, part in PARTS:
        if sign in leaf or (sign in ("mlp", "layers") and sign in name):
            return part
    return "output head and loss"


def table(turns: list[Any]) -> dict[str, float]:
    """Milliseconds of each part, from as many profiles of the same operations."""
    events = [sorted(turn.events(), key=lambda event: (event.time_range.start, -event.time_range.end)) for turn in turns]
    count = min(len(one) for one in events)
    same = all([e.name for e in one] == [e.name for e in events[0]] for one in events)
    if not same:
        events = [min(events, key=lambda one: sum(event.self_cpu_time_total for event in one))]
        count = len(events[0])
    scope_of: dict[int, str] = {}
    for event in events[0]:
        if event.sequence_nr >= 0 and "evaluate_function" not in event.name and "Backward" not in event.name:
            scope_of.setdefault(event.sequence_nr, scope(event))
    found: Counter[str] = Counter()
    for index in range(count):
        event = events[0][index]
        took = min(one[index].self_cpu_time_total for one in events) / 1000
        found[row(event, scope_of)] += took
    return {name: round(ms, 1) for name, ms in found.most_common()}


def scope(event: Any) -> str:
    while event is not None:
        if event.name.startswith("module: "):
            return str(event.name)
        event = event.cpu_parent
    return ""


def row(event: Any, scope_of: dict[int, str]) -> str:
    if event.name.startswith(("module: ", "step")):
        return "python"
    above, chain = event, []
    while above is not None:
        chain.append(above)
        above = above.cpu_parent
    for one in chain:
        if one.name.startswith("Optimizer.") or "clip" in one.name:
            return "optimiser"
        if "AccumulateGrad" in one.name:
            return "adding up gradients"
        if one.name.startswith("autograd::engine::evaluate_function"):
            if "TiledLogprobs" in one.name:
                return "output head and loss"
            return part_of(scope_of.get(one.sequence_nr, ""), event.name)
    return part_of(scope(event), event.name)


def profiled(run: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """The parts of `run` in milliseconds, and its processor seconds when nothing watches, the least of the repeats."""
    from torch.profiler import ProfilerActivity, profile

    run()
    least = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        run()
        least = min(least, time.process_time() - began)
    turns = []
    with hooks():
        for _ in range(repeats):
            with profile(activities=[ProfilerActivity.CPU]) as turn:
                run()
            turns.append(turn)
    return {"processor seconds": round(least, 3), "ms": table(turns)}


MODELS: list[Any] = []


class hooks:
    """Names the module that runs, for the time of a profile."""

    def __enter__(self) -> None:
        from torch.profiler import record_function

        self._handles: list[Any] = []
        for model in MODELS:
            for name, module in model.named_modules():
                if not name or hasattr(module, "__len__"):
                    continue
                open_scopes: list[Any] = []

                def enter(_: Any, __: Any, name: str = name, opened: list[Any] = open_scopes) -> None:
                    opened.append(record_function(f"module: {name}"))
                    opened[-1].__enter__()

                def leave(_: Any, __: Any, ___: Any, opened: list[Any] = open_scopes) -> None:
                    opened.pop().__exit__(None, None, None)

                self._handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def measure(case: dict[str, Any], kind: str, repeats: int) -> dict[str, Any]:
    """Runs in a process of its own, under whatever code PYTHONPATH names."""
    import numpy as np
    import torch

    from rlcs.learner import Learner, TrainSample
    from rlcs.rl_config import RlConfig
    from rollout.chat import ChatRenderer
    from rollout.engine import SamplingParams
    from rollout.forward import load_policy
    from rollout.transformers_engine import TransformersEngine

    torch.set_num_threads(1)

    class Unending(ChatRenderer):
        def suppressed_ids(self, vocabulary: int) -> np.ndarray:
            return np.union1d(super().suppressed_ids(vocabulary), np.array(self.stop_ids))

    model, processor = load_policy(case["model"])
    MODELS.append(model)
    renderer, rng = Unending(processor), np.random.default_rng(0)
    prompts = [
        renderer.prompt([{"role": "user", "content": f"Compute {12 + g} + {7 * g}"}], root=Path(), thinking=False)
        for g in range(case["groups"])
    ]
    if kind == "sft":
        from sft.update import Sample, update

        examples = []
        for prompt in prompts:
            tokens = rng.integers(0, 256, size=int(case["tokens"] * rng.uniform(0.3, 1.5)))
            examples.append(Sample(prompt.encoded.extended(tokens, np.ones(len(tokens), bool)), "math", False))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)  # as fine-tuning builds it, before as now

        def tune() -> None:
            update(model, optimizer, examples, token_budget=case["budget"], grad_clip=1.0)

        return {"update": profiled(tune, repeats)}
    engine = TransformersEngine(model, renderer)
    learner = Learner(model, RlConfig(model="-", problems=Path("-"), out=Path("-"), token_budget=case["budget"], lr=1e-6))
    samples: list[TrainSample] = []

    def generate() -> None:
        generator = torch.Generator().manual_seed(0)
        groups = engine.generate(prompts, case["group"], SamplingParams(max_new_tokens=case["tokens"]), generator=generator)
        samples.clear()
        for prompt, completions in zip(prompts, groups, strict=True):
            for one in completions:
                encoded = prompt.encoded.extended(one.token_ids, ~one.forced)
                shared = (prompt.encoded,) if "prompt" in {field.name for field in fields(TrainSample)} else ()
                samples.append(TrainSample(encoded, one.logprobs, float(rng.normal()), *shared))

    found = {"generate": profiled(generate, repeats)}
    return found | {"update": profiled(lambda: learner.update(samples, 0, rng), repeats)}


def in_process(case: dict[str, Any], kind: str, repeats: int, code: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--case", json.dumps(case), "--kind", kind, "--repeats", str(repeats)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=code)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of a former state of the code")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(json.loads(args.case), args.kind, args.repeats)))
        return
    report = json.loads(args.results.read_text(encoding="utf-8")) if args.results.exists() else {}
    for name in args.only:
        kind, case = name.partition(" ")[0], dict(CASES[name])
        shared = case["model"].startswith("runs/")
        case["model"] = str(args.runs / Path(case["model"]).relative_to("runs") if shared else ROOT / case["model"])
        states = {"before": args.before.resolve()} if args.before else {}
        found: dict[str, Any] = {
            state: in_process(case, kind, args.repeats, code) for state, code in {**states, "now": ROOT}.items()
        }
        report[name] = {**measured_on("torch", "transformers"), **found}
        for state, phases in found.items():
            for phase, one in phases.items():
                print(name, state, phase, json.dumps(one), flush=True)
        args.results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
