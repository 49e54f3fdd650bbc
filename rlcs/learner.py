"""The policy update: packed sequences, log-probabilities of the response tokens, clipped loss, AdamW.

Axis suffixes: T trained response tokens of the samples at hand, laid end to end; D hidden.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from rlcs.objective import LossStats, kl_estimate, masked_importance, policy_loss, token_weights, truncated_importance
from rlcs.reference import Reference
from rlcs.rl_config import RlConfig
from rlcs.sample_packs import Packing, TrainSample, update_parts
from rollout.forward import token_logprobs
from sft import schedule
from sft.lanes import Backward
from sft.optimizers import build_optimizer, set_learning_rate
from sft.skipped import NonFiniteUpdate, SkippedUpdates, refuse_nonfinite
from sft.update import explained_shortage

__all__ = ["Learner", "TrainSample", "learning_rate"]


@dataclass
class _Totals:
    """Sums over the tokens of a step."""

    updates: list[LossStats] = field(default_factory=list)
    entropy: float = 0.0
    gap_sum: float = 0.0
    gap_max: float = 0.0
    gap_kl: float = 0.0
    gap_tokens: int = 0
    importance_sum: float = 0.0
    importance_capped: int = 0
    reference_kl: float = 0.0
    packed_tokens: int = 0

    def add(self, other: "_Totals") -> None:
        """Takes the sums of one more update in."""
        for one in fields(self):
            mine, its = getattr(self, one.name), getattr(other, one.name)
            setattr(self, one.name, max(mine, its) if one.name == "gap_max" else mine + its)


def learning_rate(config: RlConfig, step: int) -> float:
    """Rate of the 0-based `step` of the run, `sft.schedule.learning_rate`."""
    return schedule.learning_rate(config, step, config.steps)


def optimizer_of(model: PreTrainedModel, config: RlConfig) -> torch.optim.Optimizer:
    """Of all that is trained of a policy or critic."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return build_optimizer([{"params": trained, "weight_decay": config.weight_decay}], config)


class Learner:
    """Updates `model` on scored rollouts.

    With `old_logprobs: rollout` the ratio is taken against the log-probabilities the engine reported while sampling.
    They are those of the same weights, so nothing is computed twice, and what little the engine's arithmetic differs is
    part of the ratio, as it should be. With `old_logprobs: trainer` they are the trainer's own before the step's first
    update: for a single update that is the forward pass at hand without its gradient, for several one more pass. Their
    gap to the engine's is reported in either case.
    """

    def __init__(self, model: PreTrainedModel, config: RlConfig, reference: Reference | None = None) -> None:
        self.model, self.config, self.reference = model, config, reference
        self.optimizer = optimizer_of(model, config)
        self._packing = Packing(model, config.token_budget)
        self.skipped = SkippedUpdates(config.max_skipped_updates)

    def update(self, samples: Sequence[TrainSample], step: int, rng: np.random.Generator) -> dict[str, float]:
        """One step: `updates_per_step` optimiser updates on disjoint parts of `samples`, drawn by `rng`, in each of
        `epochs_per_step` passes over them. -> metrics, "update/N/..." for each update where there are several.

        What stands below the ratio stays what it was before the first update. An update whose loss or gradient is not finite is
        skipped and counted: nothing it would change is changed. Raises FloatingPointError, naming samples, when more than
        `max_skipped_updates` in a row are.
        """
        config, began = self.config, time.perf_counter()
        self._packing.meter.clear()
        set_learning_rate(self.optimizer, learning_rate(config, step))
        samples = [sample for sample in samples if len(sample.rollout_logprobs)]
        if not samples:
            return {"lr": learning_rate(config, step), "skipped_updates": 0.0}
        parts = [
            part for _ in range(config.epochs_per_step) for part in update_parts(len(samples), config.updates_per_step, rng)
        ]
        old = [torch.from_numpy(sample.rollout_logprobs) for sample in samples]
        fresh = config.old_logprobs == "trainer" and config.updates_per_step * config.epochs_per_step == 1
        if config.old_logprobs == "trainer" and not fresh:
            old = self._packing.of_each(samples, lambda chosen: self._logprobs(chosen)[0])
        totals = _Totals()
        losses: list[float] = []
        norms: list[float] = []
        for part in parts:
            chosen = [samples[index] for index in part]
            old_chosen = None if fresh else [old[index] for index in part]
            own = _Totals()
            try:
                loss, norm = self._optimise(chosen, old_chosen, own, measure_gap=not losses)
            except NonFiniteUpdate as error:
                self.skipped.skip(step + config.policy_starts, error)
                continue
            self.skipped.made()
            totals.add(own)
            losses.append(loss)
            norms.append(norm)
        counted = {"lr": learning_rate(config, step), "skipped_updates": float(len(parts) - len(losses))}
        if not losses:
            return counted
        if self.reference is not None:
            self.reference.follow()
        stats = reduce(add, totals.updates)
        tokens = max(int(stats.tokens), 1)
        importance = {
            "importance_mean": totals.importance_sum / tokens,
            "importance_capped_fraction": totals.importance_capped / tokens,
        }
        return {
            "loss": float(np.mean(losses)),
            "grad_norm": float(np.mean(norms)),
            **counted,
            **stats.metrics(),
            "entropy": totals.entropy / tokens,
            "logprob_gap_mean": totals.gap_sum / max(totals.gap_tokens, 1),
            "logprob_gap_max": totals.gap_max,
            "rollout_kl": totals.gap_kl / max(totals.gap_tokens, 1),
            **(importance if config.importance_cap is not None else {}),
            **({"reference_kl": totals.reference_kl / tokens} if self.reference is not None else {}),
            "trained_tokens": float(tokens),
            "packed_tokens": float(totals.packed_tokens),
            **self._packing.meter.metrics(time.perf_counter() - began),
            **(_each_update(losses, norms, totals.updates) if len(parts) > 1 else {}),
        }

    def _optimise(
        self, samples: Sequence[TrainSample], old: Sequence[torch.Tensor] | None, totals: _Totals, *, measure_gap: bool
    ) -> tuple[float, float]:
        """One optimiser update on all of `samples`; `old` None takes the pass's own log-probabilities. -> (loss,
        gradient norm). Raises NonFiniteUpdate where either is not finite.
        """
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(samples, old, totals, measure_gap=measure_gap)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip))

        def alone(index: int) -> float:
            return self._backward([samples[index]], old and [old[index]], _Totals(), measure_gap=False)

        refuse_nonfinite(self.model, loss, norm, [sample.id for sample in samples], alone)
        self.optimizer.step()
        return loss, norm

    def _backward(
        self, samples: Sequence[TrainSample], old: Sequence[torch.Tensor] | None, totals: _Totals, *, measure_gap: bool
    ) -> float:
        """Adds the gradient of the loss over all of `samples`, pack by pack. -> the loss."""
        config = self.config
        lengths = torch.tensor([len(sample.rollout_logprobs) for sample in samples])
        constant = config.most_response_tokens
        weights = token_weights(lengths, config.loss_aggregation, constant=constant).split(lengths.tolist())
        reference = self._reference_logprobs(samples)

        def one_pass(members: list[int], backward: Backward) -> tuple[float, _Totals]:
            chosen = [samples[index] for index in members]
            own, named = _Totals(packed_tokens=self._packing.tokens(chosen)), self._packing.named(chosen)
            with explained_shortage(self.model.device, own.packed_tokens, named):
                logprobs_T, entropy_T = self._logprobs(chosen)
            device = logprobs_T.device
            rollout_T = torch.cat([torch.from_numpy(sample.rollout_logprobs) for sample in chosen]).to(device)
            old_T = logprobs_T.detach() if old is None else torch.cat([old[index] for index in members]).to(device)
            advantages_T = torch.cat([sample.advantages_T for sample in chosen])
            weights_T = torch.cat([weights[index] for index in members]).to(device)
            importance_T = None
            if config.importance_cap is not None:
                weighted = truncated_importance if config.importance == "truncate" else masked_importance
                importance_T = weighted(old_T, rollout_T, config.importance_cap)
                own.importance_sum = float(importance_T.sum())
                own.importance_capped = int(((importance_T >= config.importance_cap) | (importance_T == 0)).sum())
            loss, stats = policy_loss(
                logprobs_T,
                old_T,
                advantages_T.to(device),
                weights_T,
                surrogate=config.surrogate,
                clip_low=config.clip_low,
                clip_high=config.clip_high,
                dual_clip=config.dual_clip,
                lengths=lengths[members],
                importance_T=importance_T,
            )
            if reference is not None:
                reference_T = torch.cat([reference[index] for index in members]).to(device)
                kl_T = kl_estimate(logprobs_T, reference_T, config.kl_estimator)
                loss = loss + config.kl_coef * (weights_T * kl_T).sum()
                own.reference_kl = float(kl_T.detach().sum())
            if config.entropy_coef:
                loss = loss - config.entropy_coef * (weights_T * entropy_T).sum()
            with explained_shortage(self.model.device, own.packed_tokens, named):
                backward(loss)
            own.updates.append(stats)
            own.entropy = float(entropy_T.detach().sum())
            if measure_gap:  # before any update of this step, so that weights are those that sampled
                gap_T = logprobs_T.detach() - rollout_T
                own.gap_sum, own.gap_max = float(gap_T.abs().sum()), float(gap_T.abs().max())
                own.gap_kl = float((gap_T.clamp(max=20.0).exp() - 1.0 - gap_T).sum())
                own.gap_tokens = len(gap_T)
            return float(loss.detach()), own

        # Rollouts made ahead are generated meanwhile, on the same cores.
        _, found = self._packing.passes(samples, one_pass, alone=not config.max_staleness)
        update = _Totals()
        for _, own in found:
            update.add(own)
        update.updates = [reduce(add, update.updates)]
        totals.add(update)
        return sum(loss for loss, _ in found)

    def _reference_logprobs(self, samples: Sequence[TrainSample]) -> list[torch.Tensor] | None:
        """The reference's log-probabilities [T] of each sample's trained tokens, where there is a reference."""
        if self.reference is None:
            return None
        with self.reference.at_work() as reference:
            return self._packing.of_each(samples, lambda chosen: self._logprobs(chosen, reference)[0])

    def _logprobs(
        self, samples: Sequence[TrainSample], model: PreTrainedModel | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies [T] of the trained tokens of one pack, at the sampling temperature; of the policy, or
        of `model`.
        """
        hidden_TD, targets_T = self._packing.trained_states(samples, model)
        logprobs: Any = token_logprobs(
            model or self.model,
            hidden_TD,
            targets_T,
            temperature=self.config.temperature,
            with_entropy=True,
        )
        return logprobs


def _each_update(losses: Sequence[float], norms: Sequence[float], updates: Sequence[LossStats]) -> dict[str, float]:
    """How far each update of a step was from what sampled, and what it did: "update/1/approx_kl" and so on."""
    found: dict[str, float] = {}
    for number, (loss, norm, stats) in enumerate(zip(losses, norms, updates, strict=True), 1):
        measured = stats.metrics()
        chosen = {name: measured[name] for name in ("approx_kl", "clip_fraction_low", "clip_fraction_high", "ratio_max")}
        found |= {f"update/{number}/{name}": value for name, value in ({"loss": loss, "grad_norm": norm} | chosen).items()}
    return found
