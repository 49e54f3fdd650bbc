"""Orders of problems taken epoch by epoch: what is avoided keeps its turn, what is not accepted loses it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlcs.samplers.epochs import EpochOrder


def epochs(size: int, seed: int = 0) -> EpochOrder:
    return EpochOrder([np.arange(size, dtype=np.int32)], np.random.default_rng(seed))


@given(st.integers(0, 50), st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_problems_to_avoid_keep_their_turn_in_the_epoch(seed: int, counts: list[int]) -> None:
    order, avoid = epochs(100, seed), np.arange(10)
    taken: list[int] = []
    for count in counts:
        taken += order.take(0, count, avoid).tolist()
    assert not set(taken) & set(avoid.tolist())
    rest = order.take(0, 100 - len(taken)).tolist()
    assert sorted(taken + rest) == list(range(100))
    assert order.epoch == [0]


def test_problems_not_accepted_have_had_their_turn() -> None:
    order = epochs(100)
    first = order.take(0, 20, accept=lambda indices: indices % 2 == 0).tolist()
    assert all(index % 2 == 0 for index in first)
    later = []
    while order.epoch == [0]:
        later += order.take(0, 1).tolist()
    skipped = set(range(100)) - set(first) - set(later[:-1])
    assert skipped
    assert all(index % 2 == 1 for index in skipped)


def test_a_step_that_holds_a_whole_domain_gets_no_more_of_it() -> None:
    order = epochs(10)
    held = order.take(0, 7)
    more = order.take(0, 9, held)
    assert sorted(np.concatenate([held, more]).tolist()) == list(range(10))
    assert order.take(0, 3, np.arange(10)).tolist() == []
