"""Which groups carry signal, and which of those to train on. Axis suffixes: P groups, G samples, D domains."""

from typing import Literal

import numpy as np

Outcome = Literal["mixed", "all-right", "all-wrong", "abstained"]


def group_outcome(outcomes_PG: np.ndarray) -> list[Outcome]:
    """Verdict on each group by its raw outcomes (NaN: abstained): only "mixed" groups carry signal.

    "abstained" says that fewer than two samples have an outcome. A group whose outcomes are all equal is "all-right"
    from 0.5 up.
    """
    outcomes_PG = np.asarray(outcomes_PG, np.float64)
    known_PG = ~np.isnan(outcomes_PG)
    lowest_P = np.where(known_PG, outcomes_PG, np.inf).min(1, initial=np.inf)
    highest_P = np.where(known_PG, outcomes_PG, -np.inf).max(1, initial=-np.inf)
    verdicts: list[Outcome] = np.select(
        [known_PG.sum(1) < 2, highest_P > lowest_P, highest_P >= 0.5], ["abstained", "mixed", "all-right"], "all-wrong"
    ).tolist()
    return verdicts


def balanced_subset(outcomes_PG: np.ndarray, domain_P: np.ndarray, quota_D: np.ndarray) -> np.ndarray:
    """Positions, ascending, of the groups nearest to half right, at most `quota_D[d]` of domain d; ties go to the
    earlier one.

    The most balanced groups have the largest reward variance, hence the most signal (GLM-4.1V-Thinking, arXiv
    2507.01006, section 5.3).
    """
    imbalance_P = np.abs(np.nanmean(outcomes_PG, axis=1) - 0.5) if len(outcomes_PG) else np.zeros(0)
    kept = []
    for domain, quota in enumerate(quota_D):
        mine = np.flatnonzero(domain_P == domain)
        kept.append(mine[np.argsort(imbalance_P[mine], kind="stable")[:quota]])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
