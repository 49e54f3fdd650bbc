"""Ending responses that repeat themselves: the rule against brute force, and through the engine."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rollout.budget import ANSWERING, OPENING, BudgetTokens
from rollout.engine import SamplingParams, ThinkingBudget
from rollout.limits import ResponseLimits
from rollout.repetition import RepetitionTracker, ResponseRepetition
from rollout.transformers_engine import TransformersEngine

LOOPY = st.builds(
    lambda head, span, times, tail: head + span * times + tail,
    st.lists(st.integers(0, 3), max_size=8),
    st.lists(st.integers(0, 3), min_size=1, max_size=5),
    st.integers(1, 12),
    st.lists(st.integers(0, 3), max_size=8),
)


def looping(tokens: list[int], window: int) -> bool:
    """Straight from the definition: the last `window` tokens are a span of at most a quarter of them, over and over."""
    if len(tokens) < window:
        return False
    last = tokens[-window:]
    return any(all(last[i] == last[i - period] for i in range(period, window)) for period in range(1, window // 4 + 1))


@given(tokens=LOOPY, window=st.integers(4, 24))
def test_one_response_is_in_a_loop_exactly_where_the_definition_says(tokens: list[int], window: int) -> None:
    response = ResponseRepetition(window)
    found = [response.push(token) for token in tokens]
    assert found == [looping(tokens[: end + 1], window) for end in range(len(tokens))]


@given(streams=st.lists(LOOPY, min_size=1, max_size=4), window=st.integers(4, 24))
def test_sequences_of_a_batch_are_in_loops_where_each_alone_is(streams: list[list[int]], window: int) -> None:
    length = max(map(len, streams))
    padded = np.array([stream + list(range(100, 100 + length - len(stream))) for stream in streams])
    tracker = RepetitionTracker(len(streams), window, torch.device("cpu"))
    together = np.stack([tracker.step(torch.from_numpy(padded[:, t])).numpy() for t in range(length)], axis=1)
    assert together.tolist() == [[looping(row[: t + 1].tolist(), window) for t in range(length)] for row in padded]


def test_dropping_sequences_keeps_the_state_of_the_others() -> None:
    tracker = RepetitionTracker(3, 4, torch.device("cpu"))
    for tokens in ([1, 2, 3], [1, 5, 3], [1, 2, 3]):
        tracker.step(torch.tensor(tokens))
    tracker.keep(torch.tensor([0, 2]))
    assert tracker.step(torch.tensor([1, 4])).tolist() == [True, False]


def test_a_long_span_needs_four_rounds_and_a_single_token_fills_the_window() -> None:
    span = list(range(16))
    for tokens, ends in ((span * 4, 64), ([7] * 80, 64), (span * 3, None), (list(range(17)) * 6, None)):
        response = ResponseRepetition(64)
        found = [at for at, token in enumerate(tokens, 1) if response.push(token)]
        assert (found[0] if found else None) == ends


def limited(
    phase: int, budget: ThinkingBudget, sampled: list[int], tokens: BudgetTokens | None
) -> tuple[list[int], str | None]:
    limits = ResponseLimits(phase, budget, tokens, 4, end_id=99)
    said = []
    for token in sampled:
        due = limits.due()
        said.append(token if due is None else due)
        if said[-1] == 99:
            break
        limits.push(said[-1])
    return said, limits.ended


def test_a_loop_demands_the_end_of_the_turn_with_and_without_a_budget() -> None:
    rules = BudgetTokens(1, 2, (2, 3), end_id=99)
    assert limited(ANSWERING, ThinkingBudget(), [7, 8, 8, 8, 8, 5, 5], None) == ([7, 8, 8, 8, 8, 99], "repetition")
    assert limited(OPENING, ThinkingBudget(3, 3), [1, 7, 8, 8, 8, 8, 8, 8], rules) == ([1, 7, 8, 8, 2, 3, 8, 8], None)
    assert limited(OPENING, ThinkingBudget(3, 2), [1, 7, 8, 8, 8, 8, 8, 8, 8], rules) == (
        [1, 7, 8, 8, 2, 3, 8, 8, 99],
        "length",
    )


@pytest.mark.parametrize("compact_below", [0.0, 1.0])
def test_greedy_responses_end_where_they_have_begun_to_loop_and_are_the_same_until_there(
    nano, renderer, root, compact_below: float
) -> None:
    prompts = [
        renderer.prompt([{"role": "user", "content": f"q{'?' * index}"}], root=root, thinking=bool(index % 2))
        for index in range(8)
    ]
    engine = TransformersEngine(nano, renderer, compact_below=compact_below)
    engine._stop_ids = torch.tensor([-1])  # a random model may end at once; let every response run
    whole, cut = (
        engine.generate(prompts, 1, SamplingParams(0.0, 1.0, 160, stop_repetition=stop), generator=torch.Generator())
        for stop in (None, 24)
    )
    lengths = set()
    for [long], [short] in zip(whole, cut, strict=True):
        tokens = long.token_ids.tolist()
        ends = [end for end in range(1, len(tokens) + 1) if looping(tokens[:end], 24)]
        assert short.token_ids.tolist() == tokens[: ends[0] if ends else len(tokens)]
        assert short.finish_reason == ("repetition" if ends else "length") and long.finish_reason == "length"
        assert short.text.endswith(renderer.decode(short.token_ids)) and len(short.logprobs) == len(short.token_ids)
        lengths.add(len(short.token_ids))
    assert min(lengths) < 160 and len(lengths) > 1


@pytest.mark.parametrize("window", [0, 3])
def test_a_window_too_small_for_a_loop_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=rf"stop_repetition is {window}; expected None or at least 4"):
        SamplingParams(stop_repetition=window)
