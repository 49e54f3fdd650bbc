"""One step's rollouts as metrics, as a parquet table and as a console table, and the sampler's beliefs as a parquet
table.

Axis suffixes: P groups (one problem each), G samples of a group.
"""

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.markup import escape
from rich.table import Table

from rlcs.problems import Problem
from rlcs.scoring import SURPLUS, TRAINED, ScoredRollouts, question_of


def _mean(values: Iterable[float]) -> float:
    found = np.fromiter(values, np.float64)
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else float("nan")


def _summary(rollouts: ScoredRollouts, chosen: np.ndarray, fates: Sequence[str]) -> dict[str, float]:
    """Metrics of the groups at positions `chosen`; those without a single known value are left out.

    `entropy` is the mean of -log-probability over the sampled tokens, an unbiased estimate of the policy's entropy in
    nats a token.
    """
    completions = [completion for p in chosen for completion in rollouts.completions[p]]
    verdicts = [verdict for p in chosen for verdict in rollouts.verdicts[p]]
    mixed = [fates[p] in (TRAINED, SURPLUS) for p in chosen]
    forced = [bool(completion.forced.any()) for completion in completions]
    found = {
        "reward": _mean(verdict.score for verdict in verdicts if verdict.score is not None),
        "pass_rate": _mean(verdict.correct for verdict in verdicts if verdict.correct is not None),
        "mixed_fraction": _mean(mixed),
        "format_error_fraction": _mean(verdict.status == "format_error" for verdict in verdicts),
        "abstained_fraction": _mean(verdict.score is None for verdict in verdicts),
        "entropy": -_mean(np.concatenate([completion.logprobs[~completion.forced] for completion in completions])),
        "response_length": _mean(len(completion.token_ids) for completion in completions),
        "truncated_fraction": _mean(completion.finish_reason != "stop" for completion in completions),
        "repetition_fraction": _mean(completion.finish_reason == "repetition" for completion in completions),
        "forced_fraction": _mean(forced),
        "forced_pass_rate": _mean(
            verdict.correct for verdict, cut in zip(verdicts, forced, strict=True) if cut and verdict.correct is not None
        ),
        "groups_generated": float(len(chosen)),
        "groups_trained": float(sum(fates[p] == TRAINED for p in chosen)),
        **_spent(rollouts, chosen, fates),
    }
    return {name: value for name, value in found.items() if value == value}


def _spent(rollouts: ScoredRollouts, chosen: np.ndarray, fates: Sequence[str]) -> dict[str, float]:
    """Rollouts and tokens generated for the groups at positions `chosen`, those wasted on groups that were not trained
    on, and one counter for each fate ("groups/all-wrong").
    """
    found: Counter[str] = Counter()
    for p in chosen:
        sizes = [len(completion.token_ids) for completion in rollouts.completions[p]]
        found += Counter({f"groups/{fates[p]}": 1, "rollouts": len(sizes), "tokens": sum(sizes)})
        if fates[p] != TRAINED:
            found += Counter({"rollouts_wasted": len(sizes), "tokens_wasted": sum(sizes)})
    return {name: float(count) for name, count in {"rollouts_wasted": 0, "tokens_wasted": 0, **found}.items()}


def step_metrics(rollouts: ScoredRollouts, fates: Sequence[str]) -> dict[str, float]:
    """Metrics over all generated groups: pooled, per domain ("math/reward") and per mode ("thinking/reward").

    `fates` [P] as from `group_fates`. `mixed_fraction` counts all generated groups; "groups/all-wrong" and the like
    count each fate.
    """
    everything = np.arange(len(fates))
    domain = np.array([problem.domain for problem in rollouts.problems])
    mode = np.array(["thinking" if prompt.thinking else "nothink" for prompt in rollouts.prompts])
    metrics = _summary(rollouts, everything, fates)
    for labels in (domain, mode):
        for label in np.unique(labels):
            part = _summary(rollouts, np.flatnonzero(labels == label), fates)
            metrics |= {f"{label}/{name}": value for name, value in part.items()}
            metrics[f"tokens_per_s/response/{label}"] = _speed(rollouts, np.flatnonzero(labels == label))
    return metrics | {"tokens_per_s/response": _speed(rollouts, everything)}


def _speed(rollouts: ScoredRollouts, chosen: np.ndarray) -> float:
    """Tokens a second at which one response grows, the wait for its turn included."""
    completions = [completion for p in chosen for completion in rollouts.completions[p]]
    return sum(len(one.token_ids) for one in completions) / max(sum(one.seconds for one in completions), 1e-9)


def rollout_table(rollouts: ScoredRollouts, fates: Sequence[str], advantages_PG: np.ndarray, step: int) -> pa.Table:
    """One row a sample, groups in order: rollouts/step=NNNNNN.parquet. `advantage` is null where the group was not
    trained on.
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
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


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
    """The table as a zstd-compressed parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
