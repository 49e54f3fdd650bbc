"""The order of training examples: a fresh shuffle every epoch, and a fresh choice of those in non-thinking form."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class ExampleStream:
    """An endless sequence of (index of an example, whether in non-thinking form), saved and restored exactly.

    An epoch holds every example once. Of those that can change form (`thinks`), exactly the fraction `nothink_ratio`, rounded,
    is rewritten in it; over the epochs an example is seen in both forms. Draws run on over the end of an epoch.
    """

    def __init__(self, thinks: Sequence[bool], nothink_ratio: float, rng: np.random.Generator) -> None:
        if not len(thinks):
            raise ValueError("no examples to draw from")
        self._thinking = np.flatnonzero(thinks)
        self._own_form = ~np.asarray(thinks, bool)
        self._ratio, self._rng = nothink_ratio, rng
        self.epoch = -1
        self._order = np.empty(0, np.int64)
        self._nothink = np.empty(0, bool)
        self._cursor = 0
        self._begin_epoch()

    def draw(self, count: int) -> list[tuple[int, bool]]:
        """The next `count` examples."""
        drawn: list[tuple[int, bool]] = []
        while len(drawn) < count:
            if self._cursor == len(self._order):
                self._begin_epoch()
            indices = self._order[self._cursor : self._cursor + count - len(drawn)]
            drawn += zip(indices.tolist(), self._nothink[indices].tolist(), strict=True)
            self._cursor += len(indices)
        return drawn

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "cursor": self._cursor,
            "order": self._order.copy(),
            "nothink": self._nothink.copy(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["order"]) != len(self._order):
            raise ValueError(
                f"saved order of {len(state['order'])} examples, this run has {len(self._order)}; use the same file"
            )
        self.epoch, self._cursor = int(state["epoch"]), int(state["cursor"])
        self._order, self._nothink = np.array(state["order"], np.int64), np.array(state["nothink"], bool)
        self._rng.bit_generator.state = state["rng"]

    def _begin_epoch(self) -> None:
        rewritten = self._rng.permutation(self._thinking)[: round(self._ratio * len(self._thinking))]
        self._nothink = self._own_form.copy()
        self._nothink[rewritten] = True
        self._order = self._rng.permutation(len(self._own_form))
        self._cursor = 0
        self.epoch += 1
