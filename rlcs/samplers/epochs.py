"""Drawing without replacement, epoch after epoch. Axis suffix: N problems."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlcs.samplers.base import NO_PROBLEMS

_WINDOW = 1024  # fewest problems looked at in one go


class EpochOrder:
    """A random order of each domain's problems, taken from its front; a new one begins where the last ends.

    `members`: the problems of each domain; `rng` is the sampler's, whose state the sampler saves.
    """

    def __init__(self, members: Sequence[np.ndarray], rng: np.random.Generator) -> None:
        self._rng = rng
        self._order = [rng.permutation(mine) for mine in members]
        self._cursor = [0] * len(self._order)
        self.epoch = [0] * len(self._order)

    def take(
        self,
        domain: int,
        count: int,
        avoid: np.ndarray = NO_PROBLEMS,
        accept: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """The next `count` problems of `domain`, distinct; fewer where no more than that are left in this epoch and the
        next.

        `avoid`: problems of the same step that must not come again; they keep their turn in the running epoch. `accept`
        tells which of some problems to take (bool); the others have had their turn.
        """
        order, start = self._order[domain], self._cursor[domain]
        rest = order[start:]
        hits, blocked, looked = _scan(rest, count, avoid, accept)
        taken = rest[hits]
        if len(blocked):
            keep = np.ones(looked, bool)
            keep[blocked] = False
            rest[:looked] = np.concatenate([rest[:looked][keep], rest[blocked]])
        self._cursor[domain] = start + looked - len(blocked)
        if (short := count - len(taken)) > 0:
            # The next epoch begins within this step: its first problems must not be ones the step already holds.
            following = self._rng.permutation(order)
            again = np.isin(following, np.concatenate([taken, avoid]))
            fresh = following[~again]
            hits, _, looked = _scan(fresh, short, NO_PROBLEMS, accept)
            if looked:
                later = self._rng.permutation(np.concatenate([fresh[looked:], following[again]]))
                self._order[domain] = np.concatenate([fresh[:looked], later])
                self._cursor[domain], self.epoch[domain] = looked, self.epoch[domain] + 1
                taken = np.concatenate([taken, fresh[hits]])
        return taken.astype(np.int64)

    def state_dict(self) -> dict[str, Any]:
        return {"order": [order.copy() for order in self._order], "cursor": list(self._cursor), "epoch": list(self.epoch)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._order = [np.array(order, own.dtype) for order, own in zip(state["order"], self._order, strict=True)]
        self._cursor, self.epoch = list(state["cursor"]), list(state["epoch"])


def _scan(
    queue: np.ndarray, count: int, avoid: np.ndarray, accept: Callable[[np.ndarray], np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Looks through `queue` from its front until `count` are found: their places, the places of those in `avoid`, and how
    many places were looked at.
    """
    hits, blocked, looked = [NO_PROBLEMS], [NO_PROBLEMS], 0
    while count > 0 and looked < len(queue):
        window = queue[looked : looked + max(_WINDOW, count + len(avoid))]
        held = np.isin(window, avoid) if len(avoid) else np.zeros(len(window), bool)
        found = np.flatnonzero(~held & accept(window) if accept else ~held)
        end = len(window) if len(found) < count else int(found[count - 1]) + 1
        hits.append(looked + found[:count])
        blocked.append(looked + np.flatnonzero(held[:end]))
        looked, count = looked + end, count - len(found[:count])
    return np.concatenate(hits), np.concatenate(blocked), looked
