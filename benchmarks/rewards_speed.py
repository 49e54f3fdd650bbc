"""How long `import rewards` takes and how many mathematics answers a core scores a second.

python benchmarks/rewards_speed.py [ROWS.jsonl]     # rows of the `rlcs score` format; default: a built-in mixture
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import rewards

BUILT_IN = [
    ("1/2", "0.5"),
    (r"\frac{63}{400}", r"\frac{64}{400}"),
    (r"(1,\frac{9}{2})", "(1, 4.5)"),
    (r"\frac{1+\sqrt{97}}{8}", r"\dfrac{\sqrt{97}+1}{8}"),
    (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1+\sqrt{5}, 1-\sqrt{5}\}"),
    ("-4<m\\leq0", "(-4, 0]"),
    ("x^2-2x+2", "(x-1)^2+1"),
    ("5 cm", "50 mm"),
    ("5", "9^{9^{9^{9}}}"),
]


def import_seconds(runs: int = 5) -> float:
    """Median time of `import rewards` in a fresh interpreter, start-up excluded (`-X importtime`)."""
    times = []
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import rewards"], capture_output=True, text=True, check=True
        )
        times.append(int(done.stderr.strip().splitlines()[-1].split("|")[1]) / 1e6)
    return median(times)


def rows_of(path: str | None) -> list[dict[str, Any]]:
    """The rows of a file, or the built-in pairs as rows."""
    if path is not None:
        with open(path, encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    box = "<think></think><|begin_of_box|>{}<|end_of_box|>"
    return [
        {"id": str(n), "domain": "math", "answer": reference, "response": box.format(answer)}
        for n, (reference, answer) in enumerate(BUILT_IN)
    ]


def timed(work: Callable[[], object]) -> float:
    """Seconds `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(path: str | None) -> None:
    """Print the import time, single-core speed and pool speed."""
    print(f"import rewards: {import_seconds() * 1000:.0f} ms")
    rows = rows_of(path)
    rewards.score_batch(rows, workers=1)  # the pool's own check of the rows, before timing

    def one(row: dict[str, Any]) -> float:
        return timed(
            lambda: rewards.score(
                row["response"],
                row["answer"],
                domain=row["domain"],
                question=row.get("question"),
                args=row.get("verifier_args"),
                verifier=row.get("verifier"),
            )
        )

    for row in rows:
        one(row)  # references parsed and libraries loaded: training scores each reference many times
    times = sorted(one(row) for _ in range(5) for row in rows)
    print(
        f"one process: {len(times) / sum(times):.0f} rows/s, median {median(times) * 1e3:.2f} ms, "
        f"p99 {times[int(0.99 * len(times))] * 1e3:.1f} ms, slowest {times[-1] * 1e3:.1f} ms"
    )
    many = rows * max(1, 4000 // len(rows))
    for workers in (1, 2):
        with rewards.ScorePool(workers) as pool:
            pool.score_batch(many[:64])
            start = time.perf_counter()
            pool.score_batch(many)
            seconds = time.perf_counter() - start
        print(f"pool of {workers}: {len(many) / seconds:.0f} rows/s")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
