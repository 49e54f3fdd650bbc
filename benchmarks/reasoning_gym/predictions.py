"""What is predicted of a problem's next group of G answers, by whom, and how well.

Axis suffixes: N problems, M some of them, G answers of a group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlcs.beta_binomial import log_evidence, mixed_group_probability
from rlcs.difficulty import Difficulty
from rlcs.estimates import Estimate, mean_interval, wilson_interval

QUANTITIES = ("pass_rate", "pass_at_g", "mixed")
CHUNK = 32  # groups of one observation, as in a training step


@dataclass(frozen=True)
class Answers:
    """`right_N` right answers of 2 * `half` to each of N problems; a cell is a dataset at a level."""

    datasets: Sequence[str]
    levels: Sequence[str]
    right_N: np.ndarray
    half: int

    @classmethod
    def of(cls, right: Mapping[str, Mapping[str, Sequence[int]]], answers: int) -> "Answers":
        """From dataset -> level -> right answers of each problem, each of which has `answers`, an even number."""
        rows = [(name, level, count) for name, levels in right.items() for level, cell in levels.items() for count in cell]
        return cls([row[0] for row in rows], [row[1] for row in rows], np.array([row[2] for row in rows]), answers // 2)

    def halves(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Right answers [N] in each of two halves that the answers are dealt into at random: they are exchangeable."""
        first_N = thinned(self.right_N, 2 * self.half, self.half, rng)
        return first_N, self.right_N - first_N

    @property
    def cell_N(self) -> np.ndarray:
        """Number of each problem's cell [N]."""
        cells = [f"{name}\x1f{level}" for name, level in zip(self.datasets, self.levels, strict=True)]
        return np.unique(cells, return_inverse=True)[1]


@dataclass(frozen=True)
class Prediction:
    """Of each of N problems: its pass rate, the probability of at least one right answer in a group, of a mixed group."""

    pass_rate: np.ndarray
    pass_at_g: np.ndarray
    mixed: np.ndarray

    @classmethod
    def of_beta(cls, alpha_N: np.ndarray, beta_N: np.ndarray, group: int) -> "Prediction":
        """From a belief Beta(alpha, beta), averaged over it (beta-binomial)."""
        all_wrong_N = np.exp(log_evidence(np.zeros_like(alpha_N), np.full_like(alpha_N, group), alpha_N, beta_N))
        return cls(alpha_N / (alpha_N + beta_N), 1.0 - all_wrong_N, mixed_group_probability(alpha_N, beta_N, group))

    @classmethod
    def of_rate(cls, rate_N: np.ndarray, group: int) -> "Prediction":
        """From a rate taken as certain (binomial)."""
        all_wrong_N, all_right_N = (1.0 - rate_N) ** group, rate_N**group
        return cls(rate_N, 1.0 - all_wrong_N, 1.0 - all_wrong_N - all_right_N)


def observed(right_N: np.ndarray, group: int) -> dict[str, np.ndarray]:
    """What came of each quantity in groups with `right_N` of `group` answers right."""
    return {
        "pass_rate": right_N / group,
        "pass_at_g": (right_N > 0).astype(np.float64),
        "mixed": ((right_N > 0) & (right_N < group)).astype(np.float64),
    }


def losses(prediction: Prediction, right_N: np.ndarray, group: int) -> dict[str, np.ndarray]:
    """Squared errors [N] whose means are to be compared.

    "pass_rate": an unbiased estimate of the squared distance to the true pass rate p, which nobody knows. The mean squared
    distance to single answers is that plus p (1 - p), and r (G - r) / (G (G - 1)) is unbiased for the latter. It may be
    negative for a problem. Of the two others: (probability - what came)^2, the Brier score.
    """
    came = observed(right_N, group)
    rate, noise_N = came["pass_rate"], right_N * (group - right_N) / (group * (group - 1.0))
    to_answers_N = rate * (1.0 - prediction.pass_rate) ** 2 + (1.0 - rate) * prediction.pass_rate**2
    return {
        "pass_rate": to_answers_N - noise_N,
        "pass_at_g": (prediction.pass_at_g - came["pass_at_g"]) ** 2,
        "mixed": (prediction.mixed - came["mixed"]) ** 2,
    }


def thinned(right_M: np.ndarray, of: int, kept: int, rng: np.random.Generator) -> np.ndarray:
    """How many of `kept` answers are right, drawn without replacement from `of` answers of which `right_M` are."""
    if not kept:
        return np.zeros_like(right_M)
    drawn: np.ndarray = rng.hypergeometric(right_M, of - right_M, kept)
    return drawn


def group_rows(right_M: np.ndarray, size: int) -> np.ndarray:
    """Outcomes [M, size] with as many right answers in each row, the first ones. Their order tells a posterior nothing."""
    return (np.arange(size) < right_M[:, None]).astype(np.float64)


def folded_beliefs(
    answers: Answers, right_N: np.ndarray, own: int, rng: np.random.Generator, *, learn: bool, folds: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """(alpha, beta) [N] of `Difficulty` for each problem, given all `half` answers of the problems of the other folds and
    `own` answers of the problem (and of the rest of its fold).

    Evidence comes in groups, 32 an observation, in random order, from one policy (nothing ages). With `own` 0 nothing is
    known of a problem but its dataset and level.
    """
    order = rng.permutation(len(right_N))
    own_N = thinned(right_N, answers.half, own, rng)
    alpha_N, beta_N = np.zeros(len(right_N)), np.zeros(len(right_N))
    for fold in range(folds):
        tested, others = order[fold::folds], np.concatenate([order[other::folds] for other in range(folds) if other != fold])
        belief = Difficulty(answers.datasets, answers.levels, [None] * len(right_N), learn=learn)
        groups = [(part, right_N, answers.half) for part in _chunks(rng.permutation(others))]
        groups += [(part, own_N, own) for part in _chunks(tested)] if own else []
        for part, source_N, size in groups:
            belief.observe(part, group_rows(source_N[part], size), 0)
        alpha_N[tested], beta_N[tested] = belief.posterior(tested)
    return alpha_N, beta_N


def _chunks(indices: np.ndarray) -> list[np.ndarray]:
    return [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]


def others_rate(right_N: np.ndarray, group_N: np.ndarray, answers: int) -> np.ndarray:
    """Pass rate [N] of the other problems of each problem's group, every one with `answers` answers."""
    count, total = np.bincount(group_N), np.bincount(group_N, right_N)
    rate: np.ndarray = (total[group_N] - right_N) / (answers * np.maximum(count[group_N] - 1, 1))
    return rate


@dataclass(frozen=True)
class Bin:
    """Problems whose predictions lie in one tenth of [0, 1]: mean prediction and what came, with its 95% interval."""

    predicted: float
    came: Estimate


def reliability(predicted_N: np.ndarray, came_N: np.ndarray, *, binary: bool, bins: int = 10) -> list[Bin]:
    """Bins that hold problems, the lowest first; Wilson's interval for what is 0 or 1, else the t interval over problems."""
    bin_N = np.minimum((predicted_N * bins).astype(np.int64), bins - 1)
    found = []
    for place in np.unique(bin_N):
        came = came_N[bin_N == place]
        estimate = wilson_interval(float(came.sum()), len(came)) if binary else mean_interval(came).clipped()
        found.append(Bin(float(predicted_N[bin_N == place].mean()), estimate))
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of what came from what was predicted, bins weighted by their problems (expected calibration error)."""
    weights = np.array([one.came.n for one in bins], np.float64)
    distances = np.array([abs(one.predicted - one.came.mean) for one in bins])
    return float(weights @ distances / weights.sum())
