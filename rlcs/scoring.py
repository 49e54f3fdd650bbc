"""Scoring a step's rollouts and deciding each group's fate. Axis suffixes: P groups (one problem each), G samples of a
group.

A response that the engine ended because it repeated itself (`stop_repetition`) is a format error with the reason
"repetition", like one that the style check of that name rejects, whatever it had answered by then.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from rewards import ScorePool, Verdict
from rlcs.eval_config import EvalConfig
from rlcs.grade_config import GradeConfig
from rlcs.problems import Problem
from rlcs.rl_config import RlConfig
from rlcs.samplers import Sampler, group_outcome
from rollout.encoded import Prompt
from rollout.engine import Completion
from rollout.messages import text_of

TRAINED, SURPLUS = "trained", "surplus"


@dataclass(frozen=True, eq=False)
class ScoredRollouts:
    """P groups of G completions with their verdicts; `indices` int64 [P] are the problems' places in the file."""

    indices: np.ndarray
    problems: Sequence[Problem]
    prompts: Sequence[Prompt]
    completions: Sequence[Sequence[Completion]]
    verdicts: Sequence[Sequence[Verdict]]

    def __add__(self, other: "ScoredRollouts") -> "ScoredRollouts":
        """The groups of both, those of `other` last."""
        return ScoredRollouts(
            np.concatenate([self.indices, other.indices]),
            [*self.problems, *other.problems],
            [*self.prompts, *other.prompts],
            [*self.completions, *other.completions],
            [*self.verdicts, *other.verdicts],
        )

    @property
    def rewards_PG(self) -> np.ndarray:
        """Verdict scores, which advantages are made of; NaN where the verifier could not tell."""
        return _matrix((verdict.score for verdict in group) for group in self.verdicts)

    @property
    def outcomes_PG(self) -> np.ndarray:
        """Raw outcomes, right 1 and wrong 0, NaN as above: what filters and difficulty look at, not shaped rewards."""
        return _matrix((verdict.correct for verdict in group) for group in self.verdicts)

    @property
    def tokens_P(self) -> np.ndarray:
        """Mean length of each group's responses, in tokens."""
        return np.array([np.mean([len(completion.token_ids) for completion in group]) for group in self.completions])


def _matrix(rows: Iterable[Iterable[float | None]]) -> np.ndarray:
    return np.array([[np.nan if value is None else float(value) for value in row] for row in rows], np.float64)


def question_of(problem: Problem) -> str:
    """Text of the last user turn."""
    return text_of(next(message for message in reversed(problem.messages) if message["role"] == "user"))


def scoring_pool(config: RlConfig | EvalConfig | GradeConfig) -> ScorePool:
    """The pool that scores responses as the configuration says; starts no process yet."""
    return ScorePool(
        config.verifier_workers or None,
        timeout_s=config.verifier_timeout_s,
        plugins=config.verifier_plugins,
        checks=config.style_checks,
    )


def score_rollouts(
    pool: ScorePool,
    indices: np.ndarray,
    problems: Sequence[Problem],
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[Completion]],
) -> ScoredRollouts:
    """Verdicts of all completions, in one batch over the pool's processes."""
    rows = [row for problem, group in zip(problems, completions, strict=True) for row in _rows(problem, group)]
    verdicts = iter(pool.score_batch(rows))
    grouped = [_judged(group, [next(verdicts) for _ in group]) for group in completions]
    return ScoredRollouts(indices, problems, prompts, completions, grouped)


class PendingScores:
    """Groups that are scored while others are still being generated: `add` each as it comes, then `collect` all.

    A group is handed to the pool by a thread of its own, so that the one that generates goes on.
    """

    def __init__(self, pool: ScorePool, problems: Sequence[Problem], prompts: Sequence[Prompt]) -> None:
        self._pool, self._problems, self._prompts = pool, problems, prompts
        self._threads = ThreadPoolExecutor(pool.workers + 1, thread_name_prefix="pending")
        self._groups: dict[int, tuple[Sequence[Completion], Future[list[Verdict]]]] = {}

    def add(self, position: int, group: Sequence[Completion]) -> None:
        """The completions of the problem at `position`."""
        self._groups[position] = group, self._threads.submit(self._pool.score_batch, _rows(self._problems[position], group))

    def collect(self, indices: np.ndarray) -> ScoredRollouts:
        """All groups in the order of the problems; `indices` int64 [P] as in `ScoredRollouts`. Raises what scoring raised."""
        found = [self._groups[position] for position in range(len(self._problems))]
        try:
            verdicts = [_judged(group, verdicts.result()) for group, verdicts in found]
        finally:
            self._threads.shutdown(cancel_futures=True)
        return ScoredRollouts(indices, self._problems, self._prompts, [group for group, _ in found], verdicts)


def score_row(problem: Problem, response: str) -> dict[str, Any]:
    """The row of `rewards.ScorePool` for a response to the problem."""
    return {
        "id": problem.id,
        "domain": problem.domain,
        "answer": problem.answer,
        "question": question_of(problem),
        "verifier": problem.verifier,
        "verifier_args": problem.verifier_args,
        "response": response,
    }


def _rows(problem: Problem, group: Sequence[Completion]) -> list[dict[str, Any]]:
    return [score_row(problem, completion.text) for completion in group]


def _judged(group: Sequence[Completion], verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts, those of responses that were ended for repetition replaced."""
    return [
        Verdict.format_error("repetition", verdict.extracted) if completion.finish_reason == "repetition" else verdict
        for completion, verdict in zip(group, verdicts, strict=True)
    ]


def group_fates(rollouts: ScoredRollouts, sampler: Sampler, n: int) -> list[str]:
    """What becomes of each group [P]: "trained"; "surplus", mixed but not among the `n` the sampler selects; or why it
    carries no
    signal: "all-right", "all-wrong", "abstained"."""
    outcomes_PG = rollouts.outcomes_PG
    fates: list[str] = list(group_outcome(outcomes_PG))
    mixed = np.array([p for p, fate in enumerate(fates) if fate == "mixed"], np.int64)
    kept = set(mixed[sampler.select(rollouts.indices[mixed], outcomes_PG[mixed], n)].tolist())
    return [fate if fate != "mixed" else (TRAINED if p in kept else SURPLUS) for p, fate in enumerate(fates)]
