"""Fuzzed answers through every verifier, in one process: exceptions, hangs, and how long an answer takes.

python benchmarks/fuzz_rewards.py [--inputs 100000] [--seed 0] [--out benchmarks/results/fuzz_rewards.json]

An input is an answer to one of the audit's exemplars, grown from right and wrong answers, the audit's cheats, the kept
fuzzing corpus and the words of each grammar by cutting, doubling, joining and swapping pieces. It is scored in this process
by `rewards.score`, so that nothing but the verifier's own bounds protects it. The times are the processor's, because other
programs may share the machine and verifiers are pure functions that wait for nothing; the worst by the wall clock is kept
beside them. A hang is an answer that takes more than LIMIT_S in the fastest of four runs. The `code` verifier starts processes:
its share is CODE_INPUTS of all inputs, its times are the clock's, its hangs those beyond its own limits.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/fuzz"))

from fuzz_strategies import STRANGERS, WORDS
from fuzz_targets import CASES, Case, decode, read_case, score_case
from measured_on import measured_on

from rewards.audit.collect import probes
from rewards.format import BOX_CLOSE, BOX_OPEN
from rewards.judge_client import MODEL_VARIABLE, URL_VARIABLE
from rewards.verdict import Verdict

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 1.5
CODE_INPUTS = 200
CODE_LIMIT_S = 60.0
MAX_CHARS = 70_000
"""A little more than the longest answer any verifier is handed."""


def seeds(name: str) -> list[str]:
    """Answers to grow from: those of the audit's probes for this verifier, and of the corpus."""
    found = {case.right for case in CASES[name]}
    for probe in probes(CASES[name]):
        found.add(probe.response.partition(BOX_OPEN)[2].rpartition(BOX_CLOSE)[0] or probe.response)
    cases = [read_case(decode(file.read_bytes())) for file in sorted((ROOT / "tests/fuzz/corpus/score").iterdir())]
    return sorted(found | {case.answer for case in cases if case.exemplar.verifier == name})


def mutated(text: str, others: Sequence[str], words: Sequence[str], chance: random.Random) -> str:
    """One to four changes of a text."""
    for _ in range(chance.randint(1, 4)):
        start, end = sorted(chance.randint(0, len(text)) for _ in range(2))
        piece = text[start:end]
        other = chance.choice(others)
        change = chance.randrange(9)
        if change == 0:
            text = text[:start] + text[end:]
        elif change == 1:
            text = text[:start] + chance.choice(words) + text[start:]
        elif change == 2:
            text = text[:start] + piece * chance.choice((2, 2, 3, 50, 1000)) + text[end:]
        elif change == 3:
            text = text[:start] + other[: chance.randint(0, 200)] + text[end:]
        elif change == 4:
            text = text + chance.choice((" ", "\n", ", ", " or ", "")) + other
        elif change == 5:
            text = "".join(chance.sample(text[:400], len(text[:400])))
        elif change == 6:
            text = text[:start] + chr(chance.choice((chance.randrange(0x80), chance.randrange(0x11_0000)))) + text[end:]
        elif change == 7:
            text = chance.choice(words) * chance.choice((1, 3, 30, 3000)) + text
        else:
            text = "".join(chance.choice(words) for _ in range(chance.randint(1, 60)))
        text = text[:MAX_CHARS]
    return text


def timed(case: Case) -> tuple[Verdict, float, float]:
    """The verdict, and the seconds it took by the wall clock and by the processor's."""
    clock, processor = time.perf_counter(), time.process_time()
    verdict = score_case(case)
    return verdict, time.perf_counter() - clock, time.process_time() - processor


def measure(name: str, inputs: int, chance: random.Random, say: Callable[[str], None]) -> dict[str, Any]:
    """Score `inputs` answers to exemplars of one verifier."""
    pool, words = seeds(name), [*STRANGERS, *(word for grammar in WORDS.values() for word in grammar)]
    times, characters = [], 0
    exceptions: list[dict[str, str]] = []
    hangs: list[dict[str, Any]] = []
    worst: tuple[float, str] = (0.0, "")
    worst_clock = 0.0
    statuses: dict[str, int] = {}
    for case in CASES[name]:
        score_case(Case(case, case.right))  # the reference parsed and the libraries imported: a trainer does that once
    for n in range(inputs):
        case = Case(chance.choice(CASES[name]), mutated(chance.choice(pool), pool, words, chance))
        characters += len(case.answer)
        try:
            verdict, clock, seconds = timed(case)
        except Exception as error:  # noqa: BLE001
            exceptions.append({"answer": case.answer[:2000], "error": f"{type(error).__name__}: {error}"[:500]})
            continue
        statuses[verdict.status] = statuses.get(verdict.status, 0) + 1
        if name == "code":
            seconds = clock
        elif seconds > LIMIT_S:
            seconds = min(seconds, *(timed(case)[2] for _ in range(3)))
        if seconds > (CODE_LIMIT_S if name == "code" else LIMIT_S):
            hangs.append({"answer": case.answer[:2000], "seconds": seconds})
        times.append(seconds)
        worst_clock = max(worst_clock, clock)
        worst = max(worst, (seconds, case.answer[:200]))
        if n % 1000 == 999:
            say(f"{name}: {n + 1} of {inputs}, worst {1000 * worst[0]:.0f} ms")
    cuts = quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    return {
        "inputs": inputs,
        "mean_characters": round(characters / max(1, inputs)),
        "exceptions": exceptions,
        "hangs": hangs,
        "statuses": statuses,
        "p50_ms": round(1000 * cuts[49], 3),
        "p99_ms": round(1000 * cuts[98], 3),
        "worst_ms": round(1000 * worst[0], 1),
        "worst_clock_ms": round(1000 * worst_clock, 1),
        "worst_answer": worst[1].encode("utf-8", "backslashreplace").decode(),
    }


def main() -> int:
    """Print a row a verifier and write the results; 1 when anything was raised or hung."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for variable in (URL_VARIABLE, MODEL_VARIABLE):
        os.environ.pop(variable, None)  # no judge is asked
    share, rest = divmod(options.inputs - CODE_INPUTS, len(CASES) - 1)
    start, results = time.perf_counter(), {}
    print(f"{'verifier':12} {'inputs':>7} {'raised':>6} {'hung':>5} {'p50 ms':>9} {'p99 ms':>9} {'worst ms':>9}")
    for at, name in enumerate(sorted(CASES, key=lambda name: name == "code")):
        inputs = CODE_INPUTS if name == "code" else share + (at < rest)
        found = measure(name, inputs, random.Random(f"{options.seed} {name}"), lambda text: print(text, file=sys.stderr))
        results[name] = found
        print(
            f"{name:12} {inputs:7} {len(found['exceptions']):6} {len(found['hangs']):5} "
            f"{found['p50_ms']:9.3f} {found['p99_ms']:9.2f} {found['worst_ms']:9.1f}",
            flush=True,
        )
    total = {key: sum(len(found[key]) for found in results.values()) for key in ("exceptions", "hangs")}
    print(f"{options.inputs} inputs: {total['exceptions']} exceptions, {total['hangs']} hangs")
    if options.out is not None:
        document = {
            "command": " ".join(["python", "benchmarks/fuzz_rewards.py", *sys.argv[1:]]),
            **measured_on("sympy", "mpmath", "rapidfuzz", "scipy", "numpy", "pint"),
            "load_average": round(os.getloadavg()[0], 1),
            "seed": options.seed,
            "inputs": options.inputs,
            "hang_limit_s": LIMIT_S,
            "seconds": round(time.perf_counter() - start, 1),
            **total,
            "verifiers": results,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(bool(total["exceptions"] or total["hangs"]))


if __name__ == "__main__":
    sys.exit(main())
