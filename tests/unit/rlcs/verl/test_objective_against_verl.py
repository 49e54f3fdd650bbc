"""Our objective against verl's functions on the same tensors, where both exist."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from verl.trainer.ppo import core_algos
from verl.workers.config import FSDPActorConfig

from rlcs.advantages import (
    generalised_advantages,
    group_advantages,
    leave_one_out_advantages,
    whitened_advantages,
    whitened_tokens,
)
from rlcs.objective import kl_estimate, policy_loss, token_weights, value_loss

GROUPS, SIZE, LONGEST = 5, 4, 12


@pytest.fixture(scope="module")
def rows() -> SimpleNamespace:
    """B = P x G padded rows as verl has them, and their tokens end to end."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, LONGEST + 1, (GROUPS * SIZE,), generator=generator)
    mask = (torch.arange(LONGEST) < lengths[:, None]).float()
    rewards = torch.rand(GROUPS * SIZE, generator=generator)
    token_rewards = torch.zeros_like(mask)
    token_rewards[torch.arange(len(lengths)), lengths - 1] = rewards
    old = -3 * torch.rand(mask.shape, generator=generator)
    return SimpleNamespace(
        lengths=lengths,
        mask=mask,
        inside=mask.bool(),
        rewards_PG=rewards.view(GROUPS, SIZE),
        token_rewards=token_rewards,
        index=np.repeat(np.arange(GROUPS), SIZE).astype(str),
        old=old,
        new=old + 0.6 * torch.randn(mask.shape, generator=generator),
        values=torch.rand(mask.shape, generator=generator),
        advantages=torch.randn(len(lengths), generator=generator)[:, None] * mask,
        everyone=torch.ones(GROUPS, SIZE, dtype=torch.bool),
    )


def per_row(advantages_BR: torch.Tensor) -> np.ndarray:
    return advantages_BR[:, 0].reshape(GROUPS, SIZE).numpy()


def test_grpo_and_rloo(rows: SimpleNamespace) -> None:
    theirs, _ = core_algos.compute_grpo_outcome_advantage(rows.token_rewards, rows.mask, rows.index)
    ours = group_advantages(rows.rewards_PG, rows.everyone)
    np.testing.assert_allclose(ours.numpy(), per_row(theirs), rtol=1e-4)  # verl adds 1e-6 to the deviation
    theirs, _ = core_algos.compute_rloo_outcome_advantage(rows.token_rewards, rows.mask, rows.index)
    np.testing.assert_allclose(leave_one_out_advantages(rows.rewards_PG, rows.everyone).numpy(), per_row(theirs), atol=1e-6)


def test_reinforce_plus_plus_with_and_without_baseline(rows: SimpleNamespace) -> None:
    lengths = rows.lengths.view(GROUPS, SIZE)
    theirs, _ = core_algos.compute_reinforce_plus_plus_baseline_outcome_advantage(
        rows.token_rewards.clone(), rows.mask, rows.index
    )
    np.testing.assert_allclose(whitened_advantages(rows.rewards_PG, rows.everyone, lengths).numpy(), per_row(theirs), atol=1e-5)
    theirs, _ = core_algos.compute_reinforce_plus_plus_outcome_advantage(
        rows.token_rewards, rows.mask, config=SimpleNamespace(gamma=1.0)
    )
    ours = whitened_advantages(rows.rewards_PG, rows.everyone, lengths, baseline=False)
    np.testing.assert_allclose(ours.numpy(), per_row(theirs), atol=1e-5)


@pytest.mark.parametrize(("discount", "smoothing"), [(1.0, 1.0), (0.99, 0.95)])
def test_generalised_advantages(rows: SimpleNamespace, discount: float, smoothing: float) -> None:
    theirs, returns = core_algos.compute_gae_advantage_return(rows.token_rewards, rows.values, rows.mask, discount, smoothing)
    packed = [x[rows.inside] for x in (rows.token_rewards, rows.values)]
    ours, our_returns = generalised_advantages(*packed, rows.lengths, discount=discount, smoothing=smoothing)
    assert torch.allclose(our_returns, returns[rows.inside], atol=1e-5)
    whitened = whitened_tokens(ours)  # verl whitens within its function
    assert torch.allclose(whitened, theirs[rows.inside], atol=1e-5)


@pytest.mark.parametrize("aggregation", ["sample", "token"])
def test_the_loss_of_values_and_its_gradient(rows: SimpleNamespace, aggregation: str) -> None:
    moved = rows.values + 0.4 * torch.randn(rows.mask.shape, generator=torch.Generator().manual_seed(1))
    padded, packed = moved.clone().requires_grad_(), moved[rows.inside].clone().requires_grad_()
    mode = {"sample": "seq-mean-token-mean", "token": "token-mean"}[aggregation]
    returns = rows.token_rewards + 0.5
    theirs, share = core_algos.compute_value_loss(padded, returns, rows.values, rows.mask, 0.2, mode)
    old, wanted = rows.values[rows.inside], returns[rows.inside]
    ours, clipped = value_loss(packed, old, wanted, token_weights(rows.lengths, aggregation), clip=0.2)
    theirs.backward()
    ours.backward()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    assert int(clipped) / len(old) == pytest.approx(float(share)) and 0.05 < float(share) < 0.95
    assert padded.grad is not None and packed.grad is not None
    assert torch.allclose(packed.grad, padded.grad[rows.inside], atol=1e-7)


@pytest.mark.parametrize("aggregation", ["sample", "token"])
@pytest.mark.parametrize("surrogate", ["ppo", "gspo", "cispo", "dual clip"])
def test_losses_and_their_gradients(rows: SimpleNamespace, surrogate: str, aggregation: str) -> None:
    bound = 2.0 if surrogate == "dual clip" else 1e9
    name = {"dual clip": "vanilla", "ppo": "vanilla"}.get(surrogate, surrogate)
    mode = {"sample": "seq-mean-token-mean", "token": "token-mean"}[aggregation]
    actor = FSDPActorConfig(
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
        clip_ratio_c=bound,
        rollout_n=SIZE,
        ppo_micro_batch_size_per_gpu=1,
        ppo_mini_batch_size=len(rows.lengths),
        strategy="fsdp",
    )
    padded = rows.new.clone().requires_grad_()
    theirs, _ = core_algos.get_policy_loss_fn(name)(
        old_log_prob=rows.old,
        log_prob=padded,
        advantages=rows.advantages,
        response_mask=rows.mask,
        loss_agg_mode=mode,
        config=actor,
    )
    theirs.backward()

    packed = rows.new[rows.inside].clone().requires_grad_()
    ours, _ = policy_loss(
        packed,
        rows.old[rows.inside],
        rows.advantages[rows.inside],
        token_weights(rows.lengths, aggregation),
        surrogate="ppo" if surrogate == "dual clip" else surrogate,
        dual_clip=2.0 if surrogate == "dual clip" else None,
        lengths=rows.lengths,
    )
    ours.backward()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    assert padded.grad is not None and packed.grad is not None
    assert torch.allclose(packed.grad, padded.grad[rows.inside], atol=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), [("k1", "kl"), ("k2", "mse"), ("k3", "low_var_kl")])
def test_divergence_estimates(rows: SimpleNamespace, ours: str, theirs: str) -> None:
    expected = core_algos.kl_penalty_forward(rows.new, rows.old, theirs)
    assert torch.allclose(kl_estimate(rows.new, rows.old, ours), expected, atol=1e-5)
