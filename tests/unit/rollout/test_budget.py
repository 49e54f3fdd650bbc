"""The thinking budget as a state machine, and through the engine."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rollout.budget import ANSWERING, OPENING, THINKING, BudgetTokens, BudgetTracker, ResponseBudget, initial_phase
from rollout.engine import SamplingParams, ThinkingBudget
from rollout.transformers_engine import TransformersEngine

OPEN, CLOSE, NEWLINE, WORD = 1, 2, 3, 9
RULES = BudgetTokens(OPEN, CLOSE, (CLOSE, NEWLINE), end_id=99)


def run(sampled: list[int], budget: ThinkingBudget, *, phase: int = OPENING) -> tuple[list[int], list[bool], int | None]:
    """Feeds one sequence; -> (tokens, forced, step at which the answer budget was spent)."""
    tracker = BudgetTracker(torch.tensor([phase]), [budget], RULES)
    tokens, forced = [], []
    for step, token in enumerate(sampled):
        token_B, forced_B, spent_B = tracker.step(torch.tensor([token]))
        tokens.append(int(token_B))
        forced.append(bool(forced_B))
        if spent_B:
            return tokens, forced, step
    return tokens, forced, None


@pytest.mark.parametrize("think", [0, 1, 3])
def test_closing_tag_and_newline_are_forced_after_exactly_the_budget(think):
    tokens, forced, _ = run([OPEN] + [WORD] * 9, ThinkingBudget(think_tokens=think))
    assert tokens == [OPEN, *[WORD] * think, CLOSE, NEWLINE, *[WORD] * (7 - think)]
    assert np.flatnonzero(forced).tolist() == [1 + think, 2 + think]


def test_thought_that_closes_itself_within_a_large_budget_is_left_alone():
    sampled = [OPEN, WORD, CLOSE, WORD, WORD, WORD]
    assert run(sampled, ThinkingBudget(think_tokens=3)) == (sampled, [False] * 6, None)


@pytest.mark.parametrize(("think", "spent"), [(0, 5), (2, 7), (None, None)])
def test_answer_budget_starts_after_the_thought_and_counts_no_forced_token(think, spent):
    _, _, at = run([OPEN] + [WORD] * 9, ThinkingBudget(think_tokens=think, answer_tokens=3))
    assert at == spent


def test_nothink_response_has_only_the_answer_budget():
    tokens, forced, spent = run([WORD] * 6, ThinkingBudget(think_tokens=0, answer_tokens=4), phase=ANSWERING)
    assert (tokens, any(forced), spent) == ([WORD] * 4, False, 3)


def test_response_that_does_not_open_a_thought_is_bounded_as_one():
    tokens, forced, _ = run([WORD] * 6, ThinkingBudget(think_tokens=2))
    assert tokens == [WORD, WORD, CLOSE, NEWLINE, WORD, WORD] and sum(forced) == 2


def test_closing_tag_in_the_answer_part_changes_nothing():
    tokens, _, spent = run([OPEN, CLOSE, CLOSE, WORD, WORD], ThinkingBudget(think_tokens=1, answer_tokens=3))
    assert tokens == [OPEN, CLOSE, CLOSE, WORD, WORD] and spent == 4


def test_sequences_of_a_batch_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    streams = rng.choice([OPEN, CLOSE, NEWLINE, WORD], size=(50, 12), p=[0.1, 0.1, 0.1, 0.7])
    streams[:25, 0] = OPEN
    phases = rng.choice([OPENING, THINKING, ANSWERING], size=50)
    budgets = [ThinkingBudget(think_tokens=think) for think in rng.integers(0, 7, 50).tolist()]
    tracker = BudgetTracker(torch.from_numpy(phases), budgets, RULES)
    together = np.stack([tracker.step(torch.from_numpy(streams[:, t]))[0].numpy() for t in range(12)], axis=1)
    each = zip(streams, budgets, phases, strict=True)
    alone = [run(stream.tolist(), budget, phase=int(phase))[0] for stream, budget, phase in each]
    np.testing.assert_array_equal(together, alone)


def test_dropping_sequences_keeps_the_state_of_the_others():
    budgets = [ThinkingBudget(think_tokens=think) for think in (3, 0, 2)]
    tracker = BudgetTracker(torch.tensor([OPENING] * 3), budgets, RULES)
    tracker.step(torch.tensor([OPEN, OPEN, WORD]))
    tracker.step(torch.tensor([WORD, WORD, WORD]))
    tracker.keep(torch.tensor([0, 2]))
    tokens, forced, _ = tracker.step(torch.tensor([WORD, WORD]))
    assert tokens.tolist() == [WORD, CLOSE] and forced.tolist() == [False, True]


@pytest.mark.parametrize(
    ("prefill", "thinking", "phase"),
    [
        ("", True, OPENING),
        ("<think>\n", True, THINKING),
        ("<think></think>\n", False, ANSWERING),
        ("", False, ANSWERING),
    ],
)
def test_a_response_starts_where_its_prompt_left_it(prefill, thinking, phase):
    assert initial_phase(prefill, thinking=thinking) == phase


@pytest.mark.parametrize("think", [0, 5])
def test_engine_inserts_the_closing_tag_and_conditions_on_it(nano, renderer, root, think):
    messages = [{"role": "user", "content": "q"}]
    prompts = [renderer.prompt(messages, root=root, thinking=thinking) for thinking in (True, False)]
    engine = TransformersEngine(nano, renderer)
    engine._stop_ids = torch.tensor([-1])  # a random model would end at once; let every response run to its budget
    close, newline = renderer.special.encode("</think>\n")
    generator = torch.Generator().manual_seed(3)
    thinking, plain = engine.generate(
        prompts, 4, SamplingParams(max_new_tokens=40), ThinkingBudget(think, 6), generator=generator
    )
    for completion in thinking:
        at = int(completion.forced.argmax()) if completion.forced.any() else len(completion.forced)
        assert completion.finish_reason == "length" and len(completion.token_ids) <= 1 + think + 2 + 6
        if completion.forced.any():
            assert np.flatnonzero(completion.forced).tolist() == [at, at + 1]
            assert completion.token_ids[at : at + 2].tolist() == [close, newline]
            assert len(completion.token_ids) == at + 2 + 6
        assert (completion.logprobs[completion.forced] == 0).all()
        assert (completion.logprobs[~completion.forced] < 0).all()
    assert any(completion.forced.any() for completion in thinking)
    assert all(len(completion.token_ids) == 6 and not completion.forced.any() for completion in plain)
    assert all(completion.text.startswith("<think></think>\n") for completion in plain)


def test_prompts_of_one_call_may_have_budgets_of_their_own_and_groups_stream_as_their_waves_end(nano, renderer, root):
    prompts = [renderer.prompt([{"role": "user", "content": f"q{'?' * 9 * i}"}], root=root, thinking=True) for i in range(3)]
    engine = TransformersEngine(nano, renderer, max_batch=4)
    engine._stop_ids = torch.tensor([-1])
    budgets = [ThinkingBudget(think, 3) for think in (0, 4, 9)]
    sampling = SamplingParams(max_new_tokens=40)
    streamed = list(engine.stream(prompts, 4, sampling, budgets, generator=torch.Generator().manual_seed(3)))
    assert [index for index, _ in streamed] == [2, 1, 0]  # the longest prompts first
    for index, group in streamed:
        lengths = {len(completion.token_ids) for completion in group if completion.forced.any()}
        think = budgets[index].think_tokens
        assert lengths <= {think + 2 + 3, think + 1 + 2 + 3}  # with or without <think> itself
    whole = engine.generate(prompts, 4, sampling, budgets, generator=torch.Generator().manual_seed(3))
    for index, group in streamed:
        assert [one.token_ids.tolist() for one in group] == [one.token_ids.tolist() for one in whole[index]]
    with pytest.raises(ValueError, match="2 budgets for 3 prompts"):
        engine.generate(prompts, 1, sampling, budgets[:2], generator=torch.Generator())


def test_max_new_tokens_bounds_a_response_under_a_larger_budget(nano, renderer, root):
    prompt = renderer.prompt([{"role": "user", "content": "q"}], root=root, thinking=True)
    engine = TransformersEngine(nano, renderer)
    [drawn] = engine.generate(
        [prompt],
        8,
        SamplingParams(max_new_tokens=7),
        ThinkingBudget(100, 100),
        generator=torch.Generator().manual_seed(0),
    )
    assert max(len(completion.token_ids) for completion in drawn) == 7


@given(
    sampled=st.lists(st.sampled_from([OPEN, CLOSE, NEWLINE, WORD]), min_size=1, max_size=20),
    think=st.none() | st.integers(0, 5),
    answer=st.none() | st.integers(1, 5),
    phase=st.sampled_from([OPENING, THINKING, ANSWERING]),
)
def test_one_response_at_a_time_goes_the_way_of_the_batch(sampled, think, answer, phase):
    budget = ThinkingBudget(think, answer)
    tokens, forced, spent = run(sampled, budget, phase=phase)
    response, mine, flags = ResponseBudget(phase, budget, RULES), [], []
    for token in sampled:
        if response.spent:
            break
        due = response.due()
        mine.append(token if due is None else due)
        flags.append(response.push(mine[-1]))
    assert (mine, flags) == (tokens, forced)
    assert response.spent == (spent is not None)
    assert not response.spent or response.due() == 99


def test_forced_tokens_must_begin_with_the_closing_tag():
    with pytest.raises(ValueError, match="expected </think> \\(id 2\\) first"):
        BudgetTokens(OPEN, CLOSE, (NEWLINE,), end_id=99)
