"""The order of examples: what every epoch holds, and exact resumption."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.stream import ExampleStream


def stream(thinks: list[bool], ratio: float = 0.3, seed: int = 0) -> ExampleStream:
    return ExampleStream(thinks, ratio, np.random.default_rng(seed))


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.floats(0, 1), st.integers(1, 50))
def test_each_epoch_holds_every_example_once_and_rewrites_the_ratio_exactly(
    thinks: list[bool], ratio: float, size: int
) -> None:
    drawn: list[tuple[int, bool]] = []
    source = stream(thinks, ratio)
    while len(drawn) < 3 * len(thinks):
        drawn += source.draw(size)
    for epoch in range(3):
        part = drawn[epoch * len(thinks) : (epoch + 1) * len(thinks)]
        assert sorted(index for index, _ in part) == list(range(len(thinks)))
        assert all(nothink for index, nothink in part if not thinks[index])
        assert sum(nothink for index, nothink in part if thinks[index]) == round(ratio * sum(thinks))


def test_order_and_forms_are_drawn_anew_every_epoch() -> None:
    source = stream([True] * 50, 0.5)
    first, second = source.draw(50), source.draw(50)
    assert [index for index, _ in first] != [index for index, _ in second]
    assert {index for index, nothink in first if nothink} != {index for index, nothink in second if nothink}


def test_over_the_epochs_every_example_is_seen_in_both_forms() -> None:
    assert set(stream([True] * 20, 0.3).draw(20 * 40)) == {(index, form) for index in range(20) for form in (False, True)}


def test_the_seed_decides_the_order() -> None:
    assert stream([True] * 30).draw(90) == stream([True] * 30).draw(90) != stream([True] * 30, seed=1).draw(90)


@given(st.integers(0, 60), st.integers(1, 60))
def test_a_restored_stream_goes_on_as_the_first_one(before: int, after: int) -> None:
    thinks = [True, True, False] * 5
    source, other = stream(thinks), stream(thinks, seed=99)
    source.draw(before)
    other.load_state_dict(source.state_dict())
    assert source.draw(after) == other.draw(after) and source.epoch == other.epoch


def test_a_state_of_other_examples_is_refused() -> None:
    with pytest.raises(ValueError, match="saved order of 3 examples, this run has 4"):
        stream([True] * 4).load_state_dict(stream([True] * 3).state_dict())
