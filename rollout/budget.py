"""Thinking budget (force answering), for a batch of sequences decoded in step and for one response. Axis suffix: B
sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rollout.engine import ThinkingBudget

OPENING, THINKING, FORCING, ANSWERING = range(4)
_NO_LIMIT = torch.iinfo(torch.int64).max


def budgets_of(budget: ThinkingBudget | Sequence[ThinkingBudget] | None, prompts: int) -> list[ThinkingBudget]:
    """One budget for each of `prompts` prompts. Raises ValueError for another number of them."""
    if budget is None or isinstance(budget, ThinkingBudget):
        return [budget or ThinkingBudget()] * prompts
    if len(budget) != prompts:
        raise ValueError(f"{len(budget)} budgets for {prompts} prompts; give one, or one for each")
    return list(budget)


def initial_phase(prefill: str, *, thinking: bool) -> int:
    """Where a response stands when its prompt ends: a `/nothink` prompt is already past the thought."""
    if not thinking or "</think>" in prefill:
        return ANSWERING
    return THINKING if "<think>" in prefill else OPENING


def _limit(tokens: int | None) -> int:
    return _NO_LIMIT if tokens is None else tokens


@dataclass(frozen=True)
class BudgetTokens:
    """Token ids the budget works with: <think>, </think>, what is inserted when a thought runs over (beginning with
    </think>), and the end of a turn.
    """

    open_id: int
    close_id: int
    forced_ids: tuple[int, ...]
    end_id: int

    def __post_init__(self) -> None:
        if not self.forced_ids or self.forced_ids[0] != self.close_id:
            raise ValueError(f"forced tokens are {list(self.forced_ids)}; expected </think> (id {self.close_id}) first")


class BudgetTracker:
    """Follows each sequence through <think>, thought, </think> and answer, and replaces sampled tokens by forced ones.

    `phases_B`: int64 from `initial_phase`; `budgets`: one a sequence. The first token of a response is never replaced,
    so that <think> can open; a response that opens with anything else is thinking from that token on.
    """

    def __init__(self, phases_B: torch.Tensor, budgets: Sequence[ThinkingBudget], tokens: BudgetTokens) -> None:
        device = phases_B.device
        self._phase_B = phases_B.clone()
        self._thought_B = torch.zeros_like(phases_B)
        self._answered_B = torch.zeros_like(phases_B)
        self._inserted_B = torch.zeros_like(phases_B)
        self._forced_ids = torch.tensor(tokens.forced_ids, device=device)
        self._open_id, self._close_id = tokens.open_id, tokens.close_id
        limits = [[_limit(budget.think_tokens), _limit(budget.answer_tokens)] for budget in budgets]
        self._think_limit_B, self._answer_limit_B = torch.tensor(limits, device=device).reshape(-1, 2).unbind(1)

    def step(self, sampled_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One token of each sequence -> (tokens int64 [B], forced bool [B], answer budget spent bool [B])."""
        due_B = (self._phase_B == THINKING) & (self._thought_B >= self._think_limit_B)
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
        return tokens_B, forced_B, self._answered_B >= self._answer_limit_B

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every sequence but those at `rows` (int64 indices)."""
        self._phase_B, self._thought_B = self._phase_B[rows], self._thought_B[rows]
        self._answered_B, self._inserted_B = self._answered_B[rows], self._inserted_B[rows]
        self._think_limit_B, self._answer_limit_B = self._think_limit_B[rows], self._answer_limit_B[rows]


class ResponseBudget:
    """The same rules for one response decoded by an engine that hands out its tokens: which token must come next.

    `push` takes every token in turn; `due` then says what the next one has to be (None: it is free). When the answer's
    tokens are spent `due` is `end_id`, which the engine takes for a stop token and `replayed` takes off again.
    """

    __slots__ = ("_answered", "_inserted", "_limits", "_phase", "_rules", "_thought")

    def __init__(self, phase: int, budget: ThinkingBudget, rules: BudgetTokens) -> None:
        self._phase, self._rules = phase, rules
        self._limits = (_limit(budget.think_tokens), _limit(budget.answer_tokens))
        self._thought = self._answered = self._inserted = 0

    def due(self) -> int | None:
        if self._phase == FORCING or (self._phase == THINKING and self._thought >= self._limits[0]):
            return self._rules.forced_ids[self._inserted]
        return self._rules.end_id if self._answered >= self._limits[1] else None

    @property
    def spent(self) -> bool:
        """Whether the answer's tokens are used up."""
        return self._answered >= self._limits[1]

    def push(self, token: int) -> bool:
        """Takes the next token; -> whether it was forced."""
        rules = self._rules
        if self._phase == FORCING or (self._phase == THINKING and self._thought >= self._limits[0]):
            self._inserted += 1
            self._phase = ANSWERING if self._inserted == len(rules.forced_ids) else FORCING
            return True
        if self._phase == ANSWERING:
            self._answered += 1
        elif token == rules.close_id:
            self._phase = ANSWERING
        else:
            self._thought += self._phase == THINKING or token != rules.open_id
            self._phase = THINKING
        return False
