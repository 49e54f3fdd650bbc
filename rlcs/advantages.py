"""Advantages as pure tensor functions: GRPO, Dr. GRPO, RLOO, REINFORCE++ and generalised advantage estimation.

Axis suffixes: P groups (one prompt each), G samples of a group, T trained response tokens of any number of samples laid end to
end.
"""

import torch

_ROUNDING = 1e-6  # relative spread under which rewards differ by rounding only (float32 keeps 1e-7)


def group_advantages(rewards_PG: torch.Tensor, valid_PG: torch.Tensor, *, normalise: bool = True) -> torch.Tensor:
    """Advantages float64 [P, G] of rewards relative to their own group.

    Reward minus the group's mean, divided by the group's standard deviation (n - 1 in its denominator, as in verl and
    TRL) when `normalise`: GRPO (arXiv 2402.03300, section 4.1.2); without it Dr. GRPO (arXiv 2503.20783). Samples not
    in `valid_PG` (bool) enter neither mean nor deviation and get 0, whatever their reward holds, NaN included. Groups
    of fewer than two valid samples, and groups whose rewards are equal up to float32 rounding, get exactly 0: a mean of
    equal numbers may miss them by one rounding, and dividing by the equally tiny deviation would turn that into
    advantages of order 1.
    """
    rewards, count_P1 = _valid_rewards(rewards_PG, valid_PG)
    count_P1 = count_P1.clamp(min=1)
    centred = (rewards - rewards.sum(1, keepdim=True) / count_P1).masked_fill(~valid_PG, 0.0)
    spread_P1 = _spread(rewards, valid_PG)
    informative_P1 = spread_P1 > _ROUNDING * rewards.abs().amax(1, keepdim=True)
    scale_P1 = torch.ones_like(spread_P1)
    if normalise:
        variance_P1 = centred.square().sum(1, keepdim=True) / (count_P1 - 1).clamp(min=1)
        scale_P1 = variance_P1.sqrt().masked_fill(~informative_P1, 1.0)
    return (centred / scale_P1).masked_fill(~informative_P1, 0.0)


def leave_one_out_advantages(rewards_PG: torch.Tensor, valid_PG: torch.Tensor) -> torch.Tensor:
    """Advantages float64 [P, G]: each reward minus the mean of the others of its group (RLOO, arXiv 2402.14740, section 3.2).

    Samples not in `valid_PG` enter no mean and get 0; so do groups of fewer than two valid samples, and, exactly, groups of
    equal rewards.
    """
    rewards, count_P1 = _valid_rewards(rewards_PG, valid_PG)
    total_P1 = rewards.sum(1, keepdim=True)
    others = (total_P1 - rewards) / (count_P1 - 1).clamp(min=1)
    spread = (rewards - others).abs().masked_fill(~valid_PG, 0.0).amax(1, keepdim=True)
    known = valid_PG & (count_P1 > 1) & (spread > _ROUNDING * rewards.abs().amax(1, keepdim=True))
    return (rewards - others).masked_fill(~known, 0.0)


def whitened_advantages(
    rewards_PG: torch.Tensor, valid_PG: torch.Tensor, lengths_PG: torch.Tensor, *, baseline: bool = True
) -> torch.Tensor:
    """Advantages float64 [P, G] of REINFORCE++ (arXiv 2501.03262): rewards whitened over the tokens of the whole batch.

    Every token of a sample carries its reward (no discount), so that a sample counts as often as it has trained tokens,
    `lengths_PG`. With `baseline` the group's mean is taken off first (the paper's "REINFORCE++ with baseline", for several
    samples a prompt). Mean and standard deviation (n - 1 in its denominator) are of the batch's valid samples; samples that are
    not valid get 0, and so does a batch whose rewards are equal up to rounding.
    """
    rewards, count_P1 = _valid_rewards(rewards_PG, valid_PG)
    if lengths_PG.shape != rewards_PG.shape:
        raise ValueError(f"lengths {tuple(lengths_PG.shape)} and rewards {tuple(rewards_PG.shape)}; expected one shape")
    largest = rewards.abs().amax() if rewards.numel() else rewards.new_zeros(())
    if baseline:
        rewards = (rewards - rewards.sum(1, keepdim=True) / count_P1.clamp(min=1)).masked_fill(~valid_PG, 0.0)
    tokens = lengths_PG.double().masked_fill(~valid_PG, 0.0)
    total = tokens.sum()
    centred = (rewards - (tokens * rewards).sum() / total.clamp(min=1.0)).masked_fill(~valid_PG, 0.0)
    deviation = ((tokens * centred.square()).sum() / (total - 1.0).clamp(min=1.0)).sqrt()
    if not bool(deviation > _ROUNDING * largest):
        return torch.zeros_like(centred)
    return centred / deviation


def generalised_advantages(
    rewards_T: torch.Tensor, values_T: torch.Tensor, lengths: torch.Tensor, *, discount: float = 1.0, smoothing: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(advantages, returns), each [T]: generalised advantage estimation (arXiv 1506.02438, eq. 16) of samples end to end.

    `rewards_T`: reward after each token, of an outcome reward all on a sample's last one; `values_T`: the critic's value of the
    state before each token; `lengths`: int [samples], tokens of each, their sum is T. `discount` is gamma and `smoothing`
    lambda; nothing follows a sample's last token. Returns are what the critic learns: advantages + values. Computed in float64
    by doubling, in as many passes as the longest sample's length has bits.
    """
    if rewards_T.shape != values_T.shape or rewards_T.ndim != 1 or int(lengths.sum()) != len(rewards_T):
        raise ValueError(
            f"rewards {tuple(rewards_T.shape)}, values {tuple(values_T.shape)}, lengths of {int(lengths.sum())} tokens; "
            "expected rewards and values of as many tokens as the lengths add up to"
        )
    rewards, values = rewards_T.double(), values_T.double()
    end_T = lengths.cumsum(0).repeat_interleave(lengths).to(rewards.device)  # one past the sample's last token
    at_T = torch.arange(len(rewards), device=rewards.device)

    def ahead(x_T: torch.Tensor, steps: int) -> torch.Tensor:
        """The value `steps` tokens later, 0 past the sample's end."""
        inside_T = at_T + steps < end_T
        return torch.where(inside_T, x_T[(at_T + steps).clamp(max=max(len(x_T) - 1, 0))], 0.0)

    found_T = rewards + discount * ahead(values, 1) - values
    steps, longest = 1, int(lengths.max()) if len(lengths) else 0
    while steps < longest:  # after a pass, each holds the sum over twice as many tokens
        found_T = found_T + (discount * smoothing) ** steps * ahead(found_T, steps)
        steps *= 2
    return found_T.to(values_T.dtype), (found_T + values).to(values_T.dtype)


def whitened_tokens(advantages_T: torch.Tensor) -> torch.Tensor:
    """Advantages [T] less their mean, over their standard deviation (n - 1 in its denominator): as verl and TRL whiten those of
    a critic. Advantages that are equal up to rounding, and a single one, become exactly 0.
    """
    if len(advantages_T) == 0:
        return advantages_T
    found_T = advantages_T.double()
    spread = found_T.max() - found_T.min()
    if not bool(spread > _ROUNDING * found_T.abs().max()):
        return torch.zeros_like(advantages_T)
    return ((found_T - found_T.mean()) / found_T.std()).to(advantages_T.dtype)


def _valid_rewards(rewards_PG: torch.Tensor, valid_PG: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards float64 with 0 for those not valid, and valid samples of each group [P, 1]."""
    if rewards_PG.shape != valid_PG.shape or rewards_PG.ndim != 2:
        raise ValueError(
            f"rewards {tuple(rewards_PG.shape)} and valid {tuple(valid_PG.shape)}; expected one shape [groups, samples]"
        )
    rewards = rewards_PG.double().masked_fill(~valid_PG, 0.0)
    if not bool(rewards.isfinite().all()):
        raise ValueError("a valid sample has a reward that is not finite; mark samples without a reward as not valid")
    return rewards, valid_PG.sum(1, keepdim=True)


def _spread(rewards_PG: torch.Tensor, valid_PG: torch.Tensor) -> torch.Tensor:
    """Largest minus smallest valid reward [P, 1]; 0 for groups of fewer than two valid samples."""
    if rewards_PG.shape[1] == 0:
        return rewards_PG.new_zeros(len(rewards_PG), 1)
    high = rewards_PG.masked_fill(~valid_PG, -torch.inf).amax(1, keepdim=True)
    low = rewards_PG.masked_fill(~valid_PG, torch.inf).amin(1, keepdim=True)
    return (high - low).masked_fill(valid_PG.sum(1, keepdim=True) < 2, 0.0)
