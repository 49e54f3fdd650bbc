"""What bounds one response of an engine that hands out its tokens one by one: the thinking budget, and repetition."""

from typing import Literal

from rollout.budget import BudgetTokens, ResponseBudget
from rollout.engine import ThinkingBudget
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
