"""The published form of Reinforcement Learning with Curriculum Sampling: difficulty tiers and ratio-EMA oversampling.

Axis suffixes: N problems, P groups, G samples, D domains, T tiers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.difficulty import Difficulty
from rlcs.samplers.base import NO_PROBLEMS
from rlcs.samplers.domain_sampler import DomainSampler
from rlcs.samplers.outcomes import GroupOutcomes
from rlcs.samplers.selection import balanced_subset
from rlcs.samplers.weighted_pools import WeightedPools

TIERS = ("very hard", "hard", "medium", "easy", "very easy")


class GlmTiersSampler(DomainSampler):
    """RLCS of GLM-4.1V-Thinking and GLM-4.5V (arXiv 2507.01006, section 5.3).

    From the paper: problems are divided beforehand into tiers from very easy to very hard, by pass@k of several models
    merged with human labels; in training every outcome is mapped to its tier and merged with the offline label; at each
    iteration the sampling ratios of the tiers are re-weighted, by these labels and the performance in each category,
    down for the trivial and for those too hard, up for the middle. Against groups without gradient more are generated
    than needed: `expansion = 1 / (1 - invalid)`, `invalid` being the fraction of all-right and all-wrong groups in the
    last iteration; the exponential moving average of this ratio is the factor of the next iteration, and the groups
    nearest to half right are trained on.

    The paper publishes no formula for the tiers and no constants. Our reading: a problem starts at the mean of its
    prior (its offline `pass_rate`, else the mean of its human tier, else of its domain) and moves the part `merge` of
    the way to the pass rate of each of its groups; `edges` divide these rates into the five tiers. A tier's ratio is
    its number of problems times `4 p (1 - p)`, at least `floor`, with p the moving average of the pass rate of the
    groups drawn from it in the domain: 1 at one half, 0 for tiers all right or all wrong. Within a tier problems are
    drawn evenly. `memory` is the weight of the past in all moving averages. The paper's expansion is unbounded; here
    the ratio of an iteration is at most `max_expansion`.

    Domains: tiers are kept within each, the expansion is one for all as in the paper. What a domain lacks of its share
    after the rollouts is made up by surplus groups of the others.
    """

    def __init__(
        self,
        domains: Sequence[str],
        difficulty: Difficulty,
        *,
        group_size: int,
        seed: int,
        domain_weights: Mapping[str, float] | None = None,
        edges: tuple[float, float, float, float] = (0.1, 0.35, 0.65, 0.9),
        merge: float = 0.5,
        floor: float = 0.05,
        max_expansion: float = 4.0,
        memory: float = 0.8,
    ) -> None:
        if len(edges) != len(TIERS) - 1 or not all(low < high for low, high in zip((0, *edges), (*edges, 1), strict=True)):
            raise ValueError(f"edges {list(edges)}; expected four rising pass rates between 0 and 1")
        if not (0 < merge <= 1 and 0 < floor <= 1 and max_expansion >= 1 and 0 <= memory < 1):
            raise ValueError(
                f"merge {merge}, floor {floor}, max_expansion {max_expansion}, memory {memory}; expected merge and floor "
                "above 0 and at most 1, max_expansion at least 1, memory at least 0 and below 1"
            )
        super().__init__(domains, difficulty, group_size=group_size, seed=seed, domain_weights=domain_weights)
        self._edges = np.array(edges, np.float32)
        self._merge, self._floor, self._max_expansion, self._memory = merge, floor, max_expansion, memory
        self._rate_N = difficulty.prior_mean().astype(np.float32)
        self._tiers = WeightedPools(self.shares.members, self.shares.domain_N, len(TIERS), self._rng)
        self._file(np.arange(len(difficulty)))
        self._rate_DT = self._offline_rates()
        self._expansion: float | None = None  # moving average; None before anything was observed
        self._quota_D = np.zeros(len(self.shares.names), np.int64)  # of the running step

    def _tier(self, indices: np.ndarray) -> np.ndarray:
        return np.digitize(self._rate_N[indices], self._edges)

    def _file(self, indices: np.ndarray) -> None:
        """Sorts problems `indices`, distinct, into the tiers of their rates."""
        self._tiers.update(indices, self._tier(indices), np.ones(len(indices)))

    def _offline_rates(self) -> np.ndarray:
        """Mean of the starting rates in each domain and tier [D, T]; the middle of the tier where it has no problem."""
        shape = self._tiers.count_DS.shape
        place_N = self.shares.domain_N.astype(np.int64) * len(TIERS) + self._tier(np.arange(len(self._rate_N)))
        sums = np.bincount(place_N, self._rate_N, self._tiers.count_DS.size).reshape(shape)
        middles = np.broadcast_to(np.convolve([0.0, *self._edges, 1.0], [0.5, 0.5], "valid"), shape)
        return np.divide(sums, self._tiers.count_DS, out=middles.copy(), where=self._tiers.count_DS > 0)

    def tier_ratios(self, domain: int) -> np.ndarray:
        """Fraction of a domain's draws that goes to each tier [T]."""
        rate_T = self._rate_DT[domain]
        weight_T = self._tiers.count_DS[domain] * np.maximum(4.0 * rate_T * (1.0 - rate_T), self._floor)
        return weight_T / weight_T.sum()

    @property
    def expansion(self) -> float:
        """Groups drawn for each group wanted."""
        return 1.0 if self._expansion is None else self._expansion

    def draw(self, n: int) -> np.ndarray:
        self._quota_D = self.shares.split(n)
        wanted_D = np.ceil(self._quota_D * self.expansion - 1e-9).astype(np.int64)
        return self._draw_each(np.minimum(wanted_D, self._tiers.count_DS.sum(1)))

    def _draw_domain(self, domain: int, count: int) -> np.ndarray:
        size_T, ratio_T = self._tiers.count_DS[domain], self.tier_ratios(domain)
        count_T = np.zeros(len(TIERS), np.int64)
        while (missing := count - int(count_T.sum())) > 0:
            # What a tier cannot supply goes to the others.
            open_T = np.where(count_T < size_T, ratio_T, 0.0)
            count_T = np.minimum(count_T + self._rng.multinomial(missing, open_T / open_T.sum()), size_T)
        drawn = [self._tiers.pick(domain, (tier,), None, int(wanted), taken=NO_PROBLEMS) for tier, wanted in enumerate(count_T)]
        return np.concatenate(drawn)

    def observe(
        self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int, tokens_P: np.ndarray | None = None
    ) -> None:
        super().observe(indices, outcomes_PG, policy_version, tokens_P)
        groups = GroupOutcomes.of(outcomes_PG)
        told = groups.told_P
        if not told.any():
            return
        indices, mean_P = np.asarray(indices)[told], groups.mean_P[told]
        place_P = self.shares.domain_N[indices].astype(np.int64) * len(TIERS) + self._tier(indices)
        count = np.bincount(place_P, minlength=self._rate_DT.size).reshape(self._rate_DT.shape)
        sums = np.bincount(place_P, mean_P, self._rate_DT.size).reshape(self._rate_DT.shape)
        observed_DT = np.divide(sums, count, out=self._rate_DT.copy(), where=count > 0)
        self._rate_DT = self._memory * self._rate_DT + (1.0 - self._memory) * observed_DT
        self._rate_N[indices] += self._merge * (mean_P - self._rate_N[indices])
        self._file(indices)
        valid = float(groups.mixed_P[told].mean())
        ratio = min(self._max_expansion, 1.0 / max(valid, 1e-9))
        past = self._expansion
        self._expansion = ratio if past is None else self._memory * past + (1.0 - self._memory) * ratio

    def select(self, indices: np.ndarray, outcomes_PG: np.ndarray, n: int) -> np.ndarray:
        """The most balanced groups of each domain, up to its share; then the most balanced of any, up to `n`."""
        kept = balanced_subset(outcomes_PG, self.shares.domain_N[indices], self._quota_D)
        rest = np.setdiff1d(np.arange(len(indices)), kept)
        more = balanced_subset(outcomes_PG[rest], np.zeros(len(rest)), np.array([max(0, n - len(kept))]))
        return np.sort(np.concatenate([kept, rest[more]]))[:n]

    def snapshot(self) -> dict[str, np.ndarray]:
        tier_N = np.array(TIERS)[self._tier(np.arange(len(self._rate_N)))]
        return {**super().snapshot(), "rate": self._rate_N.copy(), "difficulty_tier": tier_N}

    def metrics(self) -> dict[str, float]:
        found = {"expansion": self.expansion}
        for d, name in enumerate(self.shares.names):
            for t, (tier, ratio) in enumerate(zip(TIERS, self.tier_ratios(d), strict=True)):
                found |= {
                    f"tier_size/{name}/{tier}": float(self._tiers.count_DS[d, t]),
                    f"tier_ratio/{name}/{tier}": float(ratio),
                }
        return {**super().metrics(), **found}

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "rate": self._rate_N.copy(),
            "tier_rate": self._rate_DT.copy(),
            "expansion": self._expansion,
            "quota": self._quota_D.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._rate_N = np.array(state["rate"], np.float32)
        self._file(np.arange(len(self._rate_N)))
        self._rate_DT, self._expansion = np.array(state["tier_rate"], np.float64), state["expansion"]
        self._quota_D = np.array(state["quota"], np.int64)
