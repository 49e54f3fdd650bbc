"""How many mixed groups each sampler would have drawn, replayed on the recorded answers of a real language model.

    python benchmarks/reasoning_gym/replay.py [--seeds 20] [--draw 32] [--steps 16]

Reads the counts that grade.py wrote. The policy stands still, so this measures the drawing alone, not what is learned from it.

* **One draw.** A sampler knows one half of every problem's answers: as groups it has observed, or (the two that read them)
  as offline pass rates. It draws once, and the halves held back are counted. Each seed deals the halves anew.
* **From nothing.** A sampler begins without knowledge. A problem's first two groups are its two halves, in either order; a
  further one is eight of its sixteen answers at random. Counted is the share of mixed groups among all generated.

Intervals are over seeds, on this one set of problems. Writes benchmarks/results/reasoning_gym_replay.json and .png. Under a
minute on one core; needs neither model nor reasoning-gym.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from predictions import CHUNK, Answers, group_rows
from rich.console import Console
from rich.table import Table

from rlcs.difficulty import Difficulty
from rlcs.estimates import mean_interval
from rlcs.plots import PALETTE, STYLE
from rlcs.samplers import SAMPLERS, Sampler

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).resolve().parent.parent / "results"
GRADES, OUT = RESULTS / "reasoning_gym_grades.json", RESULTS / "reasoning_gym_replay.json"
READS_RATES = ("glm-tiers", "rlcs")
PAUSE = 4  # policy versions between what was observed and the draw: the rest that the rlcs sampler gives a problem


def sampler_of(name: str, answers: Answers, seed: int, rates_N: np.ndarray | None = None) -> Sampler:
    """The sampler at its defaults, told `rates_N` as offline pass rates."""
    rates = [None] * len(answers.datasets) if rates_N is None else rates_N.tolist()
    difficulty = Difficulty(answers.datasets, answers.levels, rates)
    return SAMPLERS[name](answers.datasets, difficulty, group_size=answers.half, seed=seed)


def mixed_share(right_P: np.ndarray, half: int) -> float:
    return float(((right_P > 0) & (right_P < half)).mean())


def one_draw(name: str, answers: Answers, seed: int, size: int, *, as_rates: bool) -> float:
    """Share of mixed groups among the held-back halves of what the sampler draws, knowing the other halves."""
    known_N, held_N = answers.halves(np.random.default_rng([seed, 0]))
    sampler = sampler_of(name, answers, seed, known_N / answers.half if as_rates else None)
    if not as_rates:
        order = np.random.default_rng([seed, 1]).permutation(len(known_N))
        for start in range(0, len(order), CHUNK):
            part = order[start : start + CHUNK]
            sampler.observe(part, group_rows(known_N[part], answers.half), 0)
        sampler.difficulty.advance(PAUSE)
    return mixed_share(held_N[sampler.draw(size)], answers.half)


def from_nothing(name: str, answers: Answers, seed: int, steps: int, groups: int) -> np.ndarray:
    """Share of mixed groups among those generated until each step [steps]."""
    sampler, rng = sampler_of(name, answers, seed), np.random.default_rng([seed, 2])
    visits_N, right_N, half = np.zeros(len(answers.datasets), np.int64), answers.right_N, answers.half
    recorded_2N = np.array(answers.halves(np.random.default_rng([seed, 0])))
    mixed = generated = 0
    shares = []
    for step in range(steps):
        wanted = sampler.draw(groups)
        indices, outcomes_PG = np.zeros(0, np.int64), np.zeros((0, half))
        while len(wanted):
            again_P = rng.hypergeometric(right_N[wanted], 2 * half - right_N[wanted], half)
            recorded_P = recorded_2N[visits_N[wanted] % 2, wanted]
            right_P = np.where(visits_N[wanted] < 2, recorded_P, again_P)
            visits_N[wanted] += 1
            rows_PG = group_rows(right_P, half)
            mixed, generated = mixed + int(((right_P > 0) & (right_P < half)).sum()), generated + len(wanted)
            indices, outcomes_PG = np.concatenate([indices, wanted]), np.concatenate([outcomes_PG, rows_PG])
            sampler.observe(wanted, rows_PG, step)
            wanted = sampler.refill(groups, indices, outcomes_PG)
        shares.append(mixed / generated)
    return np.array(shares)


def replay(answers: Answers, seeds: int, size: int, steps: int, groups: int) -> dict[str, Any]:
    """Everything the report holds: means and 95% intervals over seeds."""
    found: dict[str, Any] = {"one draw": {}, "from nothing": {}}
    for name in SAMPLERS:
        for kind, as_rates in (("groups", False), ("rates", True)):
            if not as_rates or name in READS_RATES:
                shares = [one_draw(name, answers, seed, size, as_rates=as_rates) for seed in range(seeds)]
                found["one draw"].setdefault(kind, {})[name] = _numbers(np.array(shares))
        curves = np.array([from_nothing(name, answers, seed, steps, groups) for seed in range(seeds)])
        found["from nothing"][name] = {"share": _numbers(curves[:, -1]), "curve": np.round(curves.mean(0), 4).tolist()}
    dealt = np.concatenate([answers.halves(np.random.default_rng([seed, 0])) for seed in range(seeds)])
    mixed_N, names = ((dealt > 0) & (dealt < answers.half)).mean(0), np.array(answers.datasets)
    found["mixed share of all"] = {
        str(name): round(float(mixed_N[names == name].mean()), 4) for name in dict.fromkeys(answers.datasets)
    }
    return found


def _numbers(values: np.ndarray) -> list[float]:
    estimate = mean_interval(values)
    return [round(value, 4) for value in (estimate.mean, estimate.low, estimate.high)]


def show(found: dict[str, Any], console: Console) -> None:
    table = Table(title="share of mixed groups", title_justify="left")
    for column in ("sampler", "one draw, groups known", "one draw, rates known", "from nothing"):
        table.add_column(column, justify="left" if column == "sampler" else "right")
    for name in SAMPLERS:
        rows = [found["one draw"]["groups"][name], found["one draw"]["rates"].get(name), found["from nothing"][name]["share"]]
        table.add_row(name, *("" if row is None else f"{row[0]:.3f} ({row[1]:.3f} .. {row[2]:.3f})" for row in rows))
    console.print(table)


def draw(found: dict[str, Any], path: Path) -> None:
    """Share of mixed groups of one draw (bars) and from nothing (curves)."""
    with mpl.rc_context(STYLE):
        figure, (bars, curves) = plt.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
        known = found["one draw"]["groups"]
        means = np.array([known[name] for name in known])
        bars.barh(list(known), means[:, 0], xerr=(means[:, 2] - means[:, 0]), color=PALETTE[: len(known)], ecolor="#333333")
        bars.invert_yaxis()
        bars.set_title("one draw, half of the answers known")
        bars.set_xlabel("mixed groups among those drawn")
        for colour, (name, one) in zip(PALETTE, found["from nothing"].items(), strict=False):
            curves.plot(np.arange(1, len(one["curve"]) + 1), one["curve"], color=colour, label=name)
        curves.set_title("from nothing")
        curves.set_xlabel("step")
        curves.set_ylabel("mixed groups so far")
        curves.legend(fontsize=8, ncols=2)
        figure.savefig(path, dpi=150, facecolor="white")
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grades", type=Path, default=GRADES)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--draw", type=int, default=32, help="groups of the one draw")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--groups", type=int, default=12, help="groups a step")
    options = parser.parse_args()
    graded = json.loads(options.grades.read_text(encoding="utf-8"))
    answers = Answers.of(graded["right"], graded["settings"]["samples"])
    found = replay(answers, options.seeds, options.draw, options.steps, options.groups)
    found |= {"seeds": options.seeds, "draw": options.draw, "steps": options.steps, "groups": options.groups}
    show(found, Console(width=120))
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
