"""Weighted draws from pools: the small, exact way and the large one by rejection, against the same truths."""

import copy

import numpy as np
import pytest

from rlcs.samplers.weighted_pools import WeightedPools

SMALL, LARGE = 2_000, 100_000


def pools(size: int, seed: int = 0) -> WeightedPools:
    """One domain beside a small other one; states 0, 1, 2 in turn; weight 0.2 in the first half, 0.8 in the second."""
    domain_N = np.zeros(size + 50, np.uint8)
    domain_N[size:] = 1
    members = [np.flatnonzero(domain_N == d).astype(np.int32) for d in (0, 1)]
    made = WeightedPools(members, domain_N, 3, np.random.default_rng(seed))
    indices = np.arange(size)
    made.update(indices, indices % 3, np.where(indices < size // 2, 0.2, 0.8))
    return made


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_problems_are_drawn_in_proportion_to_their_weights(size: int) -> None:
    made = pools(size)
    drawn = np.concatenate([made.pick(0, (0, 1, 2), made.weight, 40, taken=np.zeros(0, int)) for _ in range(200)])
    assert np.mean(drawn >= size // 2) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_without_a_weight_problems_are_drawn_evenly(size: int) -> None:
    made = pools(size)
    drawn = np.concatenate([made.pick(0, (0, 1, 2), None, 40, taken=np.zeros(0, int)) for _ in range(200)])
    assert np.mean(drawn >= size // 2) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_weight_computed_on_the_spot_is_followed(size: int) -> None:
    made = pools(size)

    def weight(indices: np.ndarray) -> np.ndarray:
        return np.where(indices % 2 == 0, 0.9, 0.1)

    drawn = np.concatenate([made.pick(0, (0, 1, 2), weight, 20, taken=np.zeros(0, int)) for _ in range(200)])
    # In a large domain the best of 16 candidates each are not quite a draw by weight from all of them.
    assert np.mean(drawn % 2 == 0) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_only_the_wanted_states_of_the_domain_come_none_twice_and_none_that_is_taken(size: int) -> None:
    made = pools(size)
    taken = np.arange(0, size, 6)
    drawn = made.pick(0, (0, 1), made.weight, 500, taken=taken)
    assert len(drawn) == len(set(drawn.tolist())) == 500
    assert (drawn < size).all() and (drawn % 3 < 2).all() and not np.isin(drawn, taken).any()


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_pool_with_fewer_problems_than_wanted_gives_all_it_has(size: int) -> None:
    made = pools(size)
    rare = np.array([3, 30, 300, 1500])
    made.update(np.arange(size), np.where(np.isin(np.arange(size), rare), 2, 0), np.full(size, 1e-6))
    assert sorted(made.pick(0, (2,), made.weight, 40, taken=rare[:1]).tolist()) == rare[1:].tolist()
    assert made.pick(0, (1,), made.weight, 40, taken=rare[:1]).tolist() == []


def test_tiny_weights_of_a_large_domain_do_not_starve_a_draw() -> None:
    made = pools(LARGE)
    made.update(np.arange(LARGE), np.zeros(LARGE, int), np.full(LARGE, 1e-7))
    assert len(set(made.pick(0, (0,), made.weight, 300, taken=np.zeros(0, int)).tolist())) == 300


def test_counts_of_states_are_those_of_a_recount_and_survive_a_checkpoint() -> None:
    made, rng = pools(SMALL), np.random.default_rng(1)
    for _ in range(20):
        chosen = rng.permutation(SMALL + 50)[:300]
        made.update(chosen, rng.integers(0, 3, 300), rng.random(300))
    restored = pools(SMALL, seed=9)
    restored.load_state_dict(copy.deepcopy(made.state_dict()))
    state_N = made.state_dict()["state"]
    expected = [np.bincount(part, minlength=3).tolist() for part in (state_N[:SMALL], state_N[SMALL:])]
    assert made.count_DS.tolist() == restored.count_DS.tolist() == expected
