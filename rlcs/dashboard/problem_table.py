"""The list of problems: filtered, sorted and counted over arrays, whatever their number. The body of /problems.

Axis suffixes: N problems, M those that match.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import betaincinv

from rlcs.dashboard.difficulty import mean_of, named, state_order
from rlcs.dashboard.parameters import Parameters
from rlcs.dashboard.problem_file import ProblemFile
from rlcs.dashboard.rollout_index import RolloutIndex
from rlcs.dashboard.snapshots import CLASSES, Snapshots

SORTS = (
    *("index", "id", "domain", "tier", "mean", "width", "mixed_probability", "seen_at", "state", "class"),
    *("rollouts", "pass_rate", "offline", "change"),
)
FILTERS = ("search", "domain", "tier", "state", "class", "mean_min", "mean_max", "seen")
MOST_ROWS = 500
_ORDERS_KEPT = 6


def credible(alpha: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the central 95% interval of Beta(alpha, beta)."""
    return betaincinv(alpha, beta, 0.025), betaincinv(alpha, beta, 0.975)


@dataclass(frozen=True)
class Chosen:
    """Which problems: of some labels each (none named is all), and within bounds."""

    search: str
    domains: tuple[str, ...]
    tiers: tuple[str, ...]
    states: tuple[str, ...]
    classes: tuple[str, ...]
    mean_min: float | None
    mean_max: float | None
    seen: bool | None

    @classmethod
    def of(cls, query: Parameters) -> "Chosen":
        """Raises BadParameter."""
        return cls(
            query.text("search") or "",
            tuple(query.texts("domain")),
            tuple(query.texts("tier")),
            tuple(query.texts("state")),
            tuple(query.texts("class")),
            query.number("mean_min"),
            query.number("mean_max"),
            query.flag("seen"),
        )


class ProblemTable:
    """The problems of a run as the last snapshot has them."""

    def __init__(self, snapshots: Snapshots, rollouts: RolloutIndex, problem_file: ProblemFile) -> None:
        self._snapshots, self._rollouts, self._file = snapshots, rollouts, problem_file
        self._orders: OrderedDict[Any, np.ndarray] = OrderedDict()

    def page(self, chosen: Chosen, sort: str, descending: bool, offset: int, limit: int) -> dict[str, Any]:
        """Rows `offset` to `offset + limit` of those chosen, and how many there are of each label under all other filters."""
        snapshots = self._snapshots
        with snapshots.lock:
            step, problems = max(snapshots.kept, default=None), snapshots.problems
            if step is None or problems is None:
                note = (
                    "no snapshot of the difficulty has been read yet" if snapshots.total else "the run has no difficulty files"
                )
                return {"step": None, "total": 0, "matching": 0, "rows": [], "facets": {}, "note": note}
            rows_N = snapshots.rows(step)
            passes = self._passes(chosen, rows_N)
            every_N = np.logical_and.reduce(list(passes.values()))
            order_M = self._order(step, chosen, sort, descending, every_N, rows_N)
            return {
                "step": step,
                "total": len(rows_N),
                "matching": len(order_M),
                "rows": self.rows(order_M[offset : offset + limit]),
                "facets": self._facets(passes, rows_N),
                "note": snapshots.note,
            }

    def rows(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """The problems at `indices` as the interface shows them."""
        snapshots = self._snapshots
        with snapshots.lock:
            problems, kept = snapshots.problems, snapshots.kept
            if problems is None or not kept or not len(indices):
                return []
            last, first = snapshots.rows(kept[-1])[indices], snapshots.rows(kept[0])
            mean, (low, high) = mean_of(last), credible(last["alpha"].astype(float), last["beta"].astype(float))
            ids = problems.ids.take(pa.array(indices)).to_pylist()
            domains, tiers = problems.domain_N[indices], problems.tier_N[indices]
            names = [*snapshots.states.names, *[""] * (256 - len(snapshots.states.names))]
            offline_N, counts = self._offline(len(problems)), self._rollouts.counts(len(problems))
        shown = []
        for m, index in enumerate(indices.tolist()):
            row, before = last[m], mean_of(first[index : index + 1])
            known, right = int(counts[1][index]), int(counts[2][index])
            seen_at = int(row["seen_at"])
            shown.append(
                {
                    "index": index,
                    "id": ids[m],
                    "domain": snapshots.domains.names[domains[m]],
                    "tier": snapshots.tiers.names[tiers[m]] or None,
                    "thinking": None if problems.thinking_N is None else bool(problems.thinking_N[index]),
                    "mean": float(mean[m]),
                    "low": float(low[m]),
                    "high": float(high[m]),
                    "alpha": float(row["alpha"]),
                    "beta": float(row["beta"]),
                    "mixed_probability": float(row["mixed"]),
                    "seen_at": seen_at,
                    "age": max(kept[-1] - seen_at, 0) if seen_at >= 0 else None,
                    "state": names[row["state"]] or None,
                    "class": CLASSES[row["class"]],
                    "first_mean": float(before[0]) if len(before) else None,
                    "change": float(mean[m] - before[0]) if len(before) else None,
                    "offline": None if np.isnan(offline_N[index]) else float(f"{offline_N[index]:.7g}"),
                    "rollouts": int(counts[0][index]),
                    "correct": right,
                    "pass_rate": right / known if known else None,
                }
            )
        return shown

    def _offline(self, count: int) -> np.ndarray:
        rates = self._file.pass_rates
        return rates if rates is not None and len(rates) == count else np.full(count, np.nan, np.float32)

    def _passes(self, chosen: Chosen, rows_N: np.ndarray) -> dict[str, np.ndarray]:
        """bool [N] for each filter that can be named by a facet, and one for the others."""
        snapshots, problems = self._snapshots, self._snapshots.problems
        assert problems is not None
        rest_N = np.ones(len(rows_N), bool)
        if chosen.search:
            found = pc.match_substring(problems.ids, chosen.search, ignore_case=True)
            rest_N &= found.to_numpy().astype(bool)
        if chosen.mean_min is not None or chosen.mean_max is not None:
            mean_N = mean_of(rows_N)
            rest_N &= (mean_N >= (chosen.mean_min or 0.0)) & (mean_N <= (1.0 if chosen.mean_max is None else chosen.mean_max))
        if chosen.seen is not None:
            rest_N &= (rows_N["seen_at"] >= 0) == chosen.seen
        return {
            "domain": named(problems.domain_N, snapshots.domains.names, chosen.domains),
            "tier": named(problems.tier_N, snapshots.tiers.names, chosen.tiers),
            "state": named(rows_N["state"], snapshots.states.names, chosen.states),
            "class": named(rows_N["class"], CLASSES, chosen.classes),
            "": rest_N,
        }

    def _facets(self, passes: dict[str, np.ndarray], rows_N: np.ndarray) -> dict[str, dict[str, int]]:
        snapshots, problems = self._snapshots, self._snapshots.problems
        assert problems is not None
        labels = {
            "domain": (problems.domain_N, sorted(snapshots.domains.names), snapshots.domains.names),
            "tier": (problems.tier_N, sorted(snapshots.tiers.names), snapshots.tiers.names),
            "state": (rows_N["state"], state_order(snapshots), snapshots.states.names),
            "class": (rows_N["class"], list(CLASSES), list(CLASSES)),
        }
        found = {}
        for label, (code_N, order, names) in labels.items():
            keep_N = np.logical_and.reduce([passing for other, passing in passes.items() if other != label])
            counts = np.bincount(code_N[keep_N], minlength=len(names))
            found[label] = {name: int(counts[names.index(name)]) for name in order if counts[names.index(name)]}
        return found

    def _order(
        self, step: int, chosen: Chosen, sort: str, descending: bool, every_N: np.ndarray, rows_N: np.ndarray
    ) -> np.ndarray:
        """Indices [M] of the problems that match, sorted; equal ones by index, missing values last. Kept for the next page."""
        counted = self._rollouts.version if sort in ("rollouts", "pass_rate") else 0
        key = (step, self._snapshots.version, counted, self._file.pass_rates is None, chosen, sort, descending)
        if key in self._orders:
            self._orders.move_to_end(key)
            return self._orders[key]
        indices_M = np.flatnonzero(every_N)
        if sort != "index":
            values_M = self._values(sort, rows_N, indices_M)
            order = np.argsort(-values_M if descending else values_M, kind="stable")
            indices_M = indices_M[order]
        elif descending:
            indices_M = indices_M[::-1]
        self._orders[key] = indices_M
        while len(self._orders) > _ORDERS_KEPT:
            self._orders.popitem(last=False)
        return indices_M

    def _values(self, sort: str, rows_N: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """float64 [M] to sort by; NaN where there is none."""
        snapshots, problems = self._snapshots, self._snapshots.problems
        assert problems is not None
        if sort == "id":
            return _ranks(problems.ids)[indices]
        if sort in ("domain", "tier"):
            codes = snapshots.domains if sort == "domain" else snapshots.tiers
            rank = np.argsort(np.argsort(np.array(codes.names))).astype(np.float64)
            return np.asarray(rank[(problems.domain_N if sort == "domain" else problems.tier_N)[indices]])
        rows = rows_N[indices]
        if sort == "state":
            order = state_order(snapshots)
            rank = np.full(256, np.nan)
            for code, name in enumerate(snapshots.states.names):
                rank[code] = order.index(name) if name in order else np.nan
            return np.asarray(rank[rows["state"]])
        if sort == "width":
            return _spread(rows["alpha"].astype(np.float64), rows["beta"].astype(np.float64))
        if sort == "change":
            first = snapshots.rows(snapshots.kept[0])
            before = np.full(len(rows_N), np.nan)
            before[: len(first)] = mean_of(first)[: len(rows_N)]
            return np.asarray(mean_of(rows) - before[indices])
        if sort == "offline":
            return self._offline(len(problems))[indices].astype(np.float64)
        if sort in ("rollouts", "pass_rate"):
            drawn, known, right = (one[indices].astype(np.float64) for one in self._rollouts.counts(len(problems)))
            return drawn if sort == "rollouts" else np.divide(right, known, out=np.full(len(known), np.nan), where=known > 0)
        if sort == "mean":
            return mean_of(rows)
        return rows[{"mixed_probability": "mixed", "seen_at": "seen_at", "class": "class"}[sort]].astype(np.float64)


def _spread(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Standard deviation of Beta(alpha, beta), which orders widths of intervals well enough and at once."""
    total = alpha + beta
    return np.asarray(np.sqrt(alpha * beta / (total * total * (total + 1.0))))


def _ranks(ids: pa.ChunkedArray) -> np.ndarray:
    order = pc.sort_indices(ids).to_numpy()
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    return ranks
