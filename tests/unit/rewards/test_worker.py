"""The worker process itself, spoken to over its socket; it ends by itself, as it does when its pool's process is gone."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LIMIT_S = 120


def replies(*jobs: dict[str, Any], plugins: tuple[str, ...] = ("hostile_verifiers",)) -> list[dict[str, Any]]:
    """What a fresh worker answers to `jobs` once it is ready; its socket is then closed, and it must end well."""
    ours, theirs = socket.socketpair()
    ours.settimeout(LIMIT_S)
    command = [sys.executable, "-P", "-m", "rewards.worker", str(theirs.fileno()), "1024", *plugins]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), *filter(None, sys.path)))}
    with ours, subprocess.Popen(command, pass_fds=(theirs.fileno(),), env=environment) as process:
        theirs.close()
        with ours.makefile("rb") as lines:
            assert json.loads(lines.readline()) == {"ready": True}
            ours.sendall(b"".join(json.dumps(job).encode() + b"\n" for job in jobs))
            ours.shutdown(socket.SHUT_WR)
            found = [json.loads(line) for line in lines]
        assert process.wait(LIMIT_S) == 0
    return found


def job(answer: str, domain: str = "test-hostile", **fields: Any) -> dict[str, Any]:
    return {
        **{"n": 1, "answer": answer, "fault": None, "reference": "42", "domain": domain, "verifier": domain, "args": {}},
        **{"question": None, "timeout_s": 60.0, "explain": False},
        **fields,
    }


def test_first_job_of_a_verifier_is_announced_and_every_job_is_answered() -> None:
    first, second = [1.0, True, "ok", "42", None], [0.0, False, "ok", "43", "different-value"]
    assert replies(job("42", "math"), job("43", "math", n=2)) == [
        {"n": 1, "started": True},
        {"n": 1, "verdict": first},
        {"n": 2, "verdict": second},
    ]


def test_notes_are_sent_when_they_are_asked_for() -> None:
    assert replies(job("42", explain=True))[-1]["notes"] == [["answer", "42"]]


def test_fault_of_a_verifier_is_sent_with_its_traceback() -> None:
    assert "TypeError: a fault of ours" in replies(job("raise"))[-1]["error"]


def test_memory_that_runs_out_is_told_apart_from_a_fault() -> None:
    assert replies(job("allocate"))[-1] == {"n": 1, "memory": True}


def test_style_checks_read_the_whole_response() -> None:
    box = "<|begin_of_box|>42<|end_of_box|>"
    loop = {
        "response": "<think>" + "round and round we go. " * 400 + "</think>" + box,
        "style": "box",
        "checks": ["repetition"],
    }
    assert replies(job("42", **loop))[-1]["verdict"][2:] == ["format_error", "42", "repetition"]


@pytest.mark.parametrize("unread", [b"", b'{"n": 1'])
def test_worker_ends_with_its_socket_even_amid_a_line(unread: bytes) -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", "rewards.worker", str(theirs.fileno()), "1024"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, pass_fds=(theirs.fileno(),), env=environment) as process:
        theirs.close()
        ours.sendall(unread)
        ours.close()
        assert process.wait(LIMIT_S) == 0


def test_idle_worker_ends_when_its_parent_is_gone_though_another_holds_its_socket() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(LIMIT_S)
    worker = "import sys, rewards.worker as w; w.PARENT_CHECK_S = 0.1; w.main(sys.argv[1:])"
    parent = "import subprocess, sys; fd = int(sys.argv[1])\nsubprocess.Popen([*sys.argv[2:]], pass_fds=[fd]); sys.stdin.read()"
    command = [sys.executable, "-c", parent, str(theirs.fileno()), sys.executable, "-c", worker, str(theirs.fileno()), "1024"]
    with ours, subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.PIPE) as process:
        theirs.close()
        with ours.makefile("rb") as lines:
            assert json.loads(lines.readline()) == {"ready": True}
            time.sleep(0.5)  # several looks at a parent that lives
            ours.sendall(json.dumps(job("42", "math")).encode() + b"\n")
            assert [json.loads(lines.readline())["n"] for _ in range(2)] == [1, 1]
            assert process.stdin is not None
            process.stdin.close()
            assert lines.readline() == b""


def test_library_that_is_missing_is_named() -> None:
    assert "needs no_such_library" in replies(job("42", "test-no-library"))[-1]["error"]
