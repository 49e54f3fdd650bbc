"""metrics.jsonl and the small row files beside it, read while a run writes them.

Axis suffixes: S steps logged, K points of a thinned curve.
"""

import json
import math
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

NAN = float("nan")
_MOST = 1 << 24  # bytes read at once


class MetricLog:
    """The columns of a metrics.jsonl, kept up to date by `refresh`: 8 bytes a number.

    A line that is not finished yet waits for its end; one that is broken is left out and counted in `broken`. A file that was
    replaced or has shrunk (a run that was resumed or begun anew) is read from its start again, and `generation` grows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.broken = 0
        self._steps: array[int] = array("q")
        self._columns: dict[str, array[float]] = {}
        self._inode, self._offset, self._rest = -1, 0, b""

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def steps_S(self) -> np.ndarray:
        """int64 [S], as logged."""
        return np.array(self._steps, np.int64)

    @property
    def names(self) -> list[str]:
        """Of all metrics that any step has."""
        return sorted(self._columns)

    def column(self, name: str) -> np.ndarray | None:
        """float64 [S], NaN where a step lacks the metric or has null; None where all lack it."""
        column = self._columns.get(name)
        return None if column is None else np.array(column, np.float64)

    def refresh(self) -> bool:
        """Reads what is new -> whether anything changed. A file that is gone counts as empty."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                changed = False
                if status.st_ino != self._inode or status.st_size < self._offset:
                    changed = self._reset(status.st_ino)
                file.seek(self._offset)
                while block := file.read(_MOST):
                    self._offset += len(block)
                    changed = self._take(block) or changed
                return changed
        except FileNotFoundError:
            return self._inode != -1 and self._reset(-1)

    def _reset(self, inode: int) -> bool:
        if self._inode != -1:
            self.generation += 1
        self._inode, self._offset, self._rest, self.broken = inode, 0, b"", 0
        self._steps, self._columns = array("q"), {}
        return True

    def _take(self, block: bytes) -> bool:
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            row = _object(line)
            step = None if row is None else row.pop("step", None)
            if row is None or isinstance(step, bool) or not isinstance(step, int) or abs(step) >= 1 << 62:
                self.broken += bool(line.strip())
                continue
            self._add(step, row)
        return bool(lines)

    def _add(self, step: int, row: dict[str, Any]) -> None:
        before = len(self._steps)
        self._steps.append(step)
        for name, value in row.items():
            if value is None or isinstance(value, int | float):
                column = self._columns.get(name)
                if column is None:
                    column = self._columns[name] = array("d", [NAN]) * before
                column.append(_stored(value))
        for column in self._columns.values():
            if len(column) == before:
                column.append(NAN)


def _stored(value: float | None) -> float:
    """Null stands for what is not finite; Python's own words for that, which no run writes, are taken for it."""
    try:
        found = NAN if value is None else float(value)
    except OverflowError:
        return NAN
    return found if math.isfinite(found) else NAN


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a small JSON Lines file; lines that are none are left out, a missing file has none."""
    return list(_rows(path))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError:
        return
    for line in content.split(b"\n"):
        row = _object(line)
        if row is not None:
            yield row


class Thinned:
    """Curves of at most `most` points: each is of `every` steps in a row, the last one perhaps of fewer."""

    def __init__(self, log: MetricLog, most: int) -> None:
        self._log = log
        self.every = max(1, -(-len(log) // most))
        self._starts_K = np.arange(0, len(log), self.every)
        steps_S = log.steps_S
        self.first_K = steps_S[self._starts_K]
        self.last_K = steps_S[np.minimum(self._starts_K + self.every, len(log)) - 1] if len(log) else steps_S

    def sum(self, name: str) -> np.ndarray | None:
        """float64 [K]: sums of a count; a step without it counts 0. None where no step has it."""
        column = self._log.column(name)
        return None if column is None else self._sums(np.nan_to_num(column, nan=0.0))

    def mean(self, name: str, weight: str | None = None) -> np.ndarray | None:
        """float64 [K]: means over the steps that have the metric, weighted by another; NaN where none has."""
        column = self._log.column(name)
        if column is None:
            return None
        if self.every == 1:
            return column
        weights = None if weight is None else self._log.column(weight)
        weights_S = np.ones(len(column)) if weights is None else np.nan_to_num(weights, nan=0.0)
        known_S = np.where(np.isnan(column), 0.0, weights_S)
        total_K = self._sums(known_S)
        sums_K = self._sums(np.nan_to_num(column, nan=0.0) * known_S)
        return np.divide(sums_K, total_K, out=np.full(len(total_K), NAN), where=total_K > 0)

    def _sums(self, values_S: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values_S, self._starts_K) if len(values_S) else values_S
