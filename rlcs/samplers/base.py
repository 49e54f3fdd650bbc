"""What every sampler is, and the fixed proportions of domains they share. Axis suffixes: N problems, P groups, G
samples, D domains.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class Sampler(Protocol):
    """Chooses problems for a step, sees what came of them, and chooses which groups to train on.

    All of it draws from one seeded generator kept in the state, so a restored sampler draws what the original would
    have drawn.
    """

    def draw(self, n: int) -> np.ndarray:
        """Indices (int64, distinct) of the problems to generate groups for in a step that trains on `n` groups: `n` or
        more.
        """
        ...

    def observe(self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int) -> None:
        """Raw outcomes in [0, 1] [P, G] of the groups drawn, NaN for samples that abstained; never shaped rewards.

        `policy_version`: updates made by the policy that generated them.
        """
        ...

    def select(self, indices: np.ndarray, outcomes_PG: np.ndarray, n: int) -> np.ndarray:
        """Which of these groups, all of them mixed, to train on: positions into `indices`, ascending, at most `n`."""
        ...

    def snapshot(self) -> dict[str, np.ndarray]:
        """What the sampler believes of each problem, columns of length N, for the run directory's difficulty files."""
        ...

    def metrics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class DomainShares:
    """Fixed shares of the draws for each domain. What rounding withholds from a domain is carried over to the next
    draws.

    `weights`: relative share of each domain; absent, in proportion to its number of problems.
    """

    def __init__(self, domains: Sequence[str], weights: Mapping[str, float] | None = None) -> None:
        names, self.domain_N = np.unique(np.asarray(domains, dtype=np.str_), return_inverse=True)
        self.names: list[str] = [str(name) for name in names]
        self.members = [np.flatnonzero(self.domain_N == d) for d in range(len(names))]
        if weights is None:
            share_D = np.array([len(members) for members in self.members], np.float64)
        else:
            unknown = sorted(set(weights) - set(self.names))
            if unknown or not all(weight >= 0 for weight in weights.values()) or not sum(weights.values()) > 0:
                raise ValueError(
                    f"domain weights {dict(weights)}; expected numbers >= 0, not all 0, for domains among "
                    f"{', '.join(self.names)}; unknown: {', '.join(unknown) or 'none'}"
                )
            share_D = np.array([weights.get(name, 0.0) for name in self.names])
        self.share_D = share_D / share_D.sum()
        self._owed_D = np.zeros(len(names))

    def split(self, n: int) -> np.ndarray:
        """How many of `n` draws each domain gets [D], at most its number of problems; what it cannot take goes to the
        others.
        """
        size_D = np.array([len(members) for members in self.members])
        if n > size_D[self.share_D > 0].sum():
            raise ValueError(
                f"{n} groups a step but only {size_D[self.share_D > 0].sum()} problems to draw from; lower groups_per_step"
            )
        self._owed_D += n * self.share_D
        quota_D = np.clip(np.floor(self._owed_D), 0, size_D).astype(np.int64)
        while quota_D.sum() != n:
            missing = n - int(quota_D.sum())
            if missing > 0:
                claim_D = np.where((quota_D < size_D) & (self.share_D > 0), self._owed_D - quota_D, -np.inf)
                quota_D[int(claim_D.argmax())] += 1
            else:
                quota_D[int(np.where(quota_D > 0, self._owed_D - quota_D, np.inf).argmin())] -= 1
        self._owed_D -= quota_D
        # A domain too small for its share can never be paid; its claim must not grow without bound.
        self._owed_D = np.clip(self._owed_D, -1.0, 1.0)
        return quota_D

    def quotas(self, n: int) -> np.ndarray:
        """`n` split by largest remainder [D], without carrying anything over."""
        exact_D = n * self.share_D
        quota_D = np.floor(exact_D).astype(np.int64)
        order = np.argsort(quota_D - exact_D, kind="stable")
        quota_D[order[: n - int(quota_D.sum())]] += 1
        return quota_D

    def state_dict(self) -> dict[str, Any]:
        return {"owed": self._owed_D.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._owed_D = np.array(state["owed"], np.float64)
