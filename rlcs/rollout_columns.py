"""Scored rollouts as columns, for a checkpoint: numbers end to end in arrays, words in lists.

What follows from the problem file (problems, prompts) is not kept.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from rewards import Verdict
from rlcs.problems import Problem
from rlcs.scoring import ScoredRollouts
from rollout.encoded import Prompt
from rollout.engine import Completion


def to_columns(rollouts: ScoredRollouts) -> dict[str, Any]:
    """Columns over all samples, group by group; tokens of all of them laid end to end."""
    completions = list(chain.from_iterable(rollouts.completions))
    verdicts = list(chain.from_iterable(rollouts.verdicts))
    return {
        "indices": np.asarray(rollouts.indices, np.int64),
        "group_sizes": np.array([len(group) for group in rollouts.completions], np.int64),
        "lengths": np.array([len(completion.token_ids) for completion in completions], np.int64),
        "token_ids": np.concatenate([completion.token_ids for completion in completions]).astype(np.int32),
        "logprobs": np.concatenate([completion.logprobs for completion in completions]).astype(np.float32),
        "forced": np.concatenate([completion.forced for completion in completions]).astype(bool),
        "finish_reason": [completion.finish_reason for completion in completions],
        "text": [completion.text for completion in completions],
        "weight_version": [completion.weight_version for completion in completions],
        "seconds": [completion.seconds for completion in completions],
        "score": [verdict.score for verdict in verdicts],
        "correct": [verdict.correct for verdict in verdicts],
        "status": [verdict.status for verdict in verdicts],
        "extracted": [verdict.extracted for verdict in verdicts],
        "reason": [verdict.reason for verdict in verdicts],
    }


def from_columns(columns: dict[str, Any], problems: Sequence[Problem], prompts: Sequence[Prompt]) -> ScoredRollouts:
    """The rollouts again; `problems` and `prompts` are those at `indices`."""
    ends = np.cumsum(columns["lengths"])[:-1]
    tokens = (np.split(columns[name], ends) for name in ("token_ids", "logprobs", "forced"))
    words = (columns[name] for name in ("finish_reason", "text", "weight_version", "seconds"))
    completions = [Completion(*fields) for fields in zip(*tokens, *words, strict=True)]
    judged = (columns[name] for name in ("score", "correct", "status", "extracted", "reason"))
    verdicts = [Verdict(*fields) for fields in zip(*judged, strict=True)]
    groups = np.split(np.arange(len(completions)), np.cumsum(columns["group_sizes"])[:-1])
    return ScoredRollouts(
        np.asarray(columns["indices"], np.int64),
        problems,
        prompts,
        [[completions[place] for place in group] for group in groups],
        [[verdicts[place] for place in group] for group in groups],
    )
