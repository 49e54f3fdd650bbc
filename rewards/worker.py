"""The process that scores for a pool: `python -m rewards.worker FD MEMORY_MB TIMEOUT_S [PLUGIN...]`.

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
from typing import Any

PARENT_CHECK_S = 30.0
ORPHAN_GRACE_S = 10.0


def main(argv: list[str]) -> None:
    """Serve until the socket closes or the parent is gone."""
    fd, memory_mb, timeout_s, plugins = int(argv[0]), int(argv[1]), float(argv[2]), argv[3:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it reaches the whole group
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    parent = os.getppid()
    channel = socket.socket(fileno=fd)
    from rewards import api, registry

    for plugin in plugins:
        importlib.import_module(plugin)
    registry.known_verifiers()
    limit = memory_mb << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel.sendall(b'{"ready":true}\n')
    channel.settimeout(PARENT_CHECK_S)
    pending = bytearray()
    while True:
        end = pending.find(b"\n")
        if end < 0:
            try:
                data = channel.recv(1 << 16)
            except TimeoutError:
                if os.getppid() != parent:
                    return
                continue
            if not data:
                return
            pending += data
            continue
        line = bytes(pending[:end])
        del pending[: end + 1]
        signal.setitimer(signal.ITIMER_REAL, timeout_s + ORPHAN_GRACE_S)
        reply = _reply(line, api, registry)
        signal.setitimer(signal.ITIMER_REAL, 0)
        channel.sendall(reply)


def _reply(line: bytes, api: Any, registry: Any) -> bytes:
    job = json.loads(line)
    try:
        entry = registry.find(job["domain"], job["verifier"])
        args = registry.build_args(entry, job["args"])
        verdict = api.judge(job["boxed"], job["fault"], job["reference"], entry, args, job["question"])
        found = [verdict.score, verdict.correct, verdict.status, verdict.reason]
        reply: dict[str, Any] = {"n": job["n"], "verdict": found}
    except MemoryError:
        reply = {"n": job["n"], "memory": True}
    except Exception:  # noqa: BLE001
        # Not swallowed: the parent logs the traceback and abstains. A fault of ours must not end a training run.
        reply = {"n": job["n"], "error": traceback.format_exc(limit=20)[-8000:]}
    return json.dumps(reply).encode() + b"\n"


if __name__ == "__main__":
    sys.stdout = sys.stderr
    main(sys.argv[1:])
