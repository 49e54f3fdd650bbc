"""The guard against reward collapse: audit problems answered as a run goes on, their answers scored twice, by the verifier
that training pays by and by one that is to be believed. A domain is accused where the second falls while the first rises, or
passes more and more of what the second calls wrong.

Why both on the same responses and not the reward of the rollouts: a curriculum keeps training at moderate pass rates whatever
the policy has learned, so the reward of what it draws need not rise when a verifier is gamed. How it is decided, and how often
wrongly: `rlcs.collapse`. GLM-4.5V's authors saw one weak verifier, gamed to a reward of 0.92, take all other domains down with
it (arXiv 2507.01006, figure 5). Axis suffixes: L looks, N problems of a domain.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.markup import escape

from rewards import ScorePool
from rlcs.collapse import Change, examine
from rlcs.eval_summary import RESPONSES
from rlcs.evaluate import choose, response_rows
from rlcs.guard_config import GuardConfig
from rlcs.heldout import answers
from rlcs.problems import Problem, check_references, load_problems
from rlcs.rl_config import RlConfig
from rlcs.rollout_log import parquet_bytes
from rlcs.samplers import Sampler
from rlcs.scoring import ScoredRollouts, score_rollouts
from rollout.chat import ChatRenderer
from rollout.engine import Engine
from sft.rundir import RunDir

LOOKS, ALERTS = "guard.jsonl", "alerts.jsonl"
COLLAPSE, DECLINE = "collapse", "decline"
FEWEST = 20
"""Audit problems of a domain; with fewer, not even a fall from all right to all wrong could be told from chance for long."""
_COLUMNS = RESPONSES.append(pa.field("reward", pa.float64())).append(pa.field("passed", pa.bool_()))
_SERIES = ("audit", "reward", "passed_wrongly")


class Guard:
    """Looks at step 0, every `every_steps` steps and at the end. Writes guard.jsonl (a row a look), audit/step=NNNNNN.parquet
    (every response with the audit's verdict, and the `reward` and whether it would have `passed` in training) and alerts.jsonl.

    Accuses a domain of a collapse once, and acts on it; says once that a domain declines, its audit falling whatever the reward
    did, and leaves it at that. The answers come from generators of their own: a run draws and learns the same with and without
    a guard, up to the first quarantine.
    """

    def __init__(
        self,
        config: RlConfig,
        settings: GuardConfig,
        problems: Sequence[Problem],
        sampler: Sampler,
        run: RunDir,
        console: Console,
    ) -> None:
        """Raises ValueError for audit problems that cannot be used, before anything is generated."""
        audit = load_problems(settings.problems)
        check_references(audit, settings.problems)
        self._problems = choose(audit, settings.max_per_domain, config.seed)
        self._paid = paid_as_in_training(self._problems, problems, settings)
        self._domains = {domain: _places(self._problems, domain) for domain in sorted({one.domain for one in self._problems})}
        _enough(self._domains, settings.problems)
        self._config, self._settings = config, settings
        self._sampler, self._run, self._console = sampler, run, console
        self._looks_3LN = np.zeros((3, 0, len(self._problems)), np.float32)  # in the order of _SERIES
        self._rows: list[dict[str, Any]] = []
        self._alerts: list[dict[str, Any]] = []
        self.stopped = False
        """Whether the last look ends the run."""

    def due(self, updates: int) -> bool:
        return updates % self._settings.every_steps == 0

    def look(self, updates: int, engine: Engine, renderer: ChatRenderer, pool: ScorePool) -> dict[str, float]:
        """Answers the audit problems under the policy of `updates` updates and judges every domain -> metrics."""
        seen_3N = self._answer(updates, engine, renderer, pool)
        self._looks_3LN = np.concatenate([self._looks_3LN, seen_3N[:, None]], axis=1)
        self._rows.append({"updates": updates, "domains": {}})
        metrics: dict[str, float] = {}
        for domain, places in self._domains.items():
            row, alerts = self._judge(updates, domain, places)
            self._rows[-1]["domains"][domain] = row
            for alert in alerts:
                self._alerts.append(alert)
                self._console.print(f"[bold red]{escape(alert['sentence'])}[/bold red]", highlight=False, soft_wrap=True)
        if any(alert["kind"] == COLLAPSE and alert["updates"] == updates for alert in self._alerts):
            self._act(updates)
        for domain, row in self._rows[-1]["domains"].items():
            row["quarantined"] = domain in self.quarantined
            metrics |= {f"guard/{domain}/{name}": float(value) for name, value in row.items() if value is not None}
        self._write()
        return metrics

    def _answer(self, updates: int, engine: Engine, renderer: ChatRenderer, pool: ScorePool) -> np.ndarray:
        """Means of `_SERIES` for each problem over modes and samples, float32 [3, N]; NaN where unknown."""
        sums_3N, counts_3N = np.zeros((3, len(self._problems))), np.zeros((3, len(self._problems)))
        rows: list[dict[str, Any]] = []
        label = f"audit/{{mode}}/{updates}"
        for mode, scored in answers(self._config, self._problems, self._settings.samples, label, engine, renderer, pool):
            paid = self._paid_for(scored, pool)
            wrong_PG = paid.outcomes_PG * (1.0 - scored.outcomes_PG)
            for series, values_PG in enumerate((scored.outcomes_PG, paid.rewards_PG, wrong_PG)):
                sums_3N[series, scored.indices] += np.nansum(values_PG, axis=1)
                counts_3N[series, scored.indices] += (~np.isnan(values_PG)).sum(1)
            verdicts = [verdict for group in paid.verdicts for verdict in group]
            rows += [
                {**row, "reward": verdict.score, "passed": verdict.correct}
                for row, verdict in zip(response_rows(scored, mode, greedy=False), verdicts, strict=True)
            ]
        table = pa.Table.from_pylist(rows, schema=_COLUMNS)
        self._run.atomic_write(f"audit/step={updates:06d}.parquet", parquet_bytes(table))
        means_3N = np.divide(sums_3N, counts_3N, out=np.full_like(sums_3N, np.nan), where=counts_3N > 0)
        return means_3N.astype(np.float32)

    def _paid_for(self, scored: ScoredRollouts, pool: ScorePool) -> ScoredRollouts:
        """The same responses as training would have paid them."""
        paid = [self._paid[place] for place in scored.indices]
        if all(one is problem for one, problem in zip(paid, scored.problems, strict=True)):
            return scored
        return score_rollouts(pool, scored.indices, paid, scored.prompts, scored.completions)

    def _judge(self, updates: int, domain: str, places: np.ndarray) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Row of a domain, and the alerts that it gives rise to."""
        audit_LN, reward_LN, wrong_LN = self._looks_3LN[:, :, places].astype(np.float64)
        row: dict[str, Any] = {
            name: _rate(values_LN[-1]) for name, values_LN in zip(_SERIES, (audit_LN, reward_LN, wrong_LN), strict=True)
        }
        settings = self._settings
        found = examine(audit_LN, reward_LN, wrong_LN, settings.false_alarms, least_fall=settings.least_fall)
        if found is None:
            return row, []
        collapse, decline = found
        row |= {"p_collapse": collapse.p, "p_decline": decline.p, "level": collapse.level}
        alerts = []
        if collapse.significant and not self._accused(domain, COLLAPSE):
            alerts.append(self._alert(updates, domain, COLLAPSE, collapse))
        elif decline.significant and not self._accused(domain, COLLAPSE, DECLINE):
            alerts.append(self._alert(updates, domain, DECLINE, decline))
        return row, alerts

    def _alert(self, updates: int, domain: str, kind: str, change: Change) -> dict[str, Any]:
        since = self._rows[change.before[1]]["updates"]
        low, high = 100 * change.audit_change.low, 100 * change.audit_change.high
        audit = (
            f"audit fell from {100 * change.audit_before:.1f}% to {100 * change.audit_now:.1f}% "
            f"({low:+.1f} to {high:+.1f} points; p {change.p:.1g}, alarm from {change.level:.1g})"
        )
        reward = f"from {change.reward_before:.2f} to {change.reward_now:.2f}"
        wrong = f"from {100 * change.wrong_before:.1f}% to {100 * change.wrong_now:.1f}%"
        what = (
            f"reward collapse in domain {domain}: since {since} updates its {audit}, while its reward went {reward} and the "
            f"answers passed wrongly {wrong}; its verifier is being gamed: see those passed but not correct in "
            f"audit/step={updates:06d}.parquet"
            if kind == COLLAPSE
            else f"domain {domain} declines: since {since} updates its {audit}; its reward went {reward}"
        )
        return {
            "step": updates - 1,
            "updates": updates,
            "kind": kind,
            "domain": domain,
            "sentence": f"step {updates - 1}: {what}",
            "since_updates": since,
            "audit_before": change.audit_before,
            "audit_now": change.audit_now,
            "audit_change": [change.audit_change.mean, change.audit_change.low, change.audit_change.high],
            "reward_before": change.reward_before,
            "reward_now": change.reward_now,
            "passed_wrongly_before": change.wrong_before,
            "passed_wrongly_now": change.wrong_now,
            "p": change.p,
            "level": change.level,
        }

    def _accused(self, domain: str, *kinds: str) -> bool:
        return any(alert["domain"] == domain and alert["kind"] in kinds for alert in self._alerts)

    @property
    def quarantined(self) -> list[str]:
        """Domains that are not drawn from: all that were accused of a collapse, where the configuration says so."""
        if self._settings.on_collapse != "quarantine":
            return []
        return sorted({alert["domain"] for alert in self._alerts if alert["kind"] == COLLAPSE})

    def _act(self, updates: int) -> None:
        if self._settings.on_collapse == "stop":
            self.stopped = True
            said = "the run stops, as guard.on_collapse says; --resume goes on in spite of it"
        elif self._settings.on_collapse == "quarantine":
            try:
                self._sampler.quarantine(self.quarantined)
                said = f"quarantined: {', '.join(self.quarantined)}; no more problems of it are drawn"
            except ValueError as error:
                self.stopped = True
                said = f"the run stops: {error}"
        else:
            return
        self._console.print(f"[bold red]step {updates - 1}: {escape(said)}[/bold red]", highlight=False, soft_wrap=True)

    def _write(self) -> None:
        for name, rows in ((LOOKS, self._rows), (ALERTS, self._alerts)):
            self._run.atomic_write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def state_dict(self) -> dict[str, Any]:
        return {
            "ids": [problem.id for problem in self._problems],
            "series": self._looks_3LN.copy(),
            "looks": json.dumps(self._rows),
            "alerts": json.dumps(self._alerts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from the looks of a checkpoint, and sets the sampler's quarantine. A run that was stopped is not stopped
        again; a configuration that no longer says "quarantine" releases what was quarantined.

        Raises ValueError when the audit problems are not the same ones.
        """
        if state["ids"] != [problem.id for problem in self._problems]:
            raise ValueError(
                f"{self._settings.problems}: the run's earlier looks were at other audit problems, which cannot be compared "
                "with these; resume with the same file, seed and max_per_domain, or start a new run from this checkpoint"
            )
        self._looks_3LN = np.array(state["series"])
        self._rows, self._alerts = json.loads(state["looks"]), json.loads(state["alerts"])
        if self.quarantined:
            self._sampler.quarantine(self.quarantined)


def paid_as_in_training(audit: Sequence[Problem], training: Sequence[Problem], settings: GuardConfig) -> list[Problem]:
    """The audit problems with the answers and verifiers that training pays by; one that is the same in both comes back itself.

    Raises ValueError for problems of which that cannot be told.
    """
    if settings.as_trained is not None:
        known = {problem.id: problem for problem in load_problems(settings.as_trained)}
        missing = [problem.id for problem in audit if problem.id not in known]
        if missing:
            raise ValueError(
                f"{settings.as_trained}: {len(missing)} problems of {settings.problems} are missing, {missing[0]!r} the first; "
                "expected each of them by its id, with the answer and verifier that training pays by"
            )
        given = [known[problem.id] for problem in audit]
    else:
        verifiers = {domain: _verifiers(training, domain) for domain in sorted({problem.domain for problem in audit})}
        for domain, found in verifiers.items():
            if len(found) != 1:
                raise ValueError(
                    f"{settings.problems}: domain {domain!r} has {len(found)} verifiers or sets of arguments in the training "
                    "problems, expected one to score the audit's answers with; "
                    + (
                        "write the problems as training pays them to a file, by the same ids, and name it as guard.as_trained"
                        if found
                        else "leave out domains that are not trained"
                    )
                )
        pay = {domain: json.loads(next(iter(found))) for domain, found in verifiers.items()}
        given = [problem.model_copy(update=pay[problem.domain]) for problem in audit]
    check_references(given, settings.as_trained or settings.problems)
    return [
        problem
        if (one.answer, one.verifier, one.verifier_args) == (problem.answer, problem.verifier, problem.verifier_args)
        else problem.model_copy(update={"answer": one.answer, "verifier": one.verifier, "verifier_args": one.verifier_args})
        for problem, one in zip(audit, given, strict=True)
    ]


def _verifiers(problems: Sequence[Problem], domain: str) -> set[str]:
    """The different verifiers with their arguments of a domain's problems, as JSON."""
    return {
        json.dumps({"verifier": problem.verifier, "verifier_args": problem.verifier_args}, sort_keys=True)
        for problem in problems
        if problem.domain == domain
    }


def _places(problems: Sequence[Problem], domain: str) -> np.ndarray:
    return np.array([place for place, problem in enumerate(problems) if problem.domain == domain])


def _enough(domains: Mapping[str, np.ndarray], path: Path) -> None:
    for domain, places in domains.items():
        if len(places) < FEWEST:
            raise ValueError(
                f"{path}: domain {domain!r} has {len(places)} audit problems; expected {FEWEST} or more, a hundred say, or a "
                "fall could not be told from chance; write more, or leave the domain out"
            )


def _rate(values_N: np.ndarray) -> float | None:
    known = values_N[~np.isnan(values_N)]
    return float(known.mean()) if len(known) else None
