"""How hard each problem is for the current policy: a discounted Beta posterior over pass rates, in arrays only.

Axis suffixes: N problems, P groups of one observation, G samples of a group, C cells (domain x tier), D domains.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

_CLIP = 0.02  # a label of 0 or 1 from a few samples is unreliable; it must be possible to move it


def mixed_group_probability(alpha: np.ndarray, beta: np.ndarray, group_size: int) -> np.ndarray:
    """Probability that a group of `group_size` answers holds both right and wrong ones, for a pass rate ~ Beta(alpha,
    beta).

    1 - B(a+G, b)/B(a, b) - B(a, b+G)/B(a, b), the beta-binomial's mass off its two ends. The log of each ratio is the
    sum over k < G of log((a+k)/(a+b+k)), taken with log1p, and the larger end with expm1: no cancellation where one end
    holds nearly all the mass. `alpha`, `beta` > 0, any one shape. Returns float64 in [0, 1].
    """
    a, b = np.asarray(alpha, np.float64), np.asarray(beta, np.float64)
    if group_size < 1:
        raise ValueError(f"group_size is {group_size}; expected at least 1")
    if not ((a > 0).all() and (b > 0).all()):
        raise ValueError("a Beta posterior has a parameter that is not above 0")
    log_all_right, log_all_wrong = np.zeros_like(a), np.zeros_like(a)
    for k in range(group_size):
        log_all_right -= np.log1p(b / (a + k))
        log_all_wrong -= np.log1p(a / (b + k))
    larger, smaller = np.maximum(log_all_right, log_all_wrong), np.minimum(log_all_right, log_all_wrong)
    return np.clip(-np.expm1(larger) - np.exp(smaller), 0.0, 1.0)


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p) - np.log1p(-p)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


class Difficulty:
    """Beta posteriors over the pass rates of N problems, aged by policy updates towards a hierarchical prior.

    Evidence (right and wrong answers counted) is worth `discount` less with every policy update since, for problems
    drawn or not, so a problem not seen for long returns to its prior and its variance grows. The prior of a problem is
    worth `prior_strength` answers. Its mean is the problem's offline `pass_rate` (or that of its cell, its domain, 0.5,
    whichever is known first), moved in logit space by how far the observed rates of its domain, and then of its cell,
    have drifted from theirs. A cell is a domain at a tier. Every problem counts at most once in its cell, however often
    it was drawn, and against its own offline rate: a sampler that keeps to problems of moderate difficulty would
    otherwise pull the mean of the cell to the middle. A drift is shrunk as if `cell_strength` further problems had
    shown none.
    """

    def __init__(
        self,
        domains: Sequence[str],
        tiers: Sequence[str | None],
        pass_rates: Sequence[float | None],
        *,
        prior_strength: float = 2.0,
        discount: float = 0.98,
        cell_strength: float = 4.0,
    ) -> None:
        if not len(domains) == len(tiers) == len(pass_rates) or not len(domains):
            raise ValueError(f"{len(domains)} domains, {len(tiers)} tiers, {len(pass_rates)} pass rates; expected as many")
        if not (0.0 < discount <= 1.0 and prior_strength > 0.0 and cell_strength > 0.0):
            raise ValueError(
                f"discount {discount}, prior_strength {prior_strength}, cell_strength {cell_strength}; "
                "expected 0 < discount <= 1 and strengths above 0"
            )
        self.prior_strength, self.discount, self.cell_strength = prior_strength, discount, cell_strength
        names = np.asarray(domains, dtype=np.str_)
        self.domains, self.domain_N = np.unique(names, return_inverse=True)
        cells = np.char.add(np.char.add(names, "\x1f"), ["" if tier is None else str(tier) for tier in tiers])
        _, first_C, self.cell_N = np.unique(cells, return_index=True, return_inverse=True)
        self._domain_C = self.domain_N[first_C]
        self._offline_N = self._fill_offline(np.array([np.nan if rate is None else rate for rate in pass_rates], np.float64))
        self.version = 0
        size = len(names)
        self._right_N, self._wrong_N = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._seen_at_N = np.full(size, -1, np.int32)
        self._calibration: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._right_N)

    @property
    def seen_at_N(self) -> np.ndarray:
        """Policy version of each problem's last observation, int32 [N]; -1 for problems never seen."""
        return self._seen_at_N

    def _fill_offline(self, rate_N: np.ndarray) -> np.ndarray:
        """Offline pass rates with the unknown ones replaced by the mean of their cell, of their domain, or 0.5."""
        for group_N, filler in ((self.cell_N, None), (self.domain_N, None), (np.zeros_like(self.cell_N), 0.5)):
            known = ~np.isnan(rate_N)
            count = np.bincount(group_N, known)
            mean = np.divide(
                np.bincount(group_N, np.where(known, rate_N, 0.0)),
                count,
                out=np.full(len(count), np.nan),
                where=count > 0,
            )
            rate_N = np.where(known, rate_N, mean[group_N] if filler is None else filler)
        return np.clip(rate_N, _CLIP, 1.0 - _CLIP)

    def advance(self, version: int) -> None:
        """The policy is now at `version` (number of updates): all evidence ages to it."""
        if version < self.version:
            raise ValueError(f"policy version {version} is older than {self.version}, the last one seen")
        self.version = version

    def _aged(self) -> tuple[np.ndarray, np.ndarray]:
        """Right and wrong answers [N], discounted to the current version."""
        age_N = np.where(self._seen_at_N < 0, 0, self.version - self._seen_at_N)
        decay_N = self.discount ** age_N.astype(np.float64)
        return self._right_N * decay_N, self._wrong_N * decay_N

    def _prior_mean(self, right_N: np.ndarray, wrong_N: np.ndarray) -> np.ndarray:
        count_N = right_N + wrong_N
        weight_N = count_N / (count_N + self.prior_strength)
        hits_N = weight_N * np.divide(right_N, count_N, out=np.zeros_like(count_N), where=count_N > 0)
        mean_N = self._offline_N
        for group_N in (self.domain_N, self.cell_N):
            size = np.bincount(group_N)
            typical = np.bincount(group_N, mean_N) / size
            total = np.bincount(group_N, weight_N) + self.cell_strength
            observed = (np.bincount(group_N, hits_N) + self.cell_strength * typical) / total
            expected = (np.bincount(group_N, weight_N * mean_N) + self.cell_strength * typical) / total
            mean_N = _sigmoid(_logit(mean_N) + (_logit(observed) - _logit(expected))[group_N])
        return np.clip(mean_N, 1e-3, 1.0 - 1e-3)

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """(alpha, beta) float64 [N] each, at the current policy version."""
        right_N, wrong_N = self._aged()
        mean_N = self._prior_mean(right_N, wrong_N)
        return self.prior_strength * mean_N + right_N, self.prior_strength * (1.0 - mean_N) + wrong_N

    def observe(self, indices: np.ndarray, outcomes_PG: np.ndarray, version: int) -> None:
        """Takes in raw outcomes in [0, 1] [P, G] (NaN: abstained, counts for nothing) of the problems `indices` [P].

        An index may occur more than once. Calibration is measured on the predictions made before this call.
        """
        indices, outcomes_PG = np.asarray(indices), np.asarray(outcomes_PG, np.float64)
        valid_PG = ~np.isnan(outcomes_PG)
        if outcomes_PG.ndim != 2 or len(indices) != len(outcomes_PG):
            raise ValueError(f"{len(indices)} indices but outcomes of shape {outcomes_PG.shape}; expected one row an index")
        if ((outcomes_PG < 0) | (outcomes_PG > 1)).any():
            raise ValueError("an outcome lies outside [0, 1]; pass raw outcomes, not shaped rewards")
        self.advance(version)
        self._calibration = self._measure(indices, outcomes_PG, valid_PG)
        right_P = np.where(valid_PG, outcomes_PG, 0.0).sum(1)
        wrong_P = valid_PG.sum(1) - right_P
        informed = valid_PG.any(1)
        rows = np.unique(indices[informed])
        right_N, wrong_N = self._aged()
        self._right_N[rows], self._wrong_N[rows] = right_N[rows], wrong_N[rows]
        self._seen_at_N[rows] = version
        np.add.at(self._right_N, indices[informed], right_P[informed])
        np.add.at(self._wrong_N, indices[informed], wrong_P[informed])

    def _measure(self, indices: np.ndarray, outcomes_PG: np.ndarray, valid_PG: np.ndarray) -> dict[str, float]:
        """Predictions for complete groups against what came: means and Brier scores."""
        full = valid_PG.all(1) & (valid_PG.shape[1] > 1)
        if not full.any():
            return {}
        alpha_N, beta_N = self.posterior()
        alpha, beta, outcomes = alpha_N[indices[full]], beta_N[indices[full]], outcomes_PG[full]
        predicted, observed = alpha / (alpha + beta), outcomes.mean(1)
        mixed, was_mixed = mixed_group_probability(alpha, beta, outcomes.shape[1]), np.ptp(outcomes, axis=1) > 0
        return {
            "pass_rate_predicted": float(predicted.mean()),
            "pass_rate_observed": float(observed.mean()),
            # Over single answers: the mean of (predicted - outcome)^2.
            "pass_rate_brier": float(((predicted[:, None] - outcomes) ** 2).mean()),
            "mixed_predicted": float(mixed.mean()),
            "mixed_observed": float(was_mixed.mean()),
            "mixed_brier": float(((mixed - was_mixed) ** 2).mean()),
        }

    def metrics(self) -> dict[str, float]:
        """Calibration of the predictions for the last observed groups, and the share of problems seen at all."""
        return {**self._calibration, "seen": float((self._seen_at_N >= 0).mean())}

    def state_dict(self) -> dict[str, Any]:
        """Arrays and numbers from which `load_state_dict` restores the same posteriors bit by bit."""
        return {
            "right": self._right_N.copy(),
            "wrong": self._wrong_N.copy(),
            "seen_at": self._seen_at_N.copy(),
            "version": self.version,
            "calibration": dict(self._calibration),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["right"]) != len(self):
            raise ValueError(f"saved difficulty of {len(state['right'])} problems, this run has {len(self)}; use the same file")
        self._right_N, self._wrong_N = np.array(state["right"], np.float32), np.array(state["wrong"], np.float32)
        self._seen_at_N = np.array(state["seen_at"], np.int32)
        self.version, self._calibration = int(state["version"]), dict(state["calibration"])
