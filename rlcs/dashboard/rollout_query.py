"""Filtered lists of rollouts, and how many there are of each label: the body of /rollouts.

Counts of a label are taken under all other filters, so that they say what choosing it would show.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from rlcs.dashboard.parameters import BadParameter, Parameters
from rlcs.dashboard.rollout_index import LABELS, REWARD_BINS, RolloutIndex

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

    @property
    def in_cube(self) -> bool:
        """Whether the counts of the cube can tell: bounds on rewards only where its bins end."""
        low = self.reward_min is None or self.reward_min <= 0 or abs(self.reward_min * REWARD_BINS % 1) < 1e-9
        high = self.reward_max is None or self.reward_max >= 1 or self.reward_max == 0
        return self.index is None and low and high

    def where(self, index: RolloutIndex, *, labels: bool = True, cube: bool = False, reward: bool = True) -> str:
        """The condition in SQL; every value in it is a number of ours."""
        parts = ["true"]
        if self.step_from is not None:
            parts.append(f"step >= {self.step_from}")
        if self.step_to is not None:
            parts.append(f"step <= {self.step_to}")
        if self.index is not None and not cube:
            parts.append(f"problem = {self.index}")
        if reward:
            parts += self.reward_bounds(cube)
        if labels:
            for label, values in self.labels.items():
                codes = [code for value in values if (code := index.codes[label].find(value)) is not None]
                parts.append(f"{label} IN ({', '.join(map(str, codes))})" if codes else "false")
        return " AND ".join(parts)

    def reward_bounds(self, cube: bool) -> list[str]:
        """Conditions in SQL; a rollout without a reward is in no bounds."""
        parts = []
        if self.reward_min is not None:
            parts.append(f"bin >= {_bin_from(self.reward_min)}" if cube else f"reward >= {self.reward_min - _SLACK!r}")
        if self.reward_max is not None:
            last = 0 if self.reward_max == 0 else REWARD_BINS + 1
            parts.append(f"bin <= {last}" if cube else f"reward <= {self.reward_max + _SLACK!r}")
        return [*parts, "bin < 255"] if parts else []


def _bin_from(reward: float) -> int:
    if reward <= 0:
        return 0
    return REWARD_BINS + 1 if reward >= 1 else math.floor(reward * REWARD_BINS + 1e-9) + 1


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
    cube = chosen.in_cube
    table, count = (index.cube, "sum(n)") if cube else (index.rows, "count(*)")
    query = f"SELECT step, {count} FROM {table} WHERE {chosen.where(index, cube=cube)} GROUP BY step ORDER BY step"
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
    cube = chosen.in_cube
    table, count = (index.cube, "sum(n)") if cube else (index.rows, "count(*)")
    within = " AND ".join(["true", *chosen.reward_bounds(cube)])
    query = (
        f"SELECT {', '.join(LABELS)}, bin, coalesce({within}, false) AS within, {count} AS n FROM {table} "
        f"WHERE {chosen.where(index, labels=False, cube=cube, reward=False)} GROUP BY ALL"
    )
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
        names = index.codes[label].names
        counts = np.bincount(found[label][keep].astype(np.int64), n[keep], len(names))
        facets[label] = {name: int(count) for name, count in zip(names, counts, strict=True) if count}
    keep = np.logical_and.reduce(list(passes.values())) & (bins < 255)
    inner = np.bincount(np.clip(bins[keep] - 1, 0, REWARD_BINS - 1), n[keep], REWARD_BINS)
    return facets, [int(count) for count in inner]
