"""`rlcs export RUN OUT`: the policy of a run as a Hugging Face directory, whichever engine trained it.

verl's FSDP engine leaves a file of shards for each rank, `global_step_N[/actor]/model_world_size_W_rank_R.pt`, with DTensors in
it. They are put together here tensor by tensor, in the dtype that is asked for, with LoRA adapters merged; verl's own merger
rounds everything to bfloat16 and leaves adapters beside it. Files are memory-mapped and read with `weights_only=True`: a
checkpoint runs no code of its. Neither verl nor a process group is needed.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.placement_types import Shard
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig

from rlcs.verl.translate import CHECKPOINTS
from sft.checkpoint import CHECKSUMS, OPTIMIZER, STATE
from sft.rundir import PARTIAL, RunDir, checkpoint_steps, fsync_directory

Dtype = Literal["float32", "bfloat16"]
_LATEST = "latest_checkpointed_iteration.txt"
_PEFT = "base_model.model."
_BASE, _A, _B = ".base_layer", ".lora_A.default.weight", ".lora_B.default.weight"


def export_run(run: Path, out: Path | None = None, *, dtype: Dtype | None = None) -> Path:
    """Writes the policy of the run's last checkpoint to `out`, or among the run's own checkpoints, and returns its directory.

    `dtype` is that of the weights; absent, of the run's configuration. A checkpoint of the local engine is copied without its
    training state. Raises FileNotFoundError for a directory without checkpoints, FileExistsError for an `out` that holds files.
    """
    trained = _verl_step(run)
    local = RunDir(run).last_checkpoint()
    if trained is None and local is None:
        raise FileNotFoundError(
            f"{run}: it holds no checkpoint; expected {CHECKPOINTS}/global_step_N or checkpoints/step-NNNNNN"
        )
    if trained is not None:
        own = RunDir(run).checkpoint_path(trained)
        if own.is_dir() and out is None:
            return own
        shards = run / CHECKPOINTS / f"global_step_{trained}"
        actor = shards / "actor"
        return merge_checkpoint(actor if actor.is_dir() else shards, out or own, dtype=dtype or _dtype_of(run))
    assert local is not None
    if out is None:
        return local
    if dtype is not None:
        raise ValueError("dtype is for checkpoints of verl's; a checkpoint of the local engine is copied as it is")
    return _written(out, lambda partial: _copy(local, partial))


def saved_steps(run: Path) -> int:
    """How many steps the run's last checkpoint has behind it; 0 without one."""
    trained, local = _verl_step(run), RunDir(run).last_checkpoint()
    if trained is not None:
        return trained
    return checkpoint_steps(local) if local else 0


def merge_checkpoint(shards: Path, out: Path, *, dtype: Dtype | None = None) -> Path:
    """Puts the shards of one FSDP checkpoint together as the Hugging Face directory `out`, in `dtype` or as they are stored."""
    described = shards / "huggingface"
    weights = merged_weights(shards, None if dtype is None else getattr(torch, dtype))
    config = AutoConfig.from_pretrained(described)
    family = AutoModelForCausalLM if getattr(config, "vision_config", None) is None else AutoModelForImageTextToText
    with torch.device("meta"):
        model = family.from_config(config)
    _assign(model, weights, shards)
    if (described / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(described)

    def write(partial: Path) -> None:
        for file in described.iterdir():  # tokenizer and processor
            shutil.copy2(file, partial / file.name)
        model.save_pretrained(partial)

    return _written(out, write)


def merged_weights(shards: Path, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """The whole tensors of a checkpoint, by the names of the model without adapters; parameters in `dtype`."""
    ranks = _load_ranks(shards)
    whole = {name: _whole(name, [rank[name] for rank in ranks]) for name in ranks[0]}
    lora = shards / "lora_train_meta.json"
    if lora.is_file():
        meta = json.loads(lora.read_text(encoding="utf-8"))
        whole = _without_adapters(whole, float(meta["lora_alpha"]) / int(meta["r"]))
    sharded = {_plain(name) for name, value in ranks[0].items() if isinstance(value, DTensor)}
    return {name: value.to(dtype) if name in sharded and dtype is not None else value for name, value in whole.items()}


def _load_ranks(shards: Path) -> list[Mapping[str, torch.Tensor]]:
    """State dicts of the ranks that hold one copy of the weights together."""
    described = shards / "fsdp_config.json"
    if not described.is_file():
        raise FileNotFoundError(f"{shards}: no fsdp_config.json; expected a checkpoint of verl's FSDP engine")
    world = int(json.loads(described.read_text(encoding="utf-8"))["world_size"])

    def load(rank: int) -> Mapping[str, torch.Tensor]:
        path = shards / f"model_world_size_{world}_rank_{rank}.pt"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing, one of {world}; copy the checkpoint's files from all nodes to one place"
            )
        found: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        return found

    first = load(0)
    meshes = {value.device_mesh.mesh.shape[-1] for value in first.values() if isinstance(value, DTensor)}
    return [first, *(load(rank) for rank in range(1, max(meshes, default=1)))]


def _whole(name: str, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """One tensor from what each rank holds of it."""
    first = parts[0]
    if not isinstance(first, DTensor):
        return first
    placement = first.placements[-1]  # of a mesh (copies, shards) the last
    local = [part.to_local() for part in parts if isinstance(part, DTensor)]
    found = torch.cat(local, placement.dim) if isinstance(placement, Shard) else local[0]
    if found.shape != first.shape:
        raise ValueError(f"{name}: its {len(parts)} shards make {tuple(found.shape)}, expected {tuple(first.shape)}")
    return found


def _without_adapters(weights: Mapping[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """W + scale * B A for every adapted layer, computed in float32."""
    plain: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        if name.endswith((_A, _B)):
            continue
        layer = name.removesuffix(".weight").removesuffix(_BASE)
        if name.endswith(f"{_BASE}.weight"):
            change = weights[f"{layer}{_B}"].float() @ weights[f"{layer}{_A}"].float()
            value = (value.float() + scale * change).to(value.dtype)
        plain[_plain(name)] = value
    return plain


def _plain(name: str) -> str:
    return name.removeprefix(_PEFT).replace(f"{_BASE}.", ".")


def _assign(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], shards: Path) -> None:
    """Gives a model on the meta device its weights; computed buffers stay there, since they are not saved."""
    faults = model.load_state_dict(dict(weights), strict=False, assign=True)
    tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
    missing = [name for name in faults.missing_keys if name not in tied]
    if missing or faults.unexpected_keys:
        raise ValueError(
            f"{shards}: its weights are not those of the model beside them (huggingface/config.json); missing {missing[:3]}, "
            f"unexpected {faults.unexpected_keys[:3]}"
        )
    tie: Any = model
    tie.tie_weights()


def _verl_step(run: Path) -> int | None:
    """The step of verl's last complete checkpoint."""
    latest = run / CHECKPOINTS / _LATEST
    if not latest.is_file():
        return None
    found = re.fullmatch(r"\s*(\d+)\s*", latest.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{latest}: found {latest.read_text(encoding='utf-8')[:40]!r}; expected the number of a step")
    return int(found[1])


def _dtype_of(run: Path) -> Dtype | None:
    path = run / "config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))["dtype"] if path.is_file() else None


def _copy(checkpoint: Path, out: Path) -> None:
    for file in checkpoint.iterdir():
        if file.name in (OPTIMIZER, STATE, CHECKSUMS):
            continue
        shutil.copytree(file, out / file.name) if file.is_dir() else shutil.copy2(file, out / file.name)


def _written(out: Path, write: Any) -> Path:
    """The directory `out` with what `write` puts into it, whole or not at all."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there already; name a directory that is not, or remove it")
    partial = out.with_name(out.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    if out.exists():
        out.rmdir()
    partial.rename(out)
    fsync_directory(out.parent)
    return out
