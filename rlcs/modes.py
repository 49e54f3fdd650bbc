"""Which problems of a run are posed in thinking mode and which in non-thinking mode (`/nothink`). Axis suffix: N problems."""

from collections.abc import Sequence

import numpy as np

from rlcs.problems import Problem

THINKING, NOTHINK = "thinking", "nothink"


def thinking_mask(problems: Sequence[Problem], nothink_ratio: float, rng: np.random.Generator) -> np.ndarray:
    """bool [N]: whether each problem is posed with thinking, for the whole run.

    A problem keeps its mode, so that its pass rate is one number: with a mode drawn at every visit the posterior of a problem
    that is easy with thought and out of reach without would mean neither. Of every domain and tier the fraction
    `nothink_ratio`, rounded at random, is posed without.
    """
    thinking_N = np.ones(len(problems), bool)
    cells: dict[tuple[str, str | None], list[int]] = {}
    for index, problem in enumerate(problems):
        cells.setdefault((problem.domain, problem.tier), []).append(index)
    for members in cells.values():
        exact = nothink_ratio * len(members)
        count = int(exact) + int(rng.random() < exact % 1)
        thinking_N[rng.permutation(members)[:count]] = False
    return thinking_N


def difficulty_tier(problem: Problem, thinking: bool) -> str | None:
    """The tier under which the difficulty prior pools a problem: its own, kept apart by mode."""
    return problem.tier if thinking else f"{problem.tier or ''}/{NOTHINK}"
