"""Settings of verl's training engine that SFT and RL share: attention, sharding and types, adapters, learning rate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from sft.checkpoint import resolve_model
from sft.config import LoraConfig
from sft.schedule import Schedule
from sft.verl_options import VerlTraining

_Section = TypeVar("_Section", bound=BaseModel)


def absolute(section: _Section, *paths: str) -> _Section:
    """The section with its fields `paths` as absolute paths: verl's processes have directories of their own."""
    found = {name: getattr(section, name) for name in paths}
    return section.model_copy(update={name: path.absolute() for name, path in found.items() if path is not None})


def located(model: str) -> str:
    """The directory of a checkpoint, of a run that of its last one; as it is named, if it is not there yet (--dry-run)."""
    try:
        return str(resolve_model(model).absolute())
    except FileNotFoundError:
        return str(Path(model).absolute())


def attention(verl: VerlTraining, device: str, dtype: str) -> str:
    """The attention that a trainer computes with."""
    return verl.attention or ("flash_attention_2" if device == "cuda" and dtype == "bfloat16" else "sdpa")


def fsdp_settings(verl: VerlTraining, dtype: str, seed: int) -> dict[str, Any]:
    """Sharding, types and off-loading of a training engine."""
    kinds = {"float32": "fp32", "bfloat16": "bf16"}
    return {
        "fsdp_size": verl.shard_size or -1,
        "ulysses_sequence_parallel_size": verl.sequence_parallel,
        "model_dtype": kinds[verl.master_dtype],
        "mixed_precision": {"param_dtype": kinds[dtype], "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
        "param_offload": verl.offload == "all",
        "optimizer_offload": verl.offload != "none",
        "seed": seed,
    }


def reference_settings(verl: VerlTraining, dtype: str, seed: int) -> dict[str, Any]:
    """The same of the reference policy's, which only computes: verl keeps its shards in main memory always."""
    return {name: value for name, value in fsdp_settings(verl, dtype, seed).items() if not name.endswith("_offload")}


def lora_settings(lora: LoraConfig | None) -> dict[str, Any]:
    """Adapters; their weights are merged before they go to vLLM."""
    if lora is None:
        return {}
    targets = {"target_modules": lora.targets if isinstance(lora.targets, list) else "all-linear"}  # which leaves out the head
    if lora.targets == "decoder":
        targets["exclude_modules"] = r"(.*\.)?visual\..*"
    return {"lora_rank": lora.rank, "lora_alpha": int(lora.alpha), "lora": {"merge": True}, **targets}


NAMED_SCHEDULES = ("constant", "cosine")
"""Those that verl's configuration has a name for; the others `rlcs.verl.schedule` gives to its workers."""


def schedule_settings(warmup_steps: int, min_lr_ratio: float) -> dict[str, Any]:
    """Linear warm-up, then a cosine down to this fraction of the peak; a fraction of 1 is a constant rate.

    `rlcs.verl.engine` counts its steps as `sft.schedule` does: verl's own begins at a rate of 0, which wastes a step, or is a
    step ahead after the warm-up.
    """
    return {"lr_scheduler_type": "cosine", "lr_warmup_steps": warmup_steps, "min_lr_ratio": min_lr_ratio}


@dataclass
class CosineSchedule:
    """What `sft.schedule` is told of one of `schedule_settings`; rates are fractions of the peak."""

    warmup_steps: int
    min_lr_ratio: float
    lr: float = 1.0
    schedule: Schedule = "cosine"
    decay_ratio: float = 0.0
