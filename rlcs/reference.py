"""The policy that a KL penalty holds the trained one to: the one the run began with, or a slow average of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from rlcs.rl_config import RlConfig
from rollout.forward import load_policy
from rollout.lora import adapters_off, has_adapters
from sft.checkpoint import resolve_model


class Reference:
    """`config.model`, which the run began with; with `reference_decay` the exponential moving average of the policy's weights
    from there on.

    Of a policy with LoRA the reference is the same model with its adapters off, so that no weight is held twice.
    """

    def __init__(self, policy: PreTrainedModel, config: RlConfig) -> None:
        self._policy, self._decay = policy, config.reference_decay
        self._model: PreTrainedModel | None = None
        if not has_adapters(policy):
            self._model, _ = load_policy(str(resolve_model(config.model)), device=config.device, dtype=config.dtype)
            self._model.requires_grad_(False).eval()
        # Of a model in half precision the average is kept in float32: its steps are far below 1/256 of a weight.
        self._average: list[torch.Tensor] | None = None
        if self._model is not None and self._decay is not None:
            self._average = [parameter.detach().float() for parameter in self._model.parameters()]

    @contextmanager
    def at_work(self) -> Iterator[PreTrainedModel]:
        """The reference's model, without gradient."""
        with torch.no_grad():
            if self._model is not None:
                yield self._model
                return
            with adapters_off(self._policy):
                yield self._policy

    def follow(self) -> None:
        """Moves the average towards the policy, after its update; nothing without a decay."""
        if self._decay is None or self._model is None or self._average is None:
            return
        pairs = zip(self._model.parameters(), self._policy.parameters(), strict=True)
        with torch.no_grad():
            for average, (mine, policys) in zip(self._average, pairs, strict=True):
                average.lerp_(policys.float(), 1.0 - self._decay)
                if mine.dtype != average.dtype:  # else the two are one tensor
                    mine.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """The average's weights, float32; empty where the model the run began with says it all."""
        if self._model is None or self._average is None:
            return {}
        names = (name for name, _ in self._model.named_parameters())
        return {name: average.cpu() for name, average in zip(names, self._average, strict=True)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            assert self._model is not None and self._average is not None
            with torch.no_grad():
                for (name, mine), average in zip(self._model.named_parameters(), self._average, strict=True):
                    average.copy_(state[name])
                    mine.copy_(average)


def build_reference(policy: PreTrainedModel, config: RlConfig) -> Reference | None:
    """The reference, where the configuration has a KL penalty."""
    return Reference(policy, config) if config.kl_coef else None
