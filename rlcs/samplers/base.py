"""What every sampler is, and the fixed proportions of domains they share. Axis suffixes: N problems, P groups, G
samples, D domains.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from rlcs.difficulty import Difficulty


class Sampler(Protocol):
    """Chooses problems for a step, sees what came of them, and chooses which groups to train on.

    All of it draws from one seeded generator kept in the state, so a restored sampler draws what the original would
    have drawn.
    """

    difficulty: Difficulty
    """The posteriors, which `observe` keeps up to date whether the sampler's rule reads them or not."""

    def draw(self, n: int) -> np.ndarray:
        """Indices (int64, distinct) of the problems to generate groups for in a step that trains on `n` groups: `n` or
        more.
        """
        ...

    def refill(self, n: int, indices: np.ndarray, outcomes_PG: np.ndarray) -> np.ndarray:
        """Further problems to generate groups for in the same step, distinct from `indices` [P], all that were generated
        in it so far, with their raw outcomes [P, G]; empty when that is enough. Called after `observe`, until it is.
        """
        ...

    def observe(
        self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int, tokens_P: np.ndarray | None = None
    ) -> None:
        """Raw outcomes in [0, 1] [P, G] of the groups drawn, NaN for samples that abstained; never shaped rewards.

        `policy_version`: updates made by the policy that generated them. `tokens_P`: mean length of each group's
        responses, for samplers that weigh cost.
        """
        ...

    def select(self, indices: np.ndarray, outcomes_PG: np.ndarray, n: int) -> np.ndarray:
        """Which of these groups, all of them mixed, to train on: positions into `indices`, ascending, at most `n`."""
        ...

    def snapshot(self) -> dict[str, np.ndarray]:
        """What the sampler believes of each problem, columns of length N, for the run directory's difficulty files."""
        ...

    def quarantine(self, domains: Collection[str]) -> None:
        """From now on draws nothing from these domains and from all others; what those drew, the others draw. Not part of the
        state: whoever decides it says so again after `load_state_dict`.
        """
        ...

    def metrics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


NO_PROBLEMS = np.zeros(0, np.int64)
"""What `refill` returns when a step needs no more groups."""


class DomainShares:
    """Shares of the draws for each domain. What rounding withholds from a domain is carried over to the next draws.

    `weights`: relative share of each domain; absent, in proportion to its number of problems. `fixed_D` are the shares
    they give, `share_D` those in force, which `adjust` may lean from the fixed ones.
    """

    def __init__(self, domains: Sequence[str], weights: Mapping[str, float] | None = None) -> None:
        names, domain_N = np.unique(np.asarray(domains, dtype=np.str_), return_inverse=True)
        self.names: list[str] = [str(name) for name in names]
        self.domain_N = domain_N.astype(np.uint8 if len(names) < 256 else np.int32)
        self.members = [np.flatnonzero(self.domain_N == d).astype(np.int32) for d in range(len(names))]
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
        self._given_D = share_D / share_D.sum()
        self._quarantined_D = np.zeros(len(names), bool)
        self.fixed_D = self._given_D
        self.share_D = self.fixed_D
        self._owed_D = np.zeros(len(names))

    def quarantine(self, domains: Collection[str]) -> None:
        """Shares of 0 for these domains and no others; the rest share in the proportions they were given. Raises ValueError
        where nothing would be left to draw from.
        """
        quarantined_D = np.isin(self.names, list(domains))
        left_D = np.where(quarantined_D, 0.0, self._given_D)
        if not left_D.sum() > 0:
            raise ValueError(f"domains {', '.join(sorted(domains))} quarantined: none is left that problems are drawn from")
        self._quarantined_D = quarantined_D
        self.share_D = self.fixed_D = left_D / left_D.sum()
        self._owed_D = np.where(quarantined_D, 0.0, self._owed_D)

    def adjust(self, factor_D: np.ndarray) -> None:
        """Leans the shares by a factor >= 0 on each domain's fixed one; all 0 leaves the fixed ones."""
        leaning_D = self.fixed_D * factor_D
        self.share_D = leaning_D / leaning_D.sum() if leaning_D.sum() > 0 else self.fixed_D

    def split(self, n: int) -> np.ndarray:
        """How many of `n` draws each domain gets [D], at most its number of problems; what it cannot take goes to the
        others. A quarantine may leave fewer problems than `n`; a step is then as large as they are many.
        """
        size_D = np.array([len(members) for members in self.members])
        if self._quarantined_D.any():
            n = min(n, int(size_D[self.share_D > 0].sum()))
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
        return {"owed": self._owed_D.copy(), "share": self.share_D.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._owed_D = np.array(state["owed"], np.float64)
        self.share_D = np.array(state["share"], np.float64)
