"""Filtered lists of rollouts, and how many there are of each label: the body of /rollouts.

Counts of a label are taken under all other filters, so that they say what choosing it would show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from rlcs.dashboard.parameters import BadParameter, Parameters
from rlcs.dashboard.rollout_index import LABELS, REWARD_BINS, RolloutIndex, reward_bin

ORDERS = {
    "newest": "step DESC, place",
    "oldest": "step, place",
    "reward": "reward NULLS LAST, step DESC, place",
    "-reward": "reward DESC NULLS LAST, step DESC, place",
    "tokens": "tokens, step DESC, place",
    "-tokens": "tokens DESC, step DESC, place",
}
FILTERS = ("step_from", "step_to", "reward_min", "reward_max", "index", "search", *LABELS)
_HITS = pa.schema([("step", pa.int32()), ("place", pa.int32())])
_SLACK = 1e-6  # rewards are kept in single precision


@dataclass(frozen=True)
class Filter:
    """Which rollouts: of some labels each (none named is all), and within bounds."""

    labels: Mapping[str, list[str]] = field(default_factory=dict)
    step_from: int | None = None
    step_to: int | None = None
    reward_min: float | None = None
    reward_max: float | None = None
    index: int | None = None
    search: str | None = None

    @classmethod
    def of(cls, query: Parameters) -> "Filter":
        """Raises BadParameter."""
        labels = {label: query.texts(label) for label in LABELS}
        for label in ("correct", "thinking"):
            for value in labels[label]:
                if value not in ("true", "false", "null"):
                    raise BadParameter(f"{label} is {value[:80]!r}; expected true, false or null")
        return cls(
            {label: values for label, values in labels.items() if values},
            query.integer("step_from"),
            query.integer("step_to"),
            query.number("reward_min"),
            query.number("reward_max"),
            query.integer("index"),
            query.text("search") or None,
        )

    def where(self, index: RolloutIndex, *, labels: bool = True, reward: bool = True) -> str:
        """The condition in SQL on rows; every value in it is a number of ours."""
        parts = ["true"]
        if self.step_from is not None:
            parts.append(f"step >= {self.step_from}")
        if self.step_to is not None:
            parts.append(f"step <= {self.step_to}")
        if self.index is not None:
            parts.append(f"problem = {self.index}")
        if reward:
            parts += self._reward_bounds()
        if labels:
            for label, values in self.labels.items():
                codes = [code for value in values if (code := index.codes[label].find(value)) is not None]
                parts.append(f"{label} IN ({', '.join(map(str, codes))})" if codes else "false")
        return " AND ".join(parts)

    def counted(self, index: RolloutIndex, columns: str, *, labels: bool) -> str:
        """A query for `columns`, `bin`, `n` rollouts, whether they are `within` the bounds on rewards, and whether they are to
        be counted `whole` (without those bounds). From the cube, and from the rows only those of bins that a bound cuts.
        """
        where = self.where(index, labels=labels, reward=False)
        bounds = self._reward_bounds()
        exact = " AND ".join(["true", *bounds])
        if self.index is not None:
            within = f"coalesce({exact}, false)"
            return f"SELECT {columns}, bin, 1 AS n, {within} AS within, true AS whole FROM {index.rows} WHERE {where}"
        first, last, cut = self._bins()
        inside = f"bin BETWEEN {first} AND {last}" if bounds else "true"
        query = f"SELECT {columns}, bin, n, {inside} AS within, true AS whole FROM {index.cube} WHERE {where}"
        if cut:
            bins = ", ".join(map(str, cut))
            query += (
                f" UNION ALL SELECT {columns}, bin, 1 AS n, true AS within, false AS whole FROM {index.rows} "
                f"WHERE {where} AND bin IN ({bins}) AND {exact}"
            )
        return query

    def _reward_bounds(self) -> list[str]:
        """Conditions in SQL; a rollout without a reward is in no bounds."""
        parts = []
        if self.reward_min is not None:
            parts.append(f"reward >= {self.reward_min - _SLACK!r}")
        if self.reward_max is not None:
            parts.append(f"reward <= {self.reward_max + _SLACK!r}")
        return parts

    def _bins(self) -> tuple[int, int, list[int]]:
        """(first, last) bin wholly within the bounds on rewards, and the bins that a bound cuts."""
        first, last, cut = 0, REWARD_BINS + 1, set()
        if self.reward_min is not None and self.reward_min > 0:
            held = _bin_of(self.reward_min)
            whole = self.reward_min == 1 or abs(self.reward_min * REWARD_BINS - round(self.reward_min * REWARD_BINS)) < 1e-9
            first = held if whole and self.reward_min <= 1 else held + 1
            cut |= set() if whole else {held}
        if self.reward_max is not None and self.reward_max < 1:
            held = _bin_of(self.reward_max)
            last = 0 if self.reward_max == 0 else held - 1
            cut |= {held} if self.reward_max > 0 else set()
        return first, last, sorted(one for one in cut if not first <= one <= last)


def _bin_of(reward: float) -> int:
    return int(reward_bin(np.array([reward]))[0])


@dataclass(frozen=True)
class Found:
    """A page of rollouts: their columns by name, and the counts of all that match."""

    matching: int
    rows: list[dict[str, Any]]
    facets: dict[str, dict[str, int]]
    histogram: list[int]
    by_step: dict[int, int]
    """How many match of each step, ascending."""


_PAGE = ("step", "place", "problem", "sample", *LABELS, "reward", "tokens", "forced", "logprob", "advantage", "extracted")


def find_rollouts(index: RolloutIndex, chosen: Filter, order: str, offset: int, limit: int) -> Found:
    """The rollouts `offset` to `offset + limit` of those chosen; `search` is left to `rollout_search`."""
    facets, histogram = _counts(index, chosen)
    by_step = _steps(index, chosen)
    rows = _page(index, chosen, order, offset, limit, by_step)
    return Found(sum(by_step.values()), rows, facets, histogram, by_step)


def rows_at(
    index: RolloutIndex, chosen: Filter, places: Mapping[int, Sequence[int]], order: str, offset: int, limit: int
) -> Found:
    """Of the rows at `places` by step those chosen, as `find_rollouts` gives them; their labels are counted as they are."""
    pairs = [(step, place) for step, found in places.items() for place in found]
    cursor = index.database.cursor()
    cursor.register("hits", pa.table({"step": [pair[0] for pair in pairs], "place": [pair[1] for pair in pairs]}, schema=_HITS))
    low, high = min(places, default=0), max(places, default=0)
    query = (
        f"SELECT {', '.join(f'found.{name}' for name in _PAGE)} FROM {index.rows} AS found JOIN hits USING (step, place) "
        f"WHERE found.step BETWEEN {low} AND {high} AND {chosen.where(index)} ORDER BY {ORDERS[order]}"
    )
    rows = [row_of(index, row) for row in cursor.execute(query).fetchall()]
    cursor.unregister("hits")
    facets: dict[str, dict[str, int]] = {label: {} for label in LABELS}
    by_step: dict[int, int] = {}
    for row in rows:
        by_step[row["step"]] = by_step.get(row["step"], 0) + 1
        for label in LABELS:
            name = {True: "true", False: "false", None: "null" if label in ("correct", "thinking") else ""}.get(
                row[label], row[label]
            )
            facets[label][name] = facets[label].get(name, 0) + 1
    rewards = np.array([row["reward"] for row in rows if row["reward"] is not None], np.float64)
    histogram = np.histogram(np.clip(rewards, 0, 1), REWARD_BINS, (0, 1))[0]
    return Found(len(rows), rows[offset : offset + limit], facets, histogram.tolist(), by_step)


def _steps(index: RolloutIndex, chosen: Filter) -> dict[int, int]:
    """Matching rollouts by step, ascending."""
    query = f"SELECT step, sum(n) FROM ({chosen.counted(index, 'step', labels=True)}) WHERE within GROUP BY step ORDER BY step"
    return {int(step): int(n) for step, n in index.database.cursor().execute(query).fetchall()}


def _page(
    index: RolloutIndex, chosen: Filter, order: str, offset: int, limit: int, by_step: Mapping[int, int]
) -> list[dict[str, Any]]:
    if limit <= 0:
        return []
    if order in ("newest", "oldest"):
        # Which steps the page lies in is known from the counts: only their rows are looked at.
        skipped, taken = 0, 0
        steps: list[int] = []
        for step in sorted(by_step, reverse=order == "newest"):
            count = by_step[step]
            if skipped + count <= offset and not steps:
                skipped += count
                continue
            steps.append(step)
            taken += count
            if skipped + taken >= offset + limit:
                break
        if not steps:
            return []
        offset -= skipped
        chosen = replace(chosen, step_from=min(steps), step_to=max(steps))
    query = (
        f"SELECT {', '.join(_PAGE)} FROM {index.rows} WHERE {chosen.where(index)} "
        f"ORDER BY {ORDERS[order]} LIMIT {limit} OFFSET {offset}"
    )
    return [row_of(index, row) for row in index.database.cursor().execute(query).fetchall()]


def row_of(index: RolloutIndex, values: tuple[Any, ...]) -> dict[str, Any]:
    """A row of the interface from the columns `_PAGE`."""
    row = dict(zip(_PAGE, values, strict=True))
    names = {label: index.codes[label].names[row.pop(label)] for label in LABELS}
    truths = {label: {"true": True, "false": False, "null": None}[names.pop(label)] for label in ("correct", "thinking")}
    return {
        "step": row["step"],
        "row": row["place"],
        "index": row["problem"],
        "sample": row["sample"],
        **{label: name or None for label, name in names.items()},
        **truths,
        "reward": _rounded(row["reward"]),
        "tokens": row["tokens"],
        "forced_tokens": row["forced"],
        "mean_logprob": _rounded(row["logprob"]),
        "advantage": _rounded(row["advantage"]),
        "extracted": row["extracted"],
    }


def _rounded(value: float | None) -> float | None:
    """Single precision has seven digits; more would only look like it."""
    return None if value is None else float(f"{value:.7g}")


def _counts(index: RolloutIndex, chosen: Filter) -> tuple[dict[str, dict[str, int]], list[int]]:
    """Facets of every label, and the reward's histogram, each under all other filters."""
    names = ", ".join(LABELS)
    query = f"SELECT {names}, bin, within, whole, sum(n) AS n FROM ({chosen.counted(index, names, labels=False)}) GROUP BY ALL"
    found = {name: np.asarray(column) for name, column in index.database.cursor().execute(query).fetchnumpy().items()}
    n = found["n"].astype(np.int64)
    passes = {label: np.ones(len(n), bool) for label in LABELS}
    for label, values in chosen.labels.items():
        codes = [code for value in values if (code := index.codes[label].find(value)) is not None]
        passes[label] = np.isin(found[label], codes)
    bins, within_bounds = found["bin"].astype(np.int64), found["within"].astype(bool)
    facets = {}
    for label in LABELS:
        keep = within_bounds & np.logical_and.reduce([passes[other] for other in LABELS if other != label])
        known = index.codes[label].names
        counts = np.bincount(found[label][keep].astype(np.int64), n[keep], len(known))
        facets[label] = {name: int(count) for name, count in zip(known, counts, strict=True) if count}
    keep = np.logical_and.reduce(list(passes.values())) & found["whole"].astype(bool) & (bins < 255)
    inner = np.bincount(np.clip(bins[keep] - 1, 0, REWARD_BINS - 1), n[keep], REWARD_BINS)
    return facets, [int(count) for count in inner]
