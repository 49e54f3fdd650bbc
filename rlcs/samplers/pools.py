"""Difficulty pools by the last outcome alone. Axis suffixes: N problems, P groups, G samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.difficulty import Difficulty
from rlcs.samplers.base import NO_PROBLEMS
from rlcs.samplers.domain_sampler import DomainSampler
from rlcs.samplers.outcomes import GroupOutcomes
from rlcs.samplers.weighted_pools import WeightedPools

POOLS = ("normal", "easy", "hard")
NORMAL, EASY, HARD = range(len(POOLS))


class PoolsSampler(DomainSampler):
    """Easy, normal and hard pools as in prime-rl (its orchestrator's difficulty-pool buffer; no paper).

    A problem lies in the pool that the pass rate of its last group put it in: easy from `easy_threshold` up, hard up to
    `hard_threshold`, else normal, where all begin. Of a step the fraction `easy_fraction` is drawn from the easy pool
    and `hard_fraction` from the hard one, evenly and without replacement; the rest, and what these two cannot supply,
    comes from the normal pool.

    The fractions 0.1 are the defaults of prime-rl's first version; its thresholds were 0.8 and 0.2 then and are free
    now. Here they are 1 and 0: the pools hold the problems whose last group had no gradient. Later versions drop the
    two pools altogether (fractions 0), and the latest gives every problem a weight by pool instead (0.2, 1 and 0.2).

    Our additions: the fractions are rounded at random, or small steps would never draw from the two pools; when the
    normal pool runs dry the others fill the step; a group that abstained moves nothing. Domains: pools are kept within
    each.
    """

    def __init__(
        self,
        domains: Sequence[str],
        difficulty: Difficulty,
        *,
        group_size: int,
        seed: int,
        domain_weights: Mapping[str, float] | None = None,
        easy_fraction: float = 0.1,
        hard_fraction: float = 0.1,
        easy_threshold: float = 1.0,
        hard_threshold: float = 0.0,
    ) -> None:
        if not (easy_fraction >= 0 and hard_fraction >= 0 and easy_fraction + hard_fraction <= 1):
            raise ValueError(
                f"easy_fraction {easy_fraction}, hard_fraction {hard_fraction}; expected neither below 0, at most 1 together"
            )
        if not hard_threshold < easy_threshold:
            raise ValueError(f"hard_threshold {hard_threshold}, easy_threshold {easy_threshold}; expected the first below")
        super().__init__(domains, difficulty, group_size=group_size, seed=seed, domain_weights=domain_weights)
        self._fractions = {EASY: easy_fraction, HARD: hard_fraction}
        self._easy_threshold, self._hard_threshold = easy_threshold, hard_threshold
        self._pools = WeightedPools(self.shares.members, self.shares.domain_N, len(POOLS), self._rng)

    def _draw_domain(self, domain: int, count: int) -> np.ndarray:
        size = self._pools.count_DS[domain]
        wanted = np.zeros(len(POOLS), np.int64)
        for pool, fraction in self._fractions.items():
            share = min(int(count * fraction + self._rng.random()), count - int(wanted.sum()))
            wanted[pool] = min(share, size[pool])
        wanted[NORMAL] = min(count - int(wanted.sum()), size[NORMAL])
        if (missing := count - int(wanted.sum())) > 0:
            left = size - wanted
            easy = int(self._rng.hypergeometric(left[EASY], left[HARD], missing))
            wanted[EASY] += easy
            wanted[HARD] += missing - easy
        drawn = [self._pools.pick(domain, (pool,), None, int(wanted[pool]), taken=NO_PROBLEMS) for pool in (NORMAL, EASY, HARD)]
        return np.concatenate(drawn)

    def observe(
        self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int, tokens_P: np.ndarray | None = None
    ) -> None:
        super().observe(indices, outcomes_PG, policy_version, tokens_P)
        groups = GroupOutcomes.of(outcomes_PG)
        indices, mean_P = np.asarray(indices)[groups.told_P], groups.mean_P[groups.told_P]
        pool_P = np.select([mean_P >= self._easy_threshold, mean_P <= self._hard_threshold], [EASY, HARD], NORMAL)
        self._pools.update(indices, pool_P, np.ones(len(indices)))

    def snapshot(self) -> dict[str, np.ndarray]:
        return {**super().snapshot(), "pool": np.array(POOLS)[self._pools.state_dict()["state"]]}

    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for d, name in enumerate(self.shares.names):
            found |= {f"pool/{name}/{pool}": float(self._pools.count_DS[d, p]) for p, pool in enumerate(POOLS)}
        return {**super().metrics(), **found}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pools": self._pools.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._pools.load_state_dict(state["pools"])
