"""The run directory of a verl run: the files, columns and metric names of the local engine, so that nobody who reads a run need
know which engine made it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.markup import escape

from rlcs.heldout import FILE, HeldoutCurve, Spent
from rlcs.progress import Clock, SignalWatch, mismatch_notice, step_line
from rlcs.rl import advantages_of
from rlcs.rl_config import RlConfig
from rlcs.rollout_log import console_table, difficulty_table, parquet_bytes, rollout_table, step_metrics
from rlcs.scoring import ScoredRollouts
from rlcs.verl.sampling import Curriculum
from sft.rundir import RunDir


class RunLog:
    """Writes what a step came to. Steps are 0-based here, as everywhere but in verl."""

    def __init__(self, config: RlConfig, *, resume: bool, console: Console | None = None) -> None:
        """Raises FileExistsError for a directory that holds a run already, when not resuming."""
        self.run = RunDir(config.out, resume=resume, loggers=config.loggers)
        if not resume:
            self.run.rewind(0)
        self.spent = Spent()
        self._config, self._console = config, console or Console()
        self._watch = SignalWatch([])
        self._heldout: _Heldout | None = None

    def begin(self, step: int, domains: Sequence[str]) -> None:
        """Makes `step` the next one: what a killed run wrote of it and later ones goes."""
        self.run.rewind(step)
        self.run.atomic_write("config.yaml", yaml.safe_dump(self._config.model_dump(mode="json"), sort_keys=False))
        self.spent = Spent.of_run(self.run)
        self._watch = SignalWatch(domains)
        self._domains = list(domains)
        if self._config.heldout is not None:
            self._heldout = _Heldout(self._config, self._config.heldout, self.run, step)

    def step(
        self,
        step: int,
        rollouts: ScoredRollouts,
        fates: Sequence[str],
        curriculum: Curriculum,
        learned: Mapping[str, float],
        clock: Clock,
        *,
        last: bool,
        more: Mapping[str, float],
    ) -> dict[str, float]:
        """Writes the files of one step -> its row of metrics.jsonl. `learned`: the policy update's; `more`: further metrics."""
        config = self._config
        with clock("log"):
            advantages_PG = advantages_of(rollouts, fates, config)
            table = rollout_table(rollouts, fates, advantages_PG, step, tokens=config.log_tokens)
            self.run.atomic_write(f"rollouts/step={step:06d}.parquet", parquet_bytes(table))
            if step % config.difficulty_every == 0 or last:
                self._beliefs(step, curriculum)
            if config.table_every and step % config.table_every == 0:
                self._console.print(console_table(rollouts, fates, step))
        metrics = step_metrics(rollouts, fates)
        metrics |= {f"policy/{name}": value for name, value in learned.items()}
        metrics |= {f"sampler/{name}": value for name, value in curriculum.sampler.metrics().items()}
        metrics |= clock.metrics(
            generated_tokens=sum(len(completion.token_ids) for group in rollouts.completions for completion in group),
            packed_tokens=int(learned.get("packed_tokens", 0)),
        )
        metrics |= more
        self.spent.add(metrics)
        self.run.log(step, metrics)
        self._console.print(step_line(step, metrics, self._domains), highlight=False, soft_wrap=True)
        for notice in filter(None, [*self._watch.notices(step, metrics), mismatch_notice(step, metrics)]):
            self.warn(notice)
        return metrics

    def warn(self, notice: str) -> None:
        self._console.print(f"[yellow]{escape(notice)}[/yellow]", highlight=False, soft_wrap=True)

    def _beliefs(self, step: int, curriculum: Curriculum) -> None:
        columns = {"thinking": curriculum.thinking_N, **curriculum.sampler.snapshot()}
        beliefs = difficulty_table(curriculum.problems, columns, step)
        self.run.atomic_write(f"difficulty/step={step:06d}.parquet", parquet_bytes(beliefs))
        reliability = curriculum.sampler.difficulty.calibration.reliability()
        self.run.atomic_write(f"calibration/step={step:06d}.parquet", parquet_bytes(reliability))

    def heldout_due(self, updates: int, *, last: bool) -> bool:
        """Whether held-out problems are to be answered by the policy of `updates` updates."""
        return self._heldout is not None and (last or updates == 0 or self._heldout.due(self.spent))

    def heldout(self, updates: int, rollouts: ScoredRollouts) -> dict[str, float]:
        """Writes the row of heldout.jsonl -> metrics, which also go into the row of the step that was the last update."""
        assert self._heldout is not None
        metrics = self._heldout.record(updates, self.spent, rollouts)
        if updates:
            _amend(self.run, updates - 1, metrics)
        return metrics

    def close(self) -> None:
        self.run.close()


class _Heldout(HeldoutCurve):
    """The same curve from responses that verl's servers gave."""

    def record(self, updates: int, spent: Spent, rollouts: ScoredRollouts) -> dict[str, float]:
        right: dict[str, list[bool]] = {}
        for problem, verdicts in zip(rollouts.problems, rollouts.verdicts, strict=True):
            right.setdefault(problem.domain, []).extend(one.correct for one in verdicts if one.correct is not None)
        rates = {domain: float(np.mean(known)) for domain, known in right.items() if known}
        responses = {domain: len(known) for domain, known in right.items()}
        row: dict[str, Any] = {"updates": updates, **vars(spent), "pass_rate": rates, "responses": responses}
        self._rows = [row_ for row_ in self._rows if row_["updates"] != updates] + [row]
        self._run.atomic_write(FILE, "".join(json.dumps(row) + "\n" for row in self._rows))
        metrics = {f"heldout/{domain}/pass_rate": rate for domain, rate in rates.items()}
        return metrics | ({"heldout/pass_rate": float(np.mean(list(rates.values())))} if rates else {})


def _amend(run: RunDir, step: int, metrics: Mapping[str, float]) -> None:
    """Adds metrics to the row of a step that was logged, the last one of metrics.jsonl: held-out problems can be answered only
    after the step's weights went to the servers, and by then the step has been logged, lest it be lost."""
    lines = run.metrics_path.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[-1])
    if row["step"] != step:
        raise ValueError(f"{run.metrics_path}: its last row is of step {row['step']}; expected step {step}")
    run.atomic_write(run.metrics_path.name, "".join(line + "\n" for line in [*lines[:-1], json.dumps(row | dict(metrics))]))
