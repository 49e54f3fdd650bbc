"""Is it learning, in which domain, and what is wasted: the overview's first lines, with the figures they rest on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.dashboard.metric_log import MetricLog
from rlcs.estimates import Estimate, wilson_interval

_ENDS = 0.1  # part of the steps at either end that a training curve is judged by
_FEWEST = 3  # steps at either end
_EVEN = (None, "uniform", "dapo")  # samplers that draw without regard to difficulty


def rate_change(before: Estimate, after: Estimate) -> tuple[float, float, float]:
    """(mean, low, high) of after - before: the score interval for the difference of two independent rates (Newcombe 1998,
    method 10), 95%. Where both were measured on the same problems it is wider than it need be.
    """
    mean = after.mean - before.mean
    low = mean - math.hypot(after.mean - after.low, before.high - before.mean)
    high = mean + math.hypot(after.high - after.mean, before.mean - before.low)
    return mean, low, high


Beliefs = Mapping[str, tuple[float, float]]
"""By domain: mean of the sampler's posterior means over all its training problems, in the first snapshot and in the last."""


def verdict_of(
    log: MetricLog,
    domains: Sequence[str],
    heldout: Mapping[str, Any] | None,
    guard: Mapping[str, Any] | None,
    totals: Mapping[str, Any],
    sampler: Any,
    beliefs: Beliefs,
    *,
    gamed: Sequence[str] = (),
) -> dict[str, Any]:
    """What the overview says first. Problems that are not trained on decide, held out or the guard's, where there were two
    looks at them. `gamed`: domains of which the guard has said that their verifier is deceived.

    Else those drawn to train on say something under a sampler that draws them evenly. One that looks for problems of moderate
    difficulty keeps their pass rate where it is, whatever the policy learns: then only the sampler's own estimate is told.
    """
    found = {}
    for domain in domains:
        basis, ends = "heldout", _curve_ends(heldout, domain, "pass_rate")
        if ends is None:
            basis, ends = "guard", _curve_ends(guard, domain, "audit")
        if ends is None:
            basis, ends = "training", _training_ends(log, domain)
        found[domain] = _domain(domain, basis, ends, beliefs.get(domain), even=sampler in _EVEN)
    sentence = _sentence(found, len(log), gamed, asked=heldout is not None or guard is not None)
    return {"sentence": sentence, "domains": found, "waste": _waste(totals, log)}


def _curve_ends(curves: Mapping[str, Any] | None, domain: str, name: str) -> tuple[Estimate, Estimate] | None:
    if curves is None or domain not in curves["domains"]:
        return None
    curve = curves["domains"][domain]
    known = [
        wilson_interval(min(rate * n, n), n)
        for rate, n in zip(curve[name], curve["problems"], strict=True)
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


_WHAT = {
    "heldout": "held-out pass rate",
    "guard": "pass rate of the guard's audit problems",
    "training": "pass rate of the problems drawn",
}


def _domain(
    domain: str, basis: str, ends: tuple[Estimate, Estimate] | None, belief: tuple[float, float] | None, *, even: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": "unknown", "basis": basis, "first": None, "last": None, "change": None}
    parts = []
    if ends is not None:
        before, after = ends
        mean, low, high = rate_change(before, after)
        parts.append(
            f"{_WHAT[basis]} {100 * before.mean:.1f}% to {100 * after.mean:.1f}% "
            f"({100 * mean:+.1f} points, 95% {100 * low:+.1f} to {100 * high:+.1f})"
        )
        found |= {"first": _plain(before), "last": _plain(after), "change": {"mean": mean, "low": low, "high": high}}
        if basis != "training" or even:
            found["kind"] = "up" if low > 0 else "down" if high < 0 else "flat"
    if belief is not None:
        found["belief"] = list(belief)
        parts.append(f"the sampler's own estimate over all its problems {100 * belief[0]:.1f}% to {100 * belief[1]:.1f}%")
    return found | {"sentence": f"{domain}: {'; '.join(parts) or 'too little seen to tell'}"}


def _plain(estimate: Estimate) -> dict[str, float]:
    return {"pass_rate": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _sentence(found: Mapping[str, Mapping[str, Any]], steps: int, gamed: Sequence[str], *, asked: bool) -> str:
    if not found:
        return "Its metrics are of no domain: it is no run of `rlcs rl`." if steps else "No step has been logged yet."
    names = {kind: [domain for domain, one in found.items() if one["kind"] == kind] for kind in ("up", "down", "flat")}
    parts = [f"the verifier of {', '.join(gamed)} is being gamed, says the guard"] if gamed else []
    parts += [
        f"{word} {', '.join(names[kind])}"
        for kind, word in (("up", "learning in"), ("down", "getting worse in"), ("flat", "no change told from chance in"))
        if names[kind]
    ]
    drawn = [domain for domain, one in found.items() if one["kind"] == "unknown" and one["change"] is not None]
    if drawn:
        why = "held-out problems were not answered twice yet" if asked else "no held-out problems are answered"
        parts.append(
            f"whether it learns in {', '.join(drawn)} cannot be told: {why}, and the sampler keeps the problems it draws at "
            "one difficulty"
        )
        moved = [(domain, found[domain]["belief"]) for domain in drawn if "belief" in found[domain]]
        if moved:
            told = ", ".join(f"{domain} {100 * first:.0f}% to {100 * last:.0f}%" for domain, (first, last) in moved)
            parts.append(f"by its own estimate the pass rate over all its problems went in {told}")
    if not parts:
        return "Too little has been seen to tell whether it learns."
    text = "; ".join(parts)
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
