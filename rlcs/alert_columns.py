"""Metrics as columns, and the windows over them that alerts are judged by.

Axis suffix: S steps, in order.
"""

from bisect import insort
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

_COUNTED = "/groups_generated"
_MODES = {"thinking", "nothink"}


class Log(Protocol):
    """Metrics of a run as columns; `rlcs.dashboard.metric_log.MetricLog` is one that follows a file."""

    @property
    def steps_S(self) -> np.ndarray:
        """int64 [S]: 0-based steps, ascending."""

    @property
    def names(self) -> Sequence[str]:
        """Of all metrics that any step has."""

    def column(self, name: str) -> np.ndarray | None:
        """float64 [S], NaN where a step lacks the metric; None where all do."""


class Rows:
    """Parsed rows of metrics.jsonl as columns; of two rows of a step the later counts."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        by_step = {int(row["step"]): row for row in rows}
        self.steps_S = np.array(sorted(by_step), np.int64)
        self._rows = [by_step[step] for step in sorted(by_step)]
        self.names = sorted({name for row in self._rows for name in row})

    def column(self, name: str) -> np.ndarray | None:
        values = [row.get(name) for row in self._rows]
        if not any(isinstance(value, int | float) for value in values):
            return None
        return np.array([value if isinstance(value, int | float) else np.nan for value in values], np.float64)


class Columns:
    """Columns of a log in which what no step has is NaN."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.steps = log.steps_S
        counted = {name.removesuffix(_COUNTED) for name in log.names if name.endswith(_COUNTED)}
        self.domains = sorted(counted - _MODES)

    @property
    def last(self) -> int:
        """The last step; -1 where there is none."""
        return int(self.steps[-1]) if len(self.steps) else -1

    def of(self, name: str) -> np.ndarray:
        """float64 [S]."""
        found = self._log.column(name)
        return np.full(len(self.steps), np.nan) if found is None else found

    def sum(self, name: str, places: np.ndarray) -> float:
        return float(np.nansum(self.of(name)[places]))


def spells(bad_S: np.ndarray, *, apart: int) -> list[tuple[int, int]]:
    """(first, last) of each stretch of `bad_S`; two with fewer than `apart` steps between them are one."""
    places = np.flatnonzero(bad_S)
    if not len(places):
        return []
    breaks = np.flatnonzero(np.diff(places) > apart)
    firsts, lasts = np.r_[0, breaks + 1], np.r_[breaks, len(places) - 1]
    return [(int(places[first]), int(places[last])) for first, last in zip(firsts, lasts, strict=True)]


def window_sums(values_S: np.ndarray, width: int) -> np.ndarray:
    """Sums over each step and the `width` - 1 before it, fewer at the beginning."""
    sums = np.cumsum(values_S, dtype=np.float64)
    return sums - np.r_[np.zeros(min(width, len(sums))), sums[:-width]]


def window_means(values_S: np.ndarray, width: int) -> np.ndarray:
    return window_sums(values_S, width) / np.minimum(np.arange(1, len(values_S) + 1), width)


def best_before(share_S: np.ndarray, width: int) -> np.ndarray:
    """Place of the lowest of the whole windows that end before each step's own begins; -1 where there is none."""
    count = len(share_S)
    best_S = np.full(count, -1)
    if count < 2 * width:
        return best_S
    whole = share_S[width - 1 : count - width]
    lowest = np.minimum.accumulate(whole)
    fresh = np.r_[True, whole[1:] < lowest[:-1]]
    best_S[2 * width - 1 :] = np.maximum.accumulate(np.where(fresh, np.arange(len(whole)), 0)) + width - 1
    return best_S


def window_medians(values_S: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(median of each step and the `width` - 1 before it, median of all before those); NaN where there are fewer than `width`
    of either.
    """
    recent_S, before_S = np.full(len(values_S), np.nan), np.full(len(values_S), np.nan)
    if len(values_S) >= width:
        recent_S[width - 1 :] = np.median(np.lib.stride_tricks.sliding_window_view(values_S, width), axis=1)
    past: list[float] = []
    for place in range(width, len(values_S)):
        insort(past, float(values_S[place - width]))
        if len(past) >= width:
            middle = len(past) // 2
            before_S[place] = past[middle] if len(past) % 2 else (past[middle - 1] + past[middle]) / 2
    return recent_S, before_S


def lower_bound(share_S: np.ndarray, n_S: np.ndarray, sigmas: float) -> np.ndarray:
    """Lower end of Wilson's interval (1927) of a share of `n_S` trials, `sigmas` standard errors wide on either side."""
    z2 = sigmas * sigmas
    centre = share_S + z2 / (2 * n_S)
    half = sigmas * np.sqrt(np.clip(share_S * (1 - share_S), 0, None) / n_S + z2 / (4 * n_S * n_S))
    return (centre - half) / (1 + z2 / n_S)
