"""Is it learning, in which domain, and what is wasted: the overview's first lines, with the figures they rest on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.dashboard.metric_log import MetricLog
from rlcs.estimates import Estimate, wilson_interval

_ENDS = 0.1  # part of the steps at either end that a training curve is judged by
_FEWEST = 3  # steps at either end


def rate_change(before: Estimate, after: Estimate) -> tuple[float, float, float]:
    """(mean, low, high) of after - before: the score interval for the difference of two independent rates (Newcombe 1998,
    method 10), 95%. Where both were measured on the same problems it is wider than it need be.
    """
    mean = after.mean - before.mean
    low = mean - math.hypot(after.mean - after.low, before.high - before.mean)
    high = mean + math.hypot(after.high - after.mean, before.mean - before.low)
    return mean, low, high


def verdict_of(
    log: MetricLog, domains: Sequence[str], heldout: Mapping[str, Any] | None, totals: Mapping[str, Any], sampler: Any
) -> dict[str, Any]:
    """What the overview says first. Held-out problems decide where there were two looks at them, else those drawn."""
    found = {}
    for domain in domains:
        ends = _heldout_ends(heldout, domain)
        basis = "heldout" if ends else "training"
        found[domain] = _domain(domain, basis, ends or _training_ends(log, domain))
    return {"sentence": _sentence(found, sampler), "domains": found, "waste": _waste(totals, log)}


def _heldout_ends(heldout: Mapping[str, Any] | None, domain: str) -> tuple[Estimate, Estimate] | None:
    if heldout is None or domain not in heldout["domains"]:
        return None
    curve = heldout["domains"][domain]
    known = [
        wilson_interval(min(rate * n, n), n)
        for rate, n in zip(curve["pass_rate"], curve["problems"], strict=True)
        if rate is not None and n
    ]
    return (known[0], known[-1]) if len(known) > 1 else None


def _training_ends(log: MetricLog, domain: str) -> tuple[Estimate, Estimate] | None:
    rate_S, groups_S = log.column(f"{domain}/pass_rate"), log.column(f"{domain}/groups_generated")
    if rate_S is None or groups_S is None:
        return None
    known_S = ~np.isnan(rate_S) & (groups_S > 0)
    rates, groups = rate_S[known_S], groups_S[known_S]
    size = max(_FEWEST, round(_ENDS * len(rates)))
    if len(rates) < 2 * size:
        return None
    ends = []
    for part in (slice(0, size), slice(len(rates) - size, None)):
        n = float(groups[part].sum())
        ends.append(wilson_interval(min(float((rates[part] * groups[part]).sum()), n), n))
    return ends[0], ends[1]


def _domain(domain: str, basis: str, ends: tuple[Estimate, Estimate] | None) -> dict[str, Any]:
    if ends is None:
        sentence = f"{domain}: too little seen to tell"
        return {"kind": "unknown", "basis": basis, "first": None, "last": None, "change": None, "sentence": sentence}
    before, after = ends
    mean, low, high = rate_change(before, after)
    kind = "up" if low > 0 else "down" if high < 0 else "flat"
    what = "held-out pass rate" if basis == "heldout" else "pass rate of the problems drawn"
    sentence = (
        f"{domain}: {what} {100 * before.mean:.1f}% to {100 * after.mean:.1f}% "
        f"({100 * mean:+.1f} points, 95% {100 * low:+.1f} to {100 * high:+.1f})"
    )
    return {
        "kind": kind,
        "basis": basis,
        "first": _plain(before),
        "last": _plain(after),
        "change": {"mean": mean, "low": low, "high": high},
        "sentence": sentence,
    }


def _plain(estimate: Estimate) -> dict[str, float]:
    return {"pass_rate": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _sentence(found: Mapping[str, Mapping[str, Any]], sampler: Any) -> str:
    if not found:
        return "No step has been logged yet."
    names = {
        kind: [domain for domain, one in found.items() if one["kind"] == kind] for kind in ("up", "down", "flat", "unknown")
    }
    parts = [
        f"{word} {', '.join(names[kind])}"
        for kind, word in (("up", "learning in"), ("down", "getting worse in"), ("flat", "no change told from chance in"))
        if names[kind]
    ]
    if not parts:
        return "Too little has been seen to tell whether it learns."
    text = "; ".join(parts)
    if all(one["basis"] == "training" for one in found.values()):
        text += " (by the problems drawn: no held-out problems are answered"
        text += (
            ", and a curriculum keeps what it draws moderately hard, so this rate may stand still while the policy learns)"
            if sampler not in (None, "uniform")
            else ")"
        )
    return f"{text[0].upper()}{text[1:]}."


def _waste(totals: Mapping[str, Any], log: MetricLog) -> str:
    if not totals["rollouts"]:
        return "Nothing has been generated yet."
    shares = []
    for fate in ("all-right", "all-wrong", "surplus", "abstained"):
        column = log.column(f"groups/{fate}")
        count = 0.0 if column is None else float(np.nansum(column))
        if count:
            shares.append(f"{100 * count / max(totals['groups'], 1.0):.0f}% {fate}")
    tail = f" (groups: {', '.join(shares)})" if shares else ""
    return (
        f"{100 * totals['rollouts_wasted'] / totals['rollouts']:.0f}% of rollouts and "
        f"{100 * totals['tokens_wasted'] / max(totals['tokens'], 1.0):.0f}% of tokens went into groups not trained on{tail}."
    )
