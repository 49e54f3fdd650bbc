"""First-fit packing: what holds for every input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.packing import first_fit, first_fit_falling

LENGTHS = st.lists(st.integers(0, 120), max_size=60)
BUDGETS = st.integers(1, 100)


def first_fit_by_the_book(lengths: list[int], budget: int) -> list[list[int]]:
    """The definition, in quadratic time."""
    bins: list[list[int]] = []
    for index, length in enumerate(lengths):
        for bin in bins:
            if sum(lengths[i] for i in bin) + length <= budget:
                bin.append(index)
                break
        else:
            bins.append([index])
    return bins


@given(LENGTHS, BUDGETS)
def test_bins_are_those_of_the_definition(lengths: list[int], budget: int) -> None:
    assert first_fit(lengths, budget) == first_fit_by_the_book(lengths, budget)


@given(LENGTHS, BUDGETS)
def test_every_item_is_in_one_bin_and_indices_ascend(lengths: list[int], budget: int) -> None:
    bins = first_fit(lengths, budget)
    assert sorted(index for bin in bins for index in bin) == list(range(len(lengths)))
    assert all(bin == sorted(bin) for bin in bins) and bins == sorted(bins)


@given(LENGTHS, BUDGETS)
def test_a_bin_over_budget_holds_one_long_item(lengths: list[int], budget: int) -> None:
    for bin in first_fit(lengths, budget):
        load = sum(lengths[index] for index in bin)
        long = [index for index in bin if lengths[index] > budget]
        assert load <= budget if not long else sum(lengths[index] > 0 for index in bin) == 1


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.just(100))
def test_bins_are_fewer_than_twice_the_least_possible(lengths: list[int], budget: int) -> None:
    assert len(first_fit(lengths, budget)) <= max(1, 2 * -(-sum(lengths) // budget))


@given(LENGTHS, BUDGETS)
def test_longest_first_is_first_fit_on_sorted_lengths(lengths: list[int], budget: int) -> None:
    bins = first_fit_falling(lengths, budget)
    assert sorted(index for bin in bins for index in bin) == list(range(len(lengths)))
    found = [[lengths[index] for index in bin] for bin in bins]
    falling = sorted(lengths, reverse=True)
    assert found == [[falling[place] for place in bin] for bin in first_fit_by_the_book(falling, budget)]


def least_bins(lengths: tuple[int, ...], rooms: tuple[int, ...], budget: int) -> int:
    """Bins of the best packing, by trying all."""
    if not lengths:
        return len(rooms)
    first, rest = lengths[0], lengths[1:]
    tries = [least_bins(rest, (*rooms, budget - first), budget)]
    for place in {room: i for i, room in enumerate(rooms) if room >= first}.values():
        tries.append(least_bins(rest, (*rooms[:place], rooms[place] - first, *rooms[place + 1 :]), budget))
    return min(tries)


@given(st.lists(st.integers(1, 20), max_size=7))
def test_longest_first_keeps_its_bound(lengths: list[int]) -> None:
    assert len(first_fit_falling(lengths, 20)) <= 11 / 9 * least_bins(tuple(lengths), (), 20) + 6 / 9


def test_a_hundred_thousand_items_leave_little_room() -> None:
    lengths = np.random.default_rng(0).integers(1, 1024, 100_000).tolist()
    bins = first_fit(lengths, 2048)
    assert len(bins) < 1.05 * sum(lengths) / 2048


def test_nothing_packs_into_no_bins() -> None:
    assert first_fit([], 10) == []


@pytest.mark.parametrize(("lengths", "budget"), [([1], 0), ([1, -1], 5)])
def test_a_budget_below_one_or_a_negative_length_is_refused(lengths: list[int], budget: int) -> None:
    with pytest.raises(ValueError, match="expected a budget"):
        first_fit(lengths, budget)
