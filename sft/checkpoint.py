"""Checkpoints: a Hugging Face directory that any tool loads, with the optimiser's and the trainer's state beside it.

    config.json  model.safetensors  tokenizer and processor files  |  optimizer.pt  state.pt  adapter/

What stands to the right is needed to resume only. The .pt files are read with `weights_only=True`: loading a checkpoint runs no
code of its. Of a model with LoRA adapters, model.safetensors holds the merged weights and adapter/ the adapters, as peft does.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from rollout.lora import ADAPTER, has_adapters, plain_state_dict, save_adapters
from sft.rundir import PARTIAL, RunDir, fsync_directory

OPTIMIZER, STATE = "optimizer.pt", "state.pt"
_ARRAY = "__numpy__"


def save_checkpoint(
    path: Path, model: PreTrainedModel, processor: Any, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
) -> Path:
    """Writes a checkpoint that is at `path` in full when this returns, and not at all should the process die before.

    `state` is a tree of dicts, lists and tuples of numbers, strings, None, NumPy arrays and tensors; anything else is a
    TypeError that names its place. A checkpoint already at `path` is replaced.
    """
    partial = path.with_name(path.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with _no_progress_bars():
        model.save_pretrained(partial, state_dict=plain_state_dict(model) if has_adapters(model) else None)
        processor.save_pretrained(partial)
    if has_adapters(model):
        save_adapters(model, partial / ADAPTER)
    torch.save(optimizer.state_dict(), partial / OPTIMIZER)
    torch.save(_to_saved(state, "state"), partial / STATE)
    _fsync_tree(partial)
    if path.exists():
        replaced = path.rename(path.with_name(f"{path.name}.replaced{PARTIAL}"))
        partial.rename(path)
        shutil.rmtree(replaced)
    else:
        partial.rename(path)
    fsync_directory(path.parent)
    return path


def load_training_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(optimiser state_dict, state) of a checkpoint. Raises FileNotFoundError for a directory that holds a model only."""
    for name in (OPTIMIZER, STATE):
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"{path} holds no {name}: it can be the model of a new run, but not be resumed from; name it as `model`"
            )
    optimizer = torch.load(path / OPTIMIZER, map_location="cpu", weights_only=True)
    return optimizer, _from_saved(torch.load(path / STATE, map_location="cpu", weights_only=True))


def resolve_model(path: str | Path) -> Path:
    """The Hugging Face directory that `path` means: itself, or the last checkpoint of a run directory.

    Raises FileNotFoundError where there is neither.
    """
    path = Path(path)
    if (path / "config.json").is_file():
        return path
    checkpoint = RunDir(path).last_checkpoint()
    if checkpoint is not None:
        return checkpoint
    found = "it holds neither config.json nor checkpoints/step-NNNNNN" if path.is_dir() else "there is no such directory"
    raise FileNotFoundError(
        f"{path}: {found}; expected a Hugging Face checkpoint or a run directory with one. A model of the Hub is fetched by "
        "`hf download NAME --local-dir DIR`"
    )


def _to_saved(value: Any, where: str) -> Any:
    """`value` in the types that `torch.load(weights_only=True)` takes: arrays become marked tensors."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise TypeError(f"{where}: an array of dtype {value.dtype}; expected numbers or booleans")
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value).copy())}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _to_saved(inner, f"{where}[{key!r}]") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_saved(inner, f"{where}[{place}]") for place, inner in enumerate(value))
    if value is None or isinstance(value, bool | int | float | str | torch.Tensor):
        return value
    raise TypeError(f"{where}: a {type(value).__name__}; expected dicts, lists, tuples, numbers, strings, arrays or tensors")


def _from_saved(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return value[_ARRAY].numpy()
        return {key: _from_saved(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_from_saved(inner) for inner in value)
    return value


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keeps transformers from drawing a bar of its own over the run's."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _fsync_tree(root: Path) -> None:
    for directory, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(Path(directory, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_directory(Path(directory))
