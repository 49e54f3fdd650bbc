"""The RL objective as pure tensor functions: policy losses and penalties over packed response tokens. Advantages:
`rlcs.advantages`.

Axis suffix: T trained response tokens of any number of samples laid end to end.
"""

from dataclasses import dataclass
from typing import Literal

import torch

Aggregation = Literal["sample", "token", "constant"]
Surrogate = Literal["ppo", "gspo", "cispo"]
KlEstimator = Literal["k1", "k2", "k3"]
_MAX_LOG_RATIO = 20.0  # exp() of more would overflow into NaN gradients; clipping has long since taken over


def token_weights(lengths: torch.Tensor, aggregation: Aggregation, *, constant: int | None = None) -> torch.Tensor:
    """Weights [T] that turn a sum over tokens into the batch's loss; those of "sample" and "token" sum to 1.

    `lengths`: int [samples], trained tokens of each sample of one optimiser step. "sample" is the mean over samples of
    each sample's mean over its tokens (GLM-4.1V-Thinking found it steadier, arXiv 2507.01006, section 5.3), "token" the
    mean over all tokens (DAPO, arXiv 2503.14476), "constant" the mean over samples of the sum over their tokens divided by
    `constant`, normally the longest response there can be: a token's say does not depend on any length (Dr. GRPO, arXiv
    2503.20783, section 3.2). Samples without trained tokens count in none. Because the weights are made for the whole
    optimiser step, the sum over its micro-batches does not depend on how they are cut.
    """
    tokens = int(lengths.sum())
    if aggregation == "token":
        return torch.full((tokens,), 1.0 / max(tokens, 1), device=lengths.device)
    samples = max(int((lengths > 0).sum()), 1)
    if aggregation == "constant":
        if constant is None or constant < 1:
            raise ValueError(f"constant is {constant}; expected the number of tokens to divide each sample's sum by")
        return torch.full((tokens,), 1.0 / (samples * constant), device=lengths.device)
    per_sample = 1.0 / (lengths.clamp(min=1).double() * samples)
    return per_sample.float().repeat_interleave(lengths)


def truncated_importance(old_logprobs_T: torch.Tensor, rollout_logprobs_T: torch.Tensor, cap: float) -> torch.Tensor:
    """min(pi_old / pi_rollout, cap) per token [T], without gradient: truncated importance sampling.

    Corrects for a rollout engine whose log-probabilities differ from the trainer's under the same weights (Yao et al.
    2025, "Your efficient RL framework secretly brings you off-policy RL training").
    """
    gap_T = (old_logprobs_T - rollout_logprobs_T).detach()
    return gap_T.clamp(max=_MAX_LOG_RATIO).exp().clamp(max=cap)


def masked_importance(
    old_logprobs_T: torch.Tensor, rollout_logprobs_T: torch.Tensor, cap: float, floor: float = 0.0
) -> torch.Tensor:
    """pi_old / pi_rollout per token [T] where it lies within [floor, cap], else 0, without gradient.

    Masked importance sampling: a token on which engine and trainer disagree by more has no say, where truncation would let it
    have a bounded one (IcePop, "Small leak can sink a great boat", Ling team 2025).
    """
    gap_T = (old_logprobs_T - rollout_logprobs_T).detach()
    weight_T = gap_T.clamp(max=_MAX_LOG_RATIO).exp()
    return torch.where((weight_T >= floor) & (weight_T <= cap), weight_T, 0.0)


def kl_estimate(logprobs_T: torch.Tensor, reference_logprobs_T: torch.Tensor, estimator: KlEstimator = "k3") -> torch.Tensor:
    """Estimates [T] of KL(policy || reference), in nats, from tokens that the policy drew (Schulman, "Approximating KL
    divergence", 2020). With d = log policy - log reference:

    k1 = d, unbiased, can be negative; k2 = d^2 / 2, biased, of low variance; k3 = exp(-d) - 1 + d, unbiased, never negative.
    As a penalty in the loss what matters is the gradient: in expectation that of k1 is zero (use it in the reward), that of k2
    is the gradient of the divergence, and that of k3 is it to first order in d.
    """
    d_T = logprobs_T - reference_logprobs_T
    if estimator == "k1":
        return d_T
    if estimator == "k2":
        return 0.5 * d_T.square()
    # Far from the reference the exponential is cut, as ratios are.
    return (-d_T).clamp(max=_MAX_LOG_RATIO).exp() - 1.0 + d_T


def sample_means(values_T: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Each sample's mean, repeated for each of its tokens [T]; `lengths`: int [samples], their sum is T."""
    sample_T = torch.repeat_interleave(torch.arange(len(lengths), device=values_T.device), lengths.to(values_T.device))
    sums = values_T.new_zeros(len(lengths)).index_add(0, sample_T, values_T)
    return (sums / lengths.to(values_T.device).clamp(min=1))[sample_T]


def value_loss(
    values_T: torch.Tensor, old_values_T: torch.Tensor, returns_T: torch.Tensor, weights_T: torch.Tensor, *, clip: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss of a critic's values, tokens whose loss the clip decided): half the weighted sum of squared errors.

    A token's error is the larger of value - return and clipped value - return, where the value is clipped to within `clip` of
    `old_values_T`, what it was before the step's updates (Schulman et al.'s PPO code, analysed in arXiv 2005.12729, section 3;
    verl and TRL have the same): a value that has moved so far towards its return loses its gradient. None: the plain error.
    """
    errors_T = (values_T - returns_T).square()
    if clip is None:
        return 0.5 * (weights_T * errors_T).sum(), torch.zeros((), dtype=torch.long, device=values_T.device)
    near_T = torch.minimum(torch.maximum(values_T, old_values_T - clip), old_values_T + clip)
    clipped_T = (near_T - returns_T).square()
    return 0.5 * (weights_T * torch.maximum(errors_T, clipped_T)).sum(), (clipped_T > errors_T).sum()


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
    surrogate: Surrogate = "ppo",
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = None,
    lengths: torch.Tensor | None = None,
    importance_T: torch.Tensor | None = None,
) -> tuple[torch.Tensor, LossStats]:
    """The policy loss to minimise, - sum of weight * surrogate, and its statistics.

    With ratio = exp(logprob - old_logprob) and A the advantage, a token's surrogate is

    - "ppo": min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A), PPO (arXiv 1707.06347, eq. 7) with DAPO's separate
      upper bound ("clip-higher");
    - "gspo": the same with the geometric mean of the ratios over the sample's tokens in place of the token's (GSPO, arXiv
      2507.18071, eq. 5 to 7; its clip bounds are a hundred times smaller). `lengths`: int [samples], tokens of each sample;
    - "cispo": logprob * A * clip(ratio, ...) with no gradient through the last factor, so that every token keeps its gradient
      (CISPO, MiniMax-M1, arXiv 2506.13585, eq. 4 and 5).

    `dual_clip` bounds the first two from below at dual_clip * A where A < 0 (arXiv 1912.09729, eq. 5); `importance_T`
    multiplies each token's term. Only tokens the policy chose belong here: leave forced tokens out. The loss is a scalar and
    sums over micro-batches of whole samples. A token counts as clipped when clipping took its gradient, with CISPO when it cut
    its weight.
    """
    log_ratio_T = logprobs_T - old_logprobs_T
    if surrogate == "gspo":
        if lengths is None:
            raise ValueError("surrogate gspo needs the lengths of the samples")
        log_ratio_T = sample_means(log_ratio_T, lengths)
    log_ratio_T = log_ratio_T.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    ratio_T = log_ratio_T.exp()
    clipped_T = ratio_T.clamp(1.0 - clip_low, 1.0 + clip_high)
    low_T, high_T = ratio_T.detach() < 1.0 - clip_low, ratio_T.detach() > 1.0 + clip_high
    if surrogate == "cispo":
        surrogate_T = clipped_T.detach() * advantages_T * logprobs_T
    else:
        surrogate_T = torch.minimum(ratio_T * advantages_T, clipped_T * advantages_T)
        low_T, high_T = low_T & (advantages_T < 0), high_T & (advantages_T > 0)
        if dual_clip is not None:
            bounded_T = (advantages_T < 0) & (ratio_T.detach() > dual_clip)
            surrogate_T = torch.where(bounded_T, dual_clip * advantages_T, surrogate_T)
            high_T = high_T | bounded_T
    if importance_T is not None:
        surrogate_T = surrogate_T * importance_T
    loss = -(weights_T * surrogate_T).sum()
    with torch.no_grad():
        stats = LossStats(
            tokens=torch.tensor(len(ratio_T), device=loss.device),
            clipped_low=low_T.sum(),
            clipped_high=high_T.sum(),
            ratio_sum=ratio_T.sum(),
            ratio_max=ratio_T.max() if len(ratio_T) else loss.new_zeros(()),
            kl_sum=(ratio_T - 1.0 - log_ratio_T).sum(),
        )
    return loss, stats
