"""Passes side by side: the same gradients, bit for bit again, and when they are not taken."""

import threading
from collections.abc import Iterator

import pytest
import torch
from transformers import PreTrainedModel

from sft.lanes import Backward, Lanes, plan_lanes, run_passes


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


PACKS = [(0, 5), (5, 6), (6, 14), (14, 17), (17, 29)]
LENGTHS = [last - first for first, last in PACKS]


def gradients(model: PreTrainedModel, lanes: int, times: int = 1) -> tuple[list[int], dict[str, torch.Tensor]]:
    """(what the passes return, the gradients); each pass is a few tokens of a fixed text."""
    ids = torch.randint(0, 256, (29,), generator=torch.Generator().manual_seed(0))

    def one_pass(pack: tuple[int, int], backward: Backward) -> int:
        logits = model(input_ids=ids[None, slice(*pack)]).logits
        backward(torch.log_softmax(logits, -1)[..., 0].sum())
        return pack[0]

    model.zero_grad(set_to_none=True)
    for _ in range(times):
        found = run_passes(model, PACKS, LENGTHS, one_pass, lanes)
    return found, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("lanes", [2, 3, 4])
def test_gradients_are_those_of_one_pass_after_another(tiny: PreTrainedModel, lanes: int) -> None:
    expected_order, expected = gradients(tiny, 1)
    order, found = gradients(tiny, lanes)
    assert order == expected_order == [0, 5, 6, 14, 17]
    assert found.keys() == expected.keys() and not any("visual" in name for name in found)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max()))


def test_the_same_lanes_give_the_same_bits(tiny: PreTrainedModel) -> None:
    _, first = gradients(tiny, 3)
    for _ in range(5):
        _, again = gradients(tiny, 3)
        assert all(torch.equal(again[name], first[name]) for name in first)


def test_gradients_are_added_to_those_that_are_there(tiny: PreTrainedModel) -> None:
    _, once = gradients(tiny, 2)
    _, twice = gradients(tiny, 2, times=2)
    for name, gradient in once.items():
        torch.testing.assert_close(twice[name], 2 * gradient)


def test_a_gradient_is_nobody_elses() -> None:
    """Autograd may return one tensor for two parameters; the clip then scales it twice unless each has its own."""
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(3)) for _ in range(2)])
    run_passes(model, [0, 1], [1, 1], lambda _, backward: backward((model[0] + model[1]).sum()), 2)  # type: ignore[arg-type]
    first, second = (parameter.grad for parameter in model)
    assert first is not None and second is not None
    first.mul_(0.5)
    assert first.tolist() == [1.0] * 3 and second.tolist() == [2.0] * 3


def test_lanes_share_the_threads_and_give_them_back(tiny: PreTrainedModel) -> None:
    """Two passes wait for each other: they run at once, each on half of the threads."""
    together, seen = threading.Barrier(2, timeout=60), []

    def one_pass(_: int, backward: Backward) -> None:
        together.wait()
        seen.append(torch.get_num_threads())
        backward(tiny.get_input_embeddings().weight.sum())

    run_passes(tiny, [0, 1], [1, 1], one_pass, 2)
    assert seen == [2, 2] and torch.get_num_threads() == 4


def test_an_error_of_a_pass_is_raised_and_leaves_no_gradient(tiny: PreTrainedModel) -> None:
    def one_pass(pack: int, backward: Backward) -> None:
        if pack == 1:
            raise MemoryError("pack 1")
        backward(tiny.get_input_embeddings().weight.sum())

    with pytest.raises(MemoryError, match="pack 1"):
        run_passes(tiny, [0, 1, 2], [1, 1, 1], one_pass, 2)
    assert torch.get_num_threads() == 4
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_as_many_lanes_as_hold_the_longest_unit(tiny: PreTrainedModel) -> None:
    assert plan_lanes(tiny, 1000, lambda _: [200] * 8) == Lanes(4, 250)
    assert plan_lanes(tiny, 1000, lambda _: [300] + [200] * 8) == Lanes(3, 333)
    assert plan_lanes(tiny, 1000, lambda _: [600] + [200] * 8) == Lanes(1, 1000)
    assert plan_lanes(tiny, 1000, lambda _: [200, 200]) == Lanes(2, 500), "more lanes than passes"


def test_prompts_are_computed_anew_only_where_that_is_a_twentieth(tiny: PreTrainedModel) -> None:
    """Groups of 600 tokens, cut in two for any smaller budget with their prompt in each half; no sequence has above 300."""

    def cut(prompt: int, budget: int) -> list[int]:
        if not budget:
            return [300] * 8
        return [600] * 4 if budget >= 600 else [300 + prompt // 2] * 8

    assert plan_lanes(tiny, 1000, lambda budget: cut(30, budget)) == Lanes(3, 333)
    assert plan_lanes(tiny, 1000, lambda budget: cut(40, budget)) == Lanes(1, 1000)


def test_one_lane_for_large_gradients_and_for_dropout(tiny: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(parameter.numel() * 4 for parameter in tiny.parameters())
    monkeypatch.setattr("sft.lanes.LARGE", 2 * size)
    assert plan_lanes(tiny, 1000, lambda _: [200] * 8) == Lanes(3, 333)
    monkeypatch.setattr("sft.lanes.LARGE", size - 1)
    assert plan_lanes(tiny, 1000, lambda _: [200] * 8) == Lanes(1, 1000)
    monkeypatch.undo()
    tiny.add_module("drop", torch.nn.Dropout(0.1))
    assert plan_lanes(tiny, 1000, lambda _: [200] * 8) == Lanes(1, 1000)
