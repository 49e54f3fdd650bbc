"""What groups came to, for many groups at once. Axis suffixes: P groups, G samples."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class GroupOutcomes:
    """The verdicts of `selection.group_outcome` as masks over P groups; none is set where a group abstained, that is,
    where fewer than two of its samples have an outcome. `mean_P` is the pass rate, NaN for those.
    """

    mean_P: np.ndarray
    mixed_P: np.ndarray
    right_P: np.ndarray
    wrong_P: np.ndarray

    @classmethod
    def of(cls, outcomes_PG: np.ndarray) -> "GroupOutcomes":
        """From raw outcomes in [0, 1] [P, G], NaN for samples that abstained."""
        outcomes_PG = np.asarray(outcomes_PG, np.float64)
        if outcomes_PG.ndim != 2:
            raise ValueError(f"outcomes of shape {outcomes_PG.shape}; expected one row a group, one column a sample")
        known_PG = ~np.isnan(outcomes_PG)
        count_P = known_PG.sum(1)
        told_P = count_P >= 2
        lowest_P = np.where(known_PG, outcomes_PG, np.inf).min(1, initial=np.inf)
        highest_P = np.where(known_PG, outcomes_PG, -np.inf).max(1, initial=-np.inf)
        mean_P = np.where(told_P, np.where(known_PG, outcomes_PG, 0.0).sum(1) / np.maximum(count_P, 1), np.nan)
        equal_P = told_P & (lowest_P == highest_P)
        return cls(mean_P, told_P & ~equal_P, equal_P & (highest_P >= 0.5), equal_P & (highest_P < 0.5))

    @property
    def told_P(self) -> np.ndarray:
        """Groups that did not abstain."""
        return ~np.isnan(self.mean_P)

    @property
    def zero_variance_P(self) -> np.ndarray:
        """Groups all right or all wrong, which have no gradient."""
        return self.right_P | self.wrong_P
