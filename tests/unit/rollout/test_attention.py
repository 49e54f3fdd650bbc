"""Attention of packs with shared prompts, against a dense mask in float64, and how its batches are cut."""

import copy
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from rollout.attention import VARLEN, SharedPrompts, padded_batches
from rollout.forward import hidden_states, pack_groups
from rollout.kept import KeptRows, _Kept

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


def kept_bytes(shared: SharedPrompts, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[int, torch.Tensor]:
    """(bytes of numbers that autograd holds of a call beside its inputs and its result, the result)."""
    held: list[_Kept] = []
    keepers: list[KeptRows] = []
    outer = torch.autograd.graph.saved_tensors_hooks(lambda x: held.append(_Kept(x)) or held[-1], _Kept.get)  # type: ignore[func-returns-value]
    hooks = KeptRows.hooks

    def hooks_seen(self: KeptRows) -> torch.autograd.graph.saved_tensors_hooks:
        keepers.append(self)
        return hooks(self)

    with pytest.MonkeyPatch.context() as patch, outer:
        patch.setattr(KeptRows, "hooks", hooks_seen)
        out = shared.attend(q, k, v, scale=0.3)
    held += [kept for keeper in keepers for kept in keeper._kept]
    numbers = [kept.tensor.untyped_storage() for kept in held if kept.tensor.is_floating_point()]
    storages = {storage.data_ptr(): storage.nbytes() for storage in numbers}
    for known in (q, k, v, out):
        storages.pop(known.untyped_storage().data_ptr(), None)
    return sum(storages.values()), out


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_copies_made_again_give_the_same_bits_and_are_not_kept(kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths, prompt_of = [60, 9, 3, 20, 12, 40, 5, 7, 7, 16], [-1, 0, 0, 0, 0, -1, 5, 5, 5, -1]
    q, k, v = (torch.randn(sum(lengths), n, 8, generator=generator, requires_grad=True) for n in (4, kv_heads, kv_heads))
    cu_seqlens = torch.from_numpy(np.cumsum([0, *lengths]).astype(np.int32))
    kept, gradients = {}, {}
    for again in (False, True):
        shared = SharedPrompts(cu_seqlens, torch.tensor(prompt_of), gather_again=again)
        kept[again], out = kept_bytes(shared, q, k, v)
        gradients[again] = torch.autograd.grad(out.square().sum(), (q, k, v))
    for mine, theirs in zip(gradients[True], gradients[False], strict=True):
        assert torch.equal(mine, theirs)
    masks = sum(batch.seen.numel() * 4 for batch in shared._batches if batch.seen is not None)
    normalisers = sum(batch.rows.numel() * 4 * 4 for batch in shared._batches)
    assert kept[True] <= masks + normalisers < kept[False] / 1.5


def test_packs_with_few_repeated_rows_keep_their_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeptRows, "hooks", lambda self: pytest.fail("copies of a short prompt are made again"))
    lengths = [4, 20, 20, 20]
    shared = SharedPrompts(
        torch.from_numpy(np.cumsum([0, *lengths]).astype(np.int32)), torch.tensor([-1, 0, 0, 0]), gather_again=True
    )
    q, k, v = (torch.randn(sum(lengths), 2, 8, requires_grad=True) for _ in range(3))
    shared.attend(q, k, v, scale=0.3).sum().backward()


@dataclass(frozen=True)
class Conversation:
    """What packing needs of one."""

    input_ids: np.ndarray

    @property
    def position_ids(self) -> np.ndarray:
        return np.broadcast_to(np.arange(len(self.input_ids)), (3, len(self.input_ids)))

    media = ()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_models_gradients_are_the_same_bits_and_checkpointing_keeps_its_own(
    llama: LlamaForCausalLM, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one of the two may hook what autograd keeps; both give the gradients of a pass that keeps everything."""
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, 200, 30)
    packed = pack_groups([(30, [Conversation(np.r_[prompt, rng.integers(0, 200, 5 + n)]) for n in range(6)])]).inputs
    model, used = copy.deepcopy(llama).train(), []
    model.config._attn_implementation = VARLEN

    def gradients() -> list[torch.Tensor]:
        model.zero_grad(set_to_none=True)
        hidden_states(model, packed).square().sum().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    hooks = KeptRows.hooks
    monkeypatch.setattr("rollout.attention._REPEATED", 1e9)
    expected = gradients()
    monkeypatch.undo()
    monkeypatch.setattr(KeptRows, "hooks", lambda self: used.append(self) or hooks(self))
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found = gradients()
    assert bool(used) is not checkpointing
    assert len(found) == len(expected) and all(map(torch.equal, found, expected))
