"""Checkpoints: a Hugging Face directory that any tool loads, with the optimiser's and the trainer's state beside it.

    config.json  model.safetensors  tokenizer and processor files  |  optimizer.pt  state.pt  adapter/  checksums.json

What stands to the right is needed to resume only. checksums.json, written last, holds size and CRC-32 of every other file: a
resumed run does not go on from a checkpoint that a disk or a copy has damaged (`sound_checkpoint`). The .pt files are read with
`weights_only=True`: loading a checkpoint runs no code of its. Of a model with LoRA adapters, model.safetensors holds the merged
weights and adapter/ the adapters, as peft does.
"""

import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from rollout.lora import ADAPTER, has_adapters, plain_state_dict, save_adapters
from sft.rundir import PARTIAL, RunDir, fsync_directory
from sft.storage import explained_write

OPTIMIZER, STATE, CHECKSUMS = "optimizer.pt", "state.pt", "checksums.json"
_ARRAY = "__numpy__"
_BLOCK = 1 << 22


class DamagedCheckpointError(ValueError):
    """A checkpoint's files are not those that were written; the message names the first such file and what is wrong with it."""


def save_checkpoint(
    path: Path, model: PreTrainedModel, processor: Any, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
) -> Path:
    """Writes a checkpoint that is at `path` in full when this returns, and not at all should the process die before.

    `state` is a tree of dicts, lists and tuples of numbers, strings, None, NumPy arrays and tensors; anything else is a
    TypeError that names its place. A checkpoint already at `path` is replaced.
    """
    partial = path.with_name(path.name + PARTIAL)
    before = "; the checkpoints before it are whole, and --resume goes on from the last of them"
    try:
        with explained_write(path, before):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _write(partial, model, processor, optimizer, state)
            replaced = path.rename(path.with_name(f"{path.name}.replaced{PARTIAL}")) if path.exists() else None
            partial.rename(path)
            fsync_directory(path.parent)
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)  # a full disk needs its space
        raise
    if replaced is not None:
        shutil.rmtree(replaced)
    return path


def _write(
    partial: Path, model: PreTrainedModel, processor: Any, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
) -> None:
    with _no_progress_bars():
        model.save_pretrained(partial, state_dict=plain_state_dict(model) if has_adapters(model) else None)
        processor.save_pretrained(partial)
    if has_adapters(model):
        save_adapters(model, partial / ADAPTER)
    for name, content in ((OPTIMIZER, optimizer.state_dict()), (STATE, _to_saved(state, "state"))):
        with (partial / name).open("wb") as file:  # to a name, torch.save would not say what the system said
            torch.save(content, file)
    sums = {name: [file.stat().st_size, _crc32(file)] for name, file in _files(partial).items()}
    (partial / CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
    _fsync_tree(partial)


def verify_checkpoint(path: Path, *, contents: bool = True) -> None:
    """Raises DamagedCheckpointError unless the files of a checkpoint are those that were written; with `contents` False only
    the sizes of the weights are looked at, and files may be missing.

    Reads every byte. What it finds is damage; CRC-32 is no guard against intent.
    """
    try:
        sums = {name: (int(size), int(crc)) for name, (size, crc) in json.loads((path / CHECKSUMS).read_bytes()).items()}
    except FileNotFoundError as error:
        if not contents:
            return
        raise DamagedCheckpointError(
            f"{path / CHECKSUMS} is missing, so the checkpoint is not whole: an unfinished copy, perhaps"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{path / CHECKSUMS} cannot be read ({error})") from error
    there = _files(path)
    for name, (size, crc) in sums.items():
        if not contents and (name not in there or not name.endswith(".safetensors")):
            continue
        if name not in there:
            raise DamagedCheckpointError(f"{path / name} is missing")
        if (found := there[name].stat().st_size) != size:
            raise DamagedCheckpointError(f"{path / name} has {found:,} bytes; {size:,} were written")
        if contents and _crc32(there[name]) != crc:
            raise DamagedCheckpointError(f"{path / name} holds other bytes than were written (their CRC-32 differs)")


def sound_checkpoint(run: RunDir, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint of a run that is undamaged; None for a run without any checkpoint.

    Damaged ones that are newer are set aside under another name, and `say` is told. Raises DamagedCheckpointError where there
    are checkpoints but none is sound: to begin anew is for a person to decide.
    """
    found = run.checkpoints()
    faults: list[tuple[Path, DamagedCheckpointError]] = []
    for path in found:
        try:
            verify_checkpoint(path)
        except DamagedCheckpointError as error:
            faults.append((path, error))
            continue
        for damaged, fault in faults:
            aside = run.set_aside(damaged)
            say(
                f"checkpoint damaged: {fault}. It is kept as {aside.name}, and the run goes on from {path.name} instead; the "
                "steps between are done again, to the same results"
            )
        return path
    if not found:
        return None
    raise DamagedCheckpointError(
        f"{run.path} holds no checkpoint to go on from: {'; '.join(str(fault) for _, fault in faults)}. Bring back a copy, or "
        "begin anew in another directory; to begin anew in this one, delete its checkpoints"
    )


def load_training_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(optimiser state_dict, state) of a checkpoint. Raises FileNotFoundError for a directory that holds a model only."""
    return _load(path, OPTIMIZER), load_state(path)


def load_state(path: Path) -> dict[str, Any]:
    """The state that a checkpoint was saved with, without the optimiser's."""
    state: dict[str, Any] = _from_saved(_load(path, STATE))
    return state


def _load(path: Path, name: str) -> Any:
    if not (path / name).is_file():
        raise FileNotFoundError(
            f"{path} holds no {name}: it can be the model of a new run, but not be resumed from; name it as `model`"
        )
    return torch.load(path / name, map_location="cpu", weights_only=True)


def resolve_model(path: str | Path) -> Path:
    """The Hugging Face directory that `path` means: itself, or the last checkpoint of a run directory.

    Raises FileNotFoundError where there is neither, DamagedCheckpointError where a file of it has been cut short.
    """
    path = Path(path)
    checkpoint = path if (path / "config.json").is_file() else RunDir(path).last_checkpoint()
    if checkpoint is not None:
        verify_checkpoint(checkpoint, contents=False)
        return checkpoint
    found = "it holds neither config.json nor checkpoints/step-NNNNNN" if path.is_dir() else "there is no such directory"
    raise FileNotFoundError(
        f"{path}: {found}; expected a Hugging Face checkpoint or a run directory with one. A model of the Hub is fetched by "
        "`hf download NAME --local-dir DIR`"
    )


def _to_saved(value: Any, where: str) -> Any:
    """`value` in the types that `torch.load(weights_only=True)` takes: arrays become marked tensors.

    Equal strings become one object: pickle writes an object that it meets again as a reference, and after a resume names that
    came from a file are other objects than those of the program. Equal states must be equal bytes.
    """
    if isinstance(value, str):
        return sys.intern(str(value))
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise TypeError(f"{where}: an array of dtype {value.dtype}; expected numbers or booleans")
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value).copy())}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {_to_saved(key, where): _to_saved(inner, f"{where}[{key!r}]") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_saved(inner, f"{where}[{place}]") for place, inner in enumerate(value))
    if value is None or isinstance(value, bool | int | float | torch.Tensor):
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


def _files(root: Path) -> dict[str, Path]:
    """The files of a checkpoint by their names in it, checksums.json left out."""
    found = {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
    found.pop(CHECKSUMS, None)
    return found


def _crc32(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found = zlib.crc32(block, found)
    return found


def _fsync_tree(root: Path) -> None:
    for directory, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(Path(directory, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_directory(Path(directory))
