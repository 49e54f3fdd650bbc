"""The objective of `rlcs.objective` inside verl: an advantage estimator for its registry, and a policy loss for its workers.

verl's own aggregation divides by the batch size it was configured with, rows that pad a batch included; here a row carries
the weight that `rlcs.objective.token_weights` gives its tokens, so that loss and gradient do not depend on padding, on the
number of data-parallel ranks or on how a rank cuts its rows into micro-batches.

Axis suffixes: B rows (one sample each), R response tokens of the longest row, P groups, G samples of a group, T trained
tokens of the rows laid end to end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import register_adv_est
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.padding import no_padding_2_padding

from rlcs.advantages import group_advantages
from rlcs.engines import sampling_of
from rlcs.objective import kl_estimate, masked_importance, policy_loss, token_weights, truncated_importance
from rlcs.rl_config import RlConfig

NAME = "rlcs"
"""Of our estimator (`algorithm.adv_estimator`) and of our loss (`actor.policy_loss.loss_mode`), which the trainer hands to its
workers."""

LOSS_WEIGHT = "loss_weight"
"""Field [B, 1] of a training batch: weight in the loss of each trained token of the row."""

_SUMS = "rlcs_sum/"
_LARGEST = "rlcs_max/"
_MAX_GAP = 20.0  # exp() of more would overflow


def row_advantages(rewards_B: torch.Tensor, groups: np.ndarray, *, normalise: bool) -> torch.Tensor:
    """`rlcs.advantages.group_advantages` of rows in any order, float32 [B].

    `groups` [B] names each row's group (verl's `uid`). A reward that is NaN is a sample that abstained: it enters neither
    mean nor deviation, and its advantage is 0. Groups may differ in size.
    """
    _, group_B = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    order = np.argsort(group_B, kind="stable")
    sizes_P = np.bincount(group_B)
    place_B = np.empty(len(group_B), np.int64)
    place_B[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes_P) - sizes_P, sizes_P)
    rewards_PG = torch.full((len(sizes_P), int(sizes_P.max(initial=0))), torch.nan, dtype=torch.float64)
    rewards_PG[group_B, place_B] = rewards_B.detach().double().cpu()
    advantages_PG = group_advantages(rewards_PG, ~rewards_PG.isnan(), normalise=normalise)
    return advantages_PG[group_B, place_B].float().to(rewards_B.device)


def group_relative(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: np.ndarray, config: Any = None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns [B, R], one value on all trained tokens of a row, from rewards and mask [B, R]: GRPO, or
    Dr. GRPO where verl's `algorithm.norm_adv_by_std_in_grpo` is off.
    """
    normalise = True if config is None else bool(config.get("norm_adv_by_std_in_grpo", True))
    found_BR = row_advantages(token_level_rewards.sum(-1), index, normalise=normalise)[:, None] * response_mask
    return found_BR, found_BR


register_adv_est(NAME)(group_relative)


def row_weights(lengths_B: torch.Tensor, update_B: np.ndarray, config: RlConfig) -> torch.Tensor:
    """Weight of each row's trained tokens, float32 [B, 1]: `rlcs.objective.token_weights` of each optimiser update's samples.

    `lengths_B`: int [B], trained tokens of each row, 0 for rows that pad the batch; `update_B` [B]: which update of the step
    a row belongs to.
    """
    constant = sampling_of(config, config.most_think_tokens).max_new_tokens
    weights_B = torch.zeros(len(lengths_B), dtype=torch.float32)
    for update in np.unique(update_B):
        rows = torch.from_numpy(np.flatnonzero(update_B == update))
        rows = rows[lengths_B[rows] > 0]
        lengths = lengths_B[rows]
        weights_T = token_weights(lengths, config.loss_aggregation, constant=constant)
        weights_B[rows] = weights_T[lengths.cumsum(0) - lengths].float()
    return weights_B[:, None]


@dataclass(frozen=True)
class WeightedPolicyLoss:
    """`rlcs.objective.policy_loss` as the loss function of verl's actor workers (`set_loss_fn`), with the same settings as in
    `rlcs.learner.Learner`. A batch needs `LOSS_WEIGHT` beside verl's fields.
    """

    config: RlConfig

    def __call__(
        self, model_output: Mapping[str, torch.Tensor], data: TensorDict, dp_group: Any = None
    ) -> tuple[torch.Tensor, dict[str, Metric]]:
        """The micro-batch's part of the loss, times the number of ranks, over which verl averages gradients; and its sums
        for `policy_metrics`.
        """
        config = self.config
        wanted = ["response_mask", "old_log_probs", "advantages", "rollout_log_probs", LOSS_WEIGHT]
        wanted += [name for name in ("ref_log_prob", "rollout_is_weights") if name in data.keys()]  # noqa: SIM118
        padded = data.select(*wanted).to_padded_tensor()
        mask_BR = padded["response_mask"].bool()
        old_T, advantages_T, rollout_T = (padded[name][mask_BR] for name in wanted[1:4])
        weights_T = padded[LOSS_WEIGHT].expand(mask_BR.shape)[mask_BR]
        logprobs_T = no_padding_2_padding(model_output["log_probs"], data)[mask_BR]
        importance_T = self._importance(old_T, rollout_T)
        if importance_T is None and "rollout_is_weights" in wanted:  # of a correction of verl's own
            importance_T = padded["rollout_is_weights"][mask_BR]
        loss, stats = policy_loss(
            logprobs_T,
            old_T,
            advantages_T,
            weights_T,
            surrogate=config.surrogate,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            dual_clip=config.dual_clip,
            lengths=mask_BR.sum(1),
            importance_T=importance_T,
        )
        # With old log-probabilities of the trainer's own, these are of the weights that sampled, whatever update this is.
        gap_T = (old_T if config.old_logprobs == "trainer" else logprobs_T.detach()) - rollout_T
        sums = {
            "tokens": stats.tokens,
            "clipped_low": stats.clipped_low,
            "clipped_high": stats.clipped_high,
            "ratio": stats.ratio_sum,
            "kl": stats.kl_sum,
            "gap": gap_T.abs().sum(),
            "gap_kl": (gap_T.clamp(max=_MAX_GAP).exp() - 1.0 - gap_T).sum(),
        }
        if importance_T is not None and config.importance_cap is not None:
            sums["importance"] = importance_T.sum()
            sums["importance_capped"] = ((importance_T >= config.importance_cap) | (importance_T == 0)).sum()
        if config.kl_coef:
            kl_T = kl_estimate(logprobs_T, padded["ref_log_prob"][mask_BR], config.kl_estimator)
            sums["reference_kl"] = kl_T.detach().sum()
            loss = loss + config.kl_coef * (weights_T * kl_T).sum()
        if model_output.get("entropy") is not None:
            entropy_T = no_padding_2_padding(model_output["entropy"], data)[mask_BR]
            sums["entropy"] = entropy_T.detach().sum()
            loss = loss - config.entropy_coef * (weights_T * entropy_T).sum()
        elif config.entropy_coef:
            raise ValueError("entropy_coef needs the entropy, which the engine was not asked for")
        largest = {"ratio": stats.ratio_max, "gap": gap_T.abs().max() if len(gap_T) else gap_T.new_zeros(())}
        ranks = int(data["dp_size"])
        # verl takes the mean of a SUM metric over the ranks.
        metrics = {_SUMS + name: Metric(AggregationType.SUM, float(value) * ranks) for name, value in sums.items()}
        metrics |= {_LARGEST + name: Metric(AggregationType.MAX, float(value)) for name, value in largest.items()}
        return loss * ranks, metrics

    def _importance(self, old_T: torch.Tensor, rollout_T: torch.Tensor) -> torch.Tensor | None:
        cap = self.config.importance_cap
        if cap is None:
            return None
        return (truncated_importance if self.config.importance == "truncate" else masked_importance)(old_T, rollout_T, cap)


def is_of_update(name: str) -> bool:
    """Whether a worker's metric is one that `policy_metrics` reads: it has a value for each update of a step."""
    return name in ("loss", "grad_norm") or name.startswith((_SUMS, _LARGEST))


def policy_metrics(found: Mapping[str, float]) -> dict[str, float]:
    """The learner's metrics, named as `rlcs.learner.Learner.update` names them, from verl's `actor/...` metrics of a step.

    What `WeightedPolicyLoss` summed is turned into fractions and means over tokens. With another loss of verl's only loss
    and gradient norm are there.
    """
    sums = {name.removeprefix(f"actor/{_SUMS}"): value for name, value in found.items() if name.startswith(f"actor/{_SUMS}")}
    largest = {
        name.removeprefix(f"actor/{_LARGEST}"): value for name, value in found.items() if name.startswith(f"actor/{_LARGEST}")
    }
    metrics = {name: found[f"actor/{name}"] for name in ("loss", "grad_norm") if f"actor/{name}" in found}
    if not sums:
        return metrics
    tokens = max(sums["tokens"], 1.0)
    means = {
        "clip_fraction_low": "clipped_low",
        "clip_fraction_high": "clipped_high",
        "ratio_mean": "ratio",
        "approx_kl": "kl",
        "entropy": "entropy",
        "logprob_gap_mean": "gap",
        "rollout_kl": "gap_kl",
        "importance_mean": "importance",
        "importance_capped_fraction": "importance_capped",
        "reference_kl": "reference_kl",
    }
    metrics |= {name: sums[term] / tokens for name, term in means.items() if term in sums}
    return metrics | {
        name: largest[term] for name, term in {"ratio_max": "ratio", "logprob_gap_max": "gap"}.items() if term in largest
    }
