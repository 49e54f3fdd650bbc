"""Uniform sampling: every problem of a domain once before any of them again. Axis suffixes: N problems, P groups, G
samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.difficulty import Difficulty, mixed_group_probability
from rlcs.samplers.base import DomainShares


class UniformSampler:
    """The control every curriculum is measured against: permutations within each domain's share, exactly `n` groups a
    step.

    The posterior of `difficulty` is kept for the difficulty files only; nothing it says reaches a draw.
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
        self._order = [self._rng.permutation(members) for members in self.shares.members]
        self._cursor = [0] * len(self._order)
        self._epoch = [0] * len(self._order)

    def draw(self, n: int) -> np.ndarray:
        drawn = [self._take(domain, int(count)) for domain, count in enumerate(self.shares.split(n))]
        return np.concatenate(drawn).astype(np.int64)

    def _take(self, domain: int, count: int) -> np.ndarray:
        order, start = self._order[domain], self._cursor[domain]
        taken = order[start : start + count]
        self._cursor[domain] += len(taken)
        if (short := count - len(taken)) > 0:
            # The next epoch begins within this draw: its first problems must not be ones this draw already holds.
            following = self._rng.permutation(order)
            again = np.isin(following, taken)
            self._order[domain] = np.concatenate(
                [
                    following[~again][:short],
                    self._rng.permutation(np.concatenate([following[~again][short:], following[again]])),
                ]
            )
            self._cursor[domain], self._epoch[domain] = short, self._epoch[domain] + 1
            taken = np.concatenate([taken, self._order[domain][:short]])
        return taken

    def observe(self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int) -> None:
        self.difficulty.observe(indices, outcomes_PG, policy_version)

    def select(self, indices: np.ndarray, outcomes_PG: np.ndarray, n: int) -> np.ndarray:
        """All of them, up to `n`."""
        return np.arange(min(n, len(indices)))

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
        epochs = {f"epoch/{name}": float(epoch) for name, epoch in zip(self.shares.names, self._epoch, strict=True)}
        return {**self.difficulty.metrics(), **epochs}

    def state_dict(self) -> dict[str, Any]:
        return {
            "difficulty": self.difficulty.state_dict(),
            "shares": self.shares.state_dict(),
            "rng": self._rng.bit_generator.state,
            "order": [order.copy() for order in self._order],
            "cursor": list(self._cursor),
            "epoch": list(self._epoch),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.difficulty.load_state_dict(state["difficulty"])
        self.shares.load_state_dict(state["shares"])
        self._rng.bit_generator.state = state["rng"]
        self._order = [np.array(order, np.int64) for order in state["order"]]
        self._cursor, self._epoch = list(state["cursor"]), list(state["epoch"])
