"""The pool: right and ordered verdicts, hard limits, replaced workers, nothing left behind."""

import asyncio
import itertools
import pickle
import random
import threading
import time
from pathlib import Path

import pytest
from hostile_pool import PLUGIN, children, gone, pool, row

from rewards import ScorePool, score_batch
from rewards.rows import RowError


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
    assert time.monotonic() - start < 120  # the call would take hours; the cores may be shared


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


def test_long_call_does_not_hold_up_a_short_one() -> None:
    ended: dict[str, float] = {}
    with pool(workers=1, timeout_s=20) as scoring:
        scoring.score_batch([row("right")])

        def work(name: str, rows: list[dict]) -> None:
            assert all(verdict.status == "ok" for verdict in scoring.score_batch(rows))
            ended[name] = time.monotonic()

        long = threading.Thread(target=work, args=("long", [row("nap")] * 150))
        long.start()
        time.sleep(0.3)
        for n in range(3):
            work(f"short {n}", [row("nap")])
        long.join(60)
    assert max(ended[f"short {n}"] for n in range(3)) < ended["long"] - 0.5


def test_threads_with_failing_items_each_get_their_own_verdicts() -> None:
    kinds = {"right": None, "wrong": None, "hang": "timeout", "die": "worker-died", "raise": "verifier-error"}
    choose = random.Random(5)
    asked = {k: choose.choices(list(kinds), (20, 20, 1, 1, 1), k=20) for k in range(4)}
    found: dict[int, list[str | None]] = {}
    with pool(workers=2, timeout_s=2.0) as scoring:

        def work(k: int) -> None:
            found[k] = [verdict.reason for verdict in scoring.score_batch([row(answer) for answer in asked[k]])]

        threads = [threading.Thread(target=work, args=(k,)) for k in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert found == {k: [kinds[answer] for answer in answers] for k, answers in asked.items()}


@pytest.mark.parametrize("failing_first", [True, False])
def test_failure_in_one_call_costs_the_others_nothing(failing_first: bool) -> None:
    class Stop(Exception):
        pass

    def stop(count: int) -> None:
        raise Stop

    outcome: dict[bool, object] = {}
    with pool(workers=2, timeout_s=20) as scoring:

        def work(failing: bool) -> None:
            try:
                outcome[failing] = scoring.score_batch([row("nap")] * 60, on_done=stop if failing else None)
            except Stop as error:
                outcome[failing] = error

        threads = [threading.Thread(target=work, args=(failing,)) for failing in (failing_first, not failing_first)]
        for thread in threads:
            thread.start()
            time.sleep(0.2)
        for thread in threads:
            thread.join(60)
        assert isinstance(outcome[True], Stop)
        assert isinstance(outcome[False], list) and all(verdict.status == "ok" for verdict in outcome[False])
        assert scoring.score_batch([row("right")])[0].correct is True


def test_waiting_for_verdicts_does_not_hold_up_the_event_loop() -> None:
    async def main(scoring: ScorePool) -> None:
        ticks = itertools.count()

        async def tick() -> None:
            while True:
                next(ticks)
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        batches = await asyncio.gather(*(scoring.score_async([row("nap")] * 10 + [row(f"{k}")]) for k in range(8)))
        ticking.cancel()
        assert [[verdict.extracted for verdict in batch][-1] for batch in batches] == [str(k) for k in range(8)]
        assert next(ticks) > 20

    with pool(timeout_s=20) as scoring:
        asyncio.run(main(scoring))


def test_cancelled_task_takes_its_rows_out_of_the_pool() -> None:
    async def main(scoring: ScorePool) -> None:
        hanging = asyncio.create_task(scoring.score_async([row("sleep")] * 50))
        await asyncio.sleep(0.5)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        # Far sooner than one hanging item may take: the workers that hold such items are replaced.
        assert [v.correct for v in await asyncio.wait_for(scoring.score_async([row("right")]), 30)] == [True]

    with pool(timeout_s=3600) as scoring:
        scoring.score_batch([row("right")])
        asyncio.run(main(scoring))


def test_pickled_pool_has_the_same_settings_and_its_own_workers() -> None:
    with pool(timeout_s=7.0, memory_mb=600) as scoring, pickle.loads(pickle.dumps(scoring)) as other:
        assert (other.workers, other.timeout_s, other.memory_mb, other.style) == (2, 7.0, 600, "box")
        assert (other.plugins, other.checks) == ((PLUGIN,), ())
        assert other.score_batch([row("right")])[0].correct is True
        assert not scoring._dispatcher.running


def test_verifier_may_have_a_longer_or_a_shorter_limit_than_the_pool() -> None:
    with pool(timeout_s=1.0) as scoring:
        assert scoring.score_batch([row("2", "test-patient")])[0].correct is True
    with pool(timeout_s=60.0) as scoring:
        start = time.monotonic()
        assert scoring.score_batch([row("30", "test-hasty")])[0].reason == "timeout"
        assert time.monotonic() - start < 20


def test_nothing_waits_in_line_behind_an_item_with_a_limit_of_its_own() -> None:
    with pool(timeout_s=20) as scoring:
        scoring.score_batch([row("right"), row("0", "test-patient")] * 4)
        done: list[float] = []
        rows = [row("4", "test-patient"), *[row("nap")] * 20]
        scoring.score_batch(rows, on_done=lambda count: done.extend([time.monotonic()] * count))
    assert len(done) == 21 and done[-2] < done[-1] - 1


def test_time_to_import_libraries_is_not_the_items() -> None:
    with pool(timeout_s=1.0) as scoring:
        assert (
            scoring.score_batch([row("x", "test-slow-library")] * 4)
            == [scoring.score_batch([row("x", "test-slow-library")])[0]] * 4
        )
        assert scoring.score_batch([row("x", "test-slow-library")])[0].correct is True


def test_library_that_cannot_be_imported_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with pool() as scoring:
        verdicts = scoring.score_batch([row("x", "test-no-library"), row("right")])
    assert [verdict.reason for verdict in verdicts] == ["verifier-error", None]
    assert "needs no_such_library" in caplog.text and "raise memory_mb" in caplog.text


def test_least_memory_holds_the_heavy_libraries_and_still_bounds_the_item() -> None:
    with pool(workers=1, memory_mb=512, timeout_s=60) as scoring:
        verdicts = scoring.score_batch([row("x", "test-heavy"), row("allocate"), row("x", "test-heavy")])
    assert [(verdict.correct, verdict.reason) for verdict in verdicts] == [(True, None), (None, "memory"), (True, None)]


def test_what_a_verifier_started_ends_with_its_worker(tmp_path: Path) -> None:
    with pool(workers=1) as scoring:
        assert scoring.score_batch([row(f"start {tmp_path / 'pid'}")])[0].reason == "timeout"
    assert gone([int((tmp_path / "pid").read_text())], 10)


def test_reference_without_a_json_form_is_a_bad_reference() -> None:
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pool() as scoring:
        verdicts = scoring.score_batch([row("right", reference=wrong) for wrong in ({1}, 10**5000, deep, "right")])
    assert [verdict.reason for verdict in verdicts] == ["not-json"] * 3 + [None]


def test_fault_of_ours_in_the_calling_process_abstains(caplog: pytest.LogCaptureFixture) -> None:
    unboxed = {**row("x", "test-inline"), "response": "no box"}
    with pool() as scoring:
        verdicts = scoring.score_batch([row("raise", "test-inline"), row("x", "test-inline"), unboxed])
        assert not scoring._dispatcher.running or verdicts[2].status == "format_error"
    assert [verdict.reason for verdict in verdicts] == ["verifier-error", None, "no-think"]
    assert "a fault of ours" in caplog.text


def test_abstention_of_a_verifier_has_its_own_reason() -> None:
    with pool() as scoring:
        verdict = scoring.score_batch([row("abstain")])[0]
    assert (verdict.status, verdict.reason, verdict.score) == ("abstained", "server-down", None)


def test_verifier_without_box_gets_all_of_the_answer_part() -> None:
    responses = {
        "<think>t</think> so it is\n": (True, None),
        "<think>t</think>other": (False, "text-differs"),
        "<think></think><|begin_of_box|>so it is<|end_of_box|>": (False, "box-on-unverifiable"),
        "<think></think>so it is<|end_of_box|>": (False, "box-on-unverifiable"),
        "<think><|begin_of_box|></think>so it is": (False, "box-only-in-think"),
        "<think></think> \n": (False, "empty-answer"),
        "so it is": (False, "no-think"),
        "<think></think>" + "so it is" * 10_000: (False, "answer-too-long"),
    }
    rows = [{**row("", "test-open", "so it is"), "response": response} for response in responses]
    with pool() as scoring:
        verdicts = scoring.score_batch(rows)
    assert [(verdict.correct, verdict.reason) for verdict in verdicts] == list(responses.values())
    assert verdicts[0].extracted == "so it is"


def test_verifier_without_box_reads_the_answer_element_of_the_other_style() -> None:
    responses = ["<answer>so it is</answer>", "so it is", "<answer><|begin_of_box|>so it is<|end_of_box|></answer>"]
    with pool(style="answer") as scoring:
        verdicts = scoring.score_batch(
            [{**row("", "test-open", "so it is"), "response": f"<think></think>{response}"} for response in responses]
        )
    assert [verdict.reason for verdict in verdicts] == [None, "no-answer", "box-on-unverifiable"]


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


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"timeout_s": 0},
        {"memory_mb": 10},
        {"memory_mb": 511},
        {"timeout_s": float("nan")},
        {"timeout_s": 1e9},
        {"style": "guess"},
    ],
)
def test_senseless_limits_are_refused(options: dict) -> None:
    with pytest.raises(ValueError):
        ScorePool(**options)
