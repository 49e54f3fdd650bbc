"""Drawing the next token of many sequences at once. Axis suffixes: B sequences, V vocabulary."""

import torch

from rollout.engine import SamplingParams


def _nucleus(probs_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zeroes all but the smallest set of likeliest tokens whose probability reaches `top_p` (Holtzman et al., 2020)."""
    ordered, order = probs_BV.sort(dim=1, descending=True)
    before = ordered.cumsum(1) - ordered
    kept = ordered.masked_fill(before >= top_p * ordered.sum(1, keepdim=True), 0.0)
    return torch.zeros_like(probs_BV).scatter(1, order, kept)


def sample_tokens(
    logits_BV: torch.Tensor,
    sampling: SamplingParams,
    uniforms_B: torch.Tensor,
    suppressed_V: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Next tokens int64 [B] and their log-probabilities float32 [B] in nats.

    `uniforms_B` (float64 in [0, 1)) decides each draw by inverting the cumulative distribution, one number a sequence,
    so a sequence's draw does not depend on which others are still running. Tokens marked in `suppressed_V` (bool [V])
    are never drawn, yet keep their mass in the reported softmax: the trainer normalises over the whole vocabulary, and
    the ratio of the two is then exactly 1 on policy. With top_p < 1 log-probabilities are renormalised over the
    nucleus. Greedy tokens are reported with their log-probability at temperature 1.
    """
    logits_BV = logits_BV.float()
    greedy = sampling.temperature == 0.0
    logprobs_BV = torch.log_softmax(logits_BV if greedy else logits_BV / sampling.temperature, dim=1)
    if greedy:
        allowed = logits_BV if suppressed_V is None else logits_BV.masked_fill(suppressed_V, float("-inf"))
        tokens_B = allowed.argmax(1)
        return tokens_B, logprobs_BV.gather(1, tokens_B[:, None]).squeeze(1)
    drawable_BV = logprobs_BV if suppressed_V is None else logprobs_BV.masked_fill(suppressed_V, float("-inf"))
    probs_BV = torch.softmax(drawable_BV, dim=1).double()
    if sampling.top_p < 1.0:
        probs_BV = _nucleus(probs_BV, sampling.top_p)
    cumulative_BV = probs_BV.cumsum(1)
    total_B1 = cumulative_BV[:, -1:]
    if not bool((total_B1 > 0).all()):
        raise FloatingPointError(
            "logits hold NaN or no finite entry: the policy has diverged; resume from a checkpoint before it"
        )
    # Strictly below the total, so that the first entry above it is always a token of positive probability.
    targets_B1 = torch.minimum(uniforms_B[:, None] * total_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1)))
    tokens_B1 = torch.searchsorted(cumulative_BV, targets_B1, right=True)
    chosen_B = logprobs_BV.gather(1, tokens_B1).squeeze(1)
    if sampling.top_p < 1.0:
        chosen_B = probs_BV.gather(1, tokens_B1).squeeze(1).div(total_B1.squeeze(1)).log().float()
    return tokens_B1.squeeze(1), chosen_B
