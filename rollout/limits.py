"""What bounds one response of an engine that hands out its tokens one by one: the thinking budget, and repetition."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from rollout.budget import BudgetTokens, ResponseBudget
from rollout.engine import FinishReason, ThinkingBudget
from rollout.repetition import ResponseRepetition


class ResponseLimits:
    """Takes every token in turn (`push`) and says what the next one has to be (`due`; None: it is free).

    Once the response is over `ended` says why, and `due` is `end_id`, which the engine takes for a stop token and which
    is taken off again. `tokens` may be None where the budget is unlimited.
    """

    __slots__ = ("_budget", "_end_id", "_repetition", "ended")

    def __init__(
        self, phase: int, budget: ThinkingBudget, tokens: BudgetTokens | None, stop_repetition: int | None, end_id: int
    ) -> None:
        self._budget = None if tokens is None or budget.unlimited else ResponseBudget(phase, budget, tokens)
        self._repetition = None if stop_repetition is None else ResponseRepetition(stop_repetition)
        self._end_id = end_id
        self.ended: Literal["length", "repetition"] | None = None

    def push(self, token: int) -> bool:
        """Takes the next token; -> whether it was forced."""
        forced = self._budget is not None and self._budget.push(token)
        if self._repetition is not None and self._repetition.push(token):
            self.ended = "repetition"
        elif self._budget is not None and self._budget.spent:
            self.ended = "length"
        return forced

    def due(self) -> int | None:
        if self.ended is not None:
            return self._end_id
        return None if self._budget is None else self._budget.due()


def replayed(tokens: Sequence[int], limits: ResponseLimits, stop_ids: Sequence[int]) -> tuple[int, np.ndarray, FinishReason]:
    """How many tokens of a whole sequence are the response's, which of those were forced (bool [T]), and how it ended.

    `limits` are those of the response, new; what they demanded after its end is left out.
    """
    forced = np.zeros(len(tokens), bool)
    reason: FinishReason = "stop" if len(tokens) and int(tokens[-1]) in stop_ids else "length"
    for at, token in enumerate(tokens):
        forced[at] = limits.push(int(token))
        if limits.ended and not (reason == "stop" and at + 1 == len(tokens)):
            return at + 1, forced[: at + 1], limits.ended
    return len(tokens), forced, reason
