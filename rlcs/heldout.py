"""Held-out problems answered while a run goes on: what the policy has learned against what training has cost.

`rlcs eval` says the same of a finished checkpoint, with intervals and every response kept; this costs no checkpoint and keeps
numbers only, so that it can be asked often.
"""

import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rewards import ScorePool
from rlcs.engines import sampling_of
from rlcs.evaluate import choose
from rlcs.modes import NOTHINK, THINKING
from rlcs.problems import Problem, check_references, load_problems
from rlcs.rl_config import HeldoutConfig, RlConfig
from rlcs.scoring import ScoredRollouts, score_rollouts
from rollout.chat import ChatRenderer
from rollout.engine import Engine, ThinkingBudget
from sft.rundir import RunDir

FILE = "heldout.jsonl"


@dataclass
class Spent:
    """What the steps of a run have cost so far: responses, tokens in them, seconds and processor seconds (held-out problems
    left out).
    """

    rollouts: int = 0
    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @classmethod
    def of_run(cls, run: RunDir) -> "Spent":
        """Sums over metrics.jsonl."""
        spent = cls()
        if run.metrics_path.exists():
            for line in run.metrics_path.read_text(encoding="utf-8").splitlines():
                spent.add(json.loads(line))
        return spent

    def add(self, metrics: Mapping[str, float]) -> None:
        self.rollouts += int(metrics["rollouts"])
        self.tokens += int(metrics["tokens"])
        self.seconds += metrics["seconds/step"]
        self.cpu_seconds += metrics.get("cpu_seconds/step", 0.0)


class HeldoutCurve:
    """The file heldout.jsonl of a run: a row before the first step, one about every `every_rollouts` rollouts, one at
    the end, each {updates, rollouts, tokens, seconds, cpu_seconds, pass_rate: {domain: ...}, responses: {domain: ...}}.

    The responses of an evaluation are drawn by a generator of their own, so that training draws the same with and without.
    """

    def __init__(self, config: RlConfig, heldout: HeldoutConfig, run: RunDir, updates: int) -> None:
        problems = load_problems(heldout.problems)
        check_references(problems, heldout.problems)
        self._problems = choose(problems, heldout.max_per_domain, config.seed)
        self._config, self._heldout, self._run = config, heldout, run
        path = run.path / FILE
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
        # Of a run that begins anew nothing is kept: its settings may be others.
        self._rows: list[dict[str, Any]] = [row for row in rows if 0 < updates >= row["updates"]]
        if len(self._rows) < len(rows):
            self._write()

    def due(self, spent: Spent) -> bool:
        """Whether another `every_rollouts` rollouts are behind since the last row."""
        return not self._rows or spent.rollouts - self._rows[-1]["rollouts"] >= self._heldout.every_rollouts

    def add(self, updates: int, spent: Spent, engine: Engine, renderer: ChatRenderer, pool: ScorePool) -> dict[str, float]:
        """Answers the problems under the current policy and writes the row -> metrics. A row that is there already is kept."""
        began = time.perf_counter()
        if not self._rows or self._rows[-1]["updates"] != updates:
            self._rows.append({"updates": updates, **vars(spent), **self._answer(updates, engine, renderer, pool)})
            self._write()
        rates = self._rows[-1]["pass_rate"]
        metrics = {f"heldout/{domain}/pass_rate": rate for domain, rate in rates.items()}
        return metrics | {
            "heldout/pass_rate": float(np.mean(list(rates.values()))),
            "seconds/heldout": time.perf_counter() - began,
        }

    def _write(self) -> None:
        self._run.atomic_write(FILE, "".join(json.dumps(row) + "\n" for row in self._rows))

    def _answer(self, updates: int, engine: Engine, renderer: ChatRenderer, pool: ScorePool) -> dict[str, dict[str, float]]:
        right: dict[str, list[bool]] = {}
        label, samples = f"heldout/{{mode}}/{updates}", self._heldout.samples
        for _, scored in answers(self._config, self._problems, samples, label, engine, renderer, pool):
            for problem, verdicts in zip(scored.problems, scored.verdicts, strict=True):
                known = [verdict.correct for verdict in verdicts if verdict.correct is not None]
                right.setdefault(problem.domain, []).extend(known)
        return {
            "pass_rate": {domain: float(np.mean(known)) for domain, known in right.items() if known},
            "responses": {domain: len(known) for domain, known in right.items()},
        }


def answers(
    config: RlConfig,
    problems: Sequence[Problem],
    samples: int,
    label: str,
    engine: Engine,
    renderer: ChatRenderer,
    pool: ScorePool,
) -> Iterator[tuple[str, ScoredRollouts]]:
    """(mode, scored responses) of `problems`, batch by batch, `samples` to each in each mode the run trains; `indices` are
    places in `problems`. With the seed of the run, `label` ("{mode}" in it replaced) seeds the draws of a mode, and no draws
    of training are touched.
    """
    sampling = sampling_of(config, config.most_think_tokens)
    budget = ThinkingBudget(config.most_think_tokens, config.answer_tokens)
    size = max(1, config.rollout_batch // samples)
    for mode in [THINKING] * (config.nothink_ratio < 1) + [NOTHINK] * (config.nothink_ratio > 0):
        seed = zlib.crc32(f"{config.seed}/{label.format(mode=mode)}".encode())
        generator = torch.Generator().manual_seed(seed)
        for first in range(0, len(problems), size):
            chunk = problems[first : first + size]
            prompts = [
                renderer.prompt(problem.messages, root=problem.root, thinking=mode == THINKING, id=problem.id)
                for problem in chunk
            ]
            completions = engine.generate(prompts, samples, sampling, budget, generator=generator)
            yield mode, score_rollouts(pool, first + np.arange(len(chunk)), chunk, prompts, completions)
