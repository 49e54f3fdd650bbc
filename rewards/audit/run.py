"""Running an audit: probes through a pool, judge prompts rendered, and what was found, by verifier and family."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rewards.audit.judge_isolation import breach
from rewards.audit.probes import RIGHT, Exemplar, Probe, right_of
from rewards.audit.text_cheats import answers
from rewards.judge_client import MODEL_VARIABLE, URL_VARIABLE
from rewards.pool import ScorePool
from rewards.verdict import Verdict

CHUNK = 2048
_MARGIN = 1e-6
_OUR_FAULT = frozenset(("timeout", "memory", "worker-died", "verifier-error"))
_JUDGED = ("judge", "general", "open")


@dataclass(frozen=True, slots=True)
class Finding:
    """A probe and the verdict on it. `breach`: how a judge's prompt was left, where that was the probe."""

    probe: Probe
    verdict: Verdict
    breach: str | None = None

    @property
    def score(self) -> float:
        """The score, 0 where there is none."""
        return self.verdict.score or 0.0

    @property
    def paid(self) -> bool:
        """Whether a cheat earned more than it may, or counts as correct while it may not earn everything."""
        if self.probe.family == RIGHT:
            return False
        if self.breach is not None:
            return True
        return self.score > self.probe.at_most + _MARGIN or (bool(self.verdict.correct) and self.probe.at_most < 1.0)

    @property
    def broke(self) -> bool:
        """Whether it hung, killed or confused the verifier: the sample would be dropped, which a policy can want."""
        return self.verdict.status == "abstained" and self.verdict.reason in _OUR_FAULT

    @property
    def refused(self) -> bool:
        """Whether it is the right answer and was not paid. An abstention (no judge) is no refusal."""
        return self.probe.family == RIGHT and self.verdict.status != "abstained" and not self.verdict.correct


@dataclass(slots=True)
class Cell:
    """What was found for one verifier and one family."""

    probes: int = 0
    paid: int = 0
    broke: int = 0
    abstained: int = 0
    max_score: float = 0.0
    worst: Finding | None = None

    def add(self, finding: Finding) -> None:
        """Count one finding; `worst` is the one with the most above what it may earn."""
        self.probes += 1
        self.paid += finding.paid
        self.broke += finding.broke
        self.abstained += finding.verdict.status == "abstained"
        self.max_score = max(self.max_score, finding.score)
        if self.worst is None or _badness(finding) > _badness(self.worst):
            self.worst = finding


def _badness(finding: Finding) -> tuple[bool, bool, float, float]:
    return finding.paid, finding.broke, finding.score - finding.probe.at_most, finding.score


@dataclass(slots=True)
class Report:
    """All findings worth keeping, and the counts of each verifier and family."""

    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Count a finding; keep it when it is a problem."""
        key = (finding.probe.exemplar.verifier, finding.probe.family)
        self.cells.setdefault(key, Cell()).add(finding)
        if finding.paid or finding.broke or finding.refused:
            self.problems.append(finding)

    @property
    def paid(self) -> list[Finding]:
        """Cheats that earned something."""
        return [finding for finding in self.problems if finding.paid]

    @property
    def sound(self) -> bool:
        """Whether nothing was paid, nothing broke and every right answer was paid."""
        return not self.problems


def run(
    probes: Sequence[Probe],
    pool: ScorePool,
    *,
    judge: bool = False,
    on_done: Callable[[int], None] | None = None,
) -> Report:
    """Score every probe under the pool's limits. Unless `judge`, no judge is asked though the environment names one."""
    report = Report()
    with _judge_variables(judge):
        for start in range(0, len(probes), CHUNK):
            chunk = probes[start : start + CHUNK]
            rows = [probe.row(start + at) for at, probe in enumerate(chunk)]
            for probe, verdict in zip(chunk, pool.score_batch(rows, on_done=on_done), strict=True):
                report.add(Finding(probe, verdict))
    return report


@contextmanager
def _judge_variables(keep: bool) -> Iterator[None]:
    """Without the variables that configure a judge, unless they are to be kept. Workers are started meanwhile."""
    hidden = {} if keep else {name: os.environ.pop(name) for name in (URL_VARIABLE, MODEL_VARIABLE) if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def check_prompts(exemplars: Sequence[Exemplar]) -> list[Finding]:
    """For verifiers that may ask a judge: whether any cheat gets out of its block of the prompt."""
    found = []
    for exemplar in exemplars:
        if exemplar.verifier not in _JUDGED:
            continue
        references = exemplar.reference if isinstance(exemplar.reference, list) else [right_of(exemplar.reference)]
        for cheat in answers(exemplar):
            escaped = breach(exemplar.question, list(map(str, references)), cheat.text)
            verdict = Verdict(0.0, False, "ok", cheat.text, escaped)
            found.append(Finding(Probe("judge prompt", exemplar, cheat.text, 0.0), verdict, escaped))
    return found
