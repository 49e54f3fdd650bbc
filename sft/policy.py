"""The model as a trainer wants it: loaded, with its adapters, its activations kept or computed anew."""

from pathlib import Path
from typing import Any, Literal, Protocol

from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from rollout.forward import load_policy
from rollout.lora import ADAPTER, adapter_base, add_adapters, load_adapters
from sft.checkpoint import resolve_model
from sft.config import LoraConfig

_MULTIMODAL = ("glm4v", "glm4v_moe", "qwen3_vl")


class PolicyConfig(Protocol):
    """What loading needs of a configuration."""

    model: str
    seed: int
    device: str
    dtype: Literal["float32", "bfloat16"]
    lora: LoraConfig | None
    gradient_checkpointing: bool


def trained_policy(config: PolicyConfig, checkpoint: Path | None) -> tuple[PreTrainedModel, Any]:
    """(model, processor) to begin a run from `config.model`, or to go on with from its `checkpoint`.

    With LoRA the frozen weights always come from the model the run began with, since those in the checkpoint are merged.
    Raises ValueError for a model of a family that this trainer does not compute rightly, and for a checkpoint whose
    adapters do not go with the configuration.
    """
    adapter = checkpoint / ADAPTER if checkpoint is not None and (checkpoint / ADAPTER).is_dir() else None
    if checkpoint is not None and (adapter is not None) != (config.lora is not None):
        raise ValueError(
            f"{checkpoint}: it was saved {'with' if adapter else 'without'} LoRA, the configuration is "
            f"{'without' if adapter else 'with'} it; resume with the same lora settings, or start a new run with this "
            "checkpoint as its model"
        )
    source = checkpoint
    if source is None:
        source = resolve_model(config.model)
    elif adapter is not None:
        base = adapter_base(adapter)
        source = base if base.is_dir() else resolve_model(config.model)
    refuse_unknown_family(AutoConfig.from_pretrained(source), str(source))
    model, processor = load_policy(str(source), device=config.device, dtype=config.dtype)
    if config.lora is not None:
        add_adapters(model, **config.lora.model_dump(), seed=config.seed)
        if adapter is not None:
            load_adapters(model, adapter)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model, processor


def refuse_unknown_family(config: PretrainedConfig, name: str) -> None:
    """Raises ValueError for a vision-language model whose images `rollout.forward` would not compute rightly.

    Families differ in how images reach the decoder: features added to inner layers, masks, positions. What `rollout.forward`
    does not know of would be left out without a word.
    """
    if getattr(config, "vision_config", None) is not None and config.model_type not in _MULTIMODAL:
        raise ValueError(
            f"{name}: a vision-language model of family {config.model_type!r}; expected {' or '.join(_MULTIMODAL)}, or a text "
            "model: this trainer would not compute its images rightly"
        )
