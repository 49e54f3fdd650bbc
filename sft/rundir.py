"""The run directory, the interface between training, resume and whoever looks at a run.

    config.yaml   metrics.jsonl   checkpoints/step-000120/   events/ (TensorBoard)   lock   and what else a trainer writes

Every file appears whole or not at all. Used by SFT and RL alike.
"""

import errno
import fcntl
import json
import math
import os
import re
import shutil
import socket
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sft.storage import explained_write

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PARTIAL = ".partial"
"""Ends the name of a file or directory that is still being written."""

DAMAGED = ".damaged"
"""Ends the name of a checkpoint that was found damaged and set aside."""

_CHECKPOINT = re.compile(r"step-(\d{6,})")
_STEP_FILE = re.compile(r"step=(\d{6,})\..*")
_BY_STEPS_DONE = {"audit"}
"""Folders whose files are named by how many steps were done when they were written, not by the 0-based step."""
_RESUME = "; what is there is whole, and --resume goes on from the last checkpoint"


class RunDir:
    """One run's directory. Nothing is created before the first write.

    `resume` allows `rewind` to go on with a run that is already there. `loggers` are where metrics go besides metrics.jsonl:
    "tensorboard" or nothing.
    """

    def __init__(self, path: str | Path, *, resume: bool = False, loggers: Collection[str] = ("tensorboard",)) -> None:
        self.path = Path(path)
        self._resume, self._loggers = resume, loggers
        self._start = 0
        self._writer: SummaryWriter | None = None
        self._lock: IO[str] | None = None

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    def atomic_write(self, name: str, content: str | bytes) -> Path:
        """Writes the file `name` (relative, directories are made) so that it holds the old content or all of the new."""
        path = self.path / name
        partial = path.with_name(path.name + PARTIAL)
        with explained_write(path, _RESUME):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    file.write(content.encode() if isinstance(content, str) else content)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            fsync_directory(path.parent)
        return path

    def claim(self) -> None:
        """Makes sure before the work begins that the directory can be written and that nobody else does: until this process
        ends, a second one is refused by BlockingIOError (on file systems that know locks).

        Raises FileExistsError where the directory holds a run and resuming was not asked for.
        """
        with explained_write(self.path / "lock"):
            self._refuse_existing()
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+", encoding="utf-8")
        try:
            # A record lock is this process's: processes that it forks do not hold it on when it was killed.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                lock.seek(0)
                raise BlockingIOError(
                    f"{self.path} is being written by another process, {lock.read().strip() or 'unknown'}; wait for its end, "
                    "stop it, or name another directory as `out`"
                ) from error
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        lock.truncate(0)
        lock.write(f"{os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        self._lock = lock

    def rewind(self, step: int) -> None:
        """Makes `step` the next one to be logged. Metrics of it and later steps are dropped, as is a torn last line; so are
        files of those steps (`KIND/step=000120.SUFFIX`), and what a killed writer had not finished.

        Raises FileExistsError where the directory holds a run and resuming was not asked for.
        """
        self._refuse_existing()
        for path in [*self.path.glob(f"*{PARTIAL}"), *self.path.glob(f"*/*{PARTIAL}")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in self.path.glob("*/step=*"):
            found = _STEP_FILE.fullmatch(path.name)
            if found and int(found[1]) >= step + (path.parent.name in _BY_STEPS_DONE):
                path.unlink()
        if self.metrics_path.exists():
            rows = [(line, row) for line, row in _rows(self.metrics_path) if row["step"] < step]
            self.atomic_write(self.metrics_path.name, b"".join(line + b"\n" for line, _ in rows))
        self._start = step

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends `metrics` of the 0-based `step` to metrics.jsonl, on disk when this returns, and to the loggers.

        A number that is not finite becomes null, for which JSON has a word.
        """
        row: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        row |= {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
        with explained_write(self.metrics_path, _RESUME):
            self.path.mkdir(parents=True, exist_ok=True)
            with self.metrics_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        if "tensorboard" in self._loggers:
            with explained_write(self.path / "events", _RESUME):
                for name, value in metrics.items():
                    self._events().add_scalar(name, float(value), step)

    def flush(self) -> None:
        """Hands what the loggers hold back to the system. To be called before a checkpoint: a run that is killed after it does
        not log those steps again.
        """
        if self._writer is not None:
            with explained_write(self.path / "events", _RESUME):
                self._writer.flush()

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint after `step` steps belongs."""
        return self.path / "checkpoints" / f"step-{step:06d}"

    def last_checkpoint(self) -> Path | None:
        """The complete checkpoint of the most steps."""
        return max(self._checkpoints(), key=checkpoint_steps, default=None)

    def prune_checkpoints(self, keep: int) -> None:
        """Deletes all but the last `keep` checkpoints, and what writers that were killed left behind."""
        for path in sorted(self._checkpoints(), key=checkpoint_steps)[:-keep]:
            # Renamed first: a kill while files go must not leave a directory that looks like a checkpoint.
            shutil.rmtree(path.rename(path.with_name(path.name + PARTIAL)))
        for path in (self.path / "checkpoints").glob(f"*{PARTIAL}"):
            shutil.rmtree(path)

    def set_aside(self, checkpoint: Path) -> Path:
        """Renames a damaged checkpoint, so that it is none any more -> its new path."""
        aside = checkpoint.with_name(checkpoint.name + DAMAGED)
        number = 1
        while aside.exists():
            number += 1
            aside = checkpoint.with_name(f"{checkpoint.name}{DAMAGED}-{number}")
        checkpoint.rename(aside)
        fsync_directory(aside.parent)
        return aside

    def checkpoints(self) -> list[Path]:
        """The complete checkpoints, that of the most steps first."""
        return sorted(self._checkpoints(), key=checkpoint_steps, reverse=True)

    def close(self) -> None:
        """Flushes the loggers."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _refuse_existing(self) -> None:
        if not self._resume and (self.metrics_path.exists() or self.last_checkpoint()):
            raise FileExistsError(
                f"{self.path} already holds a run; go on with it by --resume, or name another directory as `out`"
            )

    def _checkpoints(self) -> list[Path]:
        return [
            path for path in (self.path / "checkpoints").glob("step-*") if _CHECKPOINT.fullmatch(path.name) and path.is_dir()
        ]

    def _events(self) -> "SummaryWriter":
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # not at import: it takes a second

            self._writer = SummaryWriter(str(self.path / "events"), purge_step=self._start, flush_secs=10)
        return self._writer


def fsync_directory(path: Path) -> None:
    """Makes the names in a directory durable, after files were created or renamed in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checkpoint_steps(checkpoint: Path) -> int:
    """How many steps a checkpoint has behind it, by its name."""
    return int(checkpoint.name.removeprefix("step-"))


def _rows(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """(line, parsed) of a metrics file. A last line without its newline was torn by a kill and is left out."""
    *lines, _torn = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append((line, {"step": int(row["step"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path}, line {number}: found {line[:80]!r}; expected a JSON object with a step; delete the line to resume"
            ) from error
    return rows
