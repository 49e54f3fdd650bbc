"""Record of a batch being decoded. Axis suffixes: N sequences of the record, B those still running, T steps."""

import time
from dataclasses import dataclass

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


class Trace:
    """Tokens of N sequences over at most `limit` steps; sequence b of the running batch is row `rows_B[b]` of the
    record. `began`: the time (`time.perf_counter`) from which seconds count.
    """

    def __init__(self, sequences: int, limit: int, device: torch.device, began: float) -> None:
        self._began = began
        self.rows_B = torch.arange(sequences, device=device)
        self.done_B = torch.zeros(sequences, dtype=torch.bool, device=device)
        self._tokens_TN = torch.zeros(limit, sequences, dtype=torch.int32, device=device)
        self._logprobs_TN = torch.zeros(limit, sequences, device=device)
        self._forced_TN = torch.zeros(limit, sequences, dtype=torch.bool, device=device)
        self._length_N = torch.full((sequences,), limit, device=device)
        self._reason_N = torch.zeros(sequences, dtype=torch.int8, device=device)
        self._seconds_N = torch.full((sequences,), float("nan"), device=device)

    def record(self, step: int, tokens_B: torch.Tensor, logprobs_B: torch.Tensor, forced_B: torch.Tensor) -> None:
        """Writes the running sequences' tokens of one step; what follows a sequence's end is cut off in `drawn`."""
        self._tokens_TN[step, self.rows_B] = tokens_B.int()
        self._logprobs_TN[step, self.rows_B] = logprobs_B.masked_fill(forced_B, 0.0)
        self._forced_TN[step, self.rows_B] = forced_B

    def finish(self, step: int, stops_B: torch.Tensor, spent_B: torch.Tensor, loops_B: torch.Tensor) -> int:
        """Ends sequences after this step, by a stop token, a spent budget or a loop; -> how many are still running."""
        ends_B = (stops_B | spent_B | loops_B) & ~self.done_B
        rows = self.rows_B[ends_B]
        self._length_N[rows] = step + 1
        self._reason_N[rows] = torch.where(stops_B, 1, torch.where(loops_B, 2, 0))[ends_B].to(torch.int8)
        self.done_B = self.done_B | ends_B
        running = int((~self.done_B).sum())
        self._seconds_N[rows] = time.perf_counter() - self._began  # after the count, for which a GPU is waited for
        return running

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every running sequence but those at `rows` (int64) of the batch."""
        self.rows_B, self.done_B = self.rows_B[rows], self.done_B[rows]

    def drawn(self) -> list[Drawn]:
        """All N sequences, each cut at its own end."""
        tokens, logprobs, forced = (
            recorded.T.cpu().numpy() for recorded in (self._tokens_TN, self._logprobs_TN, self._forced_TN)
        )
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
