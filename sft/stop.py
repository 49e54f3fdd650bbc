"""Ctrl-C and SIGTERM: the step in hand is finished, a checkpoint saved, the process ended with the status shells expect.

    with StopSignals() as stop:
        for step in ...:
            stop.leave(step, last_checkpoint)       # raises Stopped once a signal has come
            ...                                     # a first signal is noted, a second one ends the process at once
            if stop.requested: save a checkpoint

A step is finished rather than broken off, since only between steps is a run a state that it can go on from.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """A signal ended the run; `code` is the exit status, 128 + the signal's number (130 for Ctrl-C, 143 for SIGTERM)."""

    def __init__(self, signum: int, said: str) -> None:
        super().__init__(128 + signum)
        self.said = said

    def __str__(self) -> str:
        return self.said


class StopSignals:
    """While it is entered, SIGINT and SIGTERM ask for a stop (`requested`); the second of them raises Stopped where it arrives.

    Outside the main thread, where Python handles no signals, it changes nothing.
    """

    def __init__(self) -> None:
        self._signum: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._signum is not None

    def leave(self, steps: int, checkpoint: Path | None) -> None:
        """Raises Stopped if a signal has come, `steps` steps being done and saved as `checkpoint`."""
        if self._signum is not None:
            name = signal.Signals(self._signum).name
            kept = f"after {steps} steps, saved as {checkpoint}; go on by --resume" if checkpoint else "before the first step"
            raise Stopped(self._signum, f"stopped by {name} {kept}")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        name = signal.Signals(signum).name
        if self._signum is not None:
            raise Stopped(signum, f"stopped at once by a second {name}; --resume goes on from the last checkpoint")
        self._signum = signum
        # Not by the console: the signal may have come while it was writing.
        os.write(2, f"\n{name}: finishing this step, then saving and stopping; once more stops at once\n".encode())


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """SIGINT and SIGTERM raise Stopped, so that processes and memory of a run that has not begun its steps are let go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        raise Stopped(signum, f"stopped by {signal.Signals(signum).name}")

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
