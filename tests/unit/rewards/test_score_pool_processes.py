"""The processes of a score pool: their start, their end, and whose they are."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile_pool import HERE, children, gone, pool, row


def test_process_that_cannot_start_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("no more processes")

    before = len(list(Path("/proc/self/fd").iterdir()))
    with pool() as scoring:
        monkeypatch.setattr(subprocess, "Popen", fail)
        for _ in range(3):
            with pytest.raises(OSError, match="no more processes"):
                scoring.score_batch([row("right")])
        assert len(list(Path("/proc/self/fd").iterdir())) == before + 2  # the pool's own pair of sockets
        monkeypatch.undo()
        assert scoring.score_batch([row("right")])[0].correct is True


def test_worker_is_ended_alone_where_its_group_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(group: int, number: int) -> None:
        raise PermissionError

    before = children()
    monkeypatch.setattr(os, "killpg", refuse)
    with pool(workers=1) as scoring:
        assert scoring.score_batch([row("hang")])[0].reason == "timeout"
    assert children() == before


def test_host_that_reaps_children_itself_still_gets_verdicts() -> None:
    then = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
rows = [dict(row, response=wrap % answer) for answer in ("right", "die", "right", "die", "right")]
print(*[verdict.reason for verdict in pool.score_batch(rows)])
"""
    out, errors = run_script(then).communicate(timeout=120)
    assert out.splitlines()[-1] == "None worker-died None worker-died None", errors


@pytest.mark.parametrize(
    ("patched", "value", "found"),
    [
        ("sys.executable", "/bin/false", "ended with status 1"),
        ("rewards.process.START_LIMIT_S", 0.01, "was not ready after 120 s"),
    ],
)
def test_worker_that_does_not_start_is_an_error_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, patched: str, value: object, found: str
) -> None:
    before = children()
    with pool(workers=1) as scoring:
        with monkeypatch.context() as patch:
            patch.setattr(patched, value)
            with pytest.raises(RuntimeError, match=f"a scoring process {found} before its first item"):
                scoring.score_batch([row("right")])
        assert scoring.score_batch([row("right")])[0].correct  # the next call starts others
    assert children() == before


SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run in a shell's background
sys.path.insert(0, {here!r})
from rewards import ScorePool
row = dict(id="a", domain="test-hostile", answer="right")
wrap = "<think></think><|begin_of_box|>%s<|end_of_box|>"
pool = ScorePool(workers=2, timeout_s=60, plugins=["hostile_verifiers"])
pool.score_batch([dict(row, response=wrap % "right")] * 4)
print(" ".join(str(w.process.pid) for w in pool._dispatcher.running), flush=True)
{then}
"""


def run_script(then: str) -> subprocess.Popen[str]:
    code = SCRIPT.format(here=str(HERE), then=then)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_idle_workers_end_with_their_parent(number: signal.Signals) -> None:
    script = run_script("import time; time.sleep(60)")
    assert script.stdout is not None
    pids = [int(pid) for pid in script.stdout.readline().split()]
    script.send_signal(number)
    script.communicate(timeout=20)
    assert pids and gone(pids, 10)


def test_busy_worker_ends_after_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTILE_GRACE_S", "0.2")
    then = "print('x', flush=True); pool.score_batch([dict(row, domain='test-hasty', response=wrap % '30')])"
    script = run_script(then)
    assert script.stdout is not None
    pids = [int(pid) for pid in script.stdout.readline().split()]
    script.stdout.readline()
    time.sleep(0.1)
    script.kill()
    script.communicate(timeout=20)
    assert pids and gone(pids, 10)


def test_keyboard_interrupt_ends_a_batch_and_its_busy_workers() -> None:
    then = "pool.score_batch([dict(row, response=wrap % 'hang')] * 2)"
    script = run_script(then)
    assert script.stdout is not None
    pids = [int(pid) for pid in script.stdout.readline().split()]
    time.sleep(0.3)
    os.killpg(script.pid, signal.SIGINT)
    _, errors = script.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert pids and gone(pids, 10)


def test_forked_child_leaves_the_workers_of_its_parent_alone() -> None:
    then = """
pid = os.fork()
if pid == 0:
    ok = pool.score_batch([dict(row, response=wrap % "right")])[0].correct
    pool.close()
    os._exit(0 if ok else 1)
status = os.waitpid(pid, 0)[1]
print(status, pool.score_batch([dict(row, response=wrap % "right")])[0].correct)
"""
    out, errors = run_script(then).communicate(timeout=60)
    assert out.splitlines()[-1] == "0 True", errors
