"""The process that scores for a pool: `python -m rewards.worker FD MEMORY_MB [PLUGIN...]`.

It reads one JSON object a line from socket FD and answers each with one line. Started as a fresh interpreter rather
than forked, so that it shares neither threads nor torch with the trainer. The parent kills it when an answer takes too
long; an alarm with the default action (the kernel ends the process, whatever Python does) serves if the parent died.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported by main, below the limits of the interpreter's own start
    from rewards.registry import Verifier

PARENT_CHECK_S = 30.0
IMPORT_LIMIT_S = 120.0
ORPHAN_GRACE_S = 10.0


def main(argv: list[str]) -> None:
    """Serve until the socket closes or the parent is gone."""
    fd, memory_mb, plugins = int(argv[0]), int(argv[1]), argv[2:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    parent = os.getppid()
    channel = socket.socket(fileno=fd)
    from rewards import registry

    for plugin in plugins:
        importlib.import_module(plugin)
    registry.known_verifiers()
    limit = memory_mb << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    scorer = _Scorer(channel, memory_mb)
    try:
        scorer.send({"ready": True})
        _serve(channel, scorer, parent)
    except (BrokenPipeError, ConnectionResetError):
        return  # the parent is gone


def _serve(channel: socket.socket, scorer: _Scorer, parent: int) -> None:
    pending = bytearray()
    while True:
        end = pending.find(b"\n")
        if end < 0:
            channel.settimeout(PARENT_CHECK_S)
            try:
                data = channel.recv(1 << 16)
            except TimeoutError:
                # Its death closes the socket, unless a process it forked holds a copy. PR_SET_PDEATHSIG would not do:
                # it tells of the death of the thread that started us, and a pool's threads come and go.
                if os.getppid() != parent:
                    return
                continue
            if not data:
                return
            pending += data
            continue
        line = bytes(pending[:end])
        del pending[: end + 1]
        scorer.score(json.loads(line))


class _Scorer:
    """Answers jobs on the socket; imports a verifier's libraries before its first job."""

    def __init__(self, channel: socket.socket, memory_mb: int) -> None:
        self._channel, self._memory_mb = channel, memory_mb
        self._seen: set[str] = set()

    def send(self, message: dict[str, Any]) -> None:
        """One line, however long the parent takes to read it."""
        self._channel.settimeout(None)
        self._channel.sendall(json.dumps(message).encode() + b"\n")

    def score(self, job: dict[str, Any]) -> None:
        """Answer one job; whatever goes wrong in it is the answer."""
        from rewards import registry

        notes: list[tuple[str, str]] | None = [] if job["explain"] else None
        number = {"n": job["n"]}
        try:
            entry = registry.find(job["domain"], job["verifier"])
            if entry.name not in self._seen:
                signal.setitimer(signal.ITIMER_REAL, IMPORT_LIMIT_S + ORPHAN_GRACE_S)
                self._import(entry)
                self._seen.add(entry.name)
                self.send({**number, "started": True})
            signal.setitimer(signal.ITIMER_REAL, job["timeout_s"] + ORPHAN_GRACE_S)
            reply = {**number, "verdict": _verdict(job, entry, notes)}
        except MemoryError:
            reply = {**number, "memory": True}
        except Exception:  # noqa: BLE001
            # Not swallowed: the parent logs the traceback and abstains. A fault of ours must not end a training run.
            reply = {**number, "error": traceback.format_exc(limit=20)[-8000:]}
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.send({**reply, "notes": notes} if notes else reply)

    def _import(self, entry: Verifier) -> None:
        for library in entry.libraries:
            try:
                importlib.import_module(library)
            except (ImportError, MemoryError, OSError) as error:
                # The loader's word for too little address space is an ImportError like any other.
                raise RuntimeError(
                    f"verifier {entry.name!r} needs {library}, which a worker of {self._memory_mb} MB could not import "
                    "(the cause is above); install it, or raise memory_mb"
                ) from error


def _verdict(job: dict[str, Any], entry: Verifier, notes: list[tuple[str, str]] | None) -> list[Any]:
    """Fields of the verdict in their order."""
    from rewards import api, registry
    from rewards.format import parse_response

    fault = job["fault"]
    if "checks" in job:
        fault = api.style_fault(parse_response(job["response"], job["style"]), job["question"], job["checks"])
    args = registry.build_args(entry, job["args"])
    verdict = api.judge(job["answer"], fault, job["reference"], entry, args, job["question"], notes)
    return [verdict.score, verdict.correct, verdict.status, verdict.extracted, verdict.reason]


if __name__ == "__main__":
    sys.stdout = sys.stderr
    main(sys.argv[1:])
