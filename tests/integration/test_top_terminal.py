"""`rlcs top` at a real pseudo-terminal, beside a run that is written, torn, deleted and begun anew."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sft.rundir import RunDir

pytestmark = pytest.mark.integration

SEQUENCE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
ENTERS, LEAVES = b"\x1b[?1049h", b"\x1b[?1049l"  # the alternate screen
DEADLINE = 120.0


class Terminal:
    """`rlcs top` with its own terminal of 100 x 40."""

    def __init__(self, run: Path) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.slave, self.settings = slave, termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rlcs.cli", "top", str(run)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
        )
        self.raw = b""

    def read(self, seconds: float = 0.2) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            self.raw += os.read(self.master, 1 << 16)

    def shows(self, wanted: str) -> None:
        """Waits until the picture that is drawn next shows it."""
        self.raw = b""
        self.until(lambda: wanted in SEQUENCE.sub(b"", self.raw).decode(errors="replace"), wanted)

    def until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + DEADLINE
        while not done():
            assert time.monotonic() < end, f"never seen: {what}; the end of what was: {self.raw[-3000:]!r}"
            self.read()

    def ends(self) -> int:
        self.until(lambda: self.process.poll() is not None, "the end")
        while select.select([self.master], [], [], 0.1)[0]:
            self.raw += os.read(self.master, 1 << 16)
        assert LEAVES in self.raw
        assert termios.tcgetattr(self.slave) == self.settings
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    directory = begun(tmp_path / "run")
    yield directory
    directory.close()


def begun(path: Path) -> RunDir:
    directory = RunDir(path, resume=True, loggers=())
    directory.atomic_write("config.yaml", "steps: 9\nsampler: rlcs\n")
    return directory


def log(run: RunDir, step: int, rate: float) -> None:
    row = {"rollouts": 8.0, "rollouts_wasted": 4.0, "tokens": 80.0, "tokens_wasted": 8.0, "seconds/step": 1.0}
    row |= {"math/groups_generated": 1.0, "math/pass_rate": rate, "math/mixed_fraction": 1.0, "math/rollouts": 8.0}
    run.log(step, row)


@pytest.fixture
def terminal(run: RunDir) -> Iterator[Terminal]:
    terminal = Terminal(run.path)
    yield terminal
    terminal.close()


def test_a_run_is_followed_until_q_through_a_torn_line_its_deletion_and_its_new_beginning(
    run: RunDir, terminal: Terminal
) -> None:
    terminal.shows("no step has been logged yet")
    assert ENTERS in terminal.raw
    log(run, 0, 0.125)
    terminal.shows("step 1 of 9")
    log(run, 1, 0.5)
    with run.metrics_path.open("a") as file:
        file.write('{"step": 2, "math/pa')  # a writer in the middle of a line
    terminal.shows("step 2 of 9")
    terminal.shows("31.2%")  # the mean of both steps
    run.rewind(1)
    terminal.shows("step 1 of 9")
    shutil.rmtree(run.path)
    terminal.shows("gone")
    again = begun(run.path)
    log(again, 0, 1.0)
    terminal.shows("100.0%")
    os.write(terminal.master, b"q")
    assert terminal.ends() == 0
    again.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(run: RunDir, terminal: Terminal, number: signal.Signals) -> None:
    log(run, 0, 0.5)
    terminal.shows("step 1 of 9")
    terminal.process.send_signal(number)
    assert terminal.ends() == 0
