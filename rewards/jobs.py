"""What a pool hands to its workers: jobs, each one row to judge, and calls, the jobs of one caller."""

from __future__ import annotations

import collections
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.format import Style
from rewards.rows import Row
from rewards.verdict import Verdict

Notes = tuple[tuple[str, str], ...]


class NotJson(Exception):
    """The reference has no JSON form, so it cannot be sent to a worker."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One row on its way through the pool.

    `answer` is what the verifier is to judge, or None with the format's `fault`. `timeout_s` is the wall-clock time it
    may take. An `alone` job has nothing queued behind it in its worker: it may wait long for something outside.
    """

    call: Call
    index: int
    row: Row
    answer: str | None
    fault: str | None
    timeout_s: float
    alone: bool
    style: Style
    checks: Sequence[str] = ()
    explain: bool = False

    @property
    def extracted(self) -> str | None:
        return None if self.answer is None else self.answer.strip()

    def message(self, number: int) -> bytes:
        """The line sent to the worker, made when it is sent: a batch in this form would take its memory twice.

        Raises NotJson.
        """
        fields: dict[str, Any] = {
            "n": number,
            "answer": self.answer,
            "fault": self.fault,
            "reference": self.row.reference,
            "domain": self.row.domain,
            "verifier": self.row.entry.name,
            "args": self.row.raw_args,
            "question": self.row.question,
            "timeout_s": self.timeout_s,
            "explain": self.explain,
        }
        if self.checks and self.fault is None:  # the one case in which the worker needs more than the answer
            fields |= {"response": self.row.response, "style": self.style, "checks": list(self.checks)}
        try:
            return json.dumps(fields).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise NotJson from error


class Call:
    """The jobs of one `score_batch`. Only the thread that leads the dispatch settles; only the caller's reports."""

    def __init__(self, rows: int, on_done: Callable[[int], None] | None = None) -> None:
        self.verdicts: list[Verdict | None] = [None] * rows
        self.notes: dict[int, Notes] = {}
        self.waiting: collections.deque[Job] = collections.deque()
        self.unsettled: dict[int, Job] = {}
        self.abandoned = False
        self._on_done = on_done
        self._settled = self._reported = 0

    def add(self, job: Job) -> None:
        """One more job to send to a worker."""
        self.waiting.append(job)
        self.unsettled[job.index] = job

    def settle(self, index: int, verdict: Verdict, notes: Notes = ()) -> None:
        """The verdict of row `index`."""
        self.unsettled.pop(index, None)
        self.verdicts[index] = verdict
        self.notes[index] = notes
        self._settled += 1

    def restart(self) -> None:
        """Everything that is not settled is to be sent again: the workers that had it are gone."""
        self.waiting = collections.deque(self.unsettled.values())

    @property
    def news(self) -> bool:
        """Whether its thread has something to do besides waiting."""
        return self.abandoned or self._settled > self._reported

    def report(self) -> None:
        """Tell the caller how many rows were finished since it was last told."""
        fresh = self._settled - self._reported
        self._reported += fresh
        if fresh and self._on_done is not None:
            self._on_done(fresh)

    def finished(self) -> list[Verdict]:
        """All verdicts in the order of the rows."""
        found = [verdict for verdict in self.verdicts if verdict is not None]
        if len(found) != len(self.verdicts):
            raise RuntimeError(f"{len(self.verdicts) - len(found)} of {len(self.verdicts)} rows were left without a verdict")
        return found
