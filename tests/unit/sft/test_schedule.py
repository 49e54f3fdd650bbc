"""Learning rates against transformers' own schedulers."""

from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_wsd_schedule,
)

from sft.config import SftConfig
from sft.schedule import learning_rate


def settings(**changes: Any) -> SftConfig:
    return SftConfig(**{"model": "m", "data": "d", "out": "o", "lr": 2.0, **changes})


def theirs(kind: str, warmup: int, total: int, lowest: float) -> LambdaLR:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    if kind == "constant":
        return get_constant_schedule_with_warmup(optimizer, warmup)
    if kind == "linear":
        return get_linear_schedule_with_warmup(optimizer, warmup, total)
    if kind == "cosine":
        return get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, total, min_lr_rate=lowest)
    return get_wsd_schedule(
        optimizer, warmup, num_decay_steps=10, num_stable_steps=40 - warmup, min_lr_ratio=lowest, decay_type="linear"
    )


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("kind", ["constant", "cosine", "linear", "wsd"])
def test_rates_are_those_of_transformers_schedulers_with_a_warm_up_that_wastes_no_step(kind: str, warmup: int) -> None:
    """Theirs begin at a rate of 0; ours are one step ahead of them while warming up."""
    total, lowest = 50, 0.0 if kind == "linear" or warmup else 0.1
    config = settings(schedule=kind, warmup_steps=warmup, min_lr_ratio=lowest, decay_ratio=0.2)
    scheduler, expected = theirs(kind, warmup, total, lowest), list[float]()
    for _ in range(total + 1):
        expected.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    found = [learning_rate(config, step, total) for step in range(total + 1)]
    assert found[:warmup] == pytest.approx(expected[1 : warmup + 1])
    assert found[warmup:] == pytest.approx(expected[warmup:], abs=1e-12)


def test_rates_stay_at_the_lowest_past_the_end() -> None:
    for kind in ("cosine", "linear", "wsd"):
        config = settings(schedule=kind, warmup_steps=2, min_lr_ratio=0.25)
        assert learning_rate(config, 20, 20) == learning_rate(config, 99, 20) == pytest.approx(0.5)


def test_a_decay_longer_than_what_follows_the_warm_up_begins_after_it() -> None:
    config = settings(schedule="wsd", warmup_steps=5, min_lr_ratio=0.0, decay_ratio=1.0)
    assert [learning_rate(config, step, 10) for step in range(4, 10)] == pytest.approx([2.0, 2.0, 1.6, 1.2, 0.8, 0.4])
