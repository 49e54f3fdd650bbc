"""Thinking budget (force answering), for a batch of sequences decoded in step. Axis suffix: B sequences."""

from collections.abc import Sequence

import torch

from rollout.engine import ThinkingBudget

OPENING, THINKING, FORCING, ANSWERING = range(4)
_NO_LIMIT = torch.iinfo(torch.int64).max


def initial_phase(prefill: str, *, thinking: bool) -> int:
    """Where a response stands when its prompt ends: a `/nothink` prompt is already past the thought."""
    if not thinking or "</think>" in prefill:
        return ANSWERING
    return THINKING if "<think>" in prefill else OPENING


class BudgetTracker:
    """Follows each sequence through <think>, thought, </think> and answer, and replaces sampled tokens by forced ones.

    `phases_B`: int64 from `initial_phase`; `open_id`, `close_id`: the tokens <think> and </think>; `forced_ids`: what
    is inserted when the thought runs over, beginning with `close_id`. The first token of a response is never replaced,
    so that <think> can open; a response that opens with anything else is thinking from that token on.
    """

    def __init__(
        self, phases_B: torch.Tensor, budget: ThinkingBudget, *, open_id: int, close_id: int, forced_ids: Sequence[int]
    ) -> None:
        if not forced_ids or forced_ids[0] != close_id:
            raise ValueError(f"forced tokens are {list(forced_ids)}; expected </think> (id {close_id}) first")
        self._phase_B = phases_B.clone()
        self._thought_B = torch.zeros_like(phases_B)
        self._answered_B = torch.zeros_like(phases_B)
        self._inserted_B = torch.zeros_like(phases_B)
        self._forced_ids = torch.tensor(forced_ids, device=phases_B.device)
        self._open_id, self._close_id = open_id, close_id
        self._think_limit = _NO_LIMIT if budget.think_tokens is None else budget.think_tokens
        self._answer_limit = _NO_LIMIT if budget.answer_tokens is None else budget.answer_tokens

    def step(self, sampled_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One token of each sequence -> (tokens int64 [B], forced bool [B], answer budget spent bool [B])."""
        due_B = (self._phase_B == THINKING) & (self._thought_B >= self._think_limit)
        phase_B = torch.where(due_B, FORCING, self._phase_B)
        forced_B = phase_B == FORCING
        insert_B = self._forced_ids[self._inserted_B.clamp(max=len(self._forced_ids) - 1)]
        tokens_B = torch.where(forced_B, insert_B, sampled_B)
        self._inserted_B += forced_B
        self._answered_B += phase_B == ANSWERING

        opens_B = (phase_B == OPENING) & (tokens_B == self._open_id)
        in_thought_B = (phase_B == OPENING) | (phase_B == THINKING)
        self._thought_B += in_thought_B & ~opens_B
        closes_B = (in_thought_B & (tokens_B == self._close_id)) | (forced_B & (self._inserted_B == len(self._forced_ids)))
        phase_B = torch.where(in_thought_B, THINKING, phase_B)
        self._phase_B = torch.where(closes_B, ANSWERING, phase_B)
        return tokens_B, forced_B, self._answered_B >= self._answer_limit

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every sequence but those at `rows` (int64 indices)."""
        self._phase_B, self._thought_B = self._phase_B[rows], self._thought_B[rows]
        self._answered_B, self._inserted_B = self._answered_B[rows], self._inserted_B[rows]
