"""The critic of PPO (`advantage: gae`): the policy's own architecture, images included, with one number a token for a head.

verl loads a token classifier for it, or TRL's wrapper, with flash attention in either case: vision-language models have no
classifier, and neither loads without a GPU. Ours starts from the same checkpoint with a head of zeros, so that the first
advantages are those of rewards without a baseline.
"""

from dataclasses import replace
from typing import Any

import torch
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine_workers import TrainingWorker, TrainingWorkerConfig

from rlcs.critic import with_value_head
from rlcs.verl.engine import CriticEngine
from rlcs.verl.schedule import ScheduledWorker

_KIND = "rlcs_value_model"


@EngineRegistry.register(_KIND, ["fsdp", "fsdp2"], ["cuda", "npu", "cpu"])
class ValueEngine(CriticEngine):
    """verl's critic engine on a language model whose head is replaced."""

    def _build_module(self) -> torch.nn.Module:
        self.model_config.model_type = "language_model"
        module = super()._build_module()
        self.model_config.model_type = _KIND
        return with_value_head(module)

    def _build_lora_module(self, module: torch.nn.Module) -> torch.nn.Module:
        """Adapters, and the head, which began as zeros and would stay so."""
        module = super()._build_lora_module(module)
        for name, parameter in module.named_parameters():
            if name.endswith("lm_head.weight"):
                parameter.requires_grad_(True)
        return module


class CriticWorker(ScheduledWorker, TrainingWorker):
    """verl's training worker, in whose process our engines are registered, with that of the critic."""

    def __init__(self, config: TrainingWorkerConfig) -> None:
        super().__init__(replace(config, model_type=_KIND))

    @property
    def engine_in_training(self) -> Any:
        return self.engine
