"""Settings of verl's training engine that SFT and RL share: attention, sharding and types, adapters, learning rate."""

from typing import Any

from sft.config import LoraConfig
from sft.verl_options import VerlTraining


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


def schedule_settings(warmup_steps: int, min_lr_ratio: float) -> dict[str, Any]:
    """Linear warm-up, then a cosine down to this fraction of the peak; a fraction of 1 is a constant rate.

    verl's own constant schedule begins at a rate of 0, which wastes a step. Counted from one, its cosine warms up as ours does
    and is then one step ahead of it; without warm-up it is ours.
    """
    return {
        "lr_scheduler_type": "cosine",
        "lr_warmup_steps": warmup_steps,
        "min_lr_ratio": min_lr_ratio,
        "zero_indexed_step": warmup_steps == 0,
    }
