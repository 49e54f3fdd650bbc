"""Which groups carry signal, and which of those to train on. Axis suffixes: P groups, G samples, D domains."""

from typing import Literal

import numpy as np

from rlcs.samplers.outcomes import GroupOutcomes

Outcome = Literal["mixed", "all-right", "all-wrong", "abstained"]


def group_outcome(outcomes_PG: np.ndarray) -> list[Outcome]:
    """Verdict on each group by its raw outcomes (NaN: abstained): only "mixed" groups carry signal.

    "abstained" says that fewer than two samples have an outcome. A group whose outcomes are all equal is "all-right"
    from 0.5 up.
    """
    found = GroupOutcomes.of(outcomes_PG)
    verdicts: list[Outcome] = np.select(
        [found.mixed_P, found.right_P, found.wrong_P], ["mixed", "all-right", "all-wrong"], "abstained"
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
