"""How far to trust the prior, and how fast evidence ages, learned from how well they would have predicted each group
that came.

Axis suffixes: P groups of one observation, C cells, D domains, S candidate strengths, K candidate discounts.
"""

from typing import Any

import numpy as np

from rlcs.beta_binomial import log_evidence

STRENGTHS = np.array([0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
"""Candidates: answers that the prior of a problem is worth."""
DISCOUNTS = np.array([0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998])
"""Candidates: what evidence is worth after one more policy update."""
_FORGET = 0.99  # per observation: the fit follows a policy that learns faster or slower as training goes on
_SHRINK = 8.0  # groups that the rest of its domain counts for at most in the likelihood of a cell
_WIDTH = np.log(4.0)  # one standard deviation of the log-normal hyperpriors around the starting values
_MOST = 256  # groups of one observation that are looked at: more would cost milliseconds and teach little


class BeliefFit:
    """Prior strength of every cell and discount of every domain, as the posterior mean over a grid of candidates.

    Every candidate pair is scored by the log-probability it gave, before the fact, to the answers of each new group
    (prequential likelihood: nothing is fitted to what it has already seen). Scores are kept per domain, and per cell at
    its domain's present discount; to a cell's own, the other cells of its domain add what they say of a few groups. A
    tier whose problems are alike ends with a strong prior; one that is half mastered and half out of reach, with a weak
    one, under which a single group settles a problem.
    """

    def __init__(self, domain_C: np.ndarray, *, strength: float, discount: float) -> None:
        self._domain_C = domain_C
        domains = int(domain_C.max()) + 1
        self._hyperprior_S = -0.5 * (np.log(STRENGTHS / strength) / _WIDTH) ** 2
        rate = max(1.0 - discount, 1e-4)
        self._hyperprior_K = -0.5 * (np.log((1.0 - DISCOUNTS) / rate) / _WIDTH) ** 2
        self._score_DSK = np.zeros((domains, len(STRENGTHS), len(DISCOUNTS)))
        self._groups_C = np.zeros(len(domain_C))
        self._score_CS = np.zeros((len(domain_C), len(STRENGTHS)))
        self.strength_C = np.full(len(domain_C), float(strength))
        self.discount_D = np.full(domains, float(discount))

    def observe(
        self,
        cell_P: np.ndarray,
        prior_P: np.ndarray,
        evidence_P2: np.ndarray,
        age_P: np.ndarray,
        outcome_P2: np.ndarray,
    ) -> None:
        """Scores the candidates on P groups and moves the estimates.

        `prior_P`: prior mean of each problem; `evidence_P2`: right and wrong answers known of it, as they stood `age_P`
        policy updates ago; `outcome_P2`: right and wrong answers that came now.
        """
        if len(cell_P) > _MOST:
            kept = np.linspace(0, len(cell_P) - 1, _MOST).astype(np.int64)
            cell_P, prior_P, age_P = cell_P[kept], prior_P[kept], age_P[kept]
            evidence_P2, outcome_P2 = evidence_P2[kept], outcome_P2[kept]
        domain_P = self._domain_C[cell_P]
        mean_P2 = np.stack([prior_P, 1.0 - prior_P], axis=1)
        # Prior and aged evidence of each outcome, for every pair of candidates: [P, 2, S, K].
        aged_P2K = evidence_P2[:, :, None] * DISCOUNTS ** age_P[:, None, None]
        belief = mean_P2[:, :, None, None] * STRENGTHS[:, None] + aged_P2K[:, :, None, :]
        score_PSK = log_evidence(outcome_P2[:, 0, None, None], outcome_P2[:, 1, None, None], belief[:, 0], belief[:, 1])
        self._score_DSK *= _FORGET
        self._groups_C *= _FORGET
        self._score_CS *= _FORGET
        np.add.at(self._score_DSK, domain_P, score_PSK)
        np.add.at(self._groups_C, cell_P, 1.0)
        present_D = np.abs(np.log((1.0 - DISCOUNTS) / np.maximum(1.0 - self.discount_D[:, None], 1e-4))).argmin(1)
        np.add.at(self._score_CS, cell_P, score_PSK[np.arange(len(cell_P)), :, present_D[domain_P]])
        self._estimate()

    def _estimate(self) -> None:
        joint_DSK = _softmax(self._score_DSK + self._hyperprior_S[:, None] + self._hyperprior_K)
        weight_DK = joint_DSK.sum(1)
        self.discount_D = 1.0 - np.exp(weight_DK @ np.log(1.0 - DISCOUNTS))
        total_DS = np.zeros((len(self.discount_D), len(STRENGTHS)))
        np.add.at(total_DS, self._domain_C, self._score_CS)
        others_CS = total_DS[self._domain_C] - self._score_CS
        count_C = np.bincount(self._domain_C, self._groups_C)[self._domain_C] - self._groups_C
        borrowed_C = np.minimum(count_C, _SHRINK) / np.maximum(count_C, 1e-9)
        weight_CS = _softmax(self._score_CS + borrowed_C[:, None] * others_CS + self._hyperprior_S)
        self.strength_C = np.exp(weight_CS @ np.log(STRENGTHS))

    def state_dict(self) -> dict[str, Any]:
        return {
            "score_domain": self._score_DSK.copy(),
            "groups": self._groups_C.copy(),
            "score_cell": self._score_CS.copy(),
            "strength": self.strength_C.copy(),
            "discount": self.discount_D.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._score_DSK, self._groups_C = np.array(state["score_domain"]), np.array(state["groups"])
        self._score_CS = np.array(state["score_cell"])
        self.strength_C, self.discount_D = np.array(state["strength"]), np.array(state["discount"])


def _softmax(score: np.ndarray) -> np.ndarray:
    """Normalised exp over all but the first axis."""
    axes = tuple(range(1, score.ndim))
    weight = np.exp(score - score.max(axes, keepdims=True))
    normalised: np.ndarray = weight / weight.sum(axes, keepdims=True)
    return normalised
