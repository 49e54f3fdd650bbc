"""This library and Math-Verify on the same pairs, on one core, in one run: right, wrong, how fast.

python benchmarks/rewards_vs_math_verify.py [--practice FOLDER] [--out benchmarks/results/rewards_vs_math_verify.json]

The practice folder holds math.jsonl, stem.jsonl and adversarial.jsonl in the `rlcs score` row format; without one only the
hand-labelled pairs of tests/unit/rewards/math_pairs.jsonl and the bombs are measured. Math-Verify is given what it does
best: both sides are parsed with its default extraction configurations, each in `\\boxed{}` and, where that
extracts nothing, as it stands (so that plain text and expressions are seen), and `verify(gold, answer)` in its own
argument order with its own time-outs. Both sides are warmed up with the pairs once, and both parse the reference again for
each pair: what a trainer could cache is measured apart (`cached references`).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measured_on import measured_on

import rewards
from rewards import registry
from rewards.api import score_answer

PAIRS = Path(__file__).parent.parent / "tests/unit/rewards/math_pairs.jsonl"
BOMBS = [
    "9^{9^{9^{9}}}",
    "2^{30^5}",
    "9^9^9",
    "10000000!",
    r"\binom{1000000}{500000}",
    "1e999999",
    "(x+1)^{5000}-x",
    r"\sqrt{" * 200 + "5" + "}" * 200,
    "(" * 2000 + "5" + ")" * 2000,
    "+".join(["x"] * 1000),
    r"\frac{1}{" * 100 + "5" + "}" * 100,
    r"\int_0^{12} e^{e^{x}}\,dx",
    r"\sum_{n=1}^{10^9} \frac{1}{n}",
    "5" * 60_000,
]


@dataclass(frozen=True)
class Pair:
    """An answer, its reference, and whether it is right."""

    group: str
    reference: str
    answer: str
    question: str | None
    right: bool
    domain: str = "math"


def practice_pairs(folder: Path) -> list[Pair]:
    """Rows of the practice files that both libraries can judge: mathematics, physics, and adversarial answers as boxed text."""
    pairs = []
    for name in ("math", "stem"):
        for row in _rows(folder / f"{name}.jsonl"):
            answer = row["response"].partition("<|begin_of_box|>")[2].partition("<|end_of_box|>")[0]
            pairs.append(Pair(f"practice {name}", row["answer"], answer, row.get("question"), row["expected"], row["domain"]))
    for row in _rows(folder / "adversarial.jsonl"):
        text, gold = row["response"], row["gold"]
        if row["domain"] == "math" and isinstance(text, str) and isinstance(gold, str) and text.count("\\boxed{") == 1:
            answer = text.partition("\\boxed{")[2].rstrip().removesuffix("}")
            pairs.append(Pair("adversarial math", gold, answer, None, row["expected"] > 0.5))
    return pairs


def own_pairs() -> list[Pair]:
    """The hand-labelled pairs of the tests."""
    return [Pair("by hand", r["reference"], r["answer"], r.get("question"), r["equal"]) for r in _rows(PAIRS)]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def own_scorer(pair: Pair) -> bool:
    """Whether this library pays, reading the reference anew."""
    registry._cached_reference.cache_clear()
    return own_scorer_cached(pair)


def own_scorer_cached(pair: Pair) -> bool:
    """Whether this library pays, with its cache of references."""
    verdict = score_answer(pair.answer, pair.reference, domain=pair.domain, question=pair.question)
    return verdict.correct is True


def math_verify_scorer() -> Callable[[Pair], bool]:
    """Math-Verify with its default extraction; an answer is boxed, and read bare where the box holds nothing it can read."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)

    def pays(pair: Pair) -> bool:
        gold, answer = (parse(f"\\boxed{{{text}}}") or parse(text) for text in (pair.reference, pair.answer))
        return bool(verify(gold, answer))

    return pays


def measure(pays: Callable[[Pair], bool], pairs: list[Pair], repeats: int) -> tuple[list[bool], list[float]]:
    """What is paid, and the seconds each pair took, in every one of `repeats` rounds after a round to warm up."""
    for pair in pairs:
        pays(pair)
    seconds, paid = [], []
    for turn in range(repeats):
        for pair in pairs:
            start = time.process_time()
            result = pays(pair)
            seconds.append(time.process_time() - start)
            if not turn:
                paid.append(result)
    return paid, seconds


def summary(pairs: list[Pair], paid: list[bool], seconds: list[float]) -> dict[str, float | int]:
    """Accuracy, recall, false positives, and the times in milliseconds."""
    right = sum(pair.right for pair in pairs)
    ordered = sorted(seconds)
    return {
        "pairs": len(pairs),
        "accuracy": round(sum(p.right == got for p, got in zip(pairs, paid, strict=True)) / len(pairs), 4),
        "recall": round(sum(p.right and got for p, got in zip(pairs, paid, strict=True)) / max(right, 1), 4),
        "false_positives": sum(got and not p.right for p, got in zip(pairs, paid, strict=True)),
        "negatives": len(pairs) - right,
        "pairs_per_s": round(len(seconds) / sum(seconds), 1),
        "p50_ms": round(median(ordered) * 1e3, 3),
        "p99_ms": round(ordered[int(0.99 * len(ordered))] * 1e3, 2),
        "worst_ms": round(ordered[-1] * 1e3, 1),
    }


def bombs(pays: Callable[[Pair], bool]) -> dict[str, float | int]:
    """Bombs against a number, an expression and an equation: how many are paid and what the worst costs."""
    pairs = [Pair("bombs", reference, bomb, None, False) for reference in ("5", "x^2+1", "y=2x") for bomb in BOMBS]
    paid, seconds = [], []
    for pair in pairs:
        start = time.process_time()
        paid.append(pays(pair))
        seconds.append(time.process_time() - start)
    return summary(pairs, paid, seconds)


def import_seconds(runs: int = 5) -> float:
    """Median processor time of `import rewards` in a fresh interpreter, its start-up excluded."""
    code = "import time; start = time.process_time(); import rewards; print(time.process_time() - start)"
    runs_done = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(runs)]
    return median(float(done.stdout) for done in runs_done)


def pool_rows_per_s(pairs: list[Pair], workers: int) -> float:
    """Rows a pool scores a second by the clock, transport included: to be read only where the machine was idle."""
    box = "<think></think><|begin_of_box|>{}<|end_of_box|>"
    rows = [
        {"id": str(n), "domain": "math", "answer": pair.reference, "response": box.format(pair.answer)}
        for n, pair in enumerate(pairs * max(1, 3000 // len(pairs)))
    ]
    with rewards.ScorePool(workers) as pool:
        pool.score_batch(rows[:64])
        start = time.perf_counter()
        pool.score_batch(rows)
        return round(len(rows) / (time.perf_counter() - start), 1)


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--practice", type=Path, help="folder of practice files")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    pairs = own_pairs() + (practice_pairs(options.practice) if options.practice else [])
    peer = math_verify_scorer()
    groups = sorted({pair.group for pair in pairs})
    results: dict[str, Any] = {
        **measured_on("rlcs", "math-verify", "sympy", "mpmath"),
        "load_average": round(os.getloadavg()[0], 1),
        "import_rewards_ms": round(import_seconds() * 1e3, 1),
        "groups": {},
    }
    print(f"import rewards: {results['import_rewards_ms']} ms")
    header = ("pairs", "accuracy", "recall", "false_positives", "pairs_per_s", "p50_ms", "p99_ms", "worst_ms")
    print(f"{'':32}" + "".join(f"{name:>16}" for name in header))
    everything: dict[str, tuple[list[Pair], dict[str, tuple[list[bool], list[float]]]]] = {}
    for group in groups:
        print(f"measuring: {group}", file=sys.stderr, flush=True)
        chosen = [pair for pair in pairs if pair.group == group]
        everything[group] = (chosen, {})
        for name, pays in (("rlcs", own_scorer), ("rlcs, cached references", own_scorer_cached), ("math-verify", peer)):
            everything[group][1][name] = measure(pays, chosen, options.repeats if name != "math-verify" else 1)
    for name in ("rlcs", "rlcs, cached references", "math-verify"):
        for group, (chosen, found) in everything.items():
            results["groups"].setdefault(group, {})[name] = summary(chosen, *found[name])
        merged = [pair for chosen, _ in everything.values() for pair in chosen]
        paid = [one for _, found in everything.values() for one in found[name][0]]
        seconds = [one for _, found in everything.values() for one in found[name][1]]
        results["groups"].setdefault("all", {})[name] = summary(merged, paid, seconds)
    for name, pays in (("rlcs", own_scorer), ("math-verify", peer)):
        results["groups"].setdefault("bombs", {})[name] = bombs(pays)
    for group, found in results["groups"].items():
        for name, row in found.items():
            print(f"{group + ': ' + name:40}" + "".join(f"{row[column]:>16}" for column in header))
    results["pool_of_1_rows_per_s"] = pool_rows_per_s([pair for pair in pairs if pair.domain == "math"], 1)
    ratio = results["groups"]["all"]["rlcs"]["pairs_per_s"] / results["groups"]["all"]["math-verify"]["pairs_per_s"]
    results["speed_ratio_all"] = round(ratio, 1)
    print(f"pool of 1: {results['pool_of_1_rows_per_s']} rows/s; times math-verify's pairs/s on all: {ratio:.1f}")
    if options.out:
        options.out.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
