"""Estimates from a sample of problems, with 95% intervals. Axis suffixes: N problems, any shape otherwise.

The unit is the problem, not the response: responses to one problem are alike, and counting each as independent would
make intervals too narrow. A value of NaN means that nothing is known of the problem; it is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` problems with its 95% interval, standard error and degrees of freedom; NaN where undefined."""

    mean: float
    low: float
    high: float
    n: float
    se: float = float("nan")
    df: float = float("nan")

    def clipped(self, low: float = 0.0, high: float = 1.0) -> "Estimate":
        """The same with the interval cut to the values that can occur, as for a rate."""
        return Estimate(self.mean, max(self.low, low), min(self.high, high), self.n, self.se, self.df)


def _student(mean: float, n: float, se: float, df: float) -> Estimate:
    half = float(stdtrit(df, 0.5 + CONFIDENCE / 2)) * se
    return Estimate(mean, mean - half, mean + half, n, se, df)


def mean_interval(values_N: np.ndarray) -> Estimate:
    """Mean of one value a problem with the Student t interval, m ± t(n-1) s / sqrt(n).

    With the mean over a problem's samples as its value this is the interval clustered by problem, for clusters of equal
    weight. One problem has no interval (NaN); no problem has no mean either.
    """
    values = np.asarray(values_N, np.float64)
    values = values[~np.isnan(values)]
    n = len(values)
    if n < 2:
        return Estimate(float(values[0]) if n else float("nan"), float("nan"), float("nan"), n)
    return _student(float(values.mean()), n, float(values.std(ddof=1) / np.sqrt(n)), n - 1.0)


def paired_change(before_N: np.ndarray, after_N: np.ndarray) -> Estimate:
    """Mean of after - before over the problems known in both, with the t interval of the differences.

    Row n of both arrays is the same problem. Pairing takes out what makes problems differ from one another.
    """
    before, after = np.asarray(before_N, np.float64), np.asarray(after_N, np.float64)
    if before.shape != after.shape:
        raise ValueError(f"{before.shape} values before and {after.shape} after; expected the same problems in both")
    return mean_interval(after - before)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """Unweighted mean of independent estimates (of domains, say), with degrees of freedom by Welch and Satterthwaite.

    `n` is the number of problems of all. NaN wherever an estimate has none.
    """
    if not estimates:
        raise ValueError("nothing to average: expected at least one estimate")
    mean = float(np.mean([estimate.mean for estimate in estimates]))
    n = sum(estimate.n for estimate in estimates)
    variance = np.array([estimate.se for estimate in estimates]) ** 2
    df = np.array([estimate.df for estimate in estimates])
    if np.isnan(variance).any() or np.isnan(df).any():
        return Estimate(mean, float("nan"), float("nan"), n)
    total = float(variance.sum())
    joint = total**2 / float((variance**2 / df).sum()) if total > 0 else float(df.sum())
    return _student(mean, n, float(np.sqrt(total)) / len(estimates), joint)


def pass_at_k(right: np.ndarray, known: np.ndarray, k: int) -> np.ndarray:
    """Chance that at least one of `k` responses is right, from `right` out of `known` sampled ones; arrays of one shape.

    The unbiased estimator 1 - C(n-c, k) / C(n, k) of Chen et al. 2021 (arXiv 2107.03374), the binomials' ratio taken as a
    product. NaN where fewer than `k` responses are known: no unbiased estimate exists there.
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    right, known = np.asarray(right, np.float64), np.asarray(known, np.float64)
    if ((right < 0) | (right > known)).any():
        raise ValueError("a problem has more right responses than known ones, or fewer than none")
    all_wrong = np.ones(np.broadcast_shapes(right.shape, known.shape))
    for drawn in range(k):
        all_wrong *= np.clip(known - right - drawn, 0.0, None) / np.maximum(known - drawn, 1.0)
    return np.where(known >= k, 1.0 - all_wrong, np.nan)


def wilson_interval(successes: float, n: float) -> Estimate:
    """Rate of `successes` in `n` independent trials, which weights may have made fractional, with the score interval of
    Wilson (1927).

    Unlike the t interval it has width at 0 and at `n` successes.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials; expected 0 <= successes <= trials")
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    z, rate = float(ndtri(0.5 + CONFIDENCE / 2)), successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Estimate(rate, max(0.0, float(centre - half)), min(1.0, float(centre + half)), n)
