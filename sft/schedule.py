"""The learning rate of a step, for SFT and RL alike: a function of the step alone, so that resuming needs no state."""

import math
from typing import Literal, Protocol

Schedule = Literal["constant", "cosine", "linear", "wsd"]


class ScheduleConfig(Protocol):
    """What the rate depends on."""

    lr: float
    warmup_steps: int
    schedule: Schedule
    min_lr_ratio: float
    decay_ratio: float


def learning_rate(config: ScheduleConfig, step: int, total: int) -> float:
    """Rate of the 0-based `step` of `total`: linear warm-up to the peak `lr`, then

    - "constant": the peak;
    - "cosine" (arXiv 1608.03983, without restarts) or "linear" down to `min_lr_ratio` of the peak;
    - "wsd", warm-up, stable, decay (MiniCPM, arXiv 2404.06395): the peak, and over the last `decay_ratio` of all steps linearly
      down to `min_lr_ratio` of it. A checkpoint from before the decay can be trained on with more steps.

    The first step is warmed up already (1 / warmup_steps); the end of the decay would be the step after the last.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    lowest, begin = config.min_lr_ratio, config.warmup_steps
    if config.schedule == "wsd":
        begin = max(begin, total - round(config.decay_ratio * total))
    progress = min(1.0, max(0.0, (step - begin) / max(1, total - begin)))
    if config.schedule == "cosine":
        return config.lr * ((1.0 + lowest) / 2.0 + (1.0 - lowest) / 2.0 * math.cos(math.pi * progress))
    return config.lr * (1.0 - (1.0 - lowest) * progress)
