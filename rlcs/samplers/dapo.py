"""DAPO's dynamic sampling: go on generating until the step is full of mixed groups.

Axis suffixes: N problems, P groups, G samples, D domains.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.difficulty import Difficulty
from rlcs.samplers.base import NO_PROBLEMS
from rlcs.samplers.domain_sampler import DomainSampler
from rlcs.samplers.epochs import EpochOrder
from rlcs.samplers.outcomes import GroupOutcomes


class DapoSampler(DomainSampler):
    """Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2 and algorithm 1).

    Problems come uniformly, every one of a domain once an epoch. Groups all right or all wrong are filtered out, and
    further batches of the full size are generated until there are `n` mixed groups; those that came first are trained
    on, the rest of the last batch is dropped. Problems already generated in the step do not come again in it.

    The paper sets no end to this. Here as in verl's implementation a step ends after `max_batches` batches (10 in its
    published run); where verl then stops the run, the step trains on the groups there are. A batch is `batch_ratio`
    times as large as what the step trains on: 1 as in the paper's algorithm, the thriftiest reading, against 3 in the
    published run's script.

    Domains: each runs dynamic sampling on its own share and is done when that is full. What a domain still lacks at the
    end is made up by surplus groups of the others.
    """

    def __init__(
        self,
        domains: Sequence[str],
        difficulty: Difficulty,
        *,
        group_size: int,
        seed: int,
        domain_weights: Mapping[str, float] | None = None,
        batch_ratio: float = 1.0,
        max_batches: int = 10,
    ) -> None:
        if batch_ratio < 1 or max_batches < 1:
            raise ValueError(f"batch_ratio {batch_ratio}, max_batches {max_batches}; expected both at least 1")
        super().__init__(domains, difficulty, group_size=group_size, seed=seed, domain_weights=domain_weights)
        self._batch_ratio, self._max_batches = batch_ratio, max_batches
        self._epochs = EpochOrder(self.shares.members, self._rng)
        self._quota_D = np.zeros(len(self.shares.names), np.int64)  # of the running step
        self._batches = 0  # generated in the running step
        self._held = NO_PROBLEMS  # problems the running step already has

    def draw(self, n: int) -> np.ndarray:
        self._quota_D, self._batches, self._held = self.shares.split(n), 1, NO_PROBLEMS
        return self._draw_each(self._full_batch())

    def _full_batch(self) -> np.ndarray:
        """Problems of a batch of the running step [D]."""
        return np.ceil(self._batch_ratio * self._quota_D - 1e-9).astype(np.int64)

    def _draw_domain(self, domain: int, count: int) -> np.ndarray:
        return self._epochs.take(domain, count, self._held)

    def refill(self, n: int, indices: np.ndarray, outcomes_PG: np.ndarray) -> np.ndarray:
        """One more batch of every domain that has too few mixed groups yet; nothing after `max_batches`."""
        mixed = indices[GroupOutcomes.of(outcomes_PG).mixed_P]
        short_D = self._quota_D - np.bincount(self.shares.domain_N[mixed], minlength=len(self._quota_D))
        if self._batches >= self._max_batches or not (short_D > 0).any():
            return NO_PROBLEMS
        self._batches, self._held = self._batches + 1, indices
        return self._draw_each(np.where(short_D > 0, self._next_batch(np.maximum(short_D, 0)), 0))

    def _next_batch(self, short_D: np.ndarray) -> np.ndarray:
        """Problems of the next batch [D] where the step still lacks `short_D` mixed groups."""
        return self._full_batch()

    def select(self, indices: np.ndarray, outcomes_PG: np.ndarray, n: int) -> np.ndarray:
        """The first groups of each domain, up to its share; then the first of any, up to `n`."""
        chosen = np.zeros(len(indices), bool)
        for domain, quota in enumerate(self._quota_D):
            chosen[np.flatnonzero(self.shares.domain_N[indices] == domain)[:quota]] = True
        chosen[np.flatnonzero(~chosen)[: max(0, n - int(chosen.sum()))]] = True
        return np.flatnonzero(chosen)[:n]

    def metrics(self) -> dict[str, float]:
        epochs = {f"epoch/{name}": float(epoch) for name, epoch in zip(self.shares.names, self._epochs.epoch, strict=True)}
        return {**super().metrics(), **epochs, "batches": float(self._batches)}

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            **self._epochs.state_dict(),
            "quota": self._quota_D.copy(),
            "batches": self._batches,
            "held": self._held.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._epochs.load_state_dict(state)
        self._quota_D, self._batches = np.array(state["quota"], np.int64), int(state["batches"])
        self._held = np.array(state["held"], np.int64)
