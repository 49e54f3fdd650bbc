"""The RL objective as pure tensor functions: group advantages and the clipped policy loss over packed response tokens.

Axis suffixes: P groups (one prompt each), G samples of a group, T trained response tokens of any number of samples laid
end to end.
"""

from dataclasses import dataclass
from typing import Literal

import torch

Aggregation = Literal["sample", "token"]
_EQUAL_REWARDS = 1e-6  # relative spread under which rewards differ by rounding only (float32 keeps 1e-7)
_MAX_LOG_RATIO = 20.0  # exp() of more would overflow into NaN gradients; clipping has long since taken over


def group_advantages(rewards_PG: torch.Tensor, valid_PG: torch.Tensor, *, normalise: bool = True) -> torch.Tensor:
    """Advantages float64 [P, G] of rewards relative to their own group.

    Reward minus the group's mean, divided by the group's standard deviation (n - 1 in its denominator, as in verl and
    TRL) when `normalise`: GRPO (arXiv 2402.03300, section 4.1.2); without it Dr. GRPO (arXiv 2503.20783). Samples not
    in `valid_PG` (bool) enter neither mean nor deviation and get 0, whatever their reward holds, NaN included. Groups
    of fewer than two valid samples, and groups whose rewards are equal up to float32 rounding, get exactly 0: a mean of
    equal numbers may miss them by one rounding, and dividing by the equally tiny deviation would turn that into
    advantages of order 1.
    """
    if rewards_PG.shape != valid_PG.shape or rewards_PG.ndim != 2:
        raise ValueError(
            f"rewards {tuple(rewards_PG.shape)} and valid {tuple(valid_PG.shape)}; expected one shape [groups, samples]"
        )
    rewards = rewards_PG.double().masked_fill(~valid_PG, 0.0)
    if not bool(rewards.isfinite().all()):
        raise ValueError("a valid sample has a reward that is not finite; mark samples without a reward as not valid")
    count_P1 = valid_PG.sum(1, keepdim=True).clamp(min=1)
    centred = (rewards - rewards.sum(1, keepdim=True) / count_P1).masked_fill(~valid_PG, 0.0)
    spread_P1 = _spread(rewards, valid_PG)
    informative_P1 = spread_P1 > _EQUAL_REWARDS * rewards.abs().amax(1, keepdim=True)
    scale_P1 = torch.ones_like(spread_P1)
    if normalise:
        variance_P1 = centred.square().sum(1, keepdim=True) / (count_P1 - 1).clamp(min=1)
        scale_P1 = variance_P1.sqrt().masked_fill(~informative_P1, 1.0)
    return (centred / scale_P1).masked_fill(~informative_P1, 0.0)


def _spread(rewards_PG: torch.Tensor, valid_PG: torch.Tensor) -> torch.Tensor:
    """Largest minus smallest valid reward [P, 1]; 0 for groups of fewer than two valid samples."""
    if rewards_PG.shape[1] == 0:
        return rewards_PG.new_zeros(len(rewards_PG), 1)
    high = rewards_PG.masked_fill(~valid_PG, -torch.inf).amax(1, keepdim=True)
    low = rewards_PG.masked_fill(~valid_PG, torch.inf).amin(1, keepdim=True)
    return (high - low).masked_fill(valid_PG.sum(1, keepdim=True) < 2, 0.0)


def token_weights(lengths: torch.Tensor, aggregation: Aggregation) -> torch.Tensor:
    """Weights [T] that turn a sum over tokens into the batch's loss; they sum to 1.

    `lengths`: int [samples], trained tokens of each sample of one optimiser step. "sample" is the mean over samples of
    each sample's mean over its tokens (GLM-4.1V-Thinking found it steadier, arXiv 2507.01006, section 5.3), "token" the
    mean over all tokens (DAPO, arXiv 2503.14476). Samples without trained tokens count in neither. Because the weights
    are made for the whole optimiser step, the sum over its micro-batches does not depend on how they are cut.
    """
    tokens = int(lengths.sum())
    if aggregation == "token":
        return torch.full((tokens,), 1.0 / max(tokens, 1), device=lengths.device)
    samples = int((lengths > 0).sum())
    per_sample = 1.0 / (lengths.clamp(min=1).double() * max(samples, 1))
    return per_sample.float().repeat_interleave(lengths)


def truncated_importance(old_logprobs_T: torch.Tensor, rollout_logprobs_T: torch.Tensor, cap: float) -> torch.Tensor:
    """min(pi_old / pi_rollout, cap) per token [T], without gradient: truncated importance sampling.

    Corrects for a rollout engine whose log-probabilities differ from the trainer's under the same weights (Yao et al.
    2025, "Your efficient RL framework secretly brings you off-policy RL training").
    """
    gap_T = (old_logprobs_T - rollout_logprobs_T).detach()
    return gap_T.clamp(max=_MAX_LOG_RATIO).exp().clamp(max=cap)


@dataclass(frozen=True)
class LossStats:
    """Sums over tokens, scalars on the loss's device; the sum of two is that of both micro-batches together."""

    tokens: torch.Tensor
    clipped_low: torch.Tensor
    clipped_high: torch.Tensor
    ratio_sum: torch.Tensor
    ratio_max: torch.Tensor
    kl_sum: torch.Tensor

    def __add__(self, other: "LossStats") -> "LossStats":
        return LossStats(
            self.tokens + other.tokens,
            self.clipped_low + other.clipped_low,
            self.clipped_high + other.clipped_high,
            self.ratio_sum + other.ratio_sum,
            torch.maximum(self.ratio_max, other.ratio_max),
            self.kl_sum + other.kl_sum,
        )

    def metrics(self) -> dict[str, float]:
        """Fractions and means over tokens; `approx_kl` estimates KL(old || new) in nats by ratio - 1 - log ratio
        (Schulman's k3).
        """
        tokens = max(int(self.tokens), 1)
        return {
            "clip_fraction_low": int(self.clipped_low) / tokens,
            "clip_fraction_high": int(self.clipped_high) / tokens,
            "ratio_mean": float(self.ratio_sum) / tokens,
            "ratio_max": float(self.ratio_max),
            "approx_kl": float(self.kl_sum) / tokens,
        }


def policy_loss(
    logprobs_T: torch.Tensor,
    old_logprobs_T: torch.Tensor,
    advantages_T: torch.Tensor,
    weights_T: torch.Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    importance_T: torch.Tensor | None = None,
) -> tuple[torch.Tensor, LossStats]:
    """PPO's clipped surrogate (arXiv 1707.06347, eq. 7) with DAPO's separate upper bound ("clip-higher"), as a loss to
    minimise.

    - sum of weight * min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A), ratio = exp(logprob - old_logprob);
    `importance_T` multiplies each token's term. Only tokens the policy chose belong here: leave forced tokens out.
    Returns the loss (scalar; sums over micro-batches) and its statistics. A token counts as clipped when clipping took
    its gradient.
    """
    log_ratio_T = (logprobs_T - old_logprobs_T).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    ratio_T = log_ratio_T.exp()
    clipped_T = ratio_T.clamp(1.0 - clip_low, 1.0 + clip_high)
    surrogate_T = torch.minimum(ratio_T * advantages_T, clipped_T * advantages_T)
    if importance_T is not None:
        surrogate_T = surrogate_T * importance_T
    loss = -(weights_T * surrogate_T).sum()
    with torch.no_grad():
        stats = LossStats(
            tokens=torch.tensor(len(ratio_T), device=loss.device),
            clipped_low=((ratio_T < 1.0 - clip_low) & (advantages_T < 0)).sum(),
            clipped_high=((ratio_T > 1.0 + clip_high) & (advantages_T > 0)).sum(),
            ratio_sum=ratio_T.sum(),
            ratio_max=ratio_T.max() if len(ratio_T) else loss.new_zeros(()),
            kl_sum=(ratio_T - 1.0 - log_ratio_T).sum(),
        )
    return loss, stats
