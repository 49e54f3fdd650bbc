"""Decoding by how long threads that wait for each other look before they sleep, alone and beside a process that wants a core.

    python benchmarks/waiting_threads.py [--spins default 300 1000 3000 30000] [--rounds 3] [--repeats 5]

The embedded model answers 16 arithmetic problems, as text and as pictures, 8 responses of up to 40 tokens each, on all cores.
GOMP_SPINCOUNT, which GNU OpenMP reads when PyTorch is loaded, takes each value in turn, each time in a process of its own;
"alone", then "beside" one process that keeps a core busy. Seconds are medians over all repeats of all rounds; the first two of
a process are left out. Writes benchmarks/results/waiting_threads.json; `rlcs.cli` sets what was found best.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

sys.path.remove(str(Path(__file__).resolve().parent))  # else `import rewards` would find benchmarks/rewards.py

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "waiting_threads.json"
PROMPTS, GROUP, TOKENS, WARMUP = 16, 8, 40, 2


def decode(repeats: int) -> None:
    """Prints [seconds, processor seconds] of every repeat as JSON."""
    import torch

    from rlcs.problems import load_problems
    from rlcs.tasks.write import write_tasks
    from rollout.chat import ChatRenderer
    from rollout.engine import SamplingParams
    from rollout.forward import load_policy
    from rollout.transformers_engine import TransformersEngine

    model, processor = load_policy(str(ROOT / "assets/nano"))
    renderer = ChatRenderer(processor)
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(Path(folder) / "data", train=PROMPTS, heldout=1, sft=1, sft_heldout=1, seed=0)
        problems = [p for p in load_problems(Path(folder) / "data" / "train.jsonl") if p.domain == "math"]
        prompts = [renderer.prompt(p.messages, root=p.root, thinking=True, id=p.id) for p in problems]
    engine, generator = TransformersEngine(model, renderer), torch.Generator().manual_seed(0)
    found = []
    for _ in range(WARMUP + repeats):
        wall, processor_time = time.perf_counter(), time.process_time()
        engine.generate(prompts, GROUP, SamplingParams(max_new_tokens=TOKENS), generator=generator)
        found.append([time.perf_counter() - wall, time.process_time() - processor_time])
    print(json.dumps(found[WARMUP:]))


@contextmanager
def busy() -> Iterator[None]:
    """A process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measured(spins: str, repeats: int) -> list[list[float]]:
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment["PYTHONPATH"] = str(ROOT)
    if spins != "default":
        environment["GOMP_SPINCOUNT"] = spins
    command = [sys.executable, __file__, "--decode", "--repeats", str(repeats)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spins", nargs="+", default=["default", "300", "1000", "3000", "30000"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--decode", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.decode:
        decode(args.repeats)
        return
    found: dict[str, dict[str, list[list[float]]]] = {spins: {"alone": [], "beside": []} for spins in args.spins}
    for _ in range(args.rounds):
        for spins in args.spins:
            found[spins]["alone"] += measured(spins, args.repeats)
        with busy():
            for spins in args.spins:
                found[spins]["beside"] += measured(spins, args.repeats)
    rows = {
        spins: {
            how: {
                "seconds": round(median(wall for wall, _ in runs), 3),
                "processor seconds": round(median(cpu for _, cpu in runs), 3),
            }
            for how, runs in by_load.items()
        }
        for spins, by_load in found.items()
    }
    options = f"--spins {' '.join(args.spins)} --rounds {args.rounds} --repeats {args.repeats}"
    report = {
        "command": f"python benchmarks/waiting_threads.py {options}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "torch": version("torch")},
        "spins": rows,
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
