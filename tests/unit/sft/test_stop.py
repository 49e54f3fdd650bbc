"""Signals: the first is a wish, the second an order; what was there before comes back."""

import os
import signal
import threading
from pathlib import Path

import pytest

from sft.stop import Stopped, StopSignals, stopping_at_once


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_first_signal_is_noted_and_the_loop_left_between_steps(
    signum: int, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    done = []
    with pytest.raises(SystemExit) as stopped, StopSignals() as stop:
        for step in range(5):
            stop.leave(step, Path("step-000002"))
            if step == 1:
                send(signum)
            done.append(step)  # the step in hand is finished
    assert done == [0, 1] and stopped.value.code == status
    assert "after 2 steps, saved as step-000002; go on by --resume" in str(stopped.value)
    assert "finishing this step" in capfd.readouterr().err


def test_a_second_signal_stops_where_it_arrives() -> None:
    with pytest.raises(Stopped, match="at once by a second SIGINT") as stopped, StopSignals() as stop:
        send(signal.SIGTERM)
        assert stop.requested
        send(signal.SIGINT)
        pytest.fail("went on after a second signal")
    assert stopped.value.code == 130


def test_handlers_of_before_are_put_back_and_rule_the_time_before_the_steps() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped, stopping_at_once():
        with StopSignals() as stop:
            assert not stop.requested
        send(signal.SIGTERM)
        pytest.fail("went on")
    assert stopped.value.code == 143
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_nothing_is_changed() -> None:
    before, found = signal.getsignal(signal.SIGINT), []

    def enter() -> None:
        with stopping_at_once(), StopSignals() as stop:
            found.extend([signal.getsignal(signal.SIGINT), stop.requested])

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before, False]
