"""Uniform sampling: every problem of a domain once before any of them again. Axis suffix: N problems."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.difficulty import Difficulty
from rlcs.samplers.domain_sampler import DomainSampler
from rlcs.samplers.epochs import EpochOrder


class UniformSampler(DomainSampler):
    """The control every curriculum is measured against: permutations within each domain's share, exactly `n` groups a
    step.
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
        super().__init__(domains, difficulty, group_size=group_size, seed=seed, domain_weights=domain_weights)
        self._epochs = EpochOrder(self.shares.members, self._rng)

    def _draw_domain(self, domain: int, count: int) -> np.ndarray:
        return self._epochs.take(domain, count)

    def metrics(self) -> dict[str, float]:
        epochs = {f"epoch/{name}": float(epoch) for name, epoch in zip(self.shares.names, self._epochs.epoch, strict=True)}
        return {**super().metrics(), **epochs}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **self._epochs.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._epochs.load_state_dict(state)
