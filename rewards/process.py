"""One worker process of a pool, seen from the parent: its socket, the jobs it holds and its deadline."""

from __future__ import annotations

import collections
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from rewards.jobs import Job

START_LIMIT_S = 120.0
"""Time to start an interpreter, or to import a verifier's libraries: long, for a cold network disk under load."""
EXIT_GRACE_S = 1.0

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Workers are as many as cores; and every thread of a numeric library takes address space of the worker's limit."""


class WorkerProcess:
    """A fresh interpreter that scores. `jobs` are those it was sent; it works on the first."""

    def __init__(self, memory_mb: int, plugins: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(os.getcwd() if entry == "" else entry for entry in sys.path)
        command = [sys.executable, "-P", "-m", "rewards.worker", str(theirs.fileno()), str(memory_mb)]
        try:
            self.process = subprocess.Popen(
                [*command, *plugins],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": path, **_ONE_THREAD},
                process_group=0,  # so that a kill takes along what a verifier started
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
        self.numbers: collections.deque[int] = collections.deque()
        self.deadline = time.monotonic() + START_LIMIT_S
        self._seen: set[str] = set()
        self._out = bytearray()
        self._in = bytearray()

    def push(self, job: Job, number: int) -> None:
        """Queue a job under a number that its answer will bear. Raises NotJson, the queue unchanged."""
        self._out += job.message(number)
        self.jobs.append(job)
        self.numbers.append(number)
        if self.ready and len(self.jobs) == 1:
            self.start_clock()

    def pop(self) -> Job:
        """The job at work, taken off; the clock of the next one starts."""
        self.numbers.popleft()
        job = self.jobs.popleft()
        self.start_clock()
        return job

    def started(self) -> None:
        """The worker has imported what the verifier of its job needs, and begins."""
        self._seen.add(self.jobs[0].row.entry.name)
        self.start_clock()

    def start_clock(self) -> None:
        """Set the deadline of the job at work. Imports, at the first of its verifier, are not on its time."""
        if self.jobs:
            job = self.jobs[0]
            self.deadline = time.monotonic() + (job.timeout_s if job.row.entry.name in self._seen else START_LIMIT_S)

    @property
    def late(self) -> bool:
        """Whether the deadline of its start or of its job has passed."""
        return bool(self.jobs or not self.ready) and time.monotonic() > self.deadline

    @property
    def events(self) -> int:
        """The socket events to wait for."""
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
        """End the process and all it started, and reap it; returns its exit status.

        One that is `gone` may report its own status first. It is reaped last: its number, which is also the group's,
        cannot go to another process before.
        """
        self.socket.close()
        if gone:
            limit = time.monotonic() + EXIT_GRACE_S
            while time.monotonic() < limit and self._running():
                time.sleep(0.005)
        if self.process.returncode is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self.process.kill()  # its group was not made yet, or is not ours to signal
        return self.process.wait()

    def _running(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False  # the host reaps children itself
