"""Record of a batch being decoded. Axis suffixes: N sequences of the record, B those still running, T steps."""

import time
from dataclasses import dataclass, field

import numpy as np
import torch

from rollout.engine import FinishReason

_REASONS: tuple[FinishReason, ...] = ("length", "stop", "repetition")


@dataclass(frozen=True, eq=False)
class Drawn:
    """One finished sequence: token ids int32 [T], log-probabilities float32 [T], forced bool [T], what ended it, and the
    seconds from the record's beginning to its last token.
    """

    tokens: np.ndarray
    logprobs: np.ndarray
    forced: np.ndarray
    finish_reason: FinishReason
    seconds: float


@dataclass
class _Stretch:
    """Steps that one batch took, until sequences left it: B tokens a step, and which rows of the record they are."""

    rows_B: torch.Tensor
    tokens: list[torch.Tensor] = field(default_factory=list)
    logprobs: list[torch.Tensor] = field(default_factory=list)
    forced: list[torch.Tensor] = field(default_factory=list)


class Trace:
    """Tokens of N sequences over at most `limit` steps; sequence b of the running batch is row `rows_B[b]` of the
    record. `began`: the time (`time.perf_counter`) from which seconds count.
    """

    def __init__(self, sequences: int, limit: int, device: torch.device, began: float) -> None:
        self._began, self._limit = began, limit
        self.rows_B = torch.arange(sequences, device=device)
        self.done_B = torch.zeros(sequences, dtype=torch.bool, device=device)
        self._running = sequences
        self._stretches = [_Stretch(self.rows_B)]
        self._length_N = torch.full((sequences,), limit, device=device)
        self._reason_N = torch.zeros(sequences, dtype=torch.int8, device=device)
        self._seconds_N = torch.full((sequences,), float("nan"), device=device)

    def record(self, tokens_B: torch.Tensor, logprobs_B: torch.Tensor, forced_B: torch.Tensor) -> None:
        """Takes down the batch's tokens of the next step; what follows a sequence's end is cut off in `drawn`."""
        stretch = self._stretches[-1]
        stretch.tokens.append(tokens_B)
        stretch.logprobs.append(logprobs_B)
        stretch.forced.append(forced_B)

    def finish(self, step: int, stops_B: torch.Tensor, spent_B: torch.Tensor, loops_B: torch.Tensor) -> int:
        """Ends sequences after this step, by a stop token, a spent budget or a loop; -> how many are still running."""
        ends_B = (stops_B | spent_B | loops_B) & ~self.done_B
        ended = int(ends_B.sum())
        if ended:
            rows = self.rows_B[ends_B]
            self._length_N[rows] = step + 1
            self._reason_N[rows] = torch.where(stops_B, 1, torch.where(loops_B, 2, 0))[ends_B].to(torch.int8)
            self._seconds_N[rows] = time.perf_counter() - self._began  # after the count, for which a GPU is waited for
            self.done_B = self.done_B | ends_B
            self._running -= ended
        return self._running

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every running sequence but those at `rows` (int64) of the batch."""
        self.rows_B, self.done_B = self.rows_B[rows], self.done_B[rows]
        self._stretches.append(_Stretch(self.rows_B))

    def drawn(self) -> list[Drawn]:
        """All N sequences, each cut at its own end."""
        tokens, logprobs, forced = self._columns()
        seconds_N = self._seconds_N.nan_to_num(nan=time.perf_counter() - self._began)
        ends = zip(self._length_N.tolist(), self._reason_N.tolist(), seconds_N.tolist(), strict=True)
        return [
            Drawn(
                tokens[row, :end].copy(),
                logprobs[row, :end].copy(),
                forced[row, :end].copy(),
                _REASONS[reason],
                seconds,
            )
            for row, (end, reason, seconds) in enumerate(ends)
        ]

    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens int32, log-probabilities float32 (0 where forced) and forced bool, each [N, steps]."""
        shape = (self._limit, len(self._length_N))
        tokens_TN, logprobs_TN = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        forced_TN, first = np.zeros(shape, np.bool_), 0
        for stretch in (stretch for stretch in self._stretches if stretch.tokens):
            steps, rows_B = slice(first, first + len(stretch.tokens)), stretch.rows_B.cpu().numpy()
            for column_TN, recorded in (
                (tokens_TN, stretch.tokens),
                (logprobs_TN, stretch.logprobs),
                (forced_TN, stretch.forced),
            ):
                column_TN[steps, rows_B] = torch.stack(recorded).cpu().numpy()
            first = steps.stop
        logprobs_TN[forced_TN] = 0.0
        return tokens_TN.T, logprobs_TN.T, forced_TN.T
