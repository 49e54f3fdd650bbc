"""Looks at the runs every second, in a thread of its own, so that no request waits for a disk."""

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rlcs.dashboard.runs import Run

EVERY_S = 1.0


class Watched:
    """A run and what is kept of it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lock = threading.RLock()
        """Held while the run is read again; whoever reads more than one thing of it holds it, too."""

    def refresh(self) -> bool:
        with self.lock:
            return self.run.refresh()

    def summary(self) -> dict[str, Any]:
        with self.lock:
            return self.run.summary()


class Watch:
    """The runs by name, refreshed while the context lasts. `version` grows with every change anyone could see."""

    def __init__(self, runs: Mapping[str, Run], *, every_s: float = EVERY_S) -> None:
        self.runs = {name: Watched(run) for name, run in runs.items()}
        self.version = 0
        self.closed = False
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dashboard-watch", daemon=True)
        self._seen: dict[str, Any] = {}

    def refresh(self) -> None:
        """Looks at every run now."""
        for name, watched in self.runs.items():
            changed = watched.refresh()
            status = watched.run.status()
            if changed or status != self._seen.get(name):
                self._seen[name] = status
                self.version += 1

    def summaries(self) -> list[dict[str, Any]]:
        """RUN of every run, in the order given."""
        return [watched.summary() for watched in self.runs.values()]

    def __enter__(self) -> Self:
        self.refresh()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closed = True
        self._stop.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.refresh()
