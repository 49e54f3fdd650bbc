"""MoPPS: posterior sampling of each problem's success rate. Axis suffixes: N problems, M some of them, P groups, G
samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.difficulty import Difficulty
from rlcs.samplers.candidates import CandidateSampler
from rlcs.samplers.outcomes import GroupOutcomes


class MoppsSampler(CandidateSampler):
    """Model Predictive Prompt Selection (arXiv 2507.04632).

    The success rate of a problem is Beta(alpha, beta), at first the `prior`, Beta(1, 1). A group with s right and f
    wrong answers moves it to `alpha <- discount * alpha + (1 - discount) * alpha_0 + s`, beta likewise with f; problems
    without a group keep theirs. For each of a candidate batch, drawn evenly, one success rate is drawn from its
    posterior (Thompson sampling); those with rates nearest to `target` get rollouts.

    The constants are those of the authors' code for Countdown and Geometry3k: 8 candidates for each problem drawn,
    discount 0.5. For MATH they take 16 and 1. The code walks through the file to make up its candidate batches; here
    every batch is drawn anew. Groups with fewer than two known outcomes move nothing. Domains as in `DomainSampler`.
    """

    def __init__(
        self,
        domains: Sequence[str],
        difficulty: Difficulty,
        *,
        group_size: int,
        seed: int,
        domain_weights: Mapping[str, float] | None = None,
        candidates: float = 8.0,
        discount: float = 0.5,
        target: float = 0.5,
        prior: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        if not (0 <= discount <= 1 and 0 <= target <= 1 and min(prior) > 0):
            raise ValueError(
                f"discount {discount}, target {target}, prior {list(prior)}; expected the first two in [0, 1], the last above 0"
            )
        common: dict[str, Any] = {"group_size": group_size, "seed": seed, "domain_weights": domain_weights}
        super().__init__(domains, difficulty, **common, candidates=candidates)
        self._discount, self._target, self._prior = discount, target, prior
        # Discounted answers, what the posterior has beyond its prior; memory is touched for problems seen only.
        self._right_N, self._wrong_N = np.zeros(len(difficulty), np.float32), np.zeros(len(difficulty), np.float32)

    def success_posterior(self, indices: np.ndarray | slice = np.s_[:]) -> tuple[np.ndarray, np.ndarray]:
        """(alpha, beta) [M] each of problems `indices` (absent: of all)."""
        return self._prior[0] + self._right_N[indices], self._prior[1] + self._wrong_N[indices]

    def _score(self, indices: np.ndarray) -> np.ndarray:
        return -np.abs(self._rng.beta(*self.success_posterior(indices)) - self._target)

    def observe(
        self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int, tokens_P: np.ndarray | None = None
    ) -> None:
        super().observe(indices, outcomes_PG, policy_version, tokens_P)
        told = GroupOutcomes.of(outcomes_PG).told_P
        indices, outcomes_PG = np.asarray(indices)[told], np.asarray(outcomes_PG, np.float64)[told]
        self._right_N[indices] = self._discount * self._right_N[indices] + np.nansum(outcomes_PG, axis=1)
        self._wrong_N[indices] = self._discount * self._wrong_N[indices] + np.nansum(1.0 - outcomes_PG, axis=1)

    def snapshot(self) -> dict[str, np.ndarray]:
        alpha_N, beta_N = self.success_posterior()
        return {**super().snapshot(), "success_alpha": alpha_N, "success_beta": beta_N}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "right": self._right_N.copy(), "wrong": self._wrong_N.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._right_N, self._wrong_N = np.array(state["right"], np.float32), np.array(state["wrong"], np.float32)
