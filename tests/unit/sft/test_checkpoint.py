"""Checkpoints: loadable by plain transformers, exact, safe to load, whole or absent."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from rollout.attention import VARLEN
from rollout.chat import ChatRenderer
from sft.checkpoint import OPTIMIZER, STATE, load_training_state, resolve_model, save_checkpoint
from sft.rundir import RunDir


@pytest.fixture
def trained(tiny: PreTrainedModel) -> tuple[PreTrainedModel, torch.optim.AdamW]:
    """A model set up for training, and its optimiser after one update."""
    tiny.config._attn_implementation = VARLEN
    optimizer = torch.optim.AdamW(tiny.parameters(), lr=1e-3, fused=True)
    sum(parameter.square().sum() for parameter in tiny.parameters()).backward()
    optimizer.step()
    return tiny, optimizer


def save(path: Path, trained: tuple[PreTrainedModel, torch.optim.AdamW], renderer: ChatRenderer, state: dict[str, Any]) -> Path:
    model, optimizer = trained
    return save_checkpoint(path, model, renderer.processor, optimizer, state)


def test_a_checkpoint_loads_in_plain_transformers_without_our_attention(
    tmp_path: Path, trained: tuple[PreTrainedModel, torch.optim.AdamW], renderer: ChatRenderer
) -> None:
    path = save(tmp_path / "step-000001", trained, renderer, {})
    assert not any(VARLEN in file.read_text() for file in path.glob("*.json"))
    assert trained[0].config._attn_implementation == VARLEN
    model, processor = AutoModelForImageTextToText.from_pretrained(path), AutoProcessor.from_pretrained(path)
    assert model.config._attn_implementation == "sdpa"
    expected = trained[0].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    chat = [{"role": "user", "content": "1+1"}]
    assert processor.apply_chat_template(chat, tokenize=False) == "[gMASK]<sop><|user|>\n1+1"


def test_the_training_state_comes_back_exactly(
    tmp_path: Path, trained: tuple[PreTrainedModel, torch.optim.AdamW], renderer: ChatRenderer
) -> None:
    rng = np.random.default_rng(3)
    state = {
        "step": 7,
        "rng": rng.bit_generator.state,
        "old rng": np.random.RandomState(0).get_state(legacy=False),
        "torch": torch.Generator().manual_seed(1).get_state(),
        "arrays": [np.arange(3, dtype=np.int8), np.array([[0.1, np.nan]], np.float32), np.array([True, False])],
        "none": None,
        "pair": (1, "two"),
        "scalar": np.float64(0.1),
        "large": 2**120 + 1,
        3: {"nested": np.zeros((0, 2))},
    }
    optimizer, found = load_training_state(save(tmp_path / "c", trained, renderer, state))
    assert torch.equal(found.pop("torch"), state.pop("torch"))
    np.testing.assert_equal(found, state)
    assert [array.dtype for array in found["arrays"]] == [np.int8, np.float32, np.bool_]
    assert isinstance(found["pair"], tuple)
    restored = np.random.default_rng(0)
    restored.bit_generator.state = found["rng"]
    assert restored.integers(1 << 60) == np.random.default_rng(3).integers(1 << 60)
    fresh = torch.optim.AdamW(trained[0].parameters(), lr=1e-3, fused=True)
    fresh.load_state_dict(optimizer)
    for one, other in zip(trained[1].state.values(), fresh.state.values(), strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_state_of_which_a_part_came_from_a_checkpoint_is_the_same_bytes(
    tmp_path: Path, trained: tuple[PreTrainedModel, torch.optim.AdamW], renderer: ChatRenderer
) -> None:
    """Its names are then other objects than the program's, which pickle tells apart."""
    first = save(tmp_path / "step-000001", trained, renderer, {"step": 1, "name": "kind", "inner": {"step": 2, "kind": "name"}})
    inner = load_training_state(first)[1]["inner"]
    second = save(tmp_path / "step-000002", trained, renderer, {"step": 1, "name": "kind", "inner": inner})
    assert (first / STATE).read_bytes() == (second / STATE).read_bytes()


@pytest.mark.parametrize("value", [object(), {"a": np.array(["text"])}, [{1, 2}]])
def test_state_that_cannot_be_saved_safely_is_refused_by_its_place_and_leaves_no_checkpoint(
    tmp_path: Path, trained: tuple[PreTrainedModel, torch.optim.AdamW], renderer: ChatRenderer, value: Any
) -> None:
    with pytest.raises(TypeError, match=r"state\['x'\]"):
        save(tmp_path / "checkpoints" / "step-000001", trained, renderer, {"x": value})
    assert RunDir(tmp_path).last_checkpoint() is None


@pytest.mark.parametrize("name", [OPTIMIZER, STATE])
def test_loading_runs_no_code_of_the_checkpoint(
    tmp_path: Path, trained: tuple[PreTrainedModel, torch.optim.AdamW], renderer: ChatRenderer, name: str
) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "touched",)

    path = save(tmp_path / "c", trained, renderer, {})
    torch.save({"step": Hostile()}, path / name)
    with pytest.raises(pickle.UnpicklingError):
        load_training_state(path)
    assert not (tmp_path / "touched").exists()


def test_an_interrupted_checkpoint_is_ignored_and_does_not_hinder_the_next(
    tmp_path: Path, trained: tuple[PreTrainedModel, torch.optim.AdamW], renderer: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path)
    first = save(run.checkpoint_path(1), trained, renderer, {"step": 1})

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            save(run.checkpoint_path(2), trained, renderer, {"step": 2})
    assert run.last_checkpoint() == first
    second = save(run.checkpoint_path(2), trained, renderer, {"step": 2})
    assert run.last_checkpoint() == second and load_training_state(second)[1] == {"step": 2}


def test_a_checkpoint_of_the_same_step_is_replaced(
    tmp_path: Path, trained: tuple[PreTrainedModel, torch.optim.AdamW], renderer: ChatRenderer
) -> None:
    run = RunDir(tmp_path)
    for value in (1, 2):
        save(run.checkpoint_path(1), trained, renderer, {"value": value})
    assert load_training_state(run.checkpoint_path(1))[1] == {"value": 2}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def test_a_model_without_training_state_cannot_be_resumed(base: Path) -> None:
    with pytest.raises(FileNotFoundError, match="name it as `model`"):
        load_training_state(base)


def test_resolve_model_takes_a_checkpoint_or_a_run_directory(
    tmp_path: Path, base: Path, trained: tuple[PreTrainedModel, torch.optim.AdamW], renderer: ChatRenderer
) -> None:
    assert resolve_model(base) == base
    last = save(RunDir(tmp_path).checkpoint_path(5), trained, renderer, {})
    save(RunDir(tmp_path).checkpoint_path(4), trained, renderer, {})
    assert resolve_model(str(tmp_path)) == last


@pytest.mark.parametrize(("name", "found"), [("", "neither config.json nor"), ("missing", "no such directory")])
def test_resolve_model_names_what_it_found_instead(tmp_path: Path, name: str, found: str) -> None:
    with pytest.raises(FileNotFoundError, match=found):
        resolve_model(tmp_path / name)
