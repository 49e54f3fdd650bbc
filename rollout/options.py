"""Which rollout engine, and how it is run: fields of the configurations."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Rollout = Literal["transformers", "vllm"]


class VllmOptions(BaseModel):
    """Options of `rollout: vllm`, `rollout.vllm_engine.VllmEngine`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    max_sequences: int = Field(default=256, ge=1)
    """Sequences decoded at once."""
    max_length: int | None = Field(default=None, ge=1)
    """Longest prompt with its response, in tokens; absent, what the model allows."""
    gpu_memory: float = Field(default=0.45, gt=0, le=1)
    """Fraction of a GPU's memory for weights and cache, beside the trainer on the same GPU."""
    cpu_cache_gib: int = Field(default=1, ge=1)
    """Key-value cache of the CPU backend, GiB."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs the model is split over."""
    eager: bool = False
    """No compilation and no CUDA graphs: starts sooner, decodes slower."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Parameter type of the engine; absent, the policy's."""
    sleep: bool = False
    """Give the GPU memory of the engine to the trainer while it updates the policy. On the CPU only the caches are dropped."""
    max_restarts: int = Field(default=2, ge=0)
    """Times in one call that an engine that died is started again before the run gives up."""
    server: str | None = Field(default=None, pattern=r"^https?://[^/\s]+/?$")
    """Address of `rlcs serve`, http://host:port; absent, the engine runs beside the run. The server's options are its own."""
    share: Path | None = None
    """Folder that the server sees too (its --share): weights go through a file in it. Absent, they go over HTTP."""
    patience_s: float = Field(default=600.0, ge=0)
    """Seconds that a server which cannot be reached is waited for."""
    quiet: bool = True
    """Leave out vLLM's own messages below warnings."""
