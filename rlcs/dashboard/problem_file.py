"""The problem file of a run, of any size: where each line lies, the lines asked for, and the offline grades of all.

A problem's index is its place among the lines that are not blank, as `rlcs.problems.load_problems` counts them.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from rlcs.dashboard.file_stamp import file_stamp

_BLOCK = 1 << 22
_MOST_LINE = 1 << 26


class ProblemFile:
    """`read` goes through the file once; before that nothing is known. A file that changes is read anew."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.note: str | None = "the problem file has not been read yet"
        self.pass_rates: np.ndarray | None = None
        """float32 [N], NaN where a problem has none; None before it was read."""
        self._starts: np.ndarray | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._lock = threading.Lock()

    def expect(self, path: Path | None) -> None:
        """The file as the run's configuration names it."""
        if path != self.path:
            with self._lock:
                self.path, self._stamp, self._starts, self.pass_rates = path, None, None, None
                there = path is not None and file_stamp(path) is not None
                self.note = (
                    "the run's configuration names no problem file"
                    if path is None
                    else "the problem file is being read"
                    if there
                    else f"{path} is not there: questions, media and offline grades are missing"
                )

    @property
    def stale(self) -> bool:
        """Whether `read` has something to do."""
        return self.path is not None and file_stamp(self.path) != self._stamp

    def read(self) -> None:
        """Goes through the file: a second a gigabyte for the lines, some more for the grades."""
        path = self.path
        if path is None:
            return
        stamp = file_stamp(path)
        starts: np.ndarray | None = None
        rates: np.ndarray | None = None
        note: str | None = None
        try:
            starts = _line_starts(path)
            rates = _pass_rates(path, starts)
        except OSError as error:
            starts, note = None, f"{path} cannot be read ({error.strerror}): questions, media and offline grades are missing"
        with self._lock:
            self._starts, self.pass_rates, self.note, self._stamp = starts, rates, note, stamp

    def __len__(self) -> int:
        return 0 if self._starts is None else len(self._starts) - 1

    def line(self, index: int) -> dict[str, Any] | None:
        """The problem at `index` as it stands in the file; None where there is none, or not one that can be read."""
        with self._lock:
            path, starts = self.path, self._starts
        if path is None or starts is None or not 0 <= index < len(starts) - 1:
            return None
        length = int(starts[index + 1] - starts[index])
        if length > _MOST_LINE:
            return None
        try:
            with path.open("rb") as file:
                content = os.pread(file.fileno(), length, int(starts[index]))
            value = json.loads(content)
        except (OSError, ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


def _line_starts(path: Path) -> np.ndarray:
    """int64 [N + 1]: where each line that is not blank begins, and where the file ends."""
    newlines, offset = [np.array([-1], np.int64)], 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            newlines.append(offset + np.flatnonzero(np.frombuffer(block, np.uint8) == 10))
            offset += len(block)
        ends = np.concatenate(newlines)
        if ends[-1] != offset - 1:
            ends = np.append(ends, offset)
        starts, lengths = ends[:-1] + 1, np.diff(ends) - 1
        # Only a short line can be blank without being looked at for long.
        blank = lengths < 1
        for place in np.flatnonzero((lengths >= 1) & (lengths < 64)):
            blank[place] = not os.pread(file.fileno(), int(lengths[place]), int(starts[place])).strip()
    return np.append(starts[~blank], offset)


def _pass_rates(path: Path, starts: np.ndarray) -> np.ndarray:
    """float32 [N]. A line is only parsed where the key's name stands in it."""
    rates = np.full(len(starts) - 1, np.nan, np.float32)
    with path.open("rb") as file:
        for index, (start, end) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)):
            file.seek(start)
            line = file.read(min(end - start, _MOST_LINE))
            if b'"pass_rate"' in line:
                try:
                    value = json.loads(line)
                    rate = value.get("pass_rate") if isinstance(value, dict) else None
                except (ValueError, RecursionError):
                    continue
                if isinstance(rate, int | float) and 0 <= rate <= 1:
                    rates[index] = rate
    return rates
