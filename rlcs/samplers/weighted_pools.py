"""Drawing by weight from millions of problems that are sorted into states, without looking at all of them.

Axis suffixes: N problems, M some of them, D domains, S states.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

_SMALL = 65536  # domains up to this size are drawn from exactly, all weights looked at
_FEWEST, _MOST = 1024, 65536  # problems looked at in one round of rejection sampling
_GUESSES = 8  # as many for each one wanted, within these bounds
_ROUNDS = 32  # rounds without enough acceptances before the whole domain is looked at after all
_RARE = 1 / 64  # a pool smaller than this part of its domain is looked for, not guessed at
_EXPLORED = 16  # candidates looked at for each problem drawn by a weight that is not kept


class WeightedPools:
    """State (uint8) and weight (float16, in [0, 1]) of every problem, and draws without replacement from the problems of
    a domain in given states.

    A domain of up to 65,536 problems is drawn from by Gumbel top-k over all of its problems (arXiv 1903.06059). In a
    larger one problems are proposed evenly and accepted with their weight as probability; proposals that come again are
    dropped. Both draw one problem after another in proportion to the weights of those left. A rare pool is listed.
    """

    def __init__(self, members: Sequence[np.ndarray], domain_N: np.ndarray, states: int, rng: np.random.Generator) -> None:
        self._members, self._domain_N, self._rng = members, domain_N, rng
        self._state_N, self._weight_N = np.zeros(len(domain_N), np.uint8), np.ones(len(domain_N), np.float16)
        self.count_DS = np.zeros((len(members), states), np.int64)
        self.count_DS[:, 0] = [len(mine) for mine in members]

    def update(self, indices: np.ndarray, state_M: np.ndarray, weight_M: np.ndarray) -> None:
        """Sets state and weight of problems `indices`, distinct."""
        states = self.count_DS.shape[1]
        place_M = self._domain_N[indices].astype(np.int64) * states
        change = np.bincount(place_M + state_M, minlength=self.count_DS.size)
        change -= np.bincount(place_M + self._state_N[indices], minlength=self.count_DS.size)
        self.count_DS += change.reshape(self.count_DS.shape)
        self._state_N[indices] = state_M
        self._weight_N[indices] = np.maximum(weight_M, np.finfo(np.float16).smallest_subnormal)

    def weight(self, indices: np.ndarray) -> np.ndarray:
        """Weights float64 [M] of problems `indices`."""
        return self._weight_N[indices].astype(np.float64)

    def pick(
        self,
        domain: int,
        states: Collection[int],
        weight: Callable[[np.ndarray], np.ndarray] | None,
        count: int,
        *,
        taken: np.ndarray,
    ) -> np.ndarray:
        """Up to `count` problems of `domain` in one of `states`, none of `taken`, drawn in proportion to `weight` of them
        (None: evenly), the earlier ones of the result drawn first.

        In a large domain a weight other than `self.weight` is applied to 16 evenly drawn candidates a problem.
        """
        available = int(self.count_DS[domain, list(states)].sum())
        if not available or count < 1:
            return np.zeros(0, np.int64)
        size = len(self._members[domain])
        if size > _SMALL and available > size * _RARE:
            kept = weight == self.weight
            wanted = count if kept or weight is None else _EXPLORED * count
            found = self._propose(domain, states, wanted, taken, weighted=kept)
            if len(found) >= min(wanted, available - len(taken)):
                return found[:count] if kept or weight is None else self._top(found, weight(found), count)
        pool = self._listed(domain, states)
        pool = pool[~np.isin(pool, taken)]
        return self._top(pool, np.ones(len(pool)) if weight is None else weight(pool), count)

    def _listed(self, domain: int, states: Collection[int]) -> np.ndarray:
        """All problems of `domain` in one of `states`, ascending."""
        if len(self._members[domain]) <= _SMALL:
            mine = self._members[domain]
            return mine[np.isin(self._state_N[mine], list(states))].astype(np.int64)
        matches = np.zeros(len(self._state_N), bool)
        for state in states:
            matches |= self._state_N == state
        found = np.flatnonzero(matches)
        return found[self._domain_N[found] == domain]

    def _propose(self, domain: int, states: Collection[int], count: int, taken: np.ndarray, *, weighted: bool) -> np.ndarray:
        members = self._members[domain]
        wanted_S = np.zeros(self.count_DS.shape[1], bool)
        wanted_S[list(states)] = True
        found = np.zeros(0, np.int64)
        looked = min(max(_GUESSES * count, _FEWEST), _MOST)
        for _ in range(_ROUNDS):
            guesses = members[self._rng.integers(len(members), size=looked)]
            accepted = wanted_S[self._state_N[guesses]]
            if weighted:
                accepted &= self._rng.random(looked, np.float32) < self._weight_N[guesses]
            fresh = guesses[accepted].astype(np.int64)
            fresh = fresh[~np.isin(fresh, taken)] if len(taken) else fresh
            found = np.concatenate([found, fresh])
            _, first = np.unique(found, return_index=True)
            found = found[np.sort(first)]
            if len(found) >= count:
                break
        return found[:count]

    def _top(self, pool: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
        keys = -np.log(np.maximum(weight, 1e-300)) - self._rng.gumbel(size=len(pool))
        best = np.argpartition(keys, count)[:count] if count < len(keys) else np.arange(len(keys))
        return pool[best[np.argsort(keys[best], kind="stable")]]

    def state_dict(self) -> dict[str, Any]:
        return {"state": self._state_N.copy(), "weight": self._weight_N.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state_N, self._weight_N = np.array(state["state"], np.uint8), np.array(state["weight"], np.float16)
        states = self.count_DS.shape[1]
        place_N = self._domain_N.astype(np.int64) * states + self._state_N
        self.count_DS = np.bincount(place_N, minlength=self.count_DS.size).reshape(self.count_DS.shape)
