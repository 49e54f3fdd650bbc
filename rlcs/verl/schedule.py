"""The learning rate of verl's workers: a function of the step, as `sft.schedule` has it."""

from typing import Any

from verl.single_controller.base.decorator import Dispatch, register

from sft.schedule import ScheduleConfig, learning_rate


def follow_schedule(engine: Any, schedule: ScheduleConfig, total: int) -> None:
    """Gives a training engine the rates of `sft.schedule`, of whatever shape (verl's configuration names two), from the step on
    that its own schedule has come to.
    """
    scheduler, groups = engine.lr_scheduler, engine.optimizer.param_groups
    scheduler.lr_lambdas = [lambda step: learning_rate(schedule, step, total) / schedule.lr] * len(groups)
    for group, peak in zip(groups, scheduler.base_lrs, strict=True):
        group["lr"] = peak * scheduler.lr_lambdas[0](scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in groups]


class ScheduledWorker:
    """Mixed into a worker of verl's: `engine_in_training` is the engine whose weights it trains."""

    engine_in_training: Any

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[untyped-decorator]
    def follow_schedule(self, schedule: ScheduleConfig, total: int) -> None:
        follow_schedule(self.engine_in_training, schedule, total)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[untyped-decorator]
    def rate(self) -> float:
        """Of the next step."""
        return float(self.engine_in_training.lr_scheduler.get_last_lr()[0])

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[untyped-decorator]
    def pass_step(self) -> float:
        """Counts a step that has nothing to train, as the local engine does. -> the next one's rate."""
        return float(self.engine_in_training.lr_scheduler_step())
