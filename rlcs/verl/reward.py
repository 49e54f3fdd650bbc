"""Rewards inside verl's reward workers: our verifiers behind a pool that kills what takes too long.

Plugged in as `reward.reward_manager` (`source: importlib`). Each reward worker, a Ray actor, holds one `ScorePool`.
"""

import math
from typing import Any

import numpy as np
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from rewards import Verdict
from rlcs.scoring import scoring_pool
from rlcs.verl.dataset import settings_of

ROW, REPEATED = "score_row", "repeated"
"""Keys of what a reward worker is sent: the row to score, and whether the engine ended the response for repeating itself."""


class ProblemRewardManager(RewardManagerBase):
    """Scores one response at a time, as many at once as come: the calls of an async actor interleave, and `ScorePool` puts all
    its processes to work on them.

    A verdict without score (the verifier could not tell) has the reward NaN, which `rlcs.verl.objective` leaves out of
    advantages and loss; it is never a zero.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any, **_: Any) -> None:
        super().__init__(config, tokenizer, compute_score)
        self._pool = scoring_pool(settings_of(config))

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """The reward of the first item; see `score_request`."""
        row, repeated = data.non_tensor_batch[ROW][0], bool(data.non_tensor_batch[REPEATED][0])
        (verdict,) = await self._pool.score_async([row])
        if repeated:
            verdict = Verdict.format_error("repetition", verdict.extracted)
        return {"reward_score": number(verdict.score), "reward_extra_info": verdict_fields(verdict)}


def score_request(row: dict[str, Any], *, repeated: bool) -> DataProto:
    """What a reward worker is sent for one response; `row` as `ScorePool.score_async` takes it."""
    rows = np.empty(1, object)
    rows[0] = row
    return DataProto(batch=None, non_tensor_batch={ROW: rows, REPEATED: np.array([repeated])})


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """`reward_extra_info` of a verdict: numbers NaN and texts empty where there is none."""
    return {
        "score": number(verdict.score),
        "correct": number(verdict.correct),
        "status": verdict.status,
        "reason": verdict.reason or "",
        "extracted": verdict.extracted or "",
    }


def number(value: float | bool | None) -> float:
    """NaN for None."""
    return math.nan if value is None else float(value)
