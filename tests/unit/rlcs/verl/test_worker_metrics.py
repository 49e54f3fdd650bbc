"""Updates that verl's workers skipped are counted, and are in no mean over a step's updates."""

import math
from typing import Any

import pytest

pytest.importorskip("verl", reason="the verl extra is not installed")

from rlcs.verl.objective import policy_metrics
from rlcs.verl.worker_metrics import made_updates, named_metrics, refuse_skipped
from sft.skipped import SkippedUpdates


def found(*norms: float) -> dict[str, Any]:
    """Of a step of as many updates, as a worker tells it: the rate and the mfu once, the rest for each update."""
    broken = [0.0 if math.isfinite(norm) else math.nan for norm in norms]
    return {
        "grad_norm": list(norms),
        "loss": [norm / 10 + nan for norm, nan in zip(norms, broken, strict=True)],
        "rlcs_sum/tokens": [4.0] * len(norms),
        "rlcs_sum/kl": [2.0 + nan for nan in broken],
        "rlcs_max/ratio": [1.5 + nan for nan in broken],
        "lr": [1e-3],
        "mfu": [0.1],
    }


def test_a_step_of_finite_updates_is_as_it_was_told() -> None:
    told = found(1.0, 3.0)
    assert made_updates(told, SkippedUpdates(0), 0) == told


def test_what_is_not_finite_stays_out_of_the_steps_metrics() -> None:
    skipped = SkippedUpdates(1)
    metrics = named_metrics(made_updates(found(1.0, math.inf, 3.0), skipped, 7), "actor")
    assert metrics["actor/skipped_updates"] == 1 and metrics["actor/lr"] == 1e-3
    learned = policy_metrics(metrics)
    assert learned["grad_norm"] == 2.0 and learned["loss"] == pytest.approx(0.2)
    assert learned["approx_kl"] == 0.5 and learned["ratio_max"] == 1.5
    (notice,) = skipped.notices()
    assert notice.startswith("step 7: the gradient norm is inf") and "skipped" in notice


def test_a_step_of_which_nothing_was_made_has_no_loss() -> None:
    metrics = named_metrics(made_updates(found(math.nan), SkippedUpdates(3), 0), "actor")
    assert metrics == {"actor/skipped_updates": 1, "actor/lr": 1e-3, "perf/mfu/actor": 0.1}
    assert policy_metrics(metrics) == {}


def test_too_many_skipped_updates_in_a_row_end_the_run() -> None:
    skipped = SkippedUpdates(1)
    made_updates(found(math.nan), skipped, 0)
    made_updates(found(1.0), skipped, 1)
    made_updates(found(math.nan), skipped, 2)
    with pytest.raises(FloatingPointError, match=r"max_skipped_updates is 1.*step 2.*step 3"):
        made_updates(found(math.nan), skipped, 3)


def test_the_critic_may_skip_none() -> None:
    refuse_skipped(found(1.0))
    with pytest.raises(FloatingPointError, match=r"critic.*critic\.lr"):
        refuse_skipped(found(1.0, math.nan))
