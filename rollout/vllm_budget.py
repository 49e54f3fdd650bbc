"""The thinking budget inside vLLM: a logits processor that runs in the engine's worker processes."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from rollout.budget import BudgetTokens, ResponseBudget
from rollout.engine import ThinkingBudget

if TYPE_CHECKING:
    from vllm.config import VllmConfig

KEY = "rlcs"
"""Where vLLM's `additional_config` and a request's `extra_args` hold what is ours."""


class _Tracked:
    """One request: its budget and how many of its tokens the budget has seen."""

    __slots__ = ("budget", "seen", "tokens")

    def __init__(self, budget: ResponseBudget, tokens: list[int]) -> None:
        self.budget, self.tokens, self.seen = budget, tokens, 0

    def due(self) -> int | None:
        while self.seen < len(self.tokens):
            self.budget.push(self.tokens[self.seen])
            self.seen += 1
        return self.budget.due()


class BudgetProcessor(LogitsProcessor):
    """Masks all tokens but the one that a request's budget demands, and at all times the tokens a policy must not emit.

    `additional_config["rlcs"]` is what `engine_settings` makes, a request's `extra_args["rlcs"]` what
    `request_arguments` makes.
    """

    def __init__(self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool) -> None:
        settings = vllm_config.additional_config[KEY]
        self._suppressed = torch.tensor(settings["suppressed"], dtype=torch.long, device=device)
        tokens = settings["tokens"]
        self._tokens = BudgetTokens(**{**tokens, "forced_ids": tuple(tokens["forced_ids"])}) if tokens else None
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
            if arguments is not None and self._tokens is not None:
                budget = ThinkingBudget(arguments["think_tokens"], arguments["answer_tokens"])
                self._tracked[row] = _Tracked(ResponseBudget(arguments["phase"], budget, self._tokens), tokens)
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


def request_arguments(phase: int, budget: ThinkingBudget) -> dict[str, Any]:
    """`extra_args` of a request whose response begins in `phase` (`rollout.budget.initial_phase`)."""
    return {KEY: {"phase": phase, **asdict(budget)}}


def engine_settings(tokens: BudgetTokens | None, suppressed: list[int]) -> dict[str, Any]:
    """`additional_config` of the engine; `tokens` None where the vocabulary has no <think>."""
    return {KEY: {"suppressed": suppressed, "tokens": tokens and {**asdict(tokens), "forced_ids": list(tokens.forced_ids)}}}
