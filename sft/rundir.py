"""The run directory, the interface between training, resume and whoever looks at a run.

    config.yaml   metrics.jsonl   checkpoints/step-000120/   events/ (TensorBoard)   and what else a trainer writes

Every file appears whole or not at all. Used by SFT and RL alike.
"""

import json
import math
import os
import re
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PARTIAL = ".partial"
"""Ends the name of a file or directory that is still being written."""

_CHECKPOINT = re.compile(r"step-(\d{6,})")


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

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    def atomic_write(self, name: str, content: str | bytes) -> Path:
        """Writes the file `name` (relative, directories are made) so that it holds the old content or all of the new."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + PARTIAL)
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

    def rewind(self, step: int) -> None:
        """Makes `step` the next one to be logged: metrics of it and later steps are dropped, as is a torn last line.

        Raises FileExistsError where the directory holds a run and resuming was not asked for.
        """
        if not self._resume and (self.metrics_path.exists() or self.last_checkpoint()):
            raise FileExistsError(
                f"{self.path} already holds a run; go on with it by --resume, or name another directory as `out`"
            )
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
        self.path.mkdir(parents=True, exist_ok=True)
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if "tensorboard" in self._loggers:
            for name, value in metrics.items():
                self._events().add_scalar(name, float(value), step)

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint after `step` steps belongs."""
        return self.path / "checkpoints" / f"step-{step:06d}"

    def last_checkpoint(self) -> Path | None:
        """The complete checkpoint of the most steps."""
        return max(self._checkpoints(), key=_steps, default=None)

    def prune_checkpoints(self, keep: int) -> None:
        """Deletes all but the last `keep` checkpoints, and what writers that were killed left behind."""
        for path in sorted(self._checkpoints(), key=_steps)[:-keep]:
            # Renamed first: a kill while files go must not leave a directory that looks like a checkpoint.
            shutil.rmtree(path.rename(path.with_name(path.name + PARTIAL)))
        for path in (self.path / "checkpoints").glob(f"*{PARTIAL}"):
            shutil.rmtree(path)

    def close(self) -> None:
        """Flushes the loggers."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

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


def _steps(checkpoint: Path) -> int:
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
