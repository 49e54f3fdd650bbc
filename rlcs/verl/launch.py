"""`rlcs rl engine=verl`: composes verl's configuration, starts or joins Ray, and runs verl's trainer with our plug-ins in it.

`python -m rlcs.verl.launch KEY=VALUE...` runs a command that `--dry-run` printed.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rlcs.problems import load_problems
from rlcs.rl_config import RlConfig
from rlcs.verl.export import export_run
from rlcs.verl.overrides import compose
from rlcs.verl.translate import PLUGINS, verl_overrides
from sft.rundir import RunDir

_ENVIRONMENT = "ray_kwargs.ray_init.runtime_env.env_vars."
_OWN_RAY = {
    "RAY_prestart_worker_first_driver": "0",  # else a Python process for each CPU that Ray counts, most of them never used
    "RAY_USAGE_STATS_ENABLED": "0",
}


class RunFailedError(ChildProcessError):
    """A process of a run on Ray ended, or an error came up in one that is no fault of the input."""


def run_verl(config: RlConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Trains `config.model` on `config.problems` with verl; returns the final checkpoint, a Hugging Face directory in the run's
    `checkpoints`.

    `resume` goes on from verl's last checkpoint in `config.out`. Raises FileExistsError for a run directory that already holds
    a run when not resuming, ProblemFileError and ValueError for bad input, and RunFailedError, saying what the run has kept,
    where a process of it ended.
    """
    console = console or Console()
    if not resume:
        RunDir(config.out).rewind(0)
    load_problems(config.problems)  # its faults, before anything is started
    overrides = verl_overrides(config, resume=resume)
    try:
        launch(overrides)
    except RunFailedError as error:
        raise RunFailedError(f"{error}\n{kept_by(config)}") from error
    final = export_run(config.out)
    console.print(f"verl's last checkpoint, put together: {final}", highlight=False, soft_wrap=True)
    return final


def launch(overrides: Sequence[str]) -> None:
    """Runs verl's trainer on its configuration with `overrides`, and returns when it is done. Ends a Ray that it started.

    An error of the run that comes of its input (ValueError, OSError, FloatingPointError) is raised as it was; for others see
    RunFailedError.
    """
    for name, value in environment_of(overrides).items():
        os.environ.setdefault(name, value)  # before verl is imported here: it looks for its platform then
    if any("ray_kwargs.ray_init.address=" in override for override in overrides) and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # `ray start` asks for it wherever there is one, `ray.init` does not
    config = compose(overrides)

    import ray
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    auto_set_device(config)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    for name, value in _OWN_RAY.items():
        os.environ.setdefault(name, value)

    class Runner(TaskRunnerV1.__ray_metadata__.modified_class):  # type: ignore[misc, name-defined]
        """verl's driver of a run, in whose process our trainer is registered first."""

        def run(self, config: Any) -> None:
            import importlib

            importlib.import_module(PLUGINS)
            super().run(config)

    try:
        run_ppo(config, task_runner_class=ray.remote(Runner))
    except ray.exceptions.RayError as error:
        raise plain_error(error) from error
    finally:
        ray.shutdown()


def plain_error(error: Exception) -> Exception:
    """The error that a process of the run raised, without Ray's wrapping."""
    import ray

    cause: BaseException = error
    while isinstance(cause, ray.exceptions.RayTaskError) and cause.cause is not None and cause.cause is not cause:
        cause = cause.cause
    if isinstance(cause, ValueError | OSError | FloatingPointError):
        return cause
    what = "a process of the run ended" if isinstance(cause, ray.exceptions.RayActorError) else "the run broke off"
    return RunFailedError(f"{what}: {type(cause).__name__}: {cause}")


def kept_by(config: RlConfig) -> str:
    """What a run that broke off can go on from, and which of its finished steps are to be done again."""
    try:
        last: Path | None = export_run(config.out)
    except FileNotFoundError:
        last = None
    metrics = RunDir(config.out).metrics_path
    done = len(metrics.read_bytes().splitlines()) if metrics.exists() else 0
    saved = int(last.name.removeprefix("step-")) if last else 0
    lost = ""
    if done > saved:
        steps = f"{done - saved} finished step{'s' * (done - saved > 1)} ({saved} to {done - 1})"
        lost = (
            f". {steps} are to be done again: no checkpoint has them, and a training worker that dies takes its part of the "
            f"weights and optimiser state along. A smaller save_every ({config.save_every}) loses fewer"
        )
    if last is None:
        return f"No checkpoint was written yet; start again{lost}"
    return f"All steps up to the last checkpoint are kept ({last}); go on from it by --resume{lost}"


def _has_token() -> bool:
    """Whether this user has a token for Ray clusters, https://docs.ray.io/en/latest/ray-security/token-auth.html."""
    named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def environment_of(overrides: Sequence[str]) -> dict[str, str]:
    """The environment variables that a configuration gives to the processes of a run."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {
        str(one.key_or_group).removeprefix(_ENVIRONMENT): str(one.value())
        for one in parsed
        if str(one.key_or_group).startswith(_ENVIRONMENT)
    }


if __name__ == "__main__":
    launch(sys.argv[1:])
