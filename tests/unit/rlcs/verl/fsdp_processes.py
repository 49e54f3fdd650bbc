"""Processes that shard the nano model with FSDP2 over gloo, as verl's workers do; kept apart, so that they start fast."""

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import Glm4vForConditionalGeneration

NANO = Path(__file__).parents[4] / "assets" / "nano"
LORA = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"}


def loaded() -> Any:
    return Glm4vForConditionalGeneration.from_pretrained(NANO, dtype=torch.float32)


def adapted() -> Any:
    """With adapters that change what the model computes."""
    torch.manual_seed(0)
    targets = {"target_modules": ["q_proj", "down_proj"], "exclude_modules": r".*visual.*", "init_lora_weights": False}
    return get_peft_model(loaded(), LoraConfig(**LORA, **targets))  # type: ignore[arg-type]


def sharded(model: Any, rank: int, ranks: int, copies: int, port: int) -> list[nn.Module]:
    """Shards `model` over a gloo group, `copies` times; returns the layers that are gathered one by one."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    names = ("fsdp",) if copies == 1 else ("ddp", "fsdp")
    mesh = init_device_mesh("cpu", (ranks,) if copies == 1 else (copies, ranks // copies), mesh_dim_names=names)
    layers = [one for one in model.modules() if type(one).__name__ in ("Glm4vTextDecoderLayer", "Glm4vVisionBlock")]
    assert layers
    for one in (*layers, model):
        fully_shard(one, mesh=mesh)
    return layers


def save_shards(rank: int, shards: str, ranks: int, copies: int, lora: bool, port: int) -> None:
    """Writes what verl's checkpoint manager writes on each rank."""
    model = adapted() if lora else loaded()
    sharded(model, rank, ranks, copies, port)
    torch.save(model.state_dict(), f"{shards}/model_world_size_{ranks}_rank_{rank}.pt")
    dist.destroy_process_group()


def train_step(rank: int, port: int, out: str) -> None:
    """One AdamW step over two ranks; rank 0 writes what it holds, in bytes, and how many parameters are gathered at a time."""
    model = loaded()
    sizes = {id(parameter): parameter.numel() for parameter in model.parameters()}
    whole = sum(sizes.values())
    layers = sharded(model, rank, 2, 1, port)
    in_layers = [sum(parameter.numel() for parameter in layer.parameters()) for layer in layers]
    optimizer = torch.optim.AdamW(model.parameters())
    model(input_ids=torch.arange(16)[None]).logits.sum().backward()
    for parameter in model.parameters():
        if parameter.grad is None:  # of the vision tower, which text does not pass
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    held = {
        "weights": sum(local(parameter) for parameter in model.parameters()),
        "gradients": sum(local(parameter.grad) for parameter in model.parameters()),
        "optimiser": sum(local(moment) for moment in moments),
        "root": whole - sum(in_layers),
        "layer": max(in_layers),
    }
    if rank == 0:
        Path(out).write_text(json.dumps(held))
    dist.destroy_process_group()


def local(value: torch.Tensor) -> int:
    part = value.to_local() if isinstance(value, DTensor) else value
    return part.nbytes
