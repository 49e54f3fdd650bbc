"""The pool: right and ordered verdicts, hard limits, replaced workers, nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rewards import ScorePool, score_batch
from rewards.rows import RowError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # workers inherit the path, and import the plug-in by name
PLUGIN = "hostile_verifiers"


def row(answer: str, domain: str = "test-hostile", reference: object = "right", **more: object) -> dict:
    return {
        "id": answer,
        "domain": domain,
        "answer": reference,
        "response": f"<think></think><|begin_of_box|>{answer}<|end_of_box|>",
        **more,
    }


def pool(**options: object) -> ScorePool:
    return ScorePool(**{"workers": 2, "timeout_s": 1.0, "plugins": (PLUGIN,), **options})


def children() -> set[int]:
    """Process ids of this process's children, zombies included."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found.add(int(entry.name))
    return found


def test_verdicts_come_in_the_order_of_the_rows() -> None:
    rows = [row(f"{n}+{n}", "math", str(2 * n if n % 3 else 2 * n + 1)) for n in range(200)]
    with pool() as scoring:
        verdicts = scoring.score_batch(rows)
    assert [verdict.correct for verdict in verdicts] == [bool(n % 3) for n in range(200)]
    assert [verdict.extracted for verdict in verdicts] == [f"{n}+{n}" for n in range(200)]


@pytest.mark.parametrize("answer", ["hang", "sleep", "hold-the-interpreter"])
def test_item_over_the_time_limit_abstains_and_the_others_are_scored(answer: str) -> None:
    rows = [row("right"), row(answer), *[row("right")] * 20]
    start = time.monotonic()
    with pool() as scoring:
        verdicts = scoring.score_batch(rows)
    assert (verdicts[1].status, verdicts[1].reason, verdicts[1].score) == ("abstained", "timeout", None)
    assert verdicts[1].extracted == answer
    assert all(verdict.correct for index, verdict in enumerate(verdicts) if index != 1)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    "answer,reason",
    [("allocate", "memory"), ("die", "worker-died"), ("exit", "worker-died"), ("raise", "verifier-error")],
)
def test_item_that_breaks_its_worker_abstains_and_the_others_are_scored(
    answer: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pool(memory_mb=512, timeout_s=20) as scoring:
        verdicts = scoring.score_batch([row("right"), row(answer), row("right"), row(answer), row("wrong")])
    assert [verdict.reason for verdict in verdicts] == [None, reason, None, reason, None]
    assert [verdict.correct for verdict in verdicts] == [True, None, True, None, False]
    assert ("a fault of ours" in caplog.text) == (answer == "raise")


def test_pool_keeps_working_after_workers_were_killed() -> None:
    with pool(workers=1) as scoring:
        for _ in range(3):
            assert scoring.score_batch([row("hang")])[0].reason == "timeout"
            assert scoring.score_batch([row("right")])[0].correct is True


def test_no_process_is_left_behind() -> None:
    before = children()
    with pool() as scoring:
        scoring.score_batch([row("right"), row("hang"), row("die"), row("right")])
        assert children() - before
    assert children() == before


def test_abandoned_pool_is_cleaned_up() -> None:
    before = children()
    scoring = pool()
    scoring.score_batch([row("right")])
    assert children() - before
    del scoring
    assert children() == before


def test_closed_pool_starts_again() -> None:
    scoring = pool()
    for _ in range(2):
        assert scoring.score_batch([row("right")])[0].correct is True
        scoring.close()
        scoring.close()


def test_pool_works_from_several_threads_at_once() -> None:
    found: dict[int, list[bool | None]] = {}
    with pool(timeout_s=20) as scoring:

        def work(k: int) -> None:
            found[k] = [v.correct for v in scoring.score_batch([row(f"{n}+0", "math", str(k)) for n in range(30)])]

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert found == {k: [n == k for n in range(30)] for k in range(4)}


def test_printing_verifier_does_not_disturb_the_protocol(capfd: pytest.CaptureFixture[str]) -> None:
    with pool() as scoring:
        assert scoring.score_batch([row("print"), row("right")])[0].correct is False
    assert capfd.readouterr().out == ""


def test_workers_do_not_import_torch() -> None:
    with pool() as scoring:
        assert scoring.score_batch([row("torch")])[0].correct is False


def test_long_rows_and_lone_surrogates_pass_through() -> None:
    rows = [row("a" * 60_000), row("\ud800", reference="\ud800"), row("wörter", reference="wörter")] * 20
    with pool(timeout_s=20) as scoring:
        verdicts = scoring.score_batch(rows)
    assert [verdict.correct for verdict in verdicts] == [False, True, True] * 20


def test_format_errors_and_bad_references_are_told_apart() -> None:
    rows = [row("5", "math", "5"), {**row("5", "math", "5"), "response": "5"}, row("5", "math", "")]
    with pool() as scoring:
        assert [v.status for v in scoring.score_batch(rows)] == ["ok", "format_error", "bad_reference"]


def test_unusable_row_is_refused_before_anything_is_scored() -> None:
    with pool() as scoring, pytest.raises(RowError, match="row 1, id 'x'"):
        scoring.score_batch([row("right"), {"id": "x"}])


def test_progress_counts_every_row_once() -> None:
    seen: list[int] = []
    with pool() as scoring:
        scoring.score_batch([row("5", "math", "5"), row("right"), row("hang")], on_done=seen.append)
    assert sum(seen) == 3


def test_score_batch_makes_its_own_pool() -> None:
    before = children()
    assert [v.correct for v in score_batch([row("2+2", "math", "4"), row("2+2", "math", "5")], workers=1)] == [
        True,
        False,
    ]
    assert score_batch([]) == []
    assert children() == before


@pytest.mark.parametrize("options", [{"workers": 0}, {"timeout_s": 0}, {"memory_mb": 10}, {"style": "guess"}])
def test_senseless_limits_are_refused(options: dict) -> None:
    with pytest.raises(ValueError):
        ScorePool(**options)


SCRIPT = """
import sys, os
sys.path.insert(0, {here!r})
from rewards import ScorePool
row = dict(id="a", domain="test-hostile", answer="right")
wrap = "<think></think><|begin_of_box|>%s<|end_of_box|>"
pool = ScorePool(workers=2, timeout_s=60, plugins=["hostile_verifiers"])
pool.score_batch([dict(row, response=wrap % "right")] * 4)
print(" ".join(str(w.process.pid) for w in pool._running), flush=True)
{then}
"""


def run_script(then: str) -> subprocess.Popen[str]:
    code = SCRIPT.format(here=str(HERE), then=then)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def gone(pids: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_idle_workers_end_with_their_parent(number: signal.Signals) -> None:
    script = run_script("import time; time.sleep(60)")
    assert script.stdout is not None
    pids = [int(pid) for pid in script.stdout.readline().split()]
    script.send_signal(number)
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
