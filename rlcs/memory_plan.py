"""How much memory a run will hold, from config.json alone: for `--dry-run`. The sizes of its parts are `rlcs.memory_model`'s.

Weights, gradients and optimiser stay. What a pass needs (activations, logits, vision tower) and what the transformers engine
needs while it generates (cache, sampling) take turns, so the larger of the two counts; vLLM's share of a GPU stays reserved.
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from transformers import AutoConfig, PretrainedConfig

from rlcs.memory_model import (
    Architecture,
    Trained,
    activation_bytes,
    cache_bytes,
    logit_bytes,
    sampling_bytes,
    vision_bytes,
)
from rlcs.rl_config import RlConfig
from sft.checkpoint import resolve_model
from sft.config import SftConfig

DESCRIPTIONS = Path(__file__).resolve().parent.parent / "configs" / "models"
"""Configurations, without weights, of models that a user may not have fetched yet."""

NOMINAL_GPU = 79 << 30  # what an "80 GB" card offers, where there is none to ask
_FLOAT = 4
_GPU_OVERHEAD = 1 << 30  # CUDA context and kernels
_VLLM_OVERHEAD = 3 << 30  # its own activations and CUDA graphs


@dataclass(frozen=True)
class Row:
    """One part of the memory, in bytes, and what it comes from."""

    name: str
    size: float
    why: str


@dataclass(frozen=True)
class MemoryPlan:
    """Parts, their total (not the sum where one part gives way to another) and what the device has, where that is known."""

    model: str
    rows: tuple[Row, ...]
    total: float
    available: float | None
    device: str
    warnings: tuple[str, ...] = ()


def config_of(model: str) -> tuple[PretrainedConfig, str]:
    """(configuration, where it was read): of the checkpoint or run directory `model`, else of the description of its name.

    Raises FileNotFoundError where there is neither.
    """
    try:
        path = resolve_model(model)
        return AutoConfig.from_pretrained(path), str(path)
    except FileNotFoundError as error:
        described = DESCRIPTIONS / Path(model).name
        if not (described / "config.json").is_file():
            raise FileNotFoundError(f"{error}; nor is there a description of it in configs/models") from error
        return AutoConfig.from_pretrained(described), f"configs/models/{described.name} ({model} is not there yet)"


def sft_memory(config: SftConfig) -> MemoryPlan:
    """Memory of an SFT run."""
    model, source = _model(config)
    tokens = max(config.token_budget, config.max_length)
    rows = _training_rows(config, model, tokens, entropy=False, share=0.5)
    return _plan(config.device, source, rows, sum(row.size for row in rows))


def rl_memory(config: RlConfig, prompt_tokens: int) -> MemoryPlan:
    """Memory of an RL run on prompts of up to `prompt_tokens` tokens."""
    model, source = _model(config)
    itemsize = _itemsize(config.dtype)
    new_tokens = config.most_response_tokens
    tokens = max(config.token_budget, prompt_tokens + new_tokens)
    rows = _training_rows(config, model, tokens, entropy=True, share=prompt_tokens / (prompt_tokens + new_tokens))
    state, passing = sum(row.size for row in rows[:3]), sum(row.size for row in rows[3:])
    if config.kl_coef and config.lora is None:
        averaged = config.reference_decay is not None and config.dtype != "float32"  # the average is kept in float32
        size = model.parameters * (itemsize + (4 if averaged else 0))
        note = f"another policy's weights, {config.dtype}" + (", and their average, float32" if averaged else "")
        rows.insert(3, Row("reference", size, note))
        state += rows[3].size
    if config.advantage == "gae":
        rows.insert(3, _critic_row(config, model))
        state += rows[3].size
    sequences = min(config.rollout_batch, config.groups_per_step * config.group_size)
    if config.rollout == "transformers":
        prompts = math.ceil(sequences / config.group_size)
        cache = cache_bytes(model, prompts, prompt_tokens, sequences, new_tokens, itemsize)
        rows.append(
            Row("KV cache", cache, f"{sequences} sequences of {prompt_tokens:,} + {new_tokens:,} tokens, prompts shared")
        )
        rows.append(Row("sampling", sampling_bytes(model, sequences), f"{sequences} sequences x {model.vocabulary:,}"))
        generating = sum(row.size for row in rows[-2:])
        if config.max_staleness:  # generation and update go on at once
            rows.append(Row("engine's weights", model.parameters * itemsize, f"the policy before an update, {config.dtype}"))
            return _plan(config.device, source, rows, state + passing + generating + rows[-1].size)
        # Generation and update take turns.
        return _plan(config.device, source, rows, state + max(passing, generating))
    engine, warning = _vllm_row(config, model, prompt_tokens + new_tokens)
    if engine is not None:
        rows.append(engine)
        asleep = config.vllm.sleep and config.device.startswith("cuda")
        passing = max(passing, engine.size) if asleep else passing + engine.size
    return _plan(config.device, source, rows, state + passing, warning)


def _critic_row(config: RlConfig, model: Architecture) -> Row:
    """The critic's weights, gradients and optimiser; its passes take turns with the policy's, which hold logits as well."""
    itemsize = _itemsize(config.dtype)
    trained = Trained.of(model, config.lora, itemsize, config.optimizer)
    skeleton = model.skeleton
    tied = skeleton.get_output_embeddings().weight is skeleton.get_input_embeddings().weight
    head = 0 if tied else model.hidden * model.vocabulary  # its own is one row in float32
    adapters = trained.gradients if config.lora else 0
    if config.lora is None:
        trained = replace(trained, numel=trained.numel - head)
    trained = replace(trained, tensors=trained.tensors + (head == 0 or config.lora is not None))
    weights = (model.parameters - head) * itemsize + adapters + _FLOAT * model.hidden
    size = weights + trained.gradients + trained.copies + trained.optimizer + 3 * _FLOAT * model.hidden
    return Row("critic", size, f"weights {gib(weights)}, gradients and two moments of {trained.numel + model.hidden:,}")


def _vllm_row(config: RlConfig, model: Architecture, length: int) -> tuple[Row | None, tuple[str, ...]]:
    """What vLLM holds beside the trainer, and a warning where it has too little; none of a server's."""
    options = config.vllm
    if options.server is not None:
        return None, ()
    itemsize = _itemsize(options.dtype or config.dtype)
    weights, cache = model.parameters * itemsize, options.cpu_cache_gib << 30
    sequence = 2 * model.layers * model.key * itemsize * length
    if not config.device.startswith("cuda"):
        return Row("vLLM", weights + cache, f"weights {gib(weights)}, cache {gib(cache)}"), ()
    reserved = options.gpu_memory * (_available(config.device) or NOMINAL_GPU)
    room = max(0, int((reserved - weights - _VLLM_OVERHEAD) / sequence))
    why = f"vllm.gpu_memory {options.gpu_memory:g}: weights {gib(weights)}, and cache for {room} of {length:,} tokens at once"
    if room >= config.group_size:
        return Row("vLLM", reserved, why), ()
    return Row("vLLM", reserved, why), (
        f"vLLM's share of the GPU, {gib(reserved)}, has room for {room} sequences of {length:,} tokens, fewer than a group; "
        "raise vllm.gpu_memory, or lower the token budgets",
    )


def memory_table(plan: MemoryPlan) -> Table:
    """Parts, total, what the device has, and warnings below."""
    caption = "\n".join(f"[bold yellow]warning[/]: {escape(warning)}" for warning in plan.warnings)
    title = f"memory, estimated from {escape(plan.model)}"
    table = Table(title=title, caption=caption or None, caption_justify="left", caption_style="")
    table.add_column("part")
    table.add_column("size", justify="right")
    table.add_column("of")
    for row in plan.rows:
        table.add_row(row.name, gib(row.size), escape(row.why))
    table.add_section()
    holds = f"{plan.device} has {gib(plan.available)}" if plan.available else f"no {plan.device} here to compare with"
    table.add_row("at most", gib(plan.total), escape(holds), style="bold")
    return table


def _training_rows(config: SftConfig | RlConfig, model: Architecture, tokens: int, *, entropy: bool, share: float) -> list[Row]:
    """Weights, gradients, optimiser; then what a pass takes. `share` of a pack's tokens is taken to be of images."""
    itemsize, again = _itemsize(config.dtype), config.gradient_checkpointing
    trained = Trained.of(model, config.lora, itemsize, config.optimizer)
    adapters = trained.numel * trained.itemsize if config.lora else 0
    copies, bits = "float32 copies and " if trained.copies else "", " of 8 bits" if config.optimizer == "adamw_8bit" else ""
    logits = logit_bytes(model, tokens, itemsize, entropy=entropy, on_gpu=config.device.startswith("cuda"))
    kind = f"LoRA rank {config.lora.rank}, {trained.tensors // 2} layers" if config.lora else "all weights"
    rows = [
        Row("weights", model.parameters * itemsize + adapters, f"{model.parameters:,} parameters, {config.dtype}"),
        Row("gradients", trained.gradients, f"{trained.numel:,} trained ({kind})"),
        Row("optimiser", trained.copies + trained.optimizer, f"{copies}two moments{bits} (AdamW)"),
        Row(
            "activations",
            activation_bytes(model, trained, tokens, itemsize, checkpointing=again),
            f"{tokens:,} tokens, {'computed anew' if again else 'kept'} in {model.layers} layers",
        ),
        Row("logits", logits, f"a tile of {tokens:,} x {model.vocabulary:,}"),
    ]
    if model.vision_layers:
        visual = round(share * tokens)
        size = vision_bytes(model, trained, visual, itemsize, checkpointing=again)
        state = "trained" if trained.vision else "frozen"
        rows.append(Row("vision tower", size, f"{visual * model.merge_area:,} patches if {share:.0%} is images, {state}"))
    return rows


def _model(config: SftConfig | RlConfig) -> tuple[Architecture, str]:
    found, source = config_of(config.model)
    return Architecture.of(found), source


def _plan(device: str, source: str, rows: list[Row], total: float, warnings: tuple[str, ...] = ()) -> MemoryPlan:
    on_gpu = device.startswith("cuda")
    if on_gpu:
        rows = [*rows, Row("CUDA", _GPU_OVERHEAD, "context and kernels")]
        total += _GPU_OVERHEAD
    available = _available(device)
    limit, what = (available, f"{device} has") if available else (NOMINAL_GPU if on_gpu else None, "a card of 80 GB has")
    if limit is not None and total > limit:
        warnings += (
            f"{gib(total)} do not fit: {what} {gib(limit)}; lower token_budget or rollout_batch, set gradient_checkpointing, "
            "use lora or a smaller model",
        )
    return MemoryPlan(source, tuple(rows), total, available, device, warnings)


def _available(device: str) -> float | None:
    if device.startswith("cuda"):
        return float(torch.cuda.get_device_properties(device).total_memory) if torch.cuda.is_available() else None
    if device == "cpu" and hasattr(os, "sysconf"):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return None


def _itemsize(dtype: str) -> int:
    kind: Any = getattr(torch, dtype)
    return int(kind.itemsize)


def gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
