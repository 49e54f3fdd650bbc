"""One step's rollouts as metrics, as a parquet table and as a console table, and the sampler's beliefs as a parquet
table.

Axis suffixes: P groups (one problem each), G samples of a group, B samples of all groups, T their tokens end to end.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.markup import escape
from rich.table import Table

from rlcs.problems import Problem
from rlcs.scoring import SURPLUS, TRAINED, ScoredRollouts, question_of


@dataclass(frozen=True, eq=False)
class _Samples:
    """A step's samples as columns, groups in order: `group_B` is a sample's place among the groups, rewards and outcomes are
    NaN where the verifier could not tell, `logprob_B` is the sum over the `own_B` tokens that were not forced.
    """

    group_B: np.ndarray
    reward_B: np.ndarray
    correct_B: np.ndarray
    format_error_B: np.ndarray
    tokens_B: np.ndarray
    own_B: np.ndarray
    logprob_B: np.ndarray
    forced_B: np.ndarray
    finish_B: np.ndarray
    seconds_B: np.ndarray

    @classmethod
    def of(cls, rollouts: ScoredRollouts) -> Self:
        completions = [completion for group in rollouts.completions for completion in group]
        verdicts = [verdict for group in rollouts.verdicts for verdict in group]
        tokens_B = np.array([len(one.token_ids) for one in completions], np.int64)
        forced_T = np.concatenate([one.forced for one in completions])
        logprobs_T = np.concatenate([one.logprobs for one in completions])
        own_T = ~forced_T & ~np.isnan(logprobs_T)
        return cls(
            group_B=np.repeat(np.arange(len(rollouts.completions)), [len(group) for group in rollouts.completions]),
            reward_B=np.array([one.score for one in verdicts], np.float64),
            correct_B=np.array([one.correct for one in verdicts], np.float64),
            format_error_B=np.array([one.status == "format_error" for one in verdicts], bool),
            tokens_B=tokens_B,
            own_B=_sums(own_T, tokens_B),
            logprob_B=_sums(np.where(own_T, logprobs_T, 0.0), tokens_B),
            forced_B=_sums(forced_T, tokens_B) > 0,
            finish_B=np.array([one.finish_reason for one in completions], str),
            seconds_B=np.array([one.seconds for one in completions], np.float64),
        )

    def part(self, chosen_P: np.ndarray) -> Self:
        """Those of some groups; `chosen_P` bool."""
        chosen_B = chosen_P[self.group_B]
        return type(self)(*(getattr(self, field.name)[chosen_B] for field in fields(self)))


def _sums(values_T: np.ndarray, lengths_B: np.ndarray) -> np.ndarray:
    """Sums float64 [B] over each sample's tokens, which lie end to end."""
    sums_B = np.zeros(len(lengths_B))
    starts_B = np.cumsum(lengths_B) - lengths_B
    some_B = lengths_B > 0  # a sum from one start to the next takes a token even of those that have none
    if some_B.any():
        sums_B[some_B] = np.add.reduceat(values_T, starts_B[some_B], dtype=np.float64)
    return sums_B


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _summary(samples: _Samples, fates: np.ndarray) -> dict[str, float]:
    """Metrics of groups with these samples and `fates` (str [P]); those without a single known value are left out.

    `entropy` is the mean of -log-probability over the sampled tokens, an unbiased estimate of the policy's entropy in
    nats a token.
    """
    own = float(samples.own_B.sum())
    found = {
        "reward": _mean(samples.reward_B),
        "pass_rate": _mean(samples.correct_B),
        "mixed_fraction": float(np.isin(fates, (TRAINED, SURPLUS)).mean()),
        "format_error_fraction": float(samples.format_error_B.mean()),
        "abstained_fraction": float(np.isnan(samples.reward_B).mean()),
        "entropy": -float(samples.logprob_B.sum()) / own if own else float("nan"),
        "response_length": float(samples.tokens_B.mean()),
        "truncated_fraction": float((samples.finish_B != "stop").mean()),
        "repetition_fraction": float((samples.finish_B == "repetition").mean()),
        "forced_fraction": float(samples.forced_B.mean()),
        "forced_pass_rate": _mean(samples.correct_B[samples.forced_B]),
        "groups_generated": float(len(fates)),
        "groups_trained": float((fates == TRAINED).sum()),
    }
    return {name: value for name, value in found.items() if value == value}


def _spent(samples: _Samples, fates_P: np.ndarray, chosen_P: np.ndarray) -> dict[str, float]:
    """Rollouts and tokens generated for some groups, those wasted on groups that were not trained on, and one counter for each
    fate ("groups/all-wrong"). `fates_P` are those of all groups, `samples` those of the groups `chosen_P` (bool).
    """
    wasted_B = fates_P[samples.group_B] != TRAINED
    counts = {
        f"groups/{fate}": int(count) for fate, count in zip(*np.unique(fates_P[chosen_P], return_counts=True), strict=True)
    }
    sums = {
        "rollouts": len(wasted_B),
        "tokens": samples.tokens_B.sum(),
        "rollouts_wasted": wasted_B.sum(),
        "tokens_wasted": samples.tokens_B[wasted_B].sum(),
    }
    return {name: float(count) for name, count in (counts | sums).items()}


def step_metrics(rollouts: ScoredRollouts, fates: Sequence[str]) -> dict[str, float]:
    """Metrics over all generated groups: pooled, per domain ("math/reward") and per mode ("thinking/reward").

    `fates` [P] as from `group_fates`. `mixed_fraction` counts all generated groups; "groups/all-wrong" and the like
    count each fate.
    """
    fates_P = np.array(fates, str)
    samples = _Samples.of(rollouts)
    domain_P = np.array([problem.domain for problem in rollouts.problems], str)
    mode_P = np.array(["thinking" if prompt.thinking else "nothink" for prompt in rollouts.prompts], str)
    parts = {"": np.ones(len(fates_P), bool)}
    parts |= {str(label): labels_P == label for labels_P in (domain_P, mode_P) for label in np.unique(labels_P)}
    metrics: dict[str, float] = {}
    for label, chosen_P in parts.items():
        part = samples.part(chosen_P) if label else samples
        found = _summary(part, fates_P[chosen_P]) | _spent(part, fates_P, chosen_P)
        metrics |= {f"{label}/{name}" if label else name: value for name, value in found.items()}
        # Tokens a second at which one response grows, the wait for its turn included.
        speed = float(part.tokens_B.sum()) / max(float(part.seconds_B.sum()), 1e-9)
        metrics[f"tokens_per_s/response/{label}".rstrip("/")] = speed
    return metrics


def rollout_table(
    rollouts: ScoredRollouts, fates: Sequence[str], advantages_PG: np.ndarray, step: int, *, tokens: bool = True
) -> pa.Table:
    """One row a sample, groups in order: rollouts/step=NNNNNN.parquet. `advantage` is null where the group was not
    trained on. `tokens` adds columns with the lists of `TOKENS`.
    """
    rows = []
    for p, (problem, prompt) in enumerate(zip(rollouts.problems, rollouts.prompts, strict=True)):
        for g, (completion, verdict) in enumerate(zip(rollouts.completions[p], rollouts.verdicts[p], strict=True)):
            own = completion.logprobs[~completion.forced]
            rows.append(
                {
                    "step": step,
                    "index": int(rollouts.indices[p]),
                    "id": problem.id,
                    "domain": problem.domain,
                    "tier": problem.tier,
                    "sample": g,
                    "thinking": prompt.thinking,
                    "question": question_of(problem),
                    "answer": json.dumps(problem.answer, ensure_ascii=False),
                    "response": completion.text,
                    "reward": verdict.score,
                    "correct": verdict.correct,
                    "status": verdict.status,
                    "reason": verdict.reason,
                    "extracted": verdict.extracted,
                    "fate": fates[p],
                    "advantage": float(advantages_PG[p, g]) if fates[p] == TRAINED else None,
                    "tokens": len(completion.token_ids),
                    "forced_tokens": int(completion.forced.sum()),
                    "finish_reason": completion.finish_reason,
                    "mean_logprob": float(own.mean()) if len(own) else None,
                    "weight_version": completion.weight_version,
                }
            )
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    return _with_tokens(table, rollouts) if tokens else table


TOKENS = {"token_ids": pa.int32(), "token_logprobs": pa.float32(), "token_forced": pa.bool_()}
"""Columns of lists over a response's tokens, as `rollout.engine.Completion` has them, and the type of their elements."""


def _with_tokens(table: pa.Table, rollouts: ScoredRollouts) -> pa.Table:
    """Laid end to end, which is how Arrow keeps lists: nothing is done token by token."""
    completions = [completion for group in rollouts.completions for completion in group]
    starts_B = np.cumsum([0, *(len(one.token_ids) for one in completions)])
    parts = {
        "token_ids": [one.token_ids for one in completions],
        "token_logprobs": [one.logprobs for one in completions],
        "token_forced": [one.forced for one in completions],
    }
    for name, of_element in TOKENS.items():
        tokens_T = pa.array(np.concatenate(parts[name]), of_element)
        table = table.append_column(name, pa.ListArray.from_arrays(pa.array(starts_B, pa.int32()), tokens_T))
    return table


_SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("index", pa.int64()),
        ("id", pa.string()),
        ("domain", pa.string()),
        ("tier", pa.string()),
        ("sample", pa.int32()),
        ("thinking", pa.bool_()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("response", pa.string()),
        ("reward", pa.float64()),
        ("correct", pa.bool_()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("extracted", pa.string()),
        ("fate", pa.string()),
        ("advantage", pa.float64()),
        ("tokens", pa.int32()),
        ("forced_tokens", pa.int32()),
        ("finish_reason", pa.string()),
        ("mean_logprob", pa.float64()),
        ("weight_version", pa.int64()),
    ]
)


def difficulty_table(problems: Sequence[Problem], columns: dict[str, np.ndarray], step: int) -> pa.Table:
    """One row a problem with the sampler's beliefs: difficulty/step=NNNNNN.parquet."""
    head: dict[str, Any] = {
        "step": pa.array(np.full(len(problems), step, np.int32)),
        "index": pa.array(np.arange(len(problems))),
        "id": pa.array([problem.id for problem in problems]),
        "domain": pa.array([problem.domain for problem in problems]),
        "tier": pa.array([problem.tier for problem in problems], pa.string()),
    }
    return pa.table(head | {name: pa.array(column) for name, column in columns.items()})


def console_table(rollouts: ScoredRollouts, fates: Sequence[str], step: int, *, rows: int = 6) -> Table:
    """A few samples for the eye: of each domain in turn the first groups' best and worst response."""
    table = Table(title=f"rollouts of step {step}", expand=True)
    for name, ratio in (("question", 4), ("response", 8), ("reference", 3), ("verdict", 3)):
        table.add_column(name, ratio=ratio, overflow="fold")
    by_domain: dict[str, list[int]] = {}
    for p, problem in enumerate(rollouts.problems):
        by_domain.setdefault(problem.domain, []).append(p)
    turns = [p for turn in zip_longest(*by_domain.values()) for p in turn if p is not None]
    for p in turns[: max(1, rows // 2)]:
        problem = rollouts.problems[p]
        rewards = np.nan_to_num(rollouts.rewards_PG[p], nan=-1.0)
        for g in dict.fromkeys((int(rewards.argmax()), int(rewards.argmin()))):
            verdict = rollouts.verdicts[p][g]
            reward = "-" if verdict.score is None else f"{verdict.score:.2f}"
            cells = (
                f"{problem.domain} {problem.tier or ''}\n{question_of(problem)}",
                rollouts.completions[p][g].text,
                json.dumps(problem.answer, ensure_ascii=False),
                f"{reward}\n{verdict.reason or verdict.status}\n{fates[p]}",
            )
            table.add_row(*(escape(cell) for cell in cells))
    return table


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as a zstd-compressed parquet file.

    Hardly two log-probabilities are equal: a dictionary of them takes a quarter more room and ten times as long as their bytes
    laid out by place.
    """
    sink = io.BytesIO()
    floats = [
        field.name for field in table.schema if pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type)
    ]
    others = [field for field in table.schema if field.name not in floats]
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=[f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name for field in others],
        use_byte_stream_split=[f"{name}.list.element" for name in floats],
    )
    return sink.getvalue()
