"""`rlcs rl engine=verl`: composes verl's configuration, starts or joins Ray, and runs verl's trainer with our plug-ins in it.

`python -m rlcs.verl.launch KEY=VALUE...` runs a command that `--dry-run` printed.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rlcs.problems import load_problems
from rlcs.rl_config import RlConfig
from rlcs.verl.export import export_run, saved_steps
from rlcs.verl.overrides import compose
from rlcs.verl.translate import PLUGINS, verl_overrides
from sft.rundir import RunDir

_ENVIRONMENT = "ray_kwargs.ray_init.runtime_env.env_vars."
_OWN_RAY = {
    "RAY_prestart_worker_first_driver": "0",  # else a Python process for each CPU that Ray counts, most of them never used
    "RAY_USAGE_STATS_ENABLED": "0",
}
_PAUSE_S = 10.0
"""Before a run starts again: what is left of its processes gives back GPUs and ports meanwhile."""


class RunFailedError(ChildProcessError):
    """A process of a run on Ray ended, or an error came up in one that is no fault of the input."""


class ProcessDiedError(RunFailedError):
    """A process ended, or its node: from the last checkpoint the run can go on without it."""


def run_verl(config: RlConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Trains `config.model` on `config.problems` with verl; returns the final checkpoint, a Hugging Face directory in the run's
    `checkpoints`.

    `resume` goes on from verl's last checkpoint in `config.out`; so does, by itself, a run of which a process died
    (`restarting`). Raises FileExistsError for a run directory that already holds a run when not resuming, ProblemFileError and
    ValueError for bad input, and RunFailedError, saying what the run has kept, where it broke off for good.
    """
    console = console or Console()
    if not resume:
        RunDir(config.out).rewind(0)
    load_problems(config.problems)  # its faults, before anything is started

    def attempt(resume: bool) -> None:
        launch(verl_overrides(config, resume=resume))

    def notice(text: str) -> None:
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)

    try:
        restarting(attempt, config, resume=resume, notice=notice)
    except RunFailedError as error:
        raise RunFailedError(f"{error}\n{kept_by(config)}") from error
    final = export_run(config.out)
    console.print(f"verl's last checkpoint, put together: {final}", highlight=False, soft_wrap=True)
    return final


def restarting(
    attempt: Callable[[bool], None], config: RlConfig, *, resume: bool, notice: Callable[[str], None], pause_s: float = _PAUSE_S
) -> None:
    """Makes `attempt(resume)`, and again from the last checkpoint when a process died, until it comes through.

    At most `verl.max_restarts` times in a row without a step that no attempt before had finished: a node that is lost now and
    then costs the steps since a checkpoint each time, what dies at the same place each time ends the run. So does a death
    before the first step was finished: that is how memory too small or a faulty set-up shows. Raises what the last attempt did;
    where a new start that got no further failed with another error, a RunFailedError that names both.
    """
    furthest, left = finished_steps(config.out), 0  # a start that dies at once leaves an earlier command's rows as they are
    died: ProcessDiedError | None = None
    while True:
        try:
            attempt(resume)
            return
        except ProcessDiedError as error:
            died, done = error, finished_steps(config.out)
            if done > furthest:
                furthest, left = done, config.verl.max_restarts
            if left == 0:
                raise
        except Exception as error:
            if died is None or finished_steps(config.out) > furthest:
                raise
            raise RunFailedError(f"{died}\nStarting again failed: {error}") from error
        left, resume = left - 1, True
        saved = saved_steps(config.out)
        again = f"; {_steps(saved, done)} done again" if done > saved else ""
        notice(
            f"{died}\nThe run starts again from its last checkpoint, after {saved} steps{again}. It may do so {left} more "
            f"time{'s' * (left != 1)} without getting further (verl.max_restarts)."
        )
        time.sleep(pause_s)


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

    from rlcs.verl.watch import DeadProcessError

    cause: BaseException = error
    while isinstance(cause, ray.exceptions.RayTaskError) and cause.cause is not None and cause.cause is not cause:
        cause = cause.cause
    if isinstance(cause, ValueError | OSError | FloatingPointError):
        return cause
    if isinstance(cause, DeadProcessError):
        return ProcessDiedError(str(cause))
    if isinstance(cause, _deaths()):
        return ProcessDiedError(f"a process of the run ended: {type(cause).__name__}: {cause}")
    return RunFailedError(f"the run broke off: {type(cause).__name__}: {cause}")


def _deaths() -> tuple[type[Exception], ...]:
    """What Ray raises for a process or node that is gone."""
    from ray import exceptions

    return (
        exceptions.RayActorError,
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.OutOfMemoryError,  # of a node: Ray ended a process to save the others
        exceptions.ObjectLostError,
        exceptions.LocalRayletDiedError,
    )


def kept_by(config: RlConfig) -> str:
    """What a run that broke off can go on from, and which of its finished steps are to be done again."""
    try:
        last: Path | None = export_run(config.out)
    except FileNotFoundError:
        last = None
    done, saved = finished_steps(config.out), saved_steps(config.out)
    lost = ""
    if done > saved:
        lost = (
            f". {_steps(saved, done)} to be done again: no checkpoint has them, and a training worker that dies takes its part "
            f"of the weights and optimiser state along. A smaller save_every ({config.save_every}) loses fewer"
        )
    if last is None:
        return f"No checkpoint was written yet; start again{lost}"
    return f"All steps up to the last checkpoint are kept ({last}); go on from it by --resume{lost}"


def finished_steps(run: Path) -> int:
    """How many steps stand in the run's metrics.jsonl."""
    metrics = RunDir(run).metrics_path
    return len(metrics.read_bytes().splitlines()) if metrics.exists() else 0


def _steps(saved: int, done: int) -> str:
    many = done - saved > 1
    return f"{done - saved} finished step{'s' * many} ({saved} to {done - 1}) {'are' if many else 'is'}"


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
