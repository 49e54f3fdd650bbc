"""Predicting before generating: score some candidates, take the best. Axis suffixes: M candidates, D domains."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from rlcs.difficulty import Difficulty
from rlcs.samplers.domain_sampler import DomainSampler


class CandidateSampler(DomainSampler):
    """In each domain, `candidates` times as many problems as it is to supply are drawn evenly (all of them if it has no
    more), and those of the highest score (`_score`) get rollouts; of equal ones, those drawn first.
    """

    def __init__(
        self,
        domains: Sequence[str],
        difficulty: Difficulty,
        *,
        group_size: int,
        seed: int,
        domain_weights: Mapping[str, float] | None = None,
        candidates: float = 8.0,
    ) -> None:
        if candidates < 1:
            raise ValueError(f"candidates {candidates}; expected at least 1 for each problem drawn")
        super().__init__(domains, difficulty, group_size=group_size, seed=seed, domain_weights=domain_weights)
        self._candidates = candidates

    @abstractmethod
    def _score(self, indices: np.ndarray) -> np.ndarray:
        """How much problems `indices` [M] promise [M], the more the higher."""

    def _draw_domain(self, domain: int, count: int) -> np.ndarray:
        members = self.shares.members[domain]
        size = min(int(np.ceil(self._candidates * count - 1e-9)), len(members))
        pool = members[self._rng.choice(len(members), size, replace=False)].astype(np.int64)
        return pool[np.argsort(-self._score(pool), kind="stable")[:count]]
