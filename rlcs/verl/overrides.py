"""Settings in Hydra's notation, and verl's configuration composed with them. Only `compose` imports Hydra and verl."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_ADDED = (  # keys that verl's own files leave out, of RL and of SFT
    "rlcs",
    "data.rlcs",
    "actor_rollout_ref.model.override_config.",
    "actor_rollout_ref.actor.fsdp_config.mixed_precision",
    "actor_rollout_ref.ref.fsdp_config.mixed_precision",
    "actor_rollout_ref.rollout.enable_sleep_mode",
    "actor_rollout_ref.rollout.engine_kwargs.vllm",
    "actor_rollout_ref.rollout.agent.agent_loop_manager_class",
    "critic.model.override_config.",
    "model.override_config.",
    "engine.mixed_precision",
    "critic.fsdp.mixed_precision",
    "ray_kwargs.ray_init.runtime_env.env_vars.",
    "ray_kwargs.ray_init.",
)
_WORDS = {"null", "true", "false", "inf", "nan"}  # that Hydra would not read as text
_IN_RAY_INIT = ("ray_kwargs.ray_init.num_cpus",)  # but this one is there


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Nested settings as Hydra overrides, `key=value`, or `+key=value` for a key that verl's files do not have."""
    return [f"{'+' * is_added(key)}{key}={hydra_value(value)}" for key, value in flat(settings).items()]


def compose(overrides: Sequence[str], *, name: str = "ppo_trainer") -> Any:
    """verl's configuration `name` with `overrides`, an OmegaConf DictConfig. Raises ValueError for a key that verl has not."""
    from hydra import compose as compose_hydra
    from hydra import initialize_config_module
    from hydra.errors import HydraException

    with initialize_config_module("verl.trainer.config", version_base=None):
        try:
            return compose_hydra(name, overrides=list(overrides))
        except HydraException as error:
            raise ValueError(
                f"verl's configuration: {error}; expected KEY=VALUE of a key that verl has, +KEY=VALUE to add one"
            ) from error


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; what is below an added key (`_ADDED`) stays together."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key not in _ADDED:
            found |= flat(value, f"{key}.")
        else:
            found[key] = value
    return found


def is_added(key: str) -> bool:
    return key not in _IN_RAY_INIT and any(key == added or (added.endswith(".") and key.startswith(added)) for added in _ADDED)


def hydra_value(value: Any) -> str:
    """A value in Hydra's notation, https://hydra.cc/docs/advanced/override_grammar/basic/."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_hydra_key(key)}:{hydra_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(hydra_value(inner) for inner in value) + "]"
    text = str(value)
    if re.fullmatch(r"[A-Za-z_/][\w./-]*", text, re.ASCII) and text.lower() not in _WORDS:
        return text
    # Backslashes stand for themselves, except in front of a quote.
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), text)
    return f'"{escaped}"'


def _hydra_key(key: str) -> str:
    return re.sub(r"[\\()\[\]{}:=,\s]", r"\\\g<0>", key)
