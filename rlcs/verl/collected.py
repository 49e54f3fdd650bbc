"""What verl's TransferQueue holds of finished groups, as the local engine's `ScoredRollouts`.

So that outcomes, fates, metrics and tables are made by the same code for either engine. Axis suffixes: P groups, G samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rewards import Verdict
from rlcs.problems import Problem
from rlcs.scoring import ScoredRollouts
from rollout.encoded import Encoded, Prompt
from rollout.engine import Completion

FIELDS = ["responses", "response_mask", "rollout_log_probs", "extra_fields"]
"""What is read of each sample."""

FAILED = "rollout-failed"
"""Reason of the verdict on a sample that verl has no response of: its generation or its reward raised an error."""

_NO_INPUTS = Encoded(np.zeros(0, np.int64), np.zeros((3, 0), np.int64), np.zeros(0, bool), ())


@dataclass(frozen=True)
class Asked:
    """A group that verl generates: the problem's place in its dataset, and verl's random name for this visit to it."""

    uid: str
    index: int


def session_of(key: str) -> tuple[str, int]:
    """(uid, session) of a sample's key in the TransferQueue, `{uid}_{session}_{output}`."""
    uid, session, _ = key.rsplit("_", 2)
    return uid, int(session)


def scored_rollouts(
    asked: Sequence[Asked],
    problems: Sequence[Problem],
    thinking_N: np.ndarray,
    rows: Mapping[str, Mapping[str, Any]],
    versions: Mapping[str, int],
    group_size: int,
) -> ScoredRollouts:
    """The groups in the order they were asked for.

    `rows`: `FIELDS` of each sample's key, as tensors and dicts; `versions`: policy updates behind the weights it was drawn
    with. A sample that is not there has failed and abstains, so that no group is short of one.
    """
    places = {session_of(key): key for key in rows}
    completions, verdicts = [], []
    for group in asked:
        keys = [places.get((group.uid, session)) for session in range(group_size)]
        completions.append([_NOTHING if key is None else _completion(rows[key], versions[key]) for key in keys])
        verdicts.append([Verdict.abstained(FAILED) if key is None else _verdict(rows[key]) for key in keys])
    indices = np.array([group.index for group in asked], np.int64)
    chosen = [problems[index] for index in indices]
    prompts = [Prompt(_NO_INPUTS, "", bool(thinking_N[index]), problems[index].id) for index in indices]
    return ScoredRollouts(indices, chosen, prompts, completions, verdicts)


_NOTHING = Completion(
    np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, bool), finish_reason="length", text="", weight_version=0
)


def _completion(row: Mapping[str, Any], version: int) -> Completion:
    extra = row["extra_fields"]
    return Completion(
        token_ids=row["responses"].numpy().astype(np.int32),
        logprobs=row["rollout_log_probs"].numpy().astype(np.float32),
        forced=row["response_mask"].numpy() == 0,
        finish_reason=extra["finish_reason"],
        text=extra["text"],
        weight_version=version,
        seconds=float(extra["seconds"]),
    )


def _verdict(row: Mapping[str, Any]) -> Verdict:
    """The verdict that `rlcs.verl.reward.verdict_fields` spelled out."""
    found = row["extra_fields"]["reward_extra_info"]
    known = found["score"] == found["score"]
    return Verdict(
        float(found["score"]) if known else None,
        bool(found["correct"]) if known else None,
        found["status"],
        found["extracted"] or None,
        found["reason"] or None,
    )
