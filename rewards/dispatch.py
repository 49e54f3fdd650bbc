"""How calls from several threads share one set of workers.

One of the calling threads leads: it starts workers, deals jobs out, watches the clock and settles the jobs of all
calls; the others wait until their own are settled, or until the leader's are and one of them leads on. So no thread of
ours runs between calls, a fork finds nothing to break, and an interrupt reaches the caller it is meant for. Jobs are
dealt from the calls in turn: a call of one row does not wait for a call of a thousand.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from rewards.jobs import Call, Job, NotJson
from rewards.process import START_LIMIT_S, WorkerProcess
from rewards.verdict import Verdict

_log = logging.getLogger(__name__)

QUEUE_DEPTH = 8
"""Jobs handed to a worker ahead of time, so that it need not wait for the parent between two."""


class Dispatcher:
    """At most `workers` processes, started when needed and kept; the thread that calls `serve` may come to lead."""

    def __init__(self, workers: int, memory_mb: int, plugins: Sequence[str]) -> None:
        self.owner = os.getpid()
        self.running: list[WorkerProcess] = []
        self._workers, self._memory_mb, self._plugins = workers, memory_mb, plugins
        self._turn = threading.Condition()
        self._calls: collections.deque[Call] = collections.deque()
        self._leader: Call | None = None
        self._given_up = False
        self._numbers = itertools.count()
        self._awake, self._alarm = socket.socketpair()  # ends the leader's wait when another call comes in
        self._awake.setblocking(False)
        self._alarm.setblocking(False)

    def serve(self, call: Call) -> None:
        """Return when all jobs of `call` are settled, or the call is abandoned.

        An exception (an interrupt, a worker that cannot start) costs this call; the others go on with fresh workers.
        """
        finished = False
        try:
            with self._turn:
                self._calls.append(call)
            self.wake()
            while call.unsettled and not call.abandoned:
                with self._turn:
                    if self._leader is None:
                        self._leader = call
                    elif self._leader is not call:
                        self._turn.wait_for(lambda: self._leader is None or call.news)
                if self._leader is call:
                    self._round()
                call.report()
            call.report()
            finished = True
        finally:
            self._leave(call, finished)

    def _leave(self, call: Call, finished: bool) -> None:
        with self._turn:
            if self._leader is call:
                self._leader = None
                if not finished:
                    # Stopped anywhere at all: the only sure state is none. The other calls' open jobs begin again.
                    self._end(self.running)
                    for other in self._calls:
                        other.restart()
            if call in self._calls:
                self._calls.remove(call)
            call.abandoned = call.abandoned or bool(call.unsettled)
            if not self._calls:
                self._drop()  # nobody watches the clock any more
            elif call.abandoned:
                self._given_up = True  # left to the leader, which may be waiting on the workers' sockets right now
                self.wake()
            self._turn.notify_all()

    def _drop(self) -> None:
        """End the workers that hold a job of a call that was given up; what else they hold is to be sent again."""
        self._given_up = False
        for worker in [worker for worker in self.running if any(job.call.abandoned for job in worker.jobs)]:
            self._end([worker])
            self._send_again(worker)

    def _send_again(self, worker: WorkerProcess) -> None:
        for job in reversed(worker.jobs):
            job.call.waiting.appendleft(job)

    def wake(self) -> None:
        """Have the leader look at its calls again. Never blocks."""
        with contextlib.suppress(OSError):  # it is being woken already, or the pool's life is over
            self._alarm.send(b"x")

    def close(self) -> None:
        """End all workers, once no call is being served."""
        with self._turn:
            self._turn.wait_for(lambda: not self._calls)
            self._end(self.running)

    def dispose(self) -> None:
        """End all workers at once; for the end of the pool's life, when nobody can be calling."""
        if os.getpid() == self.owner:  # a forked child must not end the workers of its parent
            self._end(self.running)
        self._awake.close()
        self._alarm.close()

    def _end(self, workers: list[WorkerProcess]) -> None:
        for worker in list(workers):
            self.running.remove(worker)
            worker.kill()

    def _round(self) -> None:
        """Start, deal, wait for the first event or deadline, and settle what came of it."""
        with self._turn:
            if self._given_up:
                self._drop()
            wanted = [call for call in self._calls if not call.abandoned]
            left = sum(len(call.unsettled) for call in wanted)
            while any(call.waiting for call in wanted) and len(self.running) < min(self._workers, left):
                self.running.append(WorkerProcess(self._memory_mb, self._plugins))
            self._deal()
            for worker in self.running:
                worker.write()
        readable, writable = self._wait()
        with self._turn:
            for worker in writable:
                worker.write()
            for worker in list(self.running):
                late = worker.late
                if worker not in readable and not late:
                    continue
                # A late worker is read once more: the parent, too, may have been held up with the answer waiting.
                messages, gone = worker.read()
                for message in messages:
                    self._take(worker, message)
                if gone or (late and not messages):
                    self._replace(worker, late=not gone)
            self._turn.notify_all()

    def _deal(self) -> None:
        """Hand jobs out evenly, and not so far ahead that one worker ends up with the rest."""
        waiting = sum(len(call.waiting) for call in self._calls)
        depth = min(QUEUE_DEPTH, max(1, waiting // max(1, len(self.running))))
        for held in range(depth):
            for worker in self.running:
                if len(worker.jobs) > held or (worker.jobs and worker.jobs[-1].alone):
                    continue
                job = self._next(idle=not worker.jobs)
                if job is None:
                    continue
                try:
                    worker.push(job, next(self._numbers))
                except NotJson:
                    job.call.settle(job.index, Verdict.bad_reference("not-json", job.extracted))

    def _next(self, idle: bool) -> Job | None:
        """The job of the next call in turn that has one for such a worker."""
        for _ in range(len(self._calls)):
            call = self._calls[0]
            self._calls.rotate(-1)
            if call.waiting and not call.abandoned and (idle or not call.waiting[0].alone):
                return call.waiting.popleft()
        return None

    def _wait(self) -> tuple[list[WorkerProcess], list[WorkerProcess]]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._awake, selectors.EVENT_READ)
            for worker in self.running:
                selector.register(worker.socket, worker.events, worker)
            deadlines = [worker.deadline for worker in self.running if worker.jobs or not worker.ready]
            limit = max(0.0, min(deadlines) - time.monotonic()) + 0.001 if deadlines else 0.0
            events = selector.select(limit)
        if any(key.data is None for key, _ in events):
            self._awake.recv(1 << 12)
        events = [(key, mask) for key, mask in events if key.data is not None]
        readable = [key.data for key, mask in events if mask & selectors.EVENT_READ]
        return readable, [key.data for key, mask in events if mask & selectors.EVENT_WRITE]

    def _take(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        if "ready" in message:
            worker.ready = True
            worker.start_clock()
            return
        if message["n"] != worker.numbers[0]:
            raise RuntimeError(f"scoring process {worker.process.pid} answered {message['n']}, not {worker.numbers[0]}")
        if "started" in message:
            worker.started()
            return
        job = worker.pop()
        notes = tuple((name, value) for name, value in message.get("notes", ()))
        if "verdict" in message:
            job.call.settle(job.index, Verdict(*message["verdict"]), notes)
        elif "memory" in message:
            job.call.settle(job.index, Verdict.abstained("memory", job.extracted), notes)
        else:
            _log.warning("row %d: the verifier failed, the sample abstains:\n%s", job.index, message["error"])
            job.call.settle(job.index, Verdict.abstained("verifier-error", job.extracted), notes)

    def _replace(self, worker: WorkerProcess, *, late: bool) -> None:
        status = worker.kill(gone=not late)
        self.running.remove(worker)
        if not worker.ready:
            found = f"was not ready after {START_LIMIT_S:.0f} s" if late else f"ended with status {status}"
            raise RuntimeError(f"a scoring process {found} before its first item; its error output is above")
        if worker.jobs:
            job = worker.jobs.popleft()
            reason = "timeout" if late else "memory" if status == -signal.SIGKILL else "worker-died"
            job.call.settle(job.index, Verdict.abstained(reason, job.extracted))
        self._send_again(worker)
