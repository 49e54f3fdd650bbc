"""Looks at the runs every second, in a thread of its own, so that no request waits for a disk."""

import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rewards.registry import known_domains
from rlcs.dashboard.problem_file import ProblemFile
from rlcs.dashboard.problem_table import ProblemTable
from rlcs.dashboard.rollout_index import Database, RolloutIndex
from rlcs.dashboard.runs import Run
from rlcs.dashboard.snapshots import Snapshots

EVERY_S = 1.0


class Watched:
    """A run and what is kept of it."""

    def __init__(self, run: Run, database: Database, number: int, allowed: tuple[Path, ...] = ()) -> None:
        self.run = run
        self.lock = threading.RLock()
        """Held while the run is read again; whoever reads more than one thing of it holds it, too."""
        self.snapshots, self.problem_file = Snapshots(), ProblemFile()
        self.rollouts = RolloutIndex(database, number)
        self.problems = ProblemTable(self.snapshots, self.rollouts, self.problem_file)
        self.allowed = allowed
        """Folders beside the problem file's own that media may be read from."""

    def refresh(self) -> bool:
        """Looks at the run again -> whether anything changed."""
        with self.lock:
            changed = self.run.refresh()
            if self.run.exists:
                self.problem_file.expect(self.run.setting_path(self.run.config.get("problems")))
        if changed and self.run.exists:
            self.snapshots.expect(self.run.files["difficulty"])
            self.rollouts.expect(self.run.files["rollouts"])
        return changed

    def read_some(self) -> bool:
        """Takes in a little of what has not been read yet -> whether there was anything."""
        read = self.problem_file.stale  # first: the first rollout that is opened wants its question, media and boxes
        if read:
            self.problem_file.read()
        read = self.snapshots.read_one(self.run.window) or read
        return self.rollouts.read_some() or read

    @property
    def pending(self) -> int:
        """Files not read yet."""
        return self.snapshots.waiting + self.rollouts.waiting

    def summary(self) -> dict[str, Any]:
        """RUN of the interface (docs/dashboard.md)."""
        with self.lock:
            found = self.run.summary()
        problems = self.snapshots.problems
        found["problems"] = None if problems is None else len(problems)
        found["has"]["media"] = len(self.problem_file) > 0
        found["indexed"] = self.rollouts.progress
        found["snapshots"] = {"ready": len(self.snapshots.by_step), "total": self.snapshots.total}
        found["note"] = found["note"] or self.rollouts.note
        return found


class Watch:
    """The runs by name, refreshed while the context lasts. `version` grows with every change anyone could see."""

    def __init__(self, runs: Mapping[str, Run], *, every_s: float = EVERY_S, media: tuple[Path, ...] = ()) -> None:
        self._database = Database()
        self.runs = {name: Watched(run, self._database, number, media) for number, (name, run) in enumerate(runs.items())}
        self.version = 0
        self.closed = False
        self._every_s = every_s
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="dashboard-watch", daemon=True),
            threading.Thread(target=self._read, name="dashboard-read", daemon=True),
        ]
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
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closed = True
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)
        self.close()

    def close(self) -> None:
        """Removes what was kept on disk."""
        for watched in self.runs.values():
            watched.snapshots.close()
        self._database.close()

    def read_all(self) -> None:
        """Reads all there is, in the calling thread."""
        self.refresh()
        for watched in self.runs.values():
            while watched.read_some():
                pass
        self.version += 1

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            with _going_on():
                self.refresh()

    def _read(self) -> None:
        """Turn by turn, so that one long run does not keep the others waiting."""
        with _going_on():
            known_domains()  # imports every verifier, which the first rollout shown would wait for
        told = 0.0
        while not self._stop.is_set():
            read = [False]
            with _going_on():
                read = [watched.read_some() for watched in self.runs.values() if not self._stop.is_set()]
            if any(read) and (time.monotonic() - told > 1.0 or not any(watched.pending for watched in self.runs.values())):
                told = time.monotonic()
                self.version += 1
            if not any(read):
                self._stop.wait(min(0.2, self._every_s))


@contextmanager
def _going_on() -> Iterator[None]:
    """A fault that nobody foresaw is printed; the page goes on with what it has."""
    try:
        yield
    except Exception:  # noqa: BLE001
        traceback.print_exc()
