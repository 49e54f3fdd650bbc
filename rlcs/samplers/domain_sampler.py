"""What most samplers have in common. Axis suffixes: N problems, P groups, G samples, D domains."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.beta_binomial import mixed_group_probability
from rlcs.difficulty import Difficulty
from rlcs.samplers.base import NO_PROBLEMS, DomainShares


class DomainSampler(ABC):
    """Draws each domain's share by a rule of its own (`_draw_domain`) and trains on every mixed group that comes.

    The fixed shares of the domains are this project's addition to the published methods, which know no domains: every
    sampler sees the same mixture, so that a comparison is of their rules alone. The posterior of `difficulty` is kept
    for the difficulty files and the calibration only; nothing it says reaches a draw, but for `CurriculumSampler`,
    which also sizes its own draws and selects.
    """

    def __init__(
        self,
        domains: Sequence[str],
        difficulty: Difficulty,
        *,
        group_size: int,
        seed: int,
        domain_weights: Mapping[str, float] | None = None,
    ) -> None:
        self.shares = DomainShares(domains, domain_weights)
        self.difficulty = difficulty
        self._group_size = group_size
        self._rng = np.random.default_rng(seed)

    @abstractmethod
    def _draw_domain(self, domain: int, count: int) -> np.ndarray:
        """`count` >= 1 distinct problems of `domain`, which has as many."""

    def draw(self, n: int) -> np.ndarray:
        return self._draw_each(self.shares.split(n))

    def _draw_each(self, count_D: np.ndarray) -> np.ndarray:
        drawn = [self._draw_domain(domain, int(count)) for domain, count in enumerate(count_D) if count]
        return np.concatenate([NO_PROBLEMS, *drawn]).astype(np.int64)

    def refill(self, n: int, indices: np.ndarray, outcomes_PG: np.ndarray) -> np.ndarray:
        """Nothing: a step trains on what its first groups turn out to hold."""
        return NO_PROBLEMS

    def observe(
        self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int, tokens_P: np.ndarray | None = None
    ) -> None:
        self.difficulty.observe(indices, outcomes_PG, policy_version)

    def select(self, indices: np.ndarray, outcomes_PG: np.ndarray, n: int) -> np.ndarray:
        """All of them, up to `n`."""
        return np.arange(min(n, len(indices)))

    def quarantine(self, domains: Collection[str]) -> None:
        self.shares.quarantine(domains)

    def snapshot(self) -> dict[str, np.ndarray]:
        alpha_N, beta_N = self.difficulty.posterior()
        return {
            "alpha": alpha_N,
            "beta": beta_N,
            "mean": alpha_N / (alpha_N + beta_N),
            "mixed_probability": mixed_group_probability(alpha_N, beta_N, self._group_size),
            "seen_at": self.difficulty.seen_at_N.copy(),
        }

    def metrics(self) -> dict[str, float]:
        return self.difficulty.metrics()

    def state_dict(self) -> dict[str, Any]:
        return {
            "difficulty": self.difficulty.state_dict(),
            "shares": self.shares.state_dict(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.difficulty.load_state_dict(state["difficulty"])
        self.shares.load_state_dict(state["shares"])
        self._rng.bit_generator.state = state["rng"]
