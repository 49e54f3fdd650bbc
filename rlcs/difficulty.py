"""How hard each problem is for the current policy: a discounted Beta posterior over pass rates, in arrays only.

Axis suffixes: N problems, M some of them, P groups of one observation, G samples of a group, C cells (domain x tier), D
domains, V policy versions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlcs.belief_fit import BeliefFit
from rlcs.calibration import Calibration

# Offline rates are kept in 50,400ths: two bytes, exact in hundredths and for k of n answers with n to 10, 12, 14 to 16, 32.
_OFFLINE_PARTS = 50400
_CLIP = 0.02  # a label of 0 or 1 from a few samples is unreliable; it must be possible to move it
_FULL_COUNT = 2.0  # a problem with this much evidence counts half in the drift of its cell
_SURE = 1e-3  # prior means are kept this far from 0 and 1
_CARRY_STEP = 0.1  # part of the remaining error that the carry of a domain moves by, given many groups
_CARRY_GROUPS = 20  # groups of a domain in one observation that count as many
_CARRY_MOST = 2.0  # logits


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p) - np.log1p(-p)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


class Difficulty:
    """Beta posteriors over the pass rates of N problems, aged by policy updates towards a hierarchical prior.

    Evidence (right and wrong answers counted) is worth `discount` less with every policy update since, for problems
    drawn or not, so a problem not seen for long returns to its prior and its variance grows. The prior of a problem is
    worth `prior_strength` answers. Both are starting values that every domain (the discount) and every cell (the
    strength) then learns from its groups (`BeliefFit`); with `learn` False they stay. Evidence ages at the discount
    believed at the time, so a later change of mind rewrites nothing.

    What evidence is left still says what an older policy could do, and a policy gets better at what it trains on: read
    as it came in, it lags in one direction. So it is carried forward: the odds it shows are multiplied by exp(carry) of
    the domain. The carry is learned from the error left in the predictions for problems seen before (with `learn`),
    by damped Fisher scoring of one logistic offset, and follows the policy as it learns faster, slower or unlearns.

    The prior mean is the problem's offline `pass_rate` (or that of its cell, its domain, 0.5, whichever is known
    first), moved in logit space by how far the observed rates of its domain, and then of its cell, have drifted from
    theirs. A cell is a domain at a tier. Every problem counts at most once in its cell, however often it was drawn, and
    against its own offline rate: a sampler that keeps to problems of moderate difficulty would otherwise pull the mean
    of the cell to the middle. A drift is shrunk as if `cell_strength` further problems had shown none.

    What a cell needs is kept as running sums, so that an observation costs its P groups, not N problems, and so does a
    posterior of some problems. 18 bytes a problem.
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
        learn: bool = True,
    ) -> None:
        if not len(domains) == len(tiers) == len(pass_rates) or not len(domains):
            raise ValueError(f"{len(domains)} domains, {len(tiers)} tiers, {len(pass_rates)} pass rates; expected as many")
        if not (0.0 < discount <= 1.0 and prior_strength > 0.0 and cell_strength > 0.0):
            raise ValueError(
                f"discount {discount}, prior_strength {prior_strength}, cell_strength {cell_strength}; "
                "expected 0 < discount <= 1 and strengths above 0"
            )
        self._cell_strength, self._learn = cell_strength, learn
        names = np.asarray(domains, dtype=np.str_)
        self.domains, domain_N = np.unique(names, return_inverse=True)
        cells = np.char.add(np.char.add(names, "\x1f"), ["" if tier is None else str(tier) for tier in tiers])
        _, first_C, cell_N = np.unique(cells, return_index=True, return_inverse=True)
        self.cell_N = cell_N.astype(np.int16 if len(first_C) < 2**15 else np.int32)
        self.domain_C = domain_N[first_C]
        offline_N = np.array([np.nan if rate is None else rate for rate in pass_rates], np.float64)
        filled_N = _fill_offline(offline_N, self.cell_N, domain_N)
        self._offline_N = np.rint(filled_N * _OFFLINE_PARTS).astype(np.uint16)
        self._size_C = np.bincount(self.cell_N)
        self._typical_C = np.bincount(self.cell_N, filled_N) / self._size_C
        self._typical_D = np.bincount(domain_N, filled_N) / np.bincount(domain_N)
        self._fit = BeliefFit(self.domain_C, strength=prior_strength, discount=discount)
        self.calibration = Calibration([str(name) for name in self.domains])

        self.version = 0
        size = len(names)
        self._right_N, self._wrong_N = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._seen_at_N = np.full(size, -1, np.int32)
        self._seen_D, self._seen_at_sum_D = np.zeros(len(self.domains), np.int64), np.zeros(len(self.domains), np.int64)
        # Log of what evidence of version 0 is still worth at each version: what lies between is the difference of two.
        self._worth_VD = np.zeros((1, len(self.domains)))
        # Per cell, over its seen problems, each weighted by its aged evidence: weights, pass rates, offline pass rates.
        self._sums_3C = np.zeros((3, len(first_C)))
        self._carry_D = np.zeros(len(self.domains))

    def __len__(self) -> int:
        return len(self._right_N)

    @property
    def seen_at_N(self) -> np.ndarray:
        """Policy version of each problem's last observation, int32 [N]; -1 for problems never seen."""
        return self._seen_at_N

    @property
    def prior_strength_C(self) -> np.ndarray:
        """Answers that the prior of a problem of each cell is worth."""
        return self._fit.strength_C

    @property
    def discount_D(self) -> np.ndarray:
        """What evidence of each domain is worth after one more policy update."""
        return self._fit.discount_D

    @property
    def carry_D(self) -> np.ndarray:
        """Logits by which what was observed of each domain's problems is carried forward."""
        return self._carry_D

    def advance(self, version: int) -> None:
        """The policy is now at `version` (number of updates): all evidence ages to it."""
        if version < self.version:
            raise ValueError(f"policy version {version} is older than {self.version}, the last one seen")
        updates = version - self.version
        if updates:
            aged_D = np.log(self.discount_D)
            self._worth_VD = np.concatenate([self._worth_VD, self._worth_VD[-1] + np.arange(1, updates + 1)[:, None] * aged_D])
            self._sums_3C *= np.exp(updates * aged_D)[self.domain_C]
        self.version = version

    def _decay(self, indices: np.ndarray | slice) -> np.ndarray:
        """What the evidence of problems `indices` [M] is worth by now, of 1 when it came in."""
        domain_M = self.domain_C[self.cell_N[indices]]
        return np.exp(
            self._worth_VD[self.version, domain_M] - self._worth_VD[np.maximum(self._seen_at_N[indices], 0), domain_M]
        )

    def _shift_C(self) -> np.ndarray:
        """How far each cell's pass rates have drifted from the offline ones, in logits."""
        extra = self._cell_strength
        weight_D, hits_D, expected_D = (np.bincount(self.domain_C, row, len(self.domains)) for row in self._sums_3C)
        total_D, unmoved_D = weight_D + extra, extra * self._typical_D
        shift_D = _logit((hits_D + unmoved_D) / total_D) - _logit((expected_D + unmoved_D) / total_D)
        shift_C = shift_D[self.domain_C]
        weight_C, hits_C, offline_C = self._sums_3C
        seen_mean_C = np.divide(offline_C, weight_C, out=self._typical_C.copy(), where=weight_C > 1e-9)
        expected_C = weight_C * _sigmoid(_logit(np.clip(seen_mean_C, _SURE, 1 - _SURE)) + shift_C)
        total_C, unmoved_C = weight_C + extra, extra * _sigmoid(_logit(self._typical_C) + shift_C)
        moved: np.ndarray = shift_C + _logit((hits_C + unmoved_C) / total_C) - _logit((expected_C + unmoved_C) / total_C)
        return moved

    def prior_mean(self, indices: np.ndarray | slice = np.s_[:]) -> np.ndarray:
        """Mean [M] of the priors of problems `indices`, at the current policy version."""
        mean_M = _sigmoid(_logit(self._offline_N[indices] / _OFFLINE_PARTS) + self._shift_C()[self.cell_N[indices]])
        return np.clip(mean_M, _SURE, 1.0 - _SURE)

    def posterior(self, indices: np.ndarray | slice = np.s_[:]) -> tuple[np.ndarray, np.ndarray]:
        """(alpha, beta) float64 [M] each of problems `indices` (absent: of all), at the current policy version."""
        mean_M, decay_M = self.prior_mean(indices), self._decay(indices)
        strength_M = self.prior_strength_C[self.cell_N[indices]]
        right_M, wrong_M = self._carried(indices)
        return strength_M * mean_M + right_M * decay_M, strength_M * (1.0 - mean_M) + wrong_M * decay_M

    def _carried(self, indices: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Right and wrong answers [M] each of problems `indices`, not aged, as the policy of now would give them."""
        right_M, wrong_M = self._right_N[indices].astype(np.float64), self._wrong_N[indices].astype(np.float64)
        known_M = right_M + wrong_M
        odds_M = right_M * np.exp(self._carry_D)[self.domain_C[self.cell_N[indices]]]
        right_M = known_M * np.divide(odds_M, odds_M + wrong_M, out=np.zeros_like(odds_M), where=known_M > 0)
        return right_M, known_M - right_M

    def observe(self, indices: np.ndarray, outcomes_PG: np.ndarray, version: int) -> None:
        """Takes in raw outcomes in [0, 1] [P, G] (NaN: abstained, counts for nothing) of the problems `indices` [P].

        An index may occur more than once. Calibration is measured, and strengths and discounts are learned, on the
        predictions made before this call.
        """
        indices, outcomes_PG = np.asarray(indices), np.asarray(outcomes_PG, np.float64)
        valid_PG = ~np.isnan(outcomes_PG)
        if outcomes_PG.ndim != 2 or len(indices) != len(outcomes_PG):
            raise ValueError(f"{len(indices)} indices but outcomes of shape {outcomes_PG.shape}; expected one row an index")
        if ((outcomes_PG < 0) | (outcomes_PG > 1)).any():
            raise ValueError("an outcome lies outside [0, 1]; pass raw outcomes, not shaped rewards")
        self.advance(version)
        cell_P = self.cell_N[indices]
        alpha_P, beta_P = self.posterior(indices)
        self.calibration.observe(self.domain_C[cell_P], alpha_P, beta_P, outcomes_PG)
        informed = valid_PG.any(1)
        indices, cell_P, predicted_P = indices[informed], cell_P[informed], (alpha_P / (alpha_P + beta_P))[informed]
        right_P = np.where(valid_PG, outcomes_PG, 0.0).sum(1)[informed]
        wrong_P = valid_PG.sum(1)[informed] - right_P
        if self._learn and len(indices):
            evidence_P2, outcome_P2 = np.stack(self._carried(indices), axis=1), np.stack([right_P, wrong_P], axis=1)
            self._fit.observe(cell_P, self.prior_mean(indices), evidence_P2, version - self._seen_at_N[indices], outcome_P2)
            seen_P = self._seen_at_N[indices] >= 0
            self._learn_carry(self.domain_C[cell_P[seen_P]], predicted_P[seen_P], outcome_P2[seen_P])
        rows = np.unique(indices)
        self._count_in_cells(rows, -1.0)
        decay = self._decay(rows)
        self._right_N[rows] *= decay
        self._wrong_N[rows] *= decay
        self._count_visits(rows, -1)
        self._seen_at_N[rows] = version
        self._count_visits(rows, 1)
        np.add.at(self._right_N, indices, right_P)
        np.add.at(self._wrong_N, indices, wrong_P)
        self._count_in_cells(rows, 1.0)

    def _learn_carry(self, domain_P: np.ndarray, predicted_P: np.ndarray, outcome_P2: np.ndarray) -> None:
        """Moves each domain's carry by what the predictions for problems seen before it missed the outcomes by."""
        answers_P, domains = outcome_P2.sum(1), len(self.domains)
        missed_P, spread_P = outcome_P2[:, 0] - answers_P * predicted_P, answers_P * predicted_P * (1.0 - predicted_P)
        missed_D, spread_D, answers_D, groups_D = (
            np.bincount(domain_P, row, domains) for row in (missed_P, spread_P, answers_P, np.ones_like(answers_P))
        )
        # Predictions near 0 or 1 give an offset next to no hold: the spread has a floor.
        step_D = missed_D / np.maximum(spread_D, 0.05 * np.maximum(answers_D, 1.0))
        step_D *= _CARRY_STEP * np.minimum(groups_D / _CARRY_GROUPS, 1.0)
        self._carry_D = np.clip(self._carry_D + step_D, -_CARRY_MOST, _CARRY_MOST)

    def _count_visits(self, rows: np.ndarray, sign: int) -> None:
        """Adds problems `rows` to (or with sign -1 takes them out of) the count and the sum behind coverage and age."""
        rows = rows[self._seen_at_N[rows] >= 0]
        domain = self.domain_C[self.cell_N[rows]]
        count = len(self.domains)
        self._seen_D += sign * np.bincount(domain, minlength=count)
        self._seen_at_sum_D += sign * np.bincount(domain, self._seen_at_N[rows], count).astype(np.int64)

    def _count_in_cells(self, rows: np.ndarray, sign: float) -> None:
        """Adds what problems `rows`, distinct, tell of their cells (or with sign -1 takes it out again)."""
        right, wrong = self._right_N[rows].astype(np.float64), self._wrong_N[rows].astype(np.float64)
        count = right + wrong
        # The share of full weight is fixed when the evidence comes in and ages with it: sums age by multiplication.
        weight = sign * self._decay(rows) * count / (count + _FULL_COUNT)
        rate = np.divide(right, count, out=np.zeros_like(count), where=count > 0)
        for row, values in enumerate((weight, weight * rate, weight * self._offline_N[rows] / _OFFLINE_PARTS)):
            self._sums_3C[row] += np.bincount(self.cell_N[rows], values, self._sums_3C.shape[1])
        np.maximum(self._sums_3C, 0.0, out=self._sums_3C)  # rounding must not leave a negative weight

    def metrics(self) -> dict[str, float]:
        """Calibration of the predictions for the last observed groups; per domain what was learned, the share of
        problems ever seen (coverage) and the mean number of updates since they were (age).
        """
        size_D = np.bincount(self.domain_C, self._size_C)
        typical_D = np.exp(np.bincount(self.domain_C, self._size_C * np.log(self.prior_strength_C)) / size_D)
        age_D = self.version - self._seen_at_sum_D / np.maximum(self._seen_D, 1)
        found = {"coverage": float(self._seen_D.sum()) / len(self)}
        for d, name in enumerate(self.domains):
            found |= {
                f"prior_strength/{name}": float(typical_D[d]),
                f"discount/{name}": float(self.discount_D[d]),
                f"carry/{name}": float(self._carry_D[d]),
                f"coverage/{name}": float(self._seen_D[d] / size_D[d]),
            }
            if self._seen_D[d]:
                found[f"age/{name}"] = float(age_D[d])
        return {**self.calibration.metrics(), **found}

    def state_dict(self) -> dict[str, Any]:
        """Arrays and numbers from which `load_state_dict` restores the same posteriors bit by bit."""
        return {
            "right": self._right_N.copy(),
            "wrong": self._wrong_N.copy(),
            "seen_at": self._seen_at_N.copy(),
            "version": self.version,
            "worth": self._worth_VD.copy(),
            "sums": self._sums_3C.copy(),
            "carry": self._carry_D.copy(),
            "fit": self._fit.state_dict(),
            "calibration": self.calibration.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["right"]) != len(self):
            raise ValueError(f"saved difficulty of {len(state['right'])} problems, this run has {len(self)}; use the same file")
        self._right_N, self._wrong_N = np.array(state["right"], np.float32), np.array(state["wrong"], np.float32)
        self._seen_at_N = np.array(state["seen_at"], np.int32)
        self._seen_D[:], self._seen_at_sum_D[:] = 0, 0
        self._count_visits(np.arange(len(self)), 1)
        self.version = int(state["version"])
        self._worth_VD, self._sums_3C = np.array(state["worth"]), np.array(state["sums"])
        self._carry_D = np.array(state["carry"])
        self._fit.load_state_dict(state["fit"])
        self.calibration.load_state_dict(state["calibration"])


def _fill_offline(rate_N: np.ndarray, cell_N: np.ndarray, domain_N: np.ndarray) -> np.ndarray:
    """Offline pass rates with the unknown ones replaced by the mean of their cell, of their domain, or 0.5."""
    for group_N, filler in ((cell_N, None), (domain_N, None), (np.zeros(len(rate_N), np.int64), 0.5)):
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
