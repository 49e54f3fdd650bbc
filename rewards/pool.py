"""Scoring many responses on all cores, with a hard limit on the time and memory each may take.

The parent holds the clock: a worker that is late is killed and replaced, its item abstains with reason "timeout", the
items queued behind it go to another worker. No signal handler is used, so a pool works in any thread of a trainer.
"""

from __future__ import annotations

import collections
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewards import api
from rewards.format import Style, parse_response
from rewards.rows import read_row
from rewards.verdict import Verdict

_log = logging.getLogger(__name__)

QUEUE_DEPTH = 8
"""Items handed to a worker ahead of time, so that it need not wait for the parent between two."""
START_LIMIT_S = 120.0
EXIT_GRACE_S = 1.0

Job = tuple[int, bytes, str | None]  # index of the row, message to the worker, boxed answer


class _Worker:
    """One worker process, its socket, and the jobs it holds (the first is the one it is working on)."""

    def __init__(self, memory_mb: int, timeout_s: float, plugins: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(os.getcwd() if entry == "" else entry for entry in sys.path)
        command = [sys.executable, "-P", "-m", "rewards.worker", str(theirs.fileno()), str(memory_mb), str(timeout_s)]
        try:
            self.process = subprocess.Popen(
                [*command, *plugins],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self.socket = ours
        self.ready = False
        self.jobs: collections.deque[Job] = collections.deque()
        self.deadline = time.monotonic() + START_LIMIT_S
        self._out = bytearray()
        self._in = bytearray()

    def push(self, job: Job, timeout_s: float) -> None:
        if self.ready and not self.jobs:
            self.deadline = time.monotonic() + timeout_s
        self.jobs.append(job)
        self._out += job[1]

    @property
    def events(self) -> int:
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)

    def write(self) -> None:
        """Send what the socket takes without blocking: a worker that does not read can never stall the parent."""
        try:
            while self._out:
                del self._out[: self.socket.send(self._out)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._out.clear()  # the worker died; the end of its output says so

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Complete messages that have arrived, and whether the worker is gone."""
        gone = False
        try:
            while True:
                data = self.socket.recv(1 << 16)
                if not data:
                    gone = True
                    break
                self._in += data
        except BlockingIOError:
            pass
        except ConnectionResetError:
            gone = True
        *lines, rest = bytes(self._in).split(b"\n")
        self._in = bytearray(rest)
        return [json.loads(line) for line in lines], gone

    def kill(self, *, gone: bool = False) -> int:
        """End the process and reap it; returns its exit status. One that is `gone` may report its own status first."""
        self.socket.close()
        if gone:
            try:
                return self.process.wait(EXIT_GRACE_S)
            except subprocess.TimeoutExpired:
                pass  # it closed its socket but lives on: ended like any other
        self.process.kill()
        return self.process.wait()


def _kill_all(workers: list[_Worker], owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not end the workers of its parent
        while workers:
            workers.pop().kill()


class ScorePool:
    """A pool of scoring processes; a context manager. Workers start when first needed and are kept between calls.

    workers: processes at most (default: the cores this process may use). timeout_s: wall-clock seconds one item may
    take. memory_mb: address space of one worker, interpreter included (at least 256). plugins: modules that register
    further verifiers, imported by this process and by every worker. Calls from several threads wait for one another.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        timeout_s: float = 5.0,
        memory_mb: int = 2048,
        style: Style = "box",
        plugins: Sequence[str] = (),
    ) -> None:
        self.workers = workers if workers is not None else len(os.sched_getaffinity(0))
        if self.workers < 1 or timeout_s <= 0 or memory_mb < 256:
            raise ValueError(
                f"ScorePool(workers={workers}, timeout_s={timeout_s}, memory_mb={memory_mb}): "
                "expected at least 1 worker, a time limit above 0 and at least 256 MB"
            )
        parse_response("", style)  # refuses an unknown style here rather than at the first batch
        for plugin in plugins:
            __import__(plugin)
        self.timeout_s, self.memory_mb, self.style, self.plugins = timeout_s, memory_mb, style, tuple(plugins)
        self._adopt()

    def _adopt(self) -> None:
        """Take a fresh set of workers as this process's own."""
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._running: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _kill_all, self._running, self._owner)

    def __enter__(self) -> ScorePool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers. A later `score_batch` starts new ones."""
        if self._owner == os.getpid():
            with self._lock:
                _kill_all(self._running, self._owner)

    def score_batch(self, rows: Sequence[Mapping[str, Any]], *, on_done: Callable[[int], None] | None = None) -> list[Verdict]:
        """Verdicts in the order of `rows` (keys as for `rlcs score`); `on_done(n)` is called as n more are finished.

        Raises RowError for an unusable row before anything is scored.
        """
        if self._owner != os.getpid():  # forked since: the workers belong to the parent process
            self._adopt()
        jobs: collections.deque[Job] = collections.deque()
        verdicts: list[Verdict | None] = [None] * len(rows)
        inline = 0
        for index, raw in enumerate(rows):
            row = read_row(raw, f"row {index}")
            parsed = parse_response(row.response, self.style)
            if row.entry.bounded(parsed.boxed or "", row.reference):
                verdicts[index] = api.judge(parsed.boxed, parsed.reason, row.reference, row.entry, row.args, row.question)
                inline += 1
                continue
            message = {
                "n": index,
                "boxed": parsed.boxed,
                "fault": parsed.reason,
                "reference": row.reference,
                "domain": row.domain,
                "verifier": row.entry.name,
                "args": row.raw_args,
                "question": row.question,
            }
            jobs.append((index, json.dumps(message).encode() + b"\n", parsed.boxed))
        if on_done is not None and inline:
            on_done(inline)
        if jobs:
            with self._lock:
                try:
                    self._run(jobs, verdicts, on_done)
                except BaseException:
                    # Interrupted or failed half-way: what the workers still hold belongs to no call any more.
                    _kill_all(self._running, self._owner)
                    raise
        finished = [verdict for verdict in verdicts if verdict is not None]
        if len(finished) != len(rows):
            raise RuntimeError(f"{len(rows) - len(finished)} of {len(rows)} rows were left without a verdict")
        return finished

    def _run(self, jobs: collections.deque[Job], verdicts: list[Verdict | None], on_done: Callable[[int], None] | None) -> None:
        left = len(jobs)

        def settle(job: Job, verdict: Verdict) -> None:
            nonlocal left
            verdicts[job[0]] = verdict
            left -= 1
            if on_done is not None:
                on_done(1)

        while left:
            while jobs and len(self._running) < min(self.workers, left):
                self._running.append(_Worker(self.memory_mb, self.timeout_s, self.plugins))
            self._deal(jobs)
            readable, writable = self._wait()
            for worker in writable:
                worker.write()
            for worker in list(self._running):
                late = bool(worker.jobs or not worker.ready) and time.monotonic() > worker.deadline
                if worker not in readable and not late:
                    continue
                # A late worker is read once more: the parent, too, may have been held up with the answer waiting.
                messages, gone = worker.read()
                for message in messages:
                    self._take(worker, message, settle)
                if gone or (late and not messages):
                    self._replace(worker, jobs, settle, late=not gone)

    def _deal(self, jobs: collections.deque[Job]) -> None:
        """Hand jobs out evenly, and not so far ahead that one worker ends up with the rest of the batch."""
        depth = min(QUEUE_DEPTH, max(1, len(jobs) // max(1, len(self._running))))
        for _ in range(depth):
            for worker in self._running:
                if jobs and len(worker.jobs) < depth:
                    worker.push(jobs.popleft(), self.timeout_s)

    def _wait(self) -> tuple[list[_Worker], list[_Worker]]:
        with selectors.DefaultSelector() as selector:
            for worker in self._running:
                selector.register(worker.socket, worker.events, worker)
            deadline = min(worker.deadline for worker in self._running if worker.jobs or not worker.ready)
            events = selector.select(max(0.0, deadline - time.monotonic()) + 0.001)
        readable = [key.data for key, mask in events if mask & selectors.EVENT_READ]
        return readable, [key.data for key, mask in events if mask & selectors.EVENT_WRITE]

    def _take(self, worker: _Worker, message: dict[str, Any], settle: Callable[[Job, Verdict], None]) -> None:
        worker.deadline = time.monotonic() + self.timeout_s
        if "ready" in message:
            worker.ready = True
            return
        job = worker.jobs.popleft()
        extracted = None if job[2] is None else job[2].strip()
        if message["n"] != job[0]:
            raise RuntimeError(f"scoring process {worker.process.pid} answered item {message['n']}, not {job[0]}")
        if "verdict" in message:
            score, correct, status, reason = message["verdict"]
            settle(job, Verdict(score, correct, status, extracted, reason))
        elif "memory" in message:
            settle(job, Verdict.abstained("memory", extracted))
        else:
            _log.warning("row %d: the verifier failed, the sample abstains:\n%s", job[0], message["error"])
            settle(job, Verdict.abstained("verifier-error", extracted))

    def _replace(
        self,
        worker: _Worker,
        jobs: collections.deque[Job],
        settle: Callable[[Job, Verdict], None],
        *,
        late: bool,
    ) -> None:
        status = worker.kill(gone=not late)
        self._running.remove(worker)
        if not worker.ready:
            found = f"was not ready after {START_LIMIT_S:.0f} s" if late else f"ended with status {status}"
            raise RuntimeError(f"a scoring process {found} before its first item; its error output is above")
        if worker.jobs:
            job = worker.jobs.popleft()
            reason = "timeout" if late else "memory" if status == -signal.SIGKILL else "worker-died"
            settle(job, Verdict.abstained(reason, None if job[2] is None else job[2].strip()))
        jobs.extendleft(reversed(worker.jobs))
