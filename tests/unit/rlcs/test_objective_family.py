"""GSPO, CISPO, dual clip, constant-length aggregation, divergence estimates and masked importance weights, against float64
computations token by token and finite differences.
"""

import numpy as np
import pytest
import torch

from rlcs.objective import kl_estimate, masked_importance, policy_loss, sample_means, token_weights

LENGTHS = [3, 1, 5]
LOW, HIGH = 0.2, 0.28


def drawn(seed: int = 0, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Log-probabilities new and old, advantages (one a sample), and per-sample weights of nine tokens."""
    rng = np.random.default_rng(seed)
    old = -rng.random(9) * 3
    new = old + rng.normal(size=9) * spread
    advantages = np.repeat(rng.normal(size=3), LENGTHS)
    return new, old, advantages, np.repeat([1 / (3 * n) for n in LENGTHS], LENGTHS)


def loss_of(new: np.ndarray, old: np.ndarray, advantages: np.ndarray, weights: np.ndarray, **options) -> float:
    loss, _ = policy_loss(*(torch.from_numpy(x) for x in (new, old, advantages, weights)), **options)
    return float(loss)


def gradient_of(new: np.ndarray, *rest: np.ndarray, **options) -> np.ndarray:
    logprobs = torch.from_numpy(new).requires_grad_()
    loss, _ = policy_loss(logprobs, *(torch.from_numpy(x) for x in rest), **options)
    loss.backward()
    assert logprobs.grad is not None
    return logprobs.grad.numpy()


@pytest.mark.parametrize("seed", range(5))
def test_gspo_is_the_clipped_surrogate_of_each_samples_mean_ratio(seed: int) -> None:
    new, old, advantages, weights = drawn(seed)
    terms = []
    for end, n in zip(np.cumsum(LENGTHS), LENGTHS, strict=True):
        ratio, a = np.exp((new - old)[end - n : end].mean()), advantages[end - 1]
        terms.append(-min(ratio * a, np.clip(ratio, 1 - LOW, 1 + HIGH) * a))
    got = loss_of(new, old, advantages, weights, surrogate="gspo", lengths=torch.tensor(LENGTHS))
    assert got == pytest.approx(np.mean(terms), rel=1e-12)


@pytest.mark.parametrize("options", [{"surrogate": "gspo", "lengths": torch.tensor(LENGTHS)}, {"dual_clip": 1.5}])
@pytest.mark.parametrize("seed", range(5))
def test_gradients_agree_with_finite_differences(options: dict, seed: int) -> None:
    new, old, advantages, weights = drawn(seed)
    step, expected = 1e-6, np.zeros(9)
    for t in range(9):
        nudge = np.eye(9)[t] * step
        high, low = (loss_of(new + sign * nudge, old, advantages, weights, **options) for sign in (1, -1))
        expected[t] = (high - low) / (2 * step)
    np.testing.assert_allclose(gradient_of(new, old, advantages, weights, **options), expected, atol=1e-7)


def test_gspo_needs_to_know_which_tokens_are_whose() -> None:
    with pytest.raises(ValueError, match="lengths"):
        loss_of(*drawn(), surrogate="gspo")


def test_on_policy_all_surrogates_have_the_plain_policy_gradient() -> None:
    new, _, advantages, weights = drawn()
    for options in ({}, {"surrogate": "cispo"}, {"dual_clip": 3.0}):
        np.testing.assert_allclose(gradient_of(new, new, advantages, weights, **options), -weights * advantages, rtol=1e-12)
    # GSPO's ratio is a mean: with per-sample weights the sum over a sample's tokens is the same.
    gspo = gradient_of(new, new, advantages, weights, surrogate="gspo", lengths=torch.tensor(LENGTHS))
    np.testing.assert_allclose(gspo, -weights * advantages, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_cispo_weighs_the_log_likelihood_gradient_by_the_clipped_ratio_and_drops_no_token(seed: int) -> None:
    new, old, advantages, weights = drawn(seed, spread=2.0)
    expected = -weights * advantages * np.clip(np.exp(new - old), 1 - LOW, 1 + HIGH)
    np.testing.assert_allclose(gradient_of(new, old, advantages, weights, surrogate="cispo"), expected, rtol=1e-12)
    assert (expected != 0).all()


def test_dual_clip_bounds_what_a_bad_token_made_likelier_can_cost() -> None:
    new, old = np.log([0.9, 0.9, 0.9]), np.log([0.1, 0.1, 0.5])
    advantages, weights = np.array([-1.0, 1.0, -1.0]), np.full(3, 1.0)
    # Ratios 9, 9 and 1.8: the first is bounded at 3, the second clipped at 1.28, the third stands.
    assert loss_of(new, old, advantages, weights, dual_clip=3.0) == pytest.approx(3.0 - 1.28 + 1.8)
    assert gradient_of(new, old, advantages, weights, dual_clip=3.0).tolist() == pytest.approx([0.0, 0.0, 1.8])
    _, stats = policy_loss(*(torch.from_numpy(x) for x in (new, old, advantages, weights)), dual_clip=3.0)
    assert stats.metrics()["clip_fraction_high"] == pytest.approx(2 / 3)


def test_equal_rewards_give_a_gradient_of_exactly_zero_whatever_the_surrogate() -> None:
    new, old, advantages, weights = drawn()
    for options in ({"surrogate": "cispo"}, {"surrogate": "gspo", "lengths": torch.tensor(LENGTHS)}, {"dual_clip": 3.0}):
        assert not gradient_of(new, old, 0.0 * advantages, weights, **options).any()


@pytest.mark.parametrize("surrogate", ["ppo", "gspo", "cispo"])
def test_the_loss_does_not_depend_on_how_samples_are_cut_into_micro_batches(surrogate: str) -> None:
    new, old, advantages, weights = drawn()
    whole = loss_of(new, old, advantages, weights, surrogate=surrogate, lengths=torch.tensor(LENGTHS))
    parts = [
        loss_of(*(x[rows] for x in (new, old, advantages, weights)), surrogate=surrogate, lengths=torch.tensor(sizes))
        for rows, sizes in ((np.s_[:4], [3, 1]), (np.s_[4:], [5]))
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-12)


def test_constant_aggregation_divides_every_samples_sum_by_the_same_number() -> None:
    weights = token_weights(torch.tensor([*LENGTHS, 0]), "constant", constant=10)
    np.testing.assert_allclose(weights.numpy(), np.full(9, 1 / 30), rtol=1e-6)  # the sample without tokens does not count
    with pytest.raises(ValueError, match="constant is None"):
        token_weights(torch.tensor(LENGTHS), "constant")


def test_means_of_samples_without_tokens_are_nowhere() -> None:
    values = torch.tensor([1.0, 3.0, 5.0])
    assert sample_means(values, torch.tensor([0, 2, 0, 1])).tolist() == [2.0, 2.0, 5.0]


def categorical(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits, reference = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    return logits, torch.log_softmax(reference, 0)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_unbiased_estimates_have_the_divergence_as_their_expectation(estimator: str) -> None:
    logits, reference = categorical(0)
    policy = torch.log_softmax(logits, 0)
    expected = float((policy.exp() * (policy - reference)).sum())
    assert float((policy.exp() * kl_estimate(policy, reference, estimator)).sum()) == pytest.approx(expected, rel=1e-12)


def test_gradient_of_k2_is_that_of_the_divergence_and_of_k1_nothing() -> None:
    """In expectation over tokens that the policy drew, which carry no gradient themselves."""
    logits, reference = categorical(1)

    def expected_gradient(of_policy) -> torch.Tensor:
        inputs = logits.clone().requires_grad_()
        of_policy(torch.log_softmax(inputs, 0)).backward()
        assert inputs.grad is not None
        return inputs.grad

    divergence = expected_gradient(lambda policy: (policy.exp() * (policy - reference)).sum())
    found = {
        estimator: expected_gradient(lambda policy: (policy.exp().detach() * kl_estimate(policy, reference, estimator)).sum())  # noqa: B023
        for estimator in ("k1", "k2", "k3")
    }
    assert torch.allclose(found["k2"], divergence, atol=1e-12)
    assert float(found["k1"].abs().max()) < 1e-12
    assert not torch.allclose(found["k3"], divergence, atol=1e-3)


def test_k3_is_never_negative_and_finite_far_away() -> None:
    policy, reference = torch.tensor([-1.0, -500.0, -0.1]), torch.tensor([-1.2, -0.1, -500.0])
    far = kl_estimate(policy, reference, "k3")
    assert (far >= 0).all() and far.isfinite().all()
    near = torch.linspace(-2, 2, 50)
    assert (kl_estimate(near, torch.zeros(50), "k3") >= 0).all()


def test_masked_importance_takes_the_say_of_tokens_that_engine_and_trainer_disagree_on() -> None:
    old, rollout = torch.log(torch.tensor([0.5, 0.5, 0.5, 0.5])), torch.log(torch.tensor([0.5, 0.1, 0.4, 0.9]))
    got = masked_importance(old.requires_grad_(), rollout, cap=2.0, floor=0.6)
    np.testing.assert_allclose(got.numpy(), [1.0, 0.0, 1.25, 0.0], rtol=1e-6)
    assert not got.requires_grad
