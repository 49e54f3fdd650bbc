"""`rlcs serve`: the vLLM of a run, in a process or on a machine of its own."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rlcs.config import ConfigError, load_config
from rlcs.engines import require_vllm
from rollout.options import VllmOptions
from rollout.vllm_protocol import KEY_VARIABLE
from sft.checkpoint import resolve_model


class ServeConfig(BaseModel):
    """What a server takes of the configuration of `rlcs rl`, `rlcs eval` or `rlcs grade`; the rest is theirs."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)

    model: str
    """Checkpoint directory, or a run directory whose last checkpoint is meant."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the policy's weights."""
    vllm: VllmOptions = Field(default_factory=VllmOptions)
    """Options of the engine."""


def run_serve(
    source: Path, overrides: Sequence[str], *, host: str, port: int, share: Path | None, ready: Callable[[str], None]
) -> None:
    """Serves the policy of `source`, a configuration file or a checkpoint directory, until it is interrupted.

    `ready` is called with the server's address. Raises ConfigError for settings that a server does not have.
    """
    config = serve_config(source, overrides)
    require_vllm("serve from a machine that has it")
    from rollout.vllm_server import serve

    key = os.environ.get(KEY_VARIABLE, "").strip() or None
    checkpoint = resolve_model(config.model)
    serve(checkpoint, config.vllm, dtype=config.dtype, host=host, port=port, share=share, key=key, ready=ready)


def serve_config(source: Path, overrides: Sequence[str]) -> ServeConfig:
    """The server's part of a configuration file, or that of a checkpoint or run directory, with `overrides`."""
    for override in overrides:
        setting = override.partition("=")[0].strip()
        if setting.partition(".")[0] not in ServeConfig.model_fields:
            raise ConfigError(f"override {override!r}: a server has no such setting; expected model, dtype or one of vllm")
    if source.is_dir():
        return load_config(ServeConfig, os.devnull, [f"model={json.dumps(str(source))}", *overrides])
    return load_config(ServeConfig, source, overrides)
