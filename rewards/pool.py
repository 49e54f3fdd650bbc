"""Scoring many responses on all cores, with a hard limit on the time and memory each may take.

The parent holds the clock: a worker that is late is killed and replaced, its item abstains with reason "timeout", the
items queued behind it go to another worker. No signal handler is used and no thread is kept, so a pool works in any
thread of a trainer, under asyncio, in a Ray actor and in a forked or spawned process.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rewards import api
from rewards.dispatch import Dispatcher
from rewards.format import Style, parse_response
from rewards.jobs import Call, Job
from rewards.rows import Row, read_row
from rewards.verdict import Verdict

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from rewards.explanation import Explanation

_log = logging.getLogger(__name__)

MIN_MEMORY_MB = 512
"""An interpreter with SymPy, SciPy and a units library takes half of this as address space; the rest is for answers."""
MAX_INLINE_CHECKED_CHARS = 2048
"""Longer responses have their style checked by a worker: the checks read all of the text, not only the answer."""


class ScorePool:
    """A pool of scoring processes; a context manager. Workers start when first needed and are kept between calls.

    workers: processes at most (default: the cores this process may use). timeout_s: wall-clock seconds one item may
    take, where its verifier does not set its own limit. memory_mb: address space of one worker, interpreter included
    (at least 512). plugins: modules that register further verifiers, imported by this process and by every worker.
    checks: style checks every response must pass (`rewards.style.CHECKS`).

    Calls from several threads run at once and share the workers item by item, in turn. Pickling a pool gives one with
    the same settings and its own workers.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        timeout_s: float = 5.0,
        memory_mb: int = 2048,
        style: Style = "box",
        plugins: Sequence[str] = (),
        checks: Sequence[str] = (),
    ) -> None:
        self.workers = workers if workers is not None else len(os.sched_getaffinity(0))
        if self.workers < 1 or not 0 < timeout_s <= 86_400 or memory_mb < MIN_MEMORY_MB:
            raise ValueError(
                f"ScorePool(workers={workers}, timeout_s={timeout_s}, memory_mb={memory_mb}): expected at least 1 worker, "
                f"a time limit above 0 s and of at most a day, and at least {MIN_MEMORY_MB} MB, of which a worker "
                "takes half for its libraries"
            )
        parse_response("", style)  # refuses an unknown style here rather than at the first batch
        api.known_checks(checks)
        for plugin in plugins:
            __import__(plugin)
        self.timeout_s, self.memory_mb, self.style = timeout_s, memory_mb, style
        self.plugins, self.checks = tuple(plugins), tuple(checks)
        self._adopt()

    def _adopt(self) -> None:
        """Take a fresh set of workers as this process's own."""
        self._dispatcher = Dispatcher(self.workers, self.memory_mb, self.plugins)
        self._threads: ThreadPoolExecutor | None = None
        self._finalizer = weakref.finalize(self, self._dispatcher.dispose)

    def _here(self) -> Dispatcher:
        if self._dispatcher.owner != os.getpid():  # forked since: the workers belong to the parent process
            self._adopt()
        return self._dispatcher

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.workers, self.timeout_s, self.memory_mb, self.style, self.plugins, self.checks)

    def __enter__(self) -> ScorePool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, once calls of other threads are through. A later call starts new ones."""
        dispatcher = self._here()
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        dispatcher.close()

    def score_batch(self, rows: Sequence[Mapping[str, Any]], *, on_done: Callable[[int], None] | None = None) -> list[Verdict]:
        """Verdicts in the order of `rows` (keys as for `rlcs score`); `on_done(n)` is called as n more are finished.

        Raises RowError for an unusable row before anything is scored.
        """
        return self._serve(Call(len(rows), on_done), rows)

    async def score_async(self, rows: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        """`score_batch` that does not hold up the event loop. A task that is cancelled takes its rows out of the pool."""
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        dispatcher = self._here()
        if self._threads is None:
            # Not asyncio's own threads: a wait for a slow verifier would take them from the rest of the program.
            self._threads = ThreadPoolExecutor(self.workers + 4, thread_name_prefix="score")
        call = Call(len(rows))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._serve, call, rows)
        finally:
            call.abandoned = True  # of no effect unless cancelled: else it is finished
            dispatcher.wake()

    def explain(self, row: Mapping[str, Any]) -> Explanation:
        """The verdict on one row under the pool's limits, and how it came about. Raises RowError for an unusable row."""
        from rewards.explanation import Explanation

        read = read_row(row, "row 0")
        found = api.read_response(read.response, read.entry, self.style)
        call = Call(1)
        call.add(self._job(call, 0, read, found, explain=True))
        self._here().serve(call)
        return Explanation(call.finished()[0], read, self.style, self.checks, found, call.notes[0])

    def _serve(self, call: Call, rows: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        dispatcher = self._here()
        checked = [read_row(raw, f"row {index}") for index, raw in enumerate(rows)]
        for index, row in enumerate(checked):
            found = api.read_response(row.response, row.entry, self.style)
            if self._bounded(row, found):
                call.settle(index, self._judge_here(index, row, found))
            else:
                call.add(self._job(call, index, row, found))
        call.report()
        if call.unsettled:
            dispatcher.serve(call)
        return [] if call.abandoned else call.finished()

    def _bounded(self, row: Row, found: api.Candidate) -> bool:
        if self.checks and len(row.response) > MAX_INLINE_CHECKED_CHARS:
            return False
        try:
            return row.entry.bounded(found.answer or "", row.reference)
        except Exception:  # noqa: BLE001
            return False  # a worker finds out what is wrong with the row

    def _judge_here(self, index: int, row: Row, found: api.Candidate) -> Verdict:
        try:
            fault = found.fault or api.style_fault(found.parsed, row.question, self.checks)
            return api.judge(found.answer, fault, row.reference, row.entry, row.args, row.question)
        except Exception:  # noqa: BLE001
            # As in a worker: a fault of ours in one item must not end a training run.
            _log.exception("row %d: the verifier failed, the sample abstains", index)
            return Verdict.abstained("verifier-error", None if found.answer is None else found.answer.strip())

    def _job(self, call: Call, index: int, row: Row, found: api.Candidate, *, explain: bool = False) -> Job:
        own = row.entry.timeout_s
        limit = self.timeout_s if own is None else own
        return Job(call, index, row, found.answer, found.fault, limit, own is not None, self.style, self.checks, explain)


def _rebuilt(
    workers: int, timeout_s: float, memory_mb: int, style: Style, plugins: Sequence[str], checks: Sequence[str]
) -> ScorePool:
    return ScorePool(workers, timeout_s=timeout_s, memory_mb=memory_mb, style=style, plugins=plugins, checks=checks)
