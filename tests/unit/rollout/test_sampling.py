"""Sampling against closed forms and brute force."""

import numpy as np
import pytest
import torch

from rollout.engine import SamplingParams, ThinkingBudget
from rollout.sampling import sample_tokens


def uniforms(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def nucleus_brute_force(probs: np.ndarray, top_p: float) -> set[int]:
    chosen: set[int] = set()
    mass = 0.0
    for token in np.argsort(-probs, kind="stable"):
        chosen.add(int(token))
        mass += probs[token]
        if mass >= top_p:
            break
    return chosen


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.7), (1.0, 0.9)])
def test_frequencies_match_the_tempered_softmax_by_chi_square(temperature, top_p):
    logits = torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0, -3.0])
    count = 60_000
    tokens, _ = sample_tokens(logits.expand(count, -1), SamplingParams(temperature=temperature, top_p=top_p), uniforms(count))
    weights = np.exp(logits.double().numpy() / temperature)
    probs = weights / weights.sum()
    kept = nucleus_brute_force(probs, top_p)
    observed = np.bincount(tokens.numpy(), minlength=len(probs))
    assert set(np.flatnonzero(observed)) == kept
    expected = np.array([probs[token] if token in kept else 0.0 for token in range(len(probs))])
    expected = count * expected / expected.sum()
    inside = sorted(kept)
    statistic = float(((observed - expected)[inside] ** 2 / expected[inside]).sum())
    degrees = len(kept) - 1
    assert statistic < degrees + 4.0 * (2.0 * degrees) ** 0.5 + 4.0  # far beyond the 0.999 quantile


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_logprobs_are_those_of_the_distribution_sampled_from(top_p):
    logits = torch.randn(500, 40, generator=torch.Generator().manual_seed(1)) * 2
    tokens, logprobs = sample_tokens(logits, SamplingParams(temperature=0.7, top_p=top_p), uniforms(500))
    for row in range(0, 500, 25):
        weights = np.exp(logits[row].double().numpy() / 0.7)
        probs = weights / weights.sum()
        kept = nucleus_brute_force(probs, top_p)
        expected = np.log(probs[tokens[row]] / sum(probs[token] for token in kept))
        assert logprobs[row].item() == pytest.approx(expected, abs=1e-5)


def test_draw_inverts_the_cumulative_distribution():
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log().expand(5, -1)
    tokens, _ = sample_tokens(logits, SamplingParams(), torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71], dtype=torch.float64))
    assert tokens.tolist() == [0, 0, 1, 1, 2]


def test_tokens_of_probability_zero_are_never_drawn_at_the_ends_of_the_unit_interval():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(2, -1)
    tokens, _ = sample_tokens(logits, SamplingParams(), torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64))
    assert tokens.tolist() == [1, 3]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_suppressed_tokens_are_never_drawn_but_keep_their_mass(temperature):
    logits = torch.tensor([[5.0, 1.0, 0.0]]).expand(200, -1)
    suppressed = torch.tensor([True, False, False])
    tokens, logprobs = sample_tokens(logits, SamplingParams(temperature=temperature), uniforms(200), suppressed)
    assert (tokens != 0).all() and (tokens == 1).any()
    torch.testing.assert_close(logprobs, logits.log_softmax(1).gather(1, tokens[:, None]).squeeze(1))


@pytest.mark.parametrize("bad", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}, {"max_new_tokens": 0}])
def test_impossible_sampling_parameters_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        SamplingParams(**bad)


@pytest.mark.parametrize("bad", [{"think_tokens": -1}, {"answer_tokens": 0}])
def test_impossible_budgets_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ThinkingBudget(**bad)
