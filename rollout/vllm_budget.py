"""The limits on responses inside vLLM: a logits processor that runs in the engine's worker processes."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from rollout.budget import BudgetTokens
from rollout.engine import ThinkingBudget
from rollout.limits import ResponseLimits

if TYPE_CHECKING:
    from vllm.config import VllmConfig

KEY = "rlcs"
"""Where vLLM's `additional_config` and a request's `extra_args` hold what is ours."""


class _Tracked:
    """One request: its limits and how many of its tokens these have seen."""

    __slots__ = ("limits", "seen", "tokens")

    def __init__(self, limits: ResponseLimits, tokens: list[int]) -> None:
        self.limits, self.tokens, self.seen = limits, tokens, 0

    def due(self) -> int | None:
        while self.seen < len(self.tokens):
            self.limits.push(self.tokens[self.seen])
            self.seen += 1
        return self.limits.due()


class BudgetProcessor(LogitsProcessor):
    """Masks all tokens but the one that a request's limits demand, and at all times the tokens a policy must not emit.

    `additional_config["rlcs"]` is what `engine_settings` makes, a request's `extra_args["rlcs"]` what
    `request_arguments` makes.
    """

    def __init__(self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool) -> None:
        settings = vllm_config.additional_config[KEY]
        self._suppressed = torch.tensor(settings["suppressed"], dtype=torch.long, device=device)
        tokens = settings["tokens"]
        self._tokens = BudgetTokens(**{**tokens, "forced_ids": tuple(tokens["forced_ids"])}) if tokens else None
        self._end_id: int = settings["end_id"]
        self._tracked: dict[int, _Tracked] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._tracked.pop(row, None)
        for row, params, _, tokens in batch_update.added:
            self._tracked.pop(row, None)
            arguments = (params.extra_args or {}).get(KEY)
            if arguments is not None:
                budget = ThinkingBudget(arguments["think_tokens"], arguments["answer_tokens"])
                rules = (arguments["phase"], budget, self._tokens, arguments["stop_repetition"], self._end_id)
                self._tracked[row] = _Tracked(ResponseLimits(*rules), tokens)
        for first, second, direction in batch_update.moved:
            moved, other = self._tracked.pop(first, None), self._tracked.pop(second, None)
            if moved is not None:
                self._tracked[second] = moved
            if other is not None and direction is MoveDirectionality.SWAP:
                self._tracked[first] = other

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if len(self._suppressed):
            logits[:, self._suppressed] = float("-inf")
        due = {row: token for row, one in self._tracked.items() if (token := one.due()) is not None}
        if due:
            rows = torch.tensor(list(due), device=logits.device)
            logits[rows] = float("-inf")
            logits[rows, torch.tensor(list(due.values()), device=logits.device)] = 0.0
        return logits


def request_arguments(phase: int, budget: ThinkingBudget, stop_repetition: int | None) -> dict[str, Any] | None:
    """`extra_args` of a request whose response begins in `phase` (`rollout.budget.initial_phase`); None for no limits."""
    if budget.unlimited and stop_repetition is None:
        return None
    return {KEY: {"phase": phase, **asdict(budget), "stop_repetition": stop_repetition}}


def engine_settings(tokens: BudgetTokens | None, suppressed: list[int], end_id: int) -> dict[str, Any]:
    """`additional_config` of the engine; `tokens` None where the vocabulary has no <think>; `end_id` ends a response."""
    rules = tokens and {**asdict(tokens), "forced_ids": list(tokens.forced_ids)}
    return {KEY: {"suppressed": suppressed, "tokens": rules, "end_id": end_id}}
