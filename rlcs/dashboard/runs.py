"""Run directories as the dashboard knows them: a short name, what the configuration says, and how far each one is."""

import fcntl
import os
import re
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rlcs.dashboard.file_stamp import file_stamp
from rlcs.dashboard.metric_log import MetricLog

FOLDERS = ("difficulty", "rollouts", "calibration")
STEP_FILE = re.compile(r"step=(\d{6,12})\.parquet")
_QUIET = 300.0  # seconds without a word after which a run whose lock tells nothing is said to have stopped
_MOST_CONFIG = 1 << 20
_FLOCK = "hhqqi4x"


class StepFile(tuple[int, str, int, int]):
    """(step, path, size, modification time in ns) of a file `KIND/step=000120.parquet`: equal as long as its content is."""

    __slots__ = ()

    @property
    def step(self) -> int:
        return self[0]

    @property
    def path(self) -> Path:
        return Path(self[1])


class Run:
    """One run directory. `refresh` looks at it again; nothing in it is ever written, locked or held open."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.log = MetricLog(path / "metrics.jsonl")
        self.config: dict[str, Any] = {}
        self.files: dict[str, dict[int, StepFile]] = {kind: {} for kind in FOLDERS}
        self.generation = 0
        """Grows whenever something that had been there was changed or taken away."""
        self.note: str | None = None
        self.exists = True
        self._small: dict[str, tuple[int, int, int]] = {}
        self._listed: dict[str, tuple[int, float]] = {}
        self._config_stamp: tuple[int, int, int] | None = None

    def refresh(self) -> bool:
        """Reads what is new -> whether anything changed."""
        existed, self.exists = self.exists, self.path.is_dir()
        self.note = None if self.exists else f"{self.path} is gone; shown is what was read of it before"
        if not self.exists:
            return existed
        before = self.log.generation
        changed = self.log.refresh() or not existed
        self.generation += self.log.generation - before
        changed = self._read_config() or changed
        for kind in FOLDERS:
            changed = self._list(kind) or changed
        for name in ("heldout.jsonl", "guard.jsonl", "alerts.jsonl"):
            stamp = file_stamp(self.path / name)
            if stamp != self._small.get(name):
                changed = True
                if stamp is None:
                    self._small.pop(name, None)
                else:
                    self._small[name] = stamp
        return changed

    def has(self, name: str) -> bool:
        """Whether the file `name` (heldout.jsonl, guard.jsonl, alerts.jsonl) was there at the last refresh."""
        return name in self._small

    def _read_config(self) -> bool:
        path = self.path / "config.yaml"
        stamp = file_stamp(path)
        if stamp == self._config_stamp:
            return False
        self._config_stamp = stamp
        try:
            with path.open("rb") as file:
                read = yaml.safe_load(file.read(_MOST_CONFIG))
        except (OSError, yaml.YAMLError, ValueError, RecursionError):
            read = None
        self.config = read if isinstance(read, dict) else {}
        return True

    def _list(self, kind: str) -> bool:
        """A folder whose modification time stands still holds the same files: names come and go only with it, and content only
        by a rename, as run directories are written.
        """
        folder = self.path / kind
        try:
            moved = folder.stat().st_mtime_ns
        except OSError:
            moved = -1
        seen, at = self._listed.get(kind, (-2, 0.0))
        if moved == seen and at - moved / 1e9 > 2.0:
            return False  # listed well after it had changed: nothing came within the same tick
        self._listed[kind] = moved, time.time()
        found: dict[int, StepFile] = {}
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    match = STEP_FILE.fullmatch(entry.name)
                    if match and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        step = int(match[1])
                        found[step] = StepFile((step, entry.path, status.st_size, status.st_mtime_ns))
        except OSError:
            pass
        known = self.files[kind]
        if found == known:
            return False
        if any(found.get(step) != file for step, file in known.items()):
            self.generation += 1
        self.files[kind] = dict(sorted(found.items()))
        return True

    @property
    def step(self) -> int | None:
        """The last step logged."""
        return int(self.log.steps_S[-1]) if len(self.log) else None

    @property
    def domains(self) -> list[str]:
        """Domains that metrics are kept of, sorted."""
        found = {name.removesuffix("/groups_generated") for name in self.log.names if name.endswith("/groups_generated")}
        return sorted(found - {"thinking", "nothink"})

    @property
    def window(self) -> tuple[float, float] | None:
        """Posterior means that the sampler draws from; None for one that draws from all."""
        found = _numbers(self._curriculum.get("window"), 2)
        return None if found is None else (found[0], found[1])

    def threshold(self, name: str) -> float | None:
        """A setting of the sampler `rlcs`; None under another."""
        found = _numbers([self._curriculum.get(name)], 1)
        return None if found is None else found[0]

    @property
    def _curriculum(self) -> dict[str, Any]:
        section = self.config.get("curriculum") if self.config.get("sampler") == "rlcs" else None
        return section if isinstance(section, dict) else {}

    def setting_path(self, value: Any) -> Path | None:
        """The file that a path of the configuration means. It is relative to where the run was started: known where the run's
        directory ends as its `out` does, and else taken to be where we are.
        """
        if not isinstance(value, str) or not value or "\x00" in value:
            return None
        path, out = Path(value), self.config.get("out")
        if path.is_absolute():
            return path
        bases = [Path.cwd()]
        if isinstance(out, str) and not Path(out).is_absolute():
            parts = [part for part in Path(out).parts if part not in (".", "..")]
            here = self.path.resolve().parts
            if parts and list(here[-len(parts) :]) == parts:
                bases.insert(0, Path(*here[: -len(parts)]))
        return next((base / path for base in bases if (base / path).is_file()), bases[0] / path)

    def status(self) -> str:
        """ "running", "stopped", "finished", "starting" or "gone"."""
        if not self.exists:
            return "gone"
        running = _locked(self.path / "lock")
        steps, done = self.config.get("steps"), (self.step if self.step is not None else -1) + 1
        if running is None:
            stamp = file_stamp(self.path / "metrics.jsonl")
            running = stamp is not None and time.time() - stamp[2] / 1e9 < _QUIET and done != steps
        if running:
            return "running" if len(self.log) else "starting"
        most, rollouts = self.config.get("max_rollouts"), self.log.column("rollouts")
        spent = isinstance(most, int) and rollouts is not None and np.nansum(rollouts) >= most
        if (isinstance(steps, int) and done >= steps) or spent:
            return "finished"
        return "stopped" if len(self.log) else "starting"

    def summary(self) -> dict[str, Any]:
        """RUN of the interface (docs/dashboard.md)."""
        config = self.config
        stamp = file_stamp(self.path / "metrics.jsonl")
        return {
            "name": self.name,
            "path": str(self.path),
            "status": self.status(),
            "generation": self.generation,
            "step": self.step,
            "steps": config.get("steps") if isinstance(config.get("steps"), int) else None,
            **{key: plain(config.get(key)) for key in ("engine", "sampler", "advantage", "seed", "model", "group_size")},
            "domains": self.domains,
            "updated": stamp[2] / 1e9 if stamp else None,
            "has": {
                "metrics": len(self.log) > 0,
                **{kind: bool(self.files[kind]) for kind in FOLDERS},
                "heldout": self.has("heldout.jsonl"),
                "guard": self.has("guard.jsonl"),
            },
            "note": self.note,
        }


def plain(value: Any) -> Any:
    """A setting as it can be shown; None for one that is no single value."""
    return value if isinstance(value, str | int | float) else None


def _numbers(value: Any, count: int) -> list[float] | None:
    if isinstance(value, list) and len(value) == count and all(isinstance(one, int | float) for one in value):
        return [float(one) for one in value]
    return None


def _locked(path: Path) -> bool | None:
    """Whether another process holds the run's record lock, which is asked and not tried; None where that cannot be told."""
    if sys.platform != "linux":
        return None  # the layout of struct flock is the system's own
    try:
        with path.open("rb") as file:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind: int = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))[0]
            return kind != fcntl.F_UNLCK
    except OSError:
        return None


def named_runs(paths: Sequence[Path]) -> dict[str, Run]:
    """The runs by their short names: the directory's own, with its parent's before it where two have the same.

    Raises FileNotFoundError for what is no run directory, ValueError for one that is named twice.
    """
    resolved = [path.resolve() for path in paths]
    runs: dict[str, Run] = {}
    for given, path in zip(paths, resolved, strict=True):
        if not path.is_dir() or not any((path / name).exists() for name in ("config.yaml", "metrics.jsonl", "rollouts")):
            found = "no such directory" if not path.is_dir() else "a directory without config.yaml, metrics.jsonl or rollouts/"
            raise FileNotFoundError(f"{given}: {found}; expected a run directory, as `out` of `rlcs rl` names it")
        if resolved.count(path) > 1:
            raise ValueError(f"{given} is named twice; name every run once")
        depth = 1
        while depth < len(path.parts) - 1 and any(
            other != path and other.parts[-depth:] == path.parts[-depth:] for other in resolved
        ):
            depth += 1
        name = re.sub(r"[^\w.-]+", "-", "-".join(path.parts[-depth:]), flags=re.ASCII).strip(".-") or "run"
        name, number = name[:80], 1
        while name in runs:
            number += 1
            name = f"{name[:80]}-{number}"
        runs[name] = Run(name, path)
    return runs
