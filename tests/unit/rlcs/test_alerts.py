"""Alerts of a run, over rows as the trainer writes them: each fault once, with its steps, and a sound run without one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from rlcs.alert_columns import Rows, best_before, lower_bound, spells, window_means, window_medians, window_sums
from rlcs.alerts import MISMATCH, PATIENCE, Alert, alerts_of

GROUPS, GROUP_SIZE = 12, 8
Change = Callable[[int], dict[str, Any]]


def run(steps: int, change: Change = lambda step: {}, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a sound run over "math" and "ocr", with what `change` says of a step."""
    rng = np.random.default_rng(seed)
    rows = []
    for step in range(steps):
        row: dict[str, Any] = {"step": step, "time": 1000.0 + 3 * step, "tokens_per_s/generate": float(rng.normal(6000, 600))}
        row |= {"policy/loss": 0.1, "policy/skipped_updates": 0.0, "policy/rollout_kl": 3e-9, "policy/logprob_gap_mean": 4e-7}
        for domain in ("math", "ocr"):
            mixed = int(rng.binomial(GROUPS, 0.6))
            row |= {
                f"{domain}/groups_generated": float(GROUPS),
                f"{domain}/rollouts": float(GROUPS * GROUP_SIZE),
                f"{domain}/mixed_fraction": mixed / GROUPS,
                f"{domain}/groups/all-wrong": float(GROUPS - mixed),
                f"{domain}/entropy": float(rng.normal(0.15, 0.03)),
                f"{domain}/truncated_fraction": rng.binomial(GROUPS * GROUP_SIZE, 0.03) / (GROUPS * GROUP_SIZE),
                f"{domain}/format_error_fraction": rng.binomial(GROUPS * GROUP_SIZE, 0.05) / (GROUPS * GROUP_SIZE),
                f"{domain}/abstained_fraction": 0.0,
                f"{domain}/repetition_fraction": 0.0,
            }
        rows.append(row | change(step))
    return rows


def only(rows: list[dict[str, Any]], guard: list[dict[str, Any]] | None = None) -> Alert:
    (alert,) = alerts_of(Rows(rows), guard or [])
    return alert


def test_a_sound_run_is_told_nothing_of_in_three_thousand_steps() -> None:
    assert alerts_of(Rows(run(3000)), now=1000.0 + 3 * 3000) == []


def test_a_run_without_rows_has_no_alerts() -> None:
    assert alerts_of(Rows([]), now=1.0) == []


@pytest.mark.parametrize(
    ("metric", "value", "kind", "severity"),
    [
        ("math/truncated_fraction", 0.3, "truncation", "warning"),
        ("math/truncated_fraction", 0.7, "truncation", "error"),
        ("math/abstained_fraction", 0.1, "abstentions", "warning"),
        ("math/abstained_fraction", 0.5, "abstentions", "error"),
        ("math/format_error_fraction", 0.4, "format", "warning"),
        ("math/repetition_fraction", 0.2, "repetition", "warning"),
        ("math/entropy", 0.01, "entropy-collapse", "warning"),
        ("math/entropy", 3.0, "entropy-rise", "error"),
    ],
)
def test_what_goes_wrong_in_one_domain_and_lasts_is_one_alert_of_that_domain(
    metric: str, value: float, kind: str, severity: str
) -> None:
    alert = only(run(60, lambda step: {metric: value} if step >= 30 else {}))
    assert (alert.domain, alert.kind, alert.severity, alert.active, alert.last_step) == ("math", kind, severity, True, 59)
    assert 30 <= alert.step <= 30 + PATIENCE
    assert ";" in alert.sentence  # what was seen; what to do


def test_a_share_is_told_over_the_steps_that_it_is_a_share_of() -> None:
    alert = only(run(40, lambda step: {"math/truncated_fraction": 0.25 if step >= 30 else 0.0}))
    assert "25.0% of the responses of steps 35 to 39 were cut off, 0.0% at best before" in alert.sentence


def test_what_has_passed_is_told_of_but_no_longer_active_and_what_came_back_soon_is_the_same_alert() -> None:
    alert = only(run(80, lambda step: {"ocr/abstained_fraction": 1.0} if step in (20, 21, 26) else {}))
    assert not alert.active
    assert alert.step == 20 and alert.last_step == 26 + PATIENCE - 1
    later = alerts_of(Rows(run(80, lambda step: {"ocr/abstained_fraction": 1.0} if step in (20, 60) else {})))
    assert [one.step for one in later] == [20, 60]


def test_format_errors_at_the_beginning_that_fall_are_no_alert() -> None:
    assert alerts_of(Rows(run(60, lambda step: {"math/format_error_fraction": max(0.05, 0.45 - 0.02 * step)}))) == []


def test_a_domain_without_a_mixed_group_is_told_of_from_the_fifth_step_on_that_drew_it() -> None:
    def change(step: int) -> dict[str, Any]:
        silent = {"ocr/mixed_fraction": 0.0, "ocr/groups/all-wrong": 10.0, "ocr/groups/all-right": 2.0}
        return {} if step < 4 else silent if step % 2 else {"ocr/mixed_fraction": None, "ocr/groups_generated": None}

    assert alerts_of(Rows(run(12, change))) == []  # drawn in steps 5, 7, 9 and 11
    alert = only(run(14, change))
    assert (alert.step, alert.last_step, alert.domain, alert.kind) == (5, 13, "ocr", "no-signal")
    assert "in 5 steps (10 all-right, 50 all-wrong)" in alert.sentence


def test_engine_and_trainer_disagree_from_the_trainers_own_threshold_on() -> None:
    assert alerts_of(Rows(run(5, lambda step: {"policy/rollout_kl": 0.9 * MISMATCH, "policy/logprob_gap_mean": 0.3}))) == []
    alert = only(run(5, lambda step: {"policy/rollout_kl": 1.1 * MISMATCH, "policy/logprob_gap_mean": 0.05}))
    assert (alert.domain, alert.kind, alert.severity) == (None, "mismatch", "warning")
    assert "KL 0.011 nats a token, mean gap 0.05" in alert.sentence and "disagree" in alert.sentence
    stale = only(run(5, lambda step: {"policy/rollout_kl": 20 * MISMATCH, "staleness/max": 1.0}))
    assert stale.severity == "error" and "max_staleness" in stale.sentence
    gap = only(run(5, lambda step: {"policy/rollout_kl": None, "policy/logprob_gap_mean": 0.2}))
    assert gap.kind == "mismatch" and "KL" not in gap.sentence


def test_skipped_updates_are_counted() -> None:
    alert = only(run(20, lambda step: {"policy/skipped_updates": 2.0} if step == 7 else {}))
    assert (alert.step, alert.last_step, alert.severity, alert.active) == (7, 7, "warning", False)
    assert alert.sentence.startswith("2 updates in 1 step ")
    twice = only(run(9, lambda step: {"policy/skipped_updates": 1.0} if step > 6 else {}))
    assert (twice.severity, twice.active) == ("error", True)


def test_generation_at_half_its_speed_is_told_of_whatever_the_first_step_took() -> None:
    slow = run(40, lambda step: {"tokens_per_s/generate": 100.0 if step == 0 else 2000.0 if step >= 20 else 6000.0})
    alert = only(slow)
    assert alert.kind == "slow" and 20 <= alert.step <= 24 and "2,000 tokens/s, 6,000 before" in alert.sentence


def test_a_run_that_writes_nothing_any_more_has_stalled_unless_it_has_ended() -> None:
    rows = run(20)
    last = rows[-1]["time"]
    assert alerts_of(Rows(rows), now=last + 50) == []
    (alert,) = alerts_of(Rows(rows), now=last + 120)
    assert (alert.kind, alert.step) == ("stalled", 19)
    assert "nothing new for 2 min, where a step took 3 s" in alert.sentence
    assert alerts_of(Rows(rows)) == []
    slow = [row | {"time": 600.0 * row["step"]} for row in rows]  # ten minutes a step
    assert alerts_of(Rows(slow), now=slow[-1]["time"] + 3600) == []


def test_the_guards_accusations_come_with_their_own_sentences_and_stand() -> None:
    said = [
        {
            "step": 19,
            "updates": 20,
            "kind": "collapse",
            "domain": "math",
            "sentence": "step 19: reward collapse in domain math",
        },
        {"step": 29, "updates": 30, "kind": "decline", "domain": "ocr", "sentence": "step 29: domain ocr declines"},
    ]
    collapse, decline = alerts_of(Rows(run(40)), said)
    assert (collapse.step, collapse.last_step, collapse.severity, collapse.active) == (19, 39, "error", True)
    assert collapse.sentence == "reward collapse in domain math"
    assert decline.severity == "warning" and decline.sentence.startswith("domain ocr declines; ")
    assert [one.domain for one in alerts_of(Rows([]), said)] == ["math", "ocr"]


def test_of_two_rows_of_a_step_the_later_counts_and_their_order_does_not() -> None:
    rows = run(20, lambda step: {"policy/skipped_updates": 1.0})
    mended = run(20)
    assert alerts_of(Rows([*rows, *mended[::-1]])) == alerts_of(Rows(mended))


def test_modes_are_no_domains() -> None:
    rows = [{name.replace("math/", "thinking/"): value for name, value in row.items()} for row in run(9)]
    silent = [row | {"thinking/mixed_fraction": 0.0} for row in rows]
    assert alerts_of(Rows(silent)) == []


@pytest.mark.parametrize("steps", [0, 1, 4, 5, 9, 10, 37])
def test_windows_are_what_a_walk_over_the_steps_finds(steps: int) -> None:
    values = np.random.default_rng(steps).random(steps)
    width = 5
    windows = [values[max(0, end - width + 1) : end + 1] for end in range(steps)]
    assert window_sums(values, width) == pytest.approx([window.sum() for window in windows])
    assert window_means(values, width) == pytest.approx([window.mean() for window in windows])
    recent, before = window_medians(values, width)
    for end in range(steps):
        past = values[: max(0, end - width + 1)]
        assert recent[end] == pytest.approx(np.median(windows[end]) if end >= width - 1 else np.nan, nan_ok=True)
        assert before[end] == pytest.approx(np.median(past) if len(past) >= width else np.nan, nan_ok=True)
        ends = range(width - 1, end - width + 1)  # of whole windows that share no step with this one
        assert best_before(values, width)[end] == (min(ends, key=lambda one: values[one]) if ends else -1)


def test_spells_join_what_is_close() -> None:
    bad = np.array([1, 0, 1, 0, 0, 1, 1, 0], bool)
    assert spells(bad, apart=1) == [(0, 0), (2, 2), (5, 6)]
    assert spells(bad, apart=2) == [(0, 2), (5, 6)]
    assert spells(bad, apart=3) == [(0, 6)]
    assert spells(np.zeros(3, bool), apart=1) == []


def test_the_lower_bound_is_the_rate_that_would_just_have_been_seen_so_high() -> None:
    share, n, sigmas = np.array([0.1, 0.5, 1.0]), np.array([20.0, 60.0, 4.0]), 3.0
    low = lower_bound(share, n, sigmas)
    tails = 1 - ndtr((share - low) / np.sqrt(low * (1 - low) / n))  # a score test's at the bound itself
    assert tails == pytest.approx(np.full(3, 1 - ndtr(sigmas)))
    assert lower_bound(np.zeros(1), np.ones(1), sigmas) == pytest.approx(0.0)
