"""A posterior that expects problems trained on to have got easier since they were last seen: tried here, not in `rlcs`.

Axis suffixes: M problems, P groups, G samples, D domains.
"""

import numpy as np

from rlcs.difficulty import Difficulty

_RATE = 0.1  # part of the remaining error that the drift moves by for an observation of many groups
_MANY = 20  # groups of a domain that count as many
_MOST = 2.0  # logits


class CarriedDifficulty(Difficulty):
    """`Difficulty` whose evidence is carried forward: the odds of what was observed of a problem count `exp(drift_d)` times.

    Evidence ages, but what is left of it says what the policy could do then. Whatever is trained on improves, so that the
    posterior of problems seen before lags behind in one direction. `drift_d`, logits a domain, is learned by feedback:
    after each observation it moves by the mean of (observed - predicted pass rate) over the mean of p (1 - p), of groups
    of problems seen before. Its state is not saved.
    """

    _drift_D: np.ndarray | None = None

    def posterior(self, indices: np.ndarray | slice = np.s_[:]) -> tuple[np.ndarray, np.ndarray]:
        alpha_M, beta_M = super().posterior(indices)
        if self._drift_D is None:
            return alpha_M, beta_M
        cell_M, mean_M = self.cell_N[indices], self.prior_mean(indices)
        strength_M = self.prior_strength_C[cell_M]
        right_M = np.maximum(alpha_M - strength_M * mean_M, 0.0)
        wrong_M = np.maximum(beta_M - strength_M * (1.0 - mean_M), 0.0)
        odds_M = right_M * np.exp(self._drift_D[self.domain_C[cell_M]])
        known_M = right_M + wrong_M
        rate_M = np.divide(odds_M, odds_M + wrong_M, out=np.zeros_like(odds_M), where=known_M > 1e-9)
        return strength_M * mean_M + known_M * rate_M, strength_M * (1.0 - mean_M) + known_M * (1.0 - rate_M)

    def observe(self, indices: np.ndarray, outcomes_PG: np.ndarray, version: int) -> None:
        self.advance(version)
        if self._drift_D is None:
            self._drift_D = np.zeros(len(self.domains))
        alpha_P, beta_P = self.posterior(indices)
        predicted_P = alpha_P / (alpha_P + beta_P)
        seen_P, domain_P = self.seen_at_N[indices] >= 0, self.domain_C[self.cell_N[indices]]
        super().observe(indices, outcomes_PG, version)
        for domain in np.unique(domain_P[seen_P]):
            mine = seen_P & (domain_P == domain)
            error = float(np.mean(outcomes_PG[mine].mean(1) - predicted_P[mine]))
            spread = max(float(np.mean(predicted_P[mine] * (1.0 - predicted_P[mine]))), 0.05)
            step = _RATE * min(1.0, mine.sum() / _MANY) * error / spread
            self._drift_D[domain] = np.clip(self._drift_D[domain] + step, -_MOST, _MOST)
