"""How hard the problems are over time: bodies of /difficulty and /flow.

Axis suffixes: Q cells (domain x tier), B bins.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlcs.dashboard.problem_file import ProblemFile
from rlcs.dashboard.runs import Run
from rlcs.dashboard.snapshots import BINS, CLASSES, Snapshot, Snapshots
from rlcs.estimates import wilson_interval
from rlcs.samplers.curriculum import STATES
from rlcs.samplers.glm_tiers import TIERS

OFFLINE_BINS = 10
_ORDER: dict[str | None, tuple[str, ...]] = {"state": STATES, "difficulty_tier": TIERS, "pool": ("hard", "normal", "easy")}


def difficulty(
    run: Run, snapshots: Snapshots, problem_file: ProblemFile, domains: Sequence[str], tiers: Sequence[str]
) -> dict[str, Any]:
    """The body of /api/runs/{run}/difficulty."""
    with snapshots.lock:
        chosen_Q = snapshots.chosen_Q(domains, tiers)
        found = [_padded(snapshot, len(chosen_Q)) for snapshot in snapshots.by_step.values()]
        names, states = snapshots.states.names, state_order(snapshots)
        body: dict[str, Any] = {
            "snapshots": {"ready": len(found), "total": max(snapshots.total, len(found))},
            "domains": sorted({domain for domain, _ in snapshots.cells}),
            "tiers": sorted({tier for _, tier in snapshots.cells}),
            "state_column": snapshots.state_column,
            "states": states,
            "step": list(snapshots.by_step),
            "problems": [int(one.problems_Q[chosen_Q].sum()) for one in found],
            "count": [one.bins_QB[chosen_Q].sum(0).tolist() for one in found],
            "state_counts": {
                state: [
                    int(one.states_QS[chosen_Q, names.index(state)].sum())
                    if names.index(state) < one.states_QS.shape[1] - 1
                    else 0
                    for one in found
                ]
                for state in states
            },
            "cells": _cells(snapshots, problem_file),
            "offline": _offline(snapshots, problem_file, domains, tiers),
            "note": snapshots.note,
        }
    classes = [(place, name) for place, name in enumerate(CLASSES) if any(one.classes_QC[:, place].any() for one in found)]
    body["classes"] = [name for _, name in classes]
    body["class_counts"] = {name: [int(one.classes_QC[chosen_Q, place].sum()) for one in found] for place, name in classes}
    sums = [one.sums_Q4[chosen_Q].sum(0).tolist() for one in found]
    counts = body["problems"]
    body["mean"] = [total[0] / n if n else None for total, n in zip(sums, counts, strict=True)]
    body["coverage"] = [total[1] / n if n else None for total, n in zip(sums, counts, strict=True)]
    body["age"] = [total[2] / total[1] if total[1] else None for total in sums]
    body["mixed_probability"] = [total[3] / n if n else None for total, n in zip(sums, counts, strict=True)]
    return body | {
        "run": run.summary(),
        "bins": BINS,
        "window": list(run.window) if run.window else None,
        "retire_above": run.threshold("retire_above"),
        "defer_below": run.threshold("defer_below"),
        "calibration": _calibration(run, domains),
    }


def state_order(snapshots: Snapshots) -> list[str]:
    """The states met, as their sampler lists them, or from hard to easy."""
    order = _ORDER.get(snapshots.state_column, ())
    names = [name for name in snapshots.states.names if name]
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _padded(snapshot: Snapshot, cells: int) -> Snapshot:
    """The same with rows for cells that it had no problem of."""
    missing = cells - len(snapshot.bins_QB)
    if not missing:
        return snapshot
    arrays = (snapshot.bins_QB, snapshot.states_QS, snapshot.classes_QC, snapshot.sums_Q4)
    return Snapshot(snapshot.file, *(np.pad(one, ((0, missing), (0, 0))) for one in arrays))


def _cells(snapshots: Snapshots, problem_file: ProblemFile) -> list[dict[str, Any]]:
    if not snapshots.by_step:
        return []
    steps = list(snapshots.by_step)
    first, last = (_padded(snapshots.by_step[step], len(snapshots.cells)) for step in (steps[0], steps[-1]))
    offline = _offline_means(snapshots, problem_file)
    rows = []
    for q, (domain, tier) in enumerate(snapshots.cells):
        n, before = int(last.problems_Q[q]), int(first.problems_Q[q])
        if not n:
            continue
        rows.append(
            {
                "domain": domain,
                "tier": tier,
                "problems": n,
                "first_mean": first.sums_Q4[q, 0] / before if before else None,
                "last_mean": last.sums_Q4[q, 0] / n,
                "offline_mean": offline.get((domain, tier)),
                "coverage": last.sums_Q4[q, 1] / n,
                "classes": {name: int(count) for name, count in zip(CLASSES, last.classes_QC[q], strict=True) if count},
            }
        )
    return sorted(rows, key=lambda row: (row["domain"], row["tier"]))


def _offline_means(snapshots: Snapshots, problem_file: ProblemFile) -> dict[tuple[str, str], float]:
    offline_N, problems = problem_file.pass_rates, snapshots.problems
    if offline_N is None or problems is None or len(offline_N) != len(problems):
        return {}
    found = {}
    for domain, tier in snapshots.cells:
        d, t = snapshots.domains.find(domain), snapshots.tiers.find(tier)
        rates = offline_N[(problems.domain_N == d) & (problems.tier_N == t)]
        if not np.isnan(rates).all():
            found[domain, tier] = float(np.nanmean(rates))
    return found


def _offline(
    snapshots: Snapshots, problem_file: ProblemFile, domains: Sequence[str], tiers: Sequence[str]
) -> dict[str, Any] | None:
    """Offline grades against the posterior means of the last snapshot."""
    offline_N, problems = problem_file.pass_rates, snapshots.problems
    if problem_file.note and offline_N is None:
        return {"count": None, "note": problem_file.note}
    if offline_N is None or problems is None or not snapshots.kept:
        return None
    rows = snapshots.rows(snapshots.kept[-1])
    if len(offline_N) != len(rows):
        return {"count": None, "note": f"the problem file has {len(offline_N)} problems now, the run {len(rows)}"}
    known_N = ~np.isnan(offline_N) & named(problems.domain_N, snapshots.domains.names, domains)
    known_N &= named(problems.tier_N, snapshots.tiers.names, tiers)
    if not known_N.any():
        return {"count": None, "note": "no problem has an offline pass_rate"}
    before, now = offline_N[known_N].astype(np.float64), mean_of(rows[known_N])
    count = _crossed(_tenth(before), _tenth(now), OFFLINE_BINS)
    spread = before.std() > 0 and now.std() > 0
    return {
        "bins": OFFLINE_BINS,
        "count": count.tolist(),
        "known": int(known_N.sum()),
        "correlation": float(np.corrcoef(before, now)[0, 1]) if spread else None,
    }


def _tenth(rate: np.ndarray) -> np.ndarray:
    """Bins of rates; a grade of 0.6 in single precision is still the sixth."""
    return np.clip(np.floor(rate * OFFLINE_BINS + 1e-6), 0, OFFLINE_BINS - 1).astype(np.int64)


def mean_of(rows: np.ndarray) -> np.ndarray:
    """Posterior means float64 [N] of ROW [N]."""
    alpha, beta = rows["alpha"].astype(np.float64), rows["beta"].astype(np.float64)
    return np.asarray(alpha / (alpha + beta))


def named(code_N: np.ndarray, names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """bool [N]: those whose name is among `wanted`; none wanted is all."""
    if not wanted:
        return np.ones(len(code_N), bool)
    return np.isin(code_N, [place for place, name in enumerate(names) if name in wanted])


def _calibration(run: Run, domains: Sequence[str]) -> dict[str, Any]:
    """Reliability bins since the start of the run, of the last file, with Wilson intervals (a group is one trial)."""
    files = run.files["calibration"]
    rows: list[dict[str, Any]] = []
    if files:
        file = files[max(files)]
        try:
            rows = pq.read_table(file.path).to_pylist()
        except (OSError, pa.ArrowException):
            return {"step": None, "quantities": {}, "error": {}}
    quantities: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        by_domain = quantities.setdefault(row["quantity"], {})
        by_domain.setdefault(row["domain"], []).append(_with_interval(row))
        if not domains or row["domain"] in domains:
            _pool(by_domain.setdefault("", []), row)
    for by_domain in quantities.values():
        by_domain[""] = sorted((_with_interval(row) for row in by_domain.get("", [])), key=lambda row: row["from"])
    error = {
        quantity: {domain: _error(bins) for domain, bins in by_domain.items() if bins}
        for quantity, by_domain in quantities.items()
    }
    return {"step": max(files) if files else None, "quantities": quantities, "error": error}


def _with_interval(row: dict[str, Any]) -> dict[str, Any]:
    n, rate = row["groups"], min(max(row["observed"], 0.0), 1.0)
    interval = wilson_interval(min(rate * n, n), n)
    names = ("from", "to", "groups", "predicted", "observed")
    return {name: row[name] for name in names} | {"low": interval.low, "high": interval.high}


def _pool(bins: list[dict[str, Any]], row: dict[str, Any]) -> None:
    same = next((one for one in bins if one["from"] == row["from"]), None)
    if same is None:
        bins.append({name: row[name] for name in ("from", "to", "groups", "predicted", "observed")})
        return
    total = same["groups"] + row["groups"]
    for name in ("predicted", "observed"):
        same[name] = (same[name] * same["groups"] + row[name] * row["groups"]) / total
    same["groups"] = total


def _error(bins: Sequence[dict[str, Any]]) -> float:
    """Expected calibration error: the mean gap of the bins, weighted by their groups."""
    total = sum(row["groups"] for row in bins)
    return float(sum(row["groups"] * abs(row["predicted"] - row["observed"]) for row in bins) / total)


def flow(
    snapshots: Snapshots, start: int | None, end: int | None, domains: Sequence[str], tiers: Sequence[str]
) -> dict[str, Any]:
    """The body of /api/runs/{run}/flow: how many problems went from each class, and state, to each. Steps that are not those of
    a snapshot stand for the last one before."""
    with snapshots.lock:
        steps, problems = snapshots.kept, snapshots.problems
        if not steps or problems is None:
            return {"from": None, "to": None, "steps": [], "classes": [], "count": [], "states": None}
        first = max((step for step in steps if start is not None and step <= start), default=steps[0])
        last = max((step for step in steps if end is not None and step <= end), default=steps[-1] if end is None else steps[0])
        before, after = snapshots.rows(first), snapshots.rows(last)
        n = min(len(before), len(after), len(problems))
        chosen_N = named(problems.domain_N[:n], snapshots.domains.names, domains)
        chosen_N &= named(problems.tier_N[:n], snapshots.tiers.names, tiers)
        table = _crossed(before["class"][:n][chosen_N], after["class"][:n][chosen_N], len(CLASSES))
        used = np.flatnonzero(table.sum(0) + table.sum(1))
        found: dict[str, Any] = {
            "from": first,
            "to": last,
            "steps": steps,
            "classes": [CLASSES[place] for place in used],
            "count": table[np.ix_(used, used)].tolist(),
            "states": None,
        }
        if snapshots.state_column is not None:
            names, order = snapshots.states.names, state_order(snapshots)
            table = _crossed(before["state"][:n][chosen_N], after["state"][:n][chosen_N], len(names))
            places = [names.index(name) for name in order]
            found["states"] = {"names": order, "count": table[np.ix_(places, places)].tolist()}
    return found


def _crossed(before: np.ndarray, after: np.ndarray, width: int) -> np.ndarray:
    known = (before < width) & (after < width)
    pairs = before[known].astype(np.int64) * width + after[known]
    return np.bincount(pairs, minlength=width * width).reshape(width, width)
