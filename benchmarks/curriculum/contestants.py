"""Who is compared: every sampler of `rlcs.samplers.SAMPLERS` at its default options, and the rlcs sampler with one part
changed. Axis suffix: M problems.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any

import numpy as np

from rlcs.beta_binomial import mixed_group_probability
from rlcs.difficulty import Difficulty
from rlcs.samplers import SAMPLERS, CurriculumSampler, Sampler


class OneThompsonDraw(CurriculumSampler):
    """The rlcs sampler with its weights at one pass rate drawn from each posterior, instead of averaged over it.

    Weights of problems that were not drawn are renewed at every draw, as long as the file has at most 32,768 problems.
    Window, deferral and expansion stay with the posterior.
    """

    def _refresh(self, indices: np.ndarray) -> None:
        alpha_M, beta_M = self.difficulty.posterior(indices)
        rate_M = self._rng.beta(alpha_M, beta_M)
        mixed_M = 1.0 - rate_M**self._group_size - (1.0 - rate_M) ** self._group_size
        self._pools.update(indices, self._states(indices, alpha_M / (alpha_M + beta_M)), mixed_M**self._sharpness)


class FewerRepeats(CurriculumSampler):
    """The rlcs sampler with a problem's weight divided by 1 + (answers known of it, aged) / (answers of four groups): of
    two problems as likely to be mixed, the one trained on less goes first. A part that the sampler does not have, tried.
    """

    def _refresh(self, indices: np.ndarray) -> None:
        alpha_M, beta_M = self.difficulty.posterior(indices)
        known_M = alpha_M + beta_M - self.difficulty.prior_strength_C[self.difficulty.cell_N[indices]]
        mixed_M = mixed_group_probability(alpha_M, beta_M, self._group_size)
        weight_M = mixed_M**self._sharpness / (1.0 + known_M / (4.0 * self._group_size))
        self._pools.update(indices, self._states(indices, alpha_M / (alpha_M + beta_M)), weight_M)


class StillDifficulty(Difficulty):
    """`Difficulty` that reads evidence as it came in: it ages but is not carried forward."""

    def _learn_carry(self, domain_P: np.ndarray, predicted_P: np.ndarray, outcome_P2: np.ndarray) -> None:
        """Nothing."""


class UnreadDifficulty(Difficulty):
    """Posteriors that take in nothing but the policy version: for samplers that only report what it says."""

    def observe(self, indices: np.ndarray, outcomes_PG: np.ndarray, version: int) -> None:
        self.advance(version)


@dataclass(frozen=True)
class Contestant:
    """A sampler with options, and what the `Difficulty` it is given is told."""

    sampler: Callable[..., Sampler]
    options: Mapping[str, Any] = field(default_factory=dict)
    beliefs: Mapping[str, Any] = field(default_factory=dict)
    pooled: bool = True
    """Whether problems of a tier share a cell; else none learns from another."""
    difficulty: type[Difficulty] = Difficulty
    """`UnreadDifficulty` for samplers whose draws do not depend on it."""
    reads_rates: bool = True
    """Whether they depend on the offline pass rates."""

    def build(
        self, domains: Sequence[str], tiers: Sequence[str], rates: Sequence[float | None], *, group_size: int, seed: int
    ) -> Sampler:
        labels = list(tiers) if self.pooled else [str(index) for index in range(len(tiers))]
        beliefs = dict(self.beliefs) if self.pooled else {**self.beliefs, "cell_strength": 1e12}
        difficulty = self.difficulty(domains, labels, rates, **beliefs)
        return self.sampler(domains, difficulty, group_size=group_size, seed=seed, **self.options)


CONTESTANTS: dict[str, Contestant] = {
    name: Contestant(
        sampler, difficulty=Difficulty if name == "rlcs" else UnreadDifficulty, reads_rates=name in ("rlcs", "glm-tiers")
    )
    for name, sampler in SAMPLERS.items()
}


def curriculum_defaults() -> dict[str, Any]:
    """Options of the rlcs sampler and their defaults."""
    found = {name: parameter.default for name, parameter in signature(CurriculumSampler).parameters.items()}
    return {name: default for name, default in found.items() if default is not Parameter.empty}


_DEFAULTS = curriculum_defaults()


def _values(option: str, *values: float) -> dict[str, Contestant]:
    """The rlcs sampler with one option at each of some values, its default left out."""
    return {
        f"{option} {value:g}": Contestant(CurriculumSampler, {option: value}) for value in values if value != _DEFAULTS[option]
    }


ABLATIONS: dict[str, Contestant] = {
    "no learned beliefs": Contestant(CurriculumSampler, beliefs={"learn": False}),
    "no ageing (nor learned beliefs)": Contestant(CurriculumSampler, beliefs={"discount": 1.0, "learn": False}),
    "evidence not carried": Contestant(CurriculumSampler, difficulty=StillDifficulty),
    "no prior pooling": Contestant(CurriculumSampler, pooled=False),
    "no window": Contestant(CurriculumSampler, {"window": (0.0, 1.0)}),
    "one Thompson draw": Contestant(OneThompsonDraw),
    "per token": Contestant(CurriculumSampler, {"per_token": True}),
    **_values("explore", 0.0, 0.2),
    **_values("max_expansion", 1.0, 1.5, 2.0, 4.0),
    "max_expansion 2, no refill": Contestant(CurriculumSampler, {"max_expansion": 2.0, "max_refills": 0}),
    **_values("sharpness", 1.0, 4.0, 6.0, 10.0, 20.0),
    **_values("rest", 0, 1, 2, 4, 8),
    "fewer repeats": Contestant(FewerRepeats),
}
"""Of the rlcs sampler, all else at its default options."""
