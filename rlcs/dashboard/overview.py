"""The overview of a run: its curves, what it cost, and in words whether it learns. From metrics.jsonl and small files only.

Axis suffixes: K points of a curve.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlcs.dashboard.metric_log import MetricLog, Thinned, read_rows
from rlcs.dashboard.run_alerts import run_alerts
from rlcs.dashboard.runs import Run
from rlcs.dashboard.verdict import Beliefs, verdict_of
from rlcs.estimates import wilson_interval

MOST_POINTS = 600
INTERVALS = (
    "95% score intervals of Wilson with the problem as the unit: a group counts as one trial however many responses it has, "
    "since responses to one problem are alike. A point of several steps takes their groups together."
)
_RATES = {
    "reward": "reward",
    "response_length": "response_length",
    "format_errors": "format_error_fraction",
    "abstained": "abstained_fraction",
    "truncated": "truncated_fraction",
    "repetition": "repetition_fraction",
    "forced": "forced_fraction",
    "entropy": "entropy",
}
_COUNTS = {"groups": "groups_generated", "trained": "groups_trained"} | {
    name: name for name in ("rollouts", "rollouts_wasted", "tokens", "tokens_wasted")
}
_SAMPLER = ("coverage", "age", "expansion", "domain_share", "prior_strength", "discount", "carry", "invalid", "silent")


def overview(run: Run, beliefs: Beliefs | None = None) -> dict[str, Any]:
    """The body of /api/runs/{run}/overview. `beliefs` as from `Snapshots.beliefs`, where they are at hand."""
    log, domains = run.log, run.domains
    curves = Thinned(log, MOST_POINTS)
    heldout = heldout_curve(run) if run.has("heldout.jsonl") else None
    guard = _guard(run) if run.has("guard.jsonl") else None
    training = {domain: _training(curves, f"{domain}/" if domain else "") for domain in ["", *domains]}
    totals, alerts = _totals(run), run_alerts(run)
    gamed = sorted({str(alert["domain"]) for alert in alerts if alert["kind"] == "collapse" and alert["active"]})
    sampler = run.config.get("sampler")
    return {
        "run": run.summary(),
        "rows": len(log),
        "broken_lines": log.broken,
        "thinned": curves.every,
        "step": curves.last_K.tolist(),
        "step_from": curves.first_K.tolist(),
        "time": listed(curves.mean("time")),
        "domains": domains,
        "training": training,
        "heldout": heldout,
        "guard": guard,
        "speed": {
            "seconds": _family(curves, log, "seconds/"),
            "tokens_per_s": {
                name: listed(curves.mean(f"tokens_per_s/{name}"))
                for name in ("generate", "train")
                if _is(log, "tokens_per_s", name)
            },
            "memory_mb": listed(curves.mean("peak_memory_mb")),
        },
        "sampler": _sampler(curves, log, domains),
        "policy": _family(curves, log, "policy/"),
        "totals": totals,
        "verdict": verdict_of(log, domains, heldout, guard, totals, sampler, beliefs or {}, gamed=gamed),
        "alerts": alerts,
        "intervals": INTERVALS,
    }


def listed(values_K: np.ndarray | None) -> list[float | None]:
    """As JSON: null for what is not finite; empty where there is nothing."""
    if values_K is None:
        return []
    return [value if math.isfinite(value) else None for value in values_K.tolist()]


def wilson(rate_K: Iterable[float], n_K: Iterable[float]) -> tuple[list[float | None], list[float | None]]:
    """Ends of the intervals of rates over `n` trials each; null where nothing is known."""
    ends: list[tuple[float | None, float | None]] = []
    for rate, n in zip(rate_K, n_K, strict=True):
        if not (n > 0 and 0 <= rate <= 1):
            ends.append((None, None))
        else:
            found = wilson_interval(min(rate * n, n), n)
            ends.append((found.low, found.high))
    return [low for low, _ in ends], [high for _, high in ends]


def _is(log: MetricLog, *parts: str) -> bool:
    return log.column("/".join(parts)) is not None


def _family(curves: Thinned, log: MetricLog, prefix: str) -> dict[str, list[float | None]]:
    names = [name for name in log.names if name.startswith(prefix)]
    return {name.removeprefix(prefix): listed(curves.mean(name)) for name in names}


def _training(curves: Thinned, prefix: str) -> dict[str, list[float | None]]:
    groups_K = curves.sum(f"{prefix}groups_generated")
    if groups_K is None:
        return {}
    weight = f"{prefix}groups_generated"
    rate_K = curves.mean(f"{prefix}pass_rate", weight)
    found = {} if rate_K is None else {"pass_rate": listed(rate_K)}
    if rate_K is not None:
        found["low"], found["high"] = wilson(rate_K.tolist(), groups_K.tolist())
    for name, metric in _RATES.items():
        values_K = curves.mean(f"{prefix}{metric}", weight)
        if values_K is not None:
            found[name] = listed(values_K)
    mixed_K = curves.mean(f"{prefix}mixed_fraction", weight)
    if mixed_K is not None:
        found["mixed"] = listed(mixed_K)
    for name in ("all-right", "all-wrong", "abstained"):
        counts_K = curves.sum(f"{prefix}groups/{name}")
        counts_K = np.zeros(len(groups_K)) if counts_K is None else counts_K
        share_K = np.divide(counts_K, groups_K, out=np.full(len(groups_K), np.nan), where=groups_K > 0)
        found["abstained_groups" if name == "abstained" else name.replace("-", "_")] = listed(share_K)
    for name, metric in _COUNTS.items():
        counts_K = curves.sum(f"{prefix}{metric}")
        if counts_K is not None:
            found[name] = listed(counts_K)
    return found


def _number(row: Mapping[str, Any], key: str) -> float:
    value = row.get(key)
    return float(value) if isinstance(value, int | float) else float("nan")


def _inner(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def heldout_curve(run: Run) -> dict[str, Any] | None:
    rows = [row for row in read_rows(run.path / "heldout.jsonl") if isinstance(row.get("updates"), int)]
    if not rows:
        return None
    settings = run.config.get("heldout")
    samples = _number(settings, "samples") if isinstance(settings, dict) else 1.0
    ratio = run.config.get("nothink_ratio")
    modes = 2 if isinstance(ratio, int | float) and 0 < ratio < 1 else 1
    each = max(1.0, samples * modes) if samples == samples else float(modes)
    domains: dict[str, Any] = {}
    for domain in sorted({str(name) for row in rows for name in _inner(row, "pass_rate")}):
        rates = [_number(_inner(row, "pass_rate"), domain) for row in rows]
        responses = [_number(_inner(row, "responses"), domain) for row in rows]
        problems = [one / each for one in responses]
        low, high = wilson(rates, problems)
        domains[domain] = {
            "pass_rate": listed(np.array(rates)),
            "low": low,
            "high": high,
            "responses": listed(np.array(responses)),
            "problems": listed(np.array(problems)),
        }
    means = [np.nanmean(rates) if len(rates := _rates(row)) else np.nan for row in rows]
    return {
        "updates": [row["updates"] for row in rows],
        "step": [row["updates"] - 1 for row in rows],
        **{name: listed(np.array([_number(row, name) for row in rows])) for name in ("rollouts", "tokens", "seconds")},
        "domains": domains,
        "mean": listed(np.array(means, np.float64)),
    }


def _rates(row: Mapping[str, Any]) -> list[float]:
    found = [_number(_inner(row, "pass_rate"), domain) for domain in _inner(row, "pass_rate")]
    return [rate for rate in found if rate == rate]


def _guard(run: Run) -> dict[str, Any] | None:
    rows = [row for row in read_rows(run.path / "guard.jsonl") if isinstance(row.get("updates"), int)]
    if not rows:
        return None
    names = sorted({str(name) for row in rows for name in _inner(row, "domains")})
    asked = _audit_problems(run.path, rows[-1]["updates"])
    return {
        "updates": [row["updates"] for row in rows],
        "step": [row["updates"] - 1 for row in rows],
        "domains": {
            domain: {
                **{
                    name: listed(np.array([_number(_inner(_inner(row, "domains"), domain), name) for row in rows]))
                    for name in ("audit", "reward", "passed_wrongly")
                },
                "problems": [asked.get(domain)] * len(rows),
                "quarantined": [bool(_inner(_inner(row, "domains"), domain).get("quarantined")) for row in rows],
            }
            for domain in names
        },
    }


def _audit_problems(path: Path, updates: int) -> dict[str, int]:
    """How many audit problems each domain has: the same at every look, and told by the responses of one."""
    try:
        table = pq.read_table(path / "audit" / f"step={updates:06d}.parquet", columns=["domain", "id"])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return {}
    return dict(Counter(domain for domain, _ in set(zip(*(table[name].to_pylist() for name in ("domain", "id")), strict=True))))


def _sampler(curves: Thinned, log: MetricLog, domains: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _SAMPLER:
        labels = [label for label in ["", *domains] if _is(log, "sampler", name, *filter(None, [label]))]
        found[name] = {label: listed(curves.mean("/".join(["sampler", name, *filter(None, [label])]))) for label in labels}
    shares: dict[str, dict[str, list[float | None]]] = {}
    for metric in log.names:
        if metric.startswith("sampler/share/"):
            label, _, state = metric.removeprefix("sampler/share/").rpartition("/")
            shares.setdefault(label, {})[state] = listed(curves.mean(metric))
    brier: dict[str, dict[str, list[float | None]]] = {}
    for label in ["", *domains]:
        for quantity in ("pass_rate", "mixed"):
            metric = "/".join(["sampler", *filter(None, [label]), f"{quantity}_brier"])
            if log.column(metric) is not None:
                brier.setdefault(label, {})[quantity] = listed(curves.mean(metric))
    return {**found, "state_share": shares, "brier": brier}


def _totals(run: Run) -> dict[str, Any]:
    """What the steps came to, and how long the rest will take at the pace of the last ones."""

    def total(name: str) -> float:
        column = run.log.column(name)
        return 0.0 if column is None else float(np.nansum(column))

    def of(prefix: str) -> dict[str, float]:
        counts = ("rollouts", "rollouts_wasted", "tokens", "tokens_wasted")
        found = {name: total(f"{prefix}{name}") for name in counts}
        return found | {"groups": total(f"{prefix}groups_generated"), "groups_trained": total(f"{prefix}groups_trained")}

    seconds, steps = run.log.column("seconds/step"), run.config.get("steps")
    done = (run.step or 0) + 1 if len(run.log) else 0
    eta = None
    if seconds is not None and isinstance(steps, int) and not np.isnan(seconds[-20:]).all():
        eta = max(0, steps - done) * float(np.nanmean(seconds[-20:]))
    return {
        "steps": len(run.log),
        **of(""),
        "seconds": total("seconds/step"),
        "heldout_seconds": total("seconds/heldout"),
        "eta_s": eta,
        "domains": {domain: of(f"{domain}/") for domain in run.domains},
    }
