"""`rlcs top`: a run in a terminal, followed as it writes; for machines that are reached by ssh and have no browser."""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live

from rlcs.dashboard.runs import Run
from rlcs.top_view import View

EVERY_S = 1.0
"""Between two looks at the run."""
REDRAW_S = 10
"""Looks after which the picture is drawn anew even where nothing was written, for the times in it."""


def run_top(path: Path, *, once: bool = False, console: Console | None = None) -> None:
    """Shows the run in `path` until q, Ctrl-C or SIGTERM; with `once`, or where the output is no terminal, once.

    The run may be rewound, restarted or deleted meanwhile; what is shown follows. Raises FileNotFoundError for no directory.
    """
    console = console or Console()
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such directory; expected a run directory, as `out` of `rlcs rl` names it")
    run = Run(path.name, path.resolve())
    run.refresh()
    if once or not console.is_terminal:
        console.print(View(run))
        return
    os.nice(10)  # whatever is watched comes first
    with _ended() as ended, Live(View(run), console=console, screen=True, auto_refresh=False) as live:
        _follow(run, live, ended)


def _follow(run: Run, live: Live, ended: Callable[[float], bool]) -> None:
    looks, size = 0, live.console.size
    while not ended(EVERY_S):
        looks += 1
        changed = run.refresh()
        if changed or live.console.size != size or looks >= REDRAW_S:
            looks, size = 0, live.console.size
            live.update(View(run), refresh=True)


@contextmanager
def _ended() -> Iterator[Callable[[float], bool]]:
    """A wait of so many seconds -> whether q was pressed, the terminal hung up, or SIGINT, SIGTERM or SIGHUP came. These raise
    nothing as long as this lasts: an exception in the midst of drawing would leave the terminal as it was then.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)

    def tell(number: int, frame: FrameType | None) -> None:
        with suppress(BlockingIOError):
            os.write(wake, b".")

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    keyboard = [sys.stdin.fileno()] if sys.stdin.isatty() else []

    def wait(seconds: float) -> bool:
        ready = select.select([woken, *keyboard], [], [], seconds)[0]
        return woken in ready or any(descriptor in ready and _quits(descriptor) for descriptor in keyboard)

    try:
        with _each_key(keyboard):
            yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(woken)
        os.close(wake)


def _quits(keyboard: int) -> bool:
    """Whether what was typed has a q, or nothing can be typed any more."""
    try:
        typed = os.read(keyboard, 1024)
    except OSError:  # hung up
        return True
    return not typed or b"q" in typed.lower()


@contextmanager
def _each_key(keyboard: Sequence[int]) -> Iterator[None]:
    """Keys come at once, and are not shown."""
    before = [(descriptor, termios.tcgetattr(descriptor)) for descriptor in keyboard]
    for descriptor in keyboard:
        tty.setcbreak(descriptor)
    try:
        yield
    finally:
        for descriptor, settings in before:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)
