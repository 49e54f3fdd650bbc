"""Several runs in one chart, against steps or what they cost: the body of /api/compare.

Axis suffixes: K points of a curve.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.dashboard.metric_log import Thinned
from rlcs.dashboard.overview import MOST_POINTS, heldout_curve, wilson
from rlcs.dashboard.runs import Run, plain

AXES = {"step": None, "rollouts": "rollouts", "tokens": "tokens", "seconds": "seconds/step"}
"""x axis -> the metric whose running sum it is."""
HELDOUT = "heldout"
_FIRST = (
    *("pass_rate", "reward", "mixed_fraction", "entropy", "response_length", "format_error_fraction", "truncated_fraction"),
    *("tokens_per_s/generate", "tokens_per_s/train", "seconds/step", "policy/grad_norm", "policy/approx_kl"),
)


def compare(runs: Mapping[str, Run], metric: str, axis: str, domain: str) -> dict[str, Any]:
    """One curve a run: `metric` (of `domain`, if named) against the running sum of `axis`; held-out pass rates where it is
    "heldout". Points without a value are left out.
    """
    return {
        "x": axis,
        "metric": metric,
        "domain": domain,
        "runs": [_curve(run, metric, axis, domain) for run in runs.values()],
        "metrics": _names(list(runs.values())),
        "domains": sorted({name for run in runs.values() for name in run.domains}),
    }


def default_metric(runs: Mapping[str, Run]) -> str:
    """Held-out pass rates where a run has them."""
    return HELDOUT if any(run.has("heldout.jsonl") for run in runs.values()) else "pass_rate"


def _curve(run: Run, metric: str, axis: str, domain: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": run.name,
        **{key: plain(run.config.get(key)) for key in ("sampler", "advantage", "seed")},
        **{"x": [], "y": [], "low": None, "high": None},
        "note": None,
    }
    if metric == HELDOUT:
        return found | _heldout(run, axis, domain)
    curves = Thinned(run.log, MOST_POINTS)
    name = f"{domain}/{metric}" if domain else metric
    groups = f"{domain}/groups_generated" if domain else "groups_generated"
    y_K = curves.mean(name, groups)
    if y_K is None:
        return found | {"note": f"{run.name} has no metric {name}"}
    known_K = ~np.isnan(y_K)
    found |= {"x": _x(curves, axis)[known_K].tolist(), "y": y_K[known_K].tolist()}
    groups_K = curves.sum(groups)
    if metric == "pass_rate" and groups_K is not None:
        found["low"], found["high"] = wilson(y_K[known_K].tolist(), groups_K[known_K].tolist())
    return found


def _x(curves: Thinned, axis: str) -> np.ndarray:
    summed = AXES[axis]
    if summed is None:
        return curves.last_K
    spent_K = curves.sum(summed)
    return np.full(len(curves.last_K), np.nan) if spent_K is None else np.cumsum(spent_K)


def _heldout(run: Run, axis: str, domain: str) -> dict[str, Any]:
    curve = heldout_curve(run) if run.has("heldout.jsonl") else None
    if curve is None:
        return {"note": f"{run.name} answers no held-out problems (heldout of its configuration)"}
    if domain and domain not in curve["domains"]:
        return {"note": f"{run.name} has no held-out problems of {domain}"}
    of = curve["domains"][domain] if domain else {"pass_rate": curve["mean"], "low": None, "high": None}
    x = curve["updates"] if axis == "step" else curve[axis]
    return {"x": x, "y": of["pass_rate"], "low": of["low"], "high": of["high"]}


def _names(runs: Sequence[Run]) -> list[str]:
    """Metrics that some run has, without those of one domain or mode; the most asked for first."""
    names = {name for run in runs for name in run.log.names}
    parts = {domain for run in runs for domain in run.domains} | {"thinking", "nothink", "time"}
    plain = sorted(name for name in names if name.split("/")[0] not in parts)
    heldout = [HELDOUT] if any(run.has("heldout.jsonl") for run in runs) else []
    return [*heldout, *(name for name in _FIRST if name in names), *(name for name in plain if name not in _FIRST)]
