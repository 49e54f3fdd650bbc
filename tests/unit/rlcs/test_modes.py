"""Which problems think: fixed for a run, in the configured proportion, and apart in the difficulty prior."""

import numpy as np
import pytest

from rlcs.modes import difficulty_tier, thinking_mask
from rlcs.problems import Problem
from rlcs.rl import build_sampler
from rlcs.rl_config import RlConfig


def problems(count: int) -> list[Problem]:
    messages = [{"role": "user", "content": "?"}]
    return [
        Problem(id=f"{i}", domain="ab"[i % 2], messages=messages, answer="1", tier=f"{i % 3}" if i % 3 else None)
        for i in range(count)
    ]


def test_every_domain_and_tier_has_its_share_of_nothink_problems() -> None:
    asked = problems(240)
    thinking = thinking_mask(asked, 0.3, np.random.default_rng(0))
    for domain in "ab":
        for tier in (None, "1", "2"):
            cell = [bool(t) for p, t in zip(asked, thinking, strict=True) if (p.domain, p.tier) == (domain, tier)]
            assert cell.count(False) == 12 and len(cell) == 40


def test_a_share_that_is_no_whole_number_is_met_on_average() -> None:
    asked = problems(6)  # one problem a cell
    counts = [int((~thinking_mask(asked, 0.25, np.random.default_rng(seed))).sum()) for seed in range(400)]
    assert np.mean(counts) == pytest.approx(6 * 0.25, abs=0.2)


def test_the_modes_follow_from_the_seed() -> None:
    first, second, other = (thinking_mask(problems(60), 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.tolist() == second.tolist() != other.tolist()


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, True), (1.0, False)])
def test_the_extremes_leave_one_mode(ratio: float, expected: bool) -> None:
    assert set(thinking_mask(problems(30), ratio, np.random.default_rng(0)).tolist()) == {expected}


def test_what_is_learned_of_thinking_problems_says_nothing_of_the_others() -> None:
    asked = [p for p in problems(60) if p.domain == "a" and p.tier == "2"]
    thinking = np.arange(len(asked)) < len(asked) // 2
    assert difficulty_tier(asked[0], True) != difficulty_tier(asked[0], False)
    config = RlConfig(model="m", problems="p", out="o", domain_weights={"a": 1})  # type: ignore[arg-type]
    sampler = build_sampler(config, asked, thinking)
    seen = np.flatnonzero(thinking)[:4]
    sampler.observe(seen, np.ones((len(seen), 8)), policy_version=0)
    mean = sampler.snapshot()["mean"]
    unseen_thinking, nothink = mean[np.flatnonzero(thinking)[4:]], mean[~thinking]
    # The domain's drift moves all; that of the cell moves its own alone.
    assert unseen_thinking.min() > nothink.max()
