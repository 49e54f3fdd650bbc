"""Attention of packs with shared prompts, against a dense mask in float64, and how its batches are cut."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rollout.attention import SharedPrompts, padded_batches

LENGTHS = [5, 150, 9, 3, 170, 2, 40, 7, 1, 190, 12, 160]
PROMPT_OF = [-1, 0, 0, 0, 0, -1, -1, 6, 6, 6, 0, 6]


def seen_pairs(lengths: list[int], prompt_of: list[int]) -> torch.Tensor:
    """Bool [T, T]: which token sees which, written out."""
    starts = np.cumsum([0, *lengths])
    seen = torch.zeros(starts[-1], starts[-1], dtype=torch.bool)
    for start, length, prompt in zip(starts, lengths, prompt_of, strict=False):
        seen[start : start + length, start : start + length] = torch.ones(length, length).tril().bool()
        if prompt >= 0:
            seen[start : start + length, starts[prompt] : starts[prompt] + lengths[prompt]] = True
    return seen


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_batches_of_unequal_responses_attend_as_a_dense_mask_does(kv_heads: int) -> None:
    assert len(padded_batches(LENGTHS, PROMPT_OF)) > 2, "the case is meant to be cut"
    generator = torch.Generator().manual_seed(0)
    tokens = sum(LENGTHS)
    q, k, v = (
        torch.randn(tokens, heads, 8, generator=generator, dtype=torch.float64, requires_grad=True)
        for heads in (4, kv_heads, kv_heads)
    )
    shared = SharedPrompts(torch.from_numpy(np.cumsum([0, *LENGTHS]).astype(np.int32)), torch.tensor(PROMPT_OF))
    found = shared.attend(q, k, v, scale=0.3)
    keys, values = (x.repeat_interleave(4 // kv_heads, 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, keys) * 0.3
    weights = scores.masked_fill(~seen_pairs(LENGTHS, PROMPT_OF), float("-inf")).softmax(-1)
    expected = torch.einsum("hqk,khd->qhd", weights, values)
    torch.testing.assert_close(found, expected)
    towards = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad(found, (q, k, v), towards), torch.autograd.grad(expected, (q, k, v), towards), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@st.composite
def packs(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Lengths and prompts of sequences: groups of a prompt and its responses."""
    lengths, prompt_of = [], []
    for _ in range(draw(st.integers(1, 5))):
        prompt = len(lengths)
        responses = draw(st.lists(st.integers(1, 600), max_size=9))
        lengths += [draw(st.integers(1, 900)), *responses]
        prompt_of += [-1, *[prompt] * len(responses)]
    return lengths, prompt_of


def computed_pairs(batches: list[list[int]], lengths: list[int], prompt_of: list[int]) -> int:
    def of(batch: list[int]) -> int:
        own = max(lengths[index] for index in batch)
        return len(batch) * own * (own + max(0 if prompt_of[index] < 0 else lengths[prompt_of[index]] for index in batch))

    return sum(of(batch) for batch in batches)


@given(packs())
def test_every_sequence_is_in_one_batch_of_its_kind_and_cuts_save_pairs(pack: tuple[list[int], list[int]]) -> None:
    lengths, prompt_of = pack
    batches = padded_batches(lengths, prompt_of)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    assert all(len({prompt_of[index] < 0 for index in batch}) == 1 for batch in batches)
    kinds = [[index for index, prompt in enumerate(prompt_of) if (prompt < 0) == alone] for alone in (True, False)]
    uncut = [kind for kind in kinds if kind]
    cuts = len(batches) - len(uncut)
    saved = computed_pairs(uncut, lengths, prompt_of) - computed_pairs(batches, lengths, prompt_of)
    assert saved > 16_384 * cuts or saved == cuts == 0


def test_like_lengths_and_small_packs_are_one_batch_of_each_kind() -> None:
    assert padded_batches([12, *[40] * 30], [-1, *[0] * 30]) == [[0], list(range(1, 31))]
    assert padded_batches([12, 3, 60, 5], [-1, 0, 0, 0]) == [[0], [1, 3, 2]]


def test_long_responses_do_not_pad_the_short_ones() -> None:
    assert padded_batches([12, 300, *[20] * 15, 310], [-1, *[0] * 17]) == [[0], list(range(2, 17)), [1, 17]]
