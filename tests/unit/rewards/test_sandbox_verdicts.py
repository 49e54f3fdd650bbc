"""Why a sandboxed program ended, and when its time is over."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from rewards.sandbox.process import Clock, Limits, NoVerdict
from rewards.sandbox.runs import _fate


@dataclass
class Ended:
    """As much of a sandboxed process as its fate is read from."""

    ended: tuple[int, int] | None
    cpu: float = 1.0
    peak_mb: float = 20.0
    limits: Limits = field(default_factory=lambda: Limits(total_s=30, memory_mb=256))

    def cpu_s(self) -> float:
        return self.cpu


@pytest.mark.parametrize(
    ("process", "reason"),
    [
        (Ended(None), "crashed"),
        (Ended((0, 0)), "crashed"),
        (Ended((1, 0)), "crashed"),
        (Ended((0, 11)), "crashed"),
        (Ended((0, 31)), "crashed"),
        (Ended((120, 0)), "syntax-error"),
        (Ended((121, 0)), "memory-limit"),
        (Ended((0, 24)), "time-limit"),
        (Ended((0, 9), cpu=32), "time-limit"),
        (Ended((0, 9), peak_mb=250), "memory-limit"),
    ],
)
def test_how_a_program_ended_gives_the_reason(process: Any, reason: str) -> None:
    assert _fate(process) == reason


def test_a_small_program_killed_from_outside_says_nothing() -> None:
    killed: Any = Ended((0, 9))
    with pytest.raises(NoVerdict, match="killed"):
        _fate(killed)


@dataclass
class Sleeping:
    """A program that has been ready to run for `starved` of the seconds that have passed, and has used `cpu` of them."""

    cpu: float = 0.0
    starved: float = 0.0

    def cpu_s(self) -> float:
        return self.cpu

    def starved_s(self) -> float:
        return self.starved


@pytest.mark.parametrize(
    ("wall", "cpu", "starved", "over"),
    [
        (0.5, 0.4, 0.0, False),
        (1.5, 1.0, 0.0, True),  # its processor time is used up
        (6.0, 0.1, 0.0, False),  # it sleeps
        (7.0, 0.1, 0.0, True),  # longer than 2 x 1 s + 5 s
        (20.0, 0.1, 15.0, False),  # the machine had no processor for it
        (28.0, 0.1, 15.0, True),
        (28.0, 0.1, 25.0, None),
    ],
)
def test_waiting_for_a_processor_is_not_held_against_a_program(
    wall: float, cpu: float, starved: float, over: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("rewards.sandbox.process.time.monotonic", lambda: now[0])
    program_: Any = Sleeping()
    clock = Clock([program_], 1.0)
    now[0], program_.cpu, program_.starved = 100.0 + wall, cpu, starved
    if over is None:
        with pytest.raises(NoVerdict, match="machine-overloaded"):
            clock.is_over()
    else:
        assert clock.is_over() is over
