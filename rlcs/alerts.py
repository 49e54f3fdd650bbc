"""What in a run needs a person, from its metrics.jsonl and the guard's alerts.jsonl: each alert once, with its steps and one
sentence that says what was seen and what to do.

Pure, and light to import: `rlcs top` and the dashboard work over ssh beside a run. Axis suffix: S steps, in order.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlcs.alert_columns import Columns, Log, best_before, lower_bound, spells, window_means, window_medians, window_sums

Severity = Literal["error", "warning"]
Row = Mapping[str, Any]

PATIENCE = 5
"""Steps of a domain over which an alert is judged. One step has a few groups of a domain, too few to tell a trend from the draw
of its problems; five of them still cost minutes, not hours.
"""
MISMATCH = 0.01
"""KL(rollout || trainer), nats a token, from which the two are said to disagree; float32 gives 1e-9."""
GAP = math.sqrt(2 * MISMATCH)
"""Mean gap of log-probabilities that stands for such a KL, about half its square, in rows that have no KL."""
GRAVE_MISMATCH = 10 * MISMATCH
"""From here on most of the gradient is that of another policy."""
SIGMAS = 3.0
"""How far a share must lie above what it is compared with, in standard errors. A run looks at each of some ten series thousands
of times, so the usual two would cry wolf. A group counts as one response: its responses are alike.
"""
ENTROPY_LEFT = 0.1
"""Share of its first entropy that a domain may fall to. RL always sharpens, to a third in the quickstart; at a tenth groups
have no two different answers left to learn from.
"""
ENTROPY_TOLD = 0.01
"""Nats a token below which a first entropy is too small to fall from: such a policy was sharp when it came."""
ENTROPY_GROWTH, ENTROPY_HIGH = 3.0, 1.0
"""Growth over the first entropy, and nats a token, from which the policy is turning into noise. Reasoning stays below 1."""
SLOW = 0.5
"""Share of its usual tokens a second that generation may fall to; longer responses cost less than that."""
STALL, STALL_SECONDS = 10.0, 60.0
"""Steps' worth of time, and seconds, without a new row; held-out problems and checkpoints are shorter pauses than that."""


@dataclass(frozen=True)
class Alert:
    """Seen from 0-based `step` to `last_step`; `domain` None is the whole run. `active`: it holds at the last step at hand."""

    step: int
    last_step: int
    domain: str | None
    kind: str
    severity: Severity
    sentence: str
    active: bool


@dataclass(frozen=True)
class _Share:
    """Of the responses of a domain: alarming from `level` on, or once `rise` above its best so far; grave from `grave` on."""

    kind: str
    metric: str
    level: float
    rise: float | None
    grave: float
    what: str
    mend: str


_SHARES = (
    # Half cut off: the reward of the other half no longer says what long answers are worth.
    _Share(
        "truncation",
        "truncated_fraction",
        0.5,
        0.1,
        0.5,
        "were cut off",
        "raise think_tokens or answer_tokens, or set stop_repetition where the ends repeat themselves",
    ),
    # Abstentions are never the policy's doing, so a few are too many.
    _Share(
        "abstentions",
        "abstained_fraction",
        0.02,
        None,
        0.2,
        "could not be judged",
        "look at the reasons of such rollouts: a judge that is down, a timeout, a verifier's error",
    ),
    _Share(
        "format",
        "format_error_fraction",
        0.5,
        0.15,
        0.5,
        "were not in the response format",
        "look at their reasons; a policy that has lost the format needs a lower lr, one that never had it more SFT",
    ),
    # Repetition is the shape that collapse of a language model takes first.
    _Share(
        "repetition",
        "repetition_fraction",
        0.05,
        None,
        0.3,
        "repeated themselves to the end",
        "look at them; lower lr, or go on from a checkpoint before",
    ),
)


def alerts_of(log: Log, guard: Sequence[Row] = (), *, now: float | None = None) -> list[Alert]:
    """Alerts of a run by step, of its metrics and the `guard`'s rows of alerts.jsonl.

    `now`, Unix seconds, asks whether the run has stalled as well; leave it out for a run that has ended.
    """
    columns = Columns(log)
    found = [*_accusations(guard, columns)]
    if len(columns.steps):
        for domain in columns.domains:
            found += [*_silence(columns, domain), *_entropy(columns, domain)]
            for share in _SHARES:
                found += _shares(columns, domain, share)
        found += [*_mismatch(columns), *_skipped(columns), *_throughput(columns)]
        found += _stalled(columns, now) if now is not None else []
    return sorted(found, key=lambda alert: (alert.step, alert.domain or "", alert.kind))


def _accusations(guard: Sequence[Row], columns: Columns) -> Iterator[Alert]:
    """The guard's own; it says each once, and what it said stands."""
    for row in guard:
        step, kind = int(row["step"]), str(row["kind"])
        sentence = str(row["sentence"]).removeprefix(f"step {step}: ")
        mend = {"decline": "; lower lr, or give the domain a larger share (domain_weights)"}.get(kind, "")
        last = max(step, columns.last)
        yield Alert(step, last, str(row["domain"]), kind, "error" if kind == "collapse" else "warning", sentence + mend, True)


def _silence(columns: Columns, domain: str) -> Iterator[Alert]:
    """A domain without a mixed group for long, whatever sampler draws it: `rlcs.progress.SignalWatch` said it at the time."""
    mixed_S = columns.of(f"{domain}/mixed_fraction")
    drawn_S = np.flatnonzero(~np.isnan(mixed_S))
    for first, last in spells(mixed_S[drawn_S] <= 0, apart=1):
        if last - first + 1 < PATIENCE:
            continue
        places = drawn_S[first : last + 1]
        counts = {fate: columns.sum(f"{domain}/groups/{fate}", places) for fate in ("all-right", "all-wrong", "abstained")}
        groups = ", ".join(f"{count:.0f} {fate}" for fate, count in counts.items() if count) or "no group trained"
        yield _alert(
            columns,
            places,
            domain,
            "no-signal",
            "warning",
            f"no mixed group in {len(places)} steps ({groups}); its problems teach nothing as they are: add easier or harder "
            "ones, or look at its verifier's reasons",
            drawn_S[-1] == places[-1],
        )


def _shares(columns: Columns, domain: str, rule: _Share) -> Iterator[Alert]:
    share_S, rollouts_S = columns.of(f"{domain}/{rule.metric}"), columns.of(f"{domain}/rollouts")
    drawn_S = np.flatnonzero(~np.isnan(share_S) & (rollouts_S > 0))
    if not len(drawn_S):
        return
    groups = window_sums(np.nan_to_num(columns.of(f"{domain}/groups_generated")[drawn_S], nan=1.0), PATIENCE)
    rollouts = rollouts_S[drawn_S]
    share = window_sums(share_S[drawn_S] * rollouts, PATIENCE) / window_sums(rollouts, PATIENCE)
    bad = lower_bound(share, groups, SIGMAS) >= rule.level
    best = best_before(share, PATIENCE)
    if rule.rise is not None:
        known = best >= 0
        before, n_before = share[best], groups[best]
        middle = (share + before) / 2
        error = np.sqrt(middle * (1 - middle) * (1 / groups + 1 / n_before))
        bad |= known & (share - before >= rule.rise) & (share - before >= SIGMAS * error)
    for first, last in spells(bad, apart=PATIENCE):
        since = columns.steps[drawn_S[max(0, last - PATIENCE + 1)]]
        sentence = f"{share[last]:.1%} of the responses of {_steps(since, columns.steps[drawn_S[last]])} {rule.what}"
        if rule.rise is not None and best[last] >= 0:
            sentence += f", {share[best[last]]:.1%} at best before (to step {columns.steps[drawn_S[best[last]]]})"
        yield _alert(
            columns,
            drawn_S[[first, last]],
            domain,
            rule.kind,
            "error" if share[last] >= rule.grave else "warning",
            f"{sentence}; {rule.mend}",
            last + 1 == len(drawn_S),
        )


def _entropy(columns: Columns, domain: str) -> Iterator[Alert]:
    entropy_S = columns.of(f"{domain}/entropy")
    drawn_S = np.flatnonzero(~np.isnan(entropy_S))
    if len(drawn_S) < 2 * PATIENCE:
        return
    entropy = window_means(entropy_S[drawn_S], PATIENCE)
    first = float(entropy[PATIENCE - 1])
    later = np.arange(len(entropy)) >= 2 * PATIENCE - 1
    fallen = later & (entropy <= ENTROPY_LEFT * first) & (first >= ENTROPY_TOLD)
    risen = later & (entropy >= ENTROPY_GROWTH * first) & (entropy >= ENTROPY_HIGH)
    kinds: tuple[tuple[str, np.ndarray, Severity, str], ...] = (
        (
            "entropy-collapse",
            fallen,
            "warning",
            "its answers hardly differ any more: lower lr, raise clip_high or entropy_coef, or end the run here",
        ),
        ("entropy-rise", risen, "error", "the policy is turning into noise: lower lr, go on from a checkpoint before"),
    )
    for kind, bad, severity, mend in kinds:
        for begin, end in spells(bad, apart=PATIENCE):
            yield _alert(
                columns,
                drawn_S[[begin, end]],
                domain,
                kind,
                severity,
                f"entropy is {entropy[end]:.3g} nats a token, {first:.3g} in the first {PATIENCE} steps; {mend}",
                end + 1 == len(drawn_S),
            )


def _mismatch(columns: Columns) -> Iterator[Alert]:
    kl_S, gap_S = columns.of("policy/rollout_kl"), columns.of("policy/logprob_gap_mean")
    bad_S = (kl_S >= MISMATCH) | (np.isnan(kl_S) & (gap_S >= GAP))
    stale_S = columns.of("staleness/max") > 0
    for first, last in spells(bad_S, apart=PATIENCE):
        kl, gap = kl_S[last], gap_S[last]
        known = [f"KL {kl:.3g} nats a token"] if kl == kl else []
        known += [f"mean gap {gap:.3g}"] if gap == gap else []
        what, mend = (
            ("the policy has moved far from the one that generated", "lower lr, or set max_staleness: 0")
            if stale_S[last]
            else (
                "the rollout engine and the trainer disagree",
                "look at the engine's dtype, its weights and top_p; correct small gaps with old_logprobs: trainer and "
                "importance_cap",
            )
        )
        severity: Severity = "error" if max(np.nan_to_num(kl), np.nan_to_num(gap) ** 2 / 2) >= GRAVE_MISMATCH else "warning"
        yield _alert(
            columns, [first, last], None, "mismatch", severity, f"{what}: {', '.join(known)}; {mend}", last == len(bad_S) - 1
        )


def _skipped(columns: Columns) -> Iterator[Alert]:
    skipped_S = np.nan_to_num(columns.of("policy/skipped_updates"))
    for first, last in spells(skipped_S > 0, apart=PATIENCE):
        counts = skipped_S[first : last + 1]
        count, steps = float(counts.sum()), int((counts > 0).sum())
        yield _alert(
            columns,
            [first, last],
            None,
            "skipped-updates",
            "error" if steps > 1 else "warning",
            f"{count:.0f} update{'s' if count > 1 else ''} in {steps} step{'s' if steps > 1 else ''} had a loss or gradient "
            "that was not finite and changed nothing; lower lr, or look at the samples that the console named",
            last == len(skipped_S) - 1,
        )


def _throughput(columns: Columns) -> Iterator[Alert]:
    """Generation at less than half its usual speed, medians of a few steps against that of all steps before them."""
    speed_S = columns.of("tokens_per_s/generate")
    known_S = np.flatnonzero(speed_S > 0)
    recent, usual = window_medians(speed_S[known_S], PATIENCE)
    for first, last in spells(recent <= SLOW * usual, apart=PATIENCE):
        yield _alert(
            columns,
            known_S[[first, last]],
            None,
            "slow",
            "warning",
            f"generation runs at {recent[last]:,.0f} tokens/s, {usual[last]:,.0f} before; look for other work on the machine, "
            "for longer responses, or for a scoring process that holds it up",
            last + 1 == len(known_S),
        )


def _stalled(columns: Columns, now: float) -> Iterator[Alert]:
    times_S = columns.of("time")
    gaps = np.diff(times_S[~np.isnan(times_S)])[-100:]  # a pause before a resume is forgotten some time
    if not len(gaps):
        return
    usual, since = float(np.median(gaps)), now - float(np.nanmax(times_S))
    if since > max(STALL_SECONDS, STALL * usual, 2 * float(gaps.max())):
        yield _alert(
            columns,
            [len(times_S) - 1] * 2,
            None,
            "stalled",
            "warning",
            f"nothing new for {_duration(since)}, where a step took {_duration(usual)}; the run was stopped (--resume goes on) "
            "or hangs: look at its console",
            True,
        )


def _alert(
    columns: Columns,
    places: Sequence[int] | np.ndarray,
    domain: str | None,
    kind: str,
    severity: Severity,
    sentence: str,
    active: bool,
) -> Alert:
    """`places` [S] are first and last of the steps it was seen at."""
    steps = columns.steps
    return Alert(int(steps[places[0]]), int(steps[places[-1]]), domain, kind, severity, sentence, bool(active))


def _steps(first: int, last: int) -> str:
    return f"step {last}" if first == last else f"steps {first} to {last}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
