"""LoRA (arXiv 2106.09685) through peft: low-rank adapters beside linear layers of a frozen model.

A layer with weight W computes W x + alpha / rank * B A x, and only A [rank, in] and B [out, rank] are trained. The model
keeps its class and forward pass, so that the packed forward pass and the engines take it as they take any other; what the
adapters amount to, W + alpha / rank * B A, is computed where plain weights are wanted: checkpoints and other processes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

ADAPTER = "adapter"
"""Directory of a checkpoint that holds the adapters, in peft's format."""

_NAME = "default"
_PARTS = (f".lora_A.{_NAME}.", f".lora_B.{_NAME}.")
_BASE = ".base_layer."
_TENSORS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_BASE_DIGEST = "base.sha256"
_PREFIX = "base_model.model."  # of every name in peft's files
_SAMPLED = 1024  # values of each frozen parameter that its digest reads


def target_layers(model: PreTrainedModel, targets: str | Sequence[str]) -> dict[str, nn.Linear]:
    """Linear layers that `targets` means, by dotted name: those of the "decoder", "all" (the vision tower's too), or those
    whose names end in one of a list such as ["q_proj", "language_model.layers.0.mlp.down_proj"].

    The output head is never one of them: log-probabilities read its weight. Raises ValueError for a name that fits none.
    """
    head = model.get_output_embeddings()
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head}
    if targets == "all":
        return linear
    if targets == "decoder":
        inside = {id(layer) for layer in _decoder(model).modules()}
        return {name: layer for name, layer in linear.items() if id(layer) in inside}
    for target in targets:
        if not any(_fits(name, target) for name in linear):
            known = sorted({name.rpartition(".")[2] for name in linear})
            raise ValueError(
                f"lora.targets: no linear layer is called {target!r}; found {', '.join(known)}, expected some of them, "
                'dotted names, "decoder" or "all"'
            )
    return {name: layer for name, layer in linear.items() if any(_fits(name, target) for target in targets)}


def add_adapters(
    model: PreTrainedModel, *, rank: int, alpha: float, dropout: float, targets: str | Sequence[str], seed: int
) -> None:
    """Puts adapters beside the targets and freezes everything else. At first they add exactly nothing (B is 0).

    Adapters are float32 under any dtype of the model: in bfloat16 the steps of a small learning rate would round to nothing.
    """
    from peft import LoraConfig, inject_adapter_in_model

    chosen = list(target_layers(model, targets))
    settings = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=chosen, bias="none")  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):  # peft draws A on the CPU
        torch.manual_seed(seed)
        inject_adapter_in_model(settings, model, adapter_name=_NAME)
    for _, parameter in adapter_parameters(model):
        parameter.data = parameter.data.float()


def has_adapters(model: nn.Module) -> bool:
    return getattr(model, "peft_config", None) is not None


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The model as it was before `add_adapters`, for the time of the context."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    trained = [parameter for _, parameter in adapter_parameters(model) if parameter.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter in trained:  # peft freezes adapters that are off
            parameter.requires_grad_(True)


def adapter_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and values of the adapters' A and B."""
    return [(name, value) for name, value in model.named_parameters() if _is_adapter(name)]


def plain_parameters(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters of the model without adapters that computes the same, under that model's names, one after another.

    Without adapters these are the model's own parameters. With adapters, merged weights are made as they are asked for, in
    float32 and rounded once to the model's dtype; those of a model on a GPU come in main memory, so that the GPU never holds
    a second copy of the model.
    """
    if not has_adapters(model):
        yield from model.named_parameters()
        return
    for name, value in _plain(model, model.named_parameters()):
        yield name, value.cpu()


def plain_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """`plain_parameters` with buffers and tied weights: what a checkpoint of the merged model holds, in main memory."""
    return {name: value.cpu() for name, value in _plain(model, model.state_dict().items())}


def save_adapters(model: PreTrainedModel, folder: Path) -> None:
    """Writes the adapters as `PeftModel.from_pretrained(base, folder)` loads them, with a digest of the base's weights."""
    folder.mkdir(parents=True)
    tensors = {_saved_name(name): value.detach().contiguous() for name, value in adapter_parameters(model)}
    # One entry: safetensors writes several in an order drawn by chance, and equal adapters must be equal files.
    save_file(tensors, folder / _TENSORS, metadata={"format": "pt"})
    (folder / _BASE_DIGEST).write_text(base_digest(model) + "\n", encoding="ascii")
    settings = model.peft_config[_NAME]
    settings.base_model_name_or_path = model.name_or_path
    settings.save_pretrained(str(folder))


def adapter_base(folder: Path) -> Path:
    """The checkpoint that the adapters in `folder` were trained on."""
    return Path(json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"])


def load_adapters(model: PreTrainedModel, folder: Path) -> None:
    """Fills the adapters of `model` from `folder`. Raises ValueError when these are of other settings or another base."""
    found = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    settings = model.peft_config[_NAME]
    own, recorded = dict(adapter_parameters(model)), folder / _BASE_DIGEST
    with safe_open(folder / _TENSORS, framework="pt") as file:
        names = set(file.keys())
        base = recorded.read_text("ascii").strip() if recorded.is_file() else (file.metadata() or {}).get("base")
        same = (found["r"], found["lora_alpha"]) == (settings.r, settings.lora_alpha)
        if not same or names != {_saved_name(name) for name in own}:
            raise ValueError(
                f"{folder}: adapters of rank {found['r']} and alpha {found['lora_alpha']} on {len(names) // 2} layers, but the "
                f"configuration has rank {settings.r} and alpha {settings.lora_alpha} on {len(own) // 2}, or others; resume "
                "with the same lora settings, or start a new run with this checkpoint as its model"
            )
        if base != base_digest(model):
            raise ValueError(
                f"{folder}: the adapters were trained on other weights than those now in {model.name_or_path}; put the former "
                "checkpoint back there, or start a new run with this checkpoint as its model"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(file.get_tensor(_saved_name(name)))


def base_digest(model: nn.Module) -> str:
    """SHA-256 of names, shapes and evenly spaced values of the frozen parameters: another checkpoint gives another one."""
    digest = hashlib.sha256()
    for name, value in model.named_parameters():
        if not _is_adapter(name):
            flat = value.detach().flatten()
            some = flat[:: max(1, len(flat) // _SAMPLED)].float().cpu().numpy()
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode() + some.tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _plain(model: nn.Module, named: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in named:
        if _is_adapter(name):
            continue
        value = tensor.detach()
        layer, _, kind = name.partition(_BASE)
        if kind == "weight":
            delta = model.get_submodule(layer).get_delta_weight(_NAME)  # type: ignore[operator]
            value = (value.float() + delta.float()).to(value.dtype)
        yield name.replace(_BASE, "."), value


def _decoder(model: PreTrainedModel) -> nn.Module:
    multimodal = getattr(model.config, "vision_config", None) is not None
    return model.model.language_model if multimodal else model.model


def _fits(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _is_adapter(name: str) -> bool:
    return any(part in name for part in _PARTS)


def _saved_name(name: str) -> str:
    return _PREFIX + name.replace(f".{_NAME}.", ".")
