"""Cost of a sampler as the number of problems grows: seconds to draw, observe, save and load, and bytes a problem.

    python benchmarks/sampler_scale.py [--sampler rlcs] [--sizes 10000 100000 1000000 10000000] [--draw 4096] [--steps 20]

Problems lie in five domains of unequal size and ten tiers, a third of them with an offline pass rate; outcomes follow a
true pass rate per problem, so that windows, deferrals and retirements fill as in a run. Each step draws for `--draw`
groups and observes what came of all it drew; times are medians over the steps, after a warm-up step. Bytes count the
arrays of the sampler's state and of its fixed knowledge of the problems. Writes benchmarks/results/sampler_scale.json
and, beside it, the plot .png.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from rlcs.difficulty import Difficulty
from rlcs.samplers import SAMPLERS, Sampler

mpl.use("Agg")
from matplotlib import pyplot as plt
from measured_on import measured_on

RESULTS = Path(__file__).resolve().parent / "results"
GOALS_MS = {"draw": 50.0, "observe": 20.0}


def problems(size: int, rng: np.random.Generator) -> tuple[list[str], list[str], list[float | None], np.ndarray]:
    """(domains, tiers, offline pass rates, true pass rates) of `size` problems."""
    domain = rng.choice(5, size, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    tier = rng.integers(0, 10, size)
    truth = rng.beta(0.4 + 0.15 * (9 - tier), 0.4 + 0.15 * tier)
    known = rng.random(size) < 1 / 3
    rates = [float(rate) if has else None for rate, has in zip(rng.binomial(8, truth) / 8, known, strict=True)]
    names, levels = np.array(["math", "ocr", "chart", "gui", "video"]), np.array([f"level-{t}" for t in range(10)])
    return names[domain].tolist(), levels[tier].tolist(), rates, truth.astype(np.float32)


def array_bytes(*roots: object) -> int:
    """Bytes of all NumPy arrays reachable from `roots`, each once."""
    seen: set[int] = set()
    total, queue = 0, list(roots)
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        if isinstance(item, np.ndarray):
            if item.base is None:
                total += item.nbytes
            else:
                queue.append(item.base)
        elif isinstance(item, dict):
            queue += list(item.values())
        elif isinstance(item, (list, tuple)):
            queue += list(item)
        elif hasattr(item, "__dict__"):
            queue += list(vars(item).values())
    return total


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def measure(name: str, size: int, draw: int, steps: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    domains, tiers, rates, truth = problems(size, rng)
    begun = time.perf_counter()
    sampler: Sampler = SAMPLERS[name](domains, Difficulty(domains, tiers, rates), group_size=8, seed=0)
    built = time.perf_counter() - begun
    del domains, tiers, rates
    gc.collect()
    draws, observes, groups = [], [], 0
    for step in range(steps + 1):
        spent, indices = timed(lambda: sampler.draw(min(draw, size // 4)))
        draws.append(spent)
        outcomes = (rng.random((len(indices), 8)) < truth[indices, None]).astype(np.float64)
        spent, _ = timed(lambda: sampler.observe(indices, outcomes, step))  # noqa: B023
        observes.append(spent)
        groups += len(indices)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sampler.pt"
        saved, _ = timed(lambda: torch.save(sampler.state_dict(), path))
        loaded, _ = timed(lambda: sampler.load_state_dict(torch.load(path, weights_only=False)))
        stored = path.stat().st_size
    return {
        "problems": size,
        "build_s": round(built, 2),
        "draw_ms": round(1e3 * median(draws[1:]), 2),
        "draw_worst_ms": round(1e3 * max(draws[1:]), 2),
        "observe_ms": round(1e3 * median(observes[1:]), 2),
        "save_s": round(saved, 3),
        "load_s": round(loaded, 3),
        "bytes_a_problem": round(array_bytes(sampler) / size, 1),
        "file_bytes_a_problem": round(stored / size, 1),
        "groups_a_step": round(groups / (steps + 1)),
    }


def plot(rows: list[dict[str, float]], path: Path, title: str) -> None:
    sizes = [row["problems"] for row in rows]
    figure, (times, disk) = plt.subplots(1, 2, figsize=(9, 3.6))
    for part, colour in (("draw", "#0072b2"), ("observe", "#d55e00")):
        times.plot(sizes, [row[f"{part}_ms"] for row in rows], "o-", color=colour, label=part)
        times.axhline(GOALS_MS[part], color=colour, linestyle=":", linewidth=1)
    for part, colour in (("save", "#009e73"), ("load", "#cc79a7")):
        disk.plot(sizes, [row[f"{part}_s"] for row in rows], "o-", color=colour, label=part)
    disk.axhline(3.0, color="grey", linestyle=":", linewidth=1)
    for axes, label in ((times, "ms a step"), (disk, "s")):
        axes.set(xscale="log", yscale="log", xlabel="problems", ylabel=label)
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampler", choices=sorted(SAMPLERS), default="rlcs")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--draw", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS / "sampler_scale.json")
    options = parser.parse_args(arguments)
    rows = []
    for size in options.sizes:
        rows.append(measure(options.sampler, size, options.draw, options.steps))
        print(json.dumps(rows[-1]), flush=True)
    report = {
        "command": " ".join(["python", "benchmarks/sampler_scale.py", *arguments]),
        **measured_on("numpy"),
        "sampler": options.sampler,
        "rows": rows,
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    plot(rows, options.results.with_suffix(".png"), f"{options.sampler}: {options.draw} groups a step (dotted: goals)")


if __name__ == "__main__":
    main(sys.argv[1:])
