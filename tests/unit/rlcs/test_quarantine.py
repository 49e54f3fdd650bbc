"""Quarantine of a domain, in every sampler: nothing more of it is drawn, the others go on in their proportions."""

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest

from rlcs.difficulty import Difficulty
from rlcs.samplers import SAMPLERS, GroupOutcomes, Sampler

DOMAINS = ["math"] * 40 + ["ocr"] * 40 + ["gui"] * 20


def build(name: str, **options: Any) -> Sampler:
    difficulty = Difficulty(DOMAINS, [str(index % 3) for index in range(len(DOMAINS))], [None] * len(DOMAINS))
    return SAMPLERS[name](DOMAINS, difficulty, group_size=4, seed=0, **options)


def run_step(sampler: Sampler, n: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Problems generated for and trained on in a step where three groups of four are mixed."""
    wanted, seen, outcomes = sampler.draw(n), np.zeros(0, np.int64), np.zeros((0, 4))
    while len(wanted):
        came = (np.arange(4) < ((wanted * 7 + step) % 4)[:, None]).astype(float)
        sampler.observe(wanted, came, policy_version=step)
        seen, outcomes = np.concatenate([seen, wanted]), np.concatenate([outcomes, came])
        wanted = sampler.refill(n, seen, outcomes)
    mixed = np.flatnonzero(GroupOutcomes.of(outcomes).mixed_P)
    return seen, seen[mixed][sampler.select(seen[mixed], outcomes[mixed], n)]


def drawn(sampler: Sampler, n: int, steps: range) -> Counter[str]:
    return Counter(DOMAINS[index] for step in steps for index in run_step(sampler, n, step)[0])


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_quarantined_domain_is_drawn_no_more_and_the_others_take_its_draws(name: str) -> None:
    sampler = build(name, domain_weights={"math": 1, "ocr": 3, "gui": 1})
    before = drawn(sampler, 10, range(8))
    assert before["ocr"] > before["math"] > 0
    sampler.quarantine(["ocr"])
    after = drawn(sampler, 10, range(8, 24))
    assert after.keys() == {"math", "gui"}
    assert sum(after.values()) >= 160
    assert after["gui"] / sum(after.values()) == pytest.approx(0.5, abs=0.05)
    sampler.quarantine([])
    assert drawn(sampler, 10, range(24, 32))["ocr"] > 0


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_restored_sampler_that_is_told_of_its_quarantine_draws_what_the_other_would_have(name: str) -> None:
    sampler = build(name)
    drawn(sampler, 7, range(3))
    sampler.quarantine(["ocr"])
    drawn(sampler, 7, range(3, 6))
    other = build(name)
    other.load_state_dict(copy.deepcopy(sampler.state_dict()))
    other.quarantine(["ocr"])
    for step in range(6, 12):
        for one, same in zip(run_step(sampler, 7, step), run_step(other, 7, step), strict=True):
            assert one.tolist() == same.tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_is_as_large_as_what_a_quarantine_leaves(name: str) -> None:
    sampler = build(name)
    with pytest.raises(ValueError, match="lower groups_per_step"):
        sampler.draw(101)
    sampler.quarantine(["math", "ocr"])
    seen, trained = run_step(sampler, 30, 0)
    assert sorted(set(seen.tolist())) == list(range(80, 100))
    assert set(trained.tolist()) <= set(seen.tolist())


def test_a_domain_that_carries_the_signal_stays_shut_however_the_shares_lean() -> None:
    sampler = build("rlcs", domain_floor=0.0)
    sampler.quarantine(["ocr"])
    assert drawn(sampler, 10, range(10)).keys() == {"math", "gui"}


def test_a_quarantine_that_leaves_nothing_is_refused() -> None:
    for weights, domains in ((None, ["math", "ocr", "gui"]), ({"math": 1}, ["math"])):
        sampler = build("uniform", domain_weights=weights)
        with pytest.raises(ValueError, match="none is left"):
            sampler.quarantine(domains)
        assert len(sampler.draw(10)) == 10
