"""GRESO: dynamic sampling that skips, before any rollout, problems likely to be all right or all wrong again.

Axis suffixes: N problems, M some of them, P groups, G samples, D domains.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.difficulty import Difficulty
from rlcs.samplers.dapo import DapoSampler
from rlcs.samplers.outcomes import GroupOutcomes

_LONGEST = 100  # a streak is counted up to this; the probability has long reached its floor
_FLOOR = 0.01  # least probability of keeping a problem


class GresoSampler(DapoSampler):
    """GRPO with Efficient Selective Rollout (arXiv 2506.02177; constants and details follow its public code).

    Pre-rollout filtering: a problem whose last z visits in a row were all right is kept with probability `p_easy ** z`,
    one whose last z visits were all wrong with `p_hard ** z`, at least 0.01; others always. A problem skipped has had
    its turn in the epoch.

    The two base probabilities adjust themselves: after every step, once the first epoch is over, each falls by `p_step`
    where the fraction of all-right (all-wrong) groups reached its target and rises by it where not, within
    `p_range`. The targets are a third of `target_zero_variance` for the all-right groups and two thirds for the
    all-wrong ones, which are the likelier to change.

    Adaptive batch: the first batch is `batch_ratio` times as large as what the step trains on (384 to 256 in the
    paper). The following ones are sized for what is missing, `safety * missing / (1 - invalid)` with the fraction of
    all-right and all-wrong groups in the batch before, and at most as large as the first.

    Differences from the public code: it stops after the first batch thus reduced even when the step is not full (here
    it goes on, up to `max_batches`), and generates 64 prompts at least. When everything in
    a domain is skipped in one pass, the step takes problems as they come, so that it is never empty. Domains as in
    `DapoSampler`, `invalid` being the domain's own.
    """

    def __init__(
        self,
        domains: Sequence[str],
        difficulty: Difficulty,
        *,
        group_size: int,
        seed: int,
        domain_weights: Mapping[str, float] | None = None,
        batch_ratio: float = 1.5,
        max_batches: int = 10,
        p_easy: float = 0.5,
        p_hard: float = 0.5,
        target_zero_variance: float = 0.25,
        p_step: float = 0.01,
        p_range: tuple[float, float] = (0.05, 0.95),
        safety: float = 1.25,
    ) -> None:
        low, high = p_range
        if not (0 <= low <= min(p_easy, p_hard) <= max(p_easy, p_hard) <= high <= 1):
            raise ValueError(f"p_easy {p_easy}, p_hard {p_hard}; expected both within p_range {list(p_range)}, that in [0, 1]")
        if not (0 <= target_zero_variance <= 1 and p_step >= 0 and safety >= 1):
            raise ValueError(
                f"target_zero_variance {target_zero_variance}, p_step {p_step}, safety {safety}; "
                "expected a fraction, a step of 0 or more, and a factor of at least 1"
            )
        common: dict[str, Any] = {"group_size": group_size, "seed": seed, "domain_weights": domain_weights}
        super().__init__(domains, difficulty, **common, batch_ratio=batch_ratio, max_batches=max_batches)
        self._p_easy, self._p_hard, self._p_step, self._p_range = p_easy, p_hard, p_step, p_range
        self._target_easy, self._target_hard = target_zero_variance / 3, 2 * target_zero_variance / 3
        self._safety = safety
        # Visits in a row without variance: all right counted upwards, all wrong downwards.
        self._streak_N = np.zeros(len(difficulty), np.int8)
        self._counts_3 = np.zeros(3, np.int64)  # of the running step: groups all right, all wrong, all that did not abstain
        self._last_2D = np.zeros((2, len(self.shares.names)), np.int64)  # of the last batch: without variance, in all

    def draw(self, n: int) -> np.ndarray:
        self._adjust()
        return super().draw(n)

    def _adjust(self) -> None:
        """Moves the base probabilities by what came of the step before."""
        easy, hard, total = self._counts_3.tolist()
        self._counts_3 = np.zeros(3, np.int64)
        active = [epoch for epoch, share in zip(self._epochs.epoch, self.shares.share_D, strict=True) if share > 0]
        if total and min(active) > 0:
            self._p_easy = self._moved(self._p_easy, easy / total >= self._target_easy)
            self._p_hard = self._moved(self._p_hard, hard / total >= self._target_hard)

    def _moved(self, p: float, too_many: bool) -> float:
        low, high = self._p_range
        return max(low, p - self._p_step) if too_many else min(high, p + self._p_step)

    def keep_probability(self, indices: np.ndarray) -> np.ndarray:
        """Probability [M] that a problem whose turn it is gets rollouts."""
        streak_M = self._streak_N[indices].astype(np.float64)
        return np.maximum(np.where(streak_M > 0, self._p_easy, self._p_hard) ** np.abs(streak_M), _FLOOR)

    def _draw_domain(self, domain: int, count: int) -> np.ndarray:
        taken = self._epochs.take(domain, count, self._held, self._kept)
        missing = int(self._quota_D[domain]) - len(taken)
        if self._batches == 1 and missing > 0:
            taken = np.concatenate([taken, self._epochs.take(domain, missing, taken)])
        return taken

    def _kept(self, indices: np.ndarray) -> np.ndarray:
        return self._rng.random(len(indices)) < self.keep_probability(indices)

    def _next_batch(self, short_D: np.ndarray) -> np.ndarray:
        invalid_D, all_D = self._last_2D
        valid_D = np.divide(all_D - invalid_D, all_D, out=np.ones(len(all_D)), where=all_D > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted_D = np.where(valid_D > 0, self._safety * short_D / valid_D, np.inf)
        return np.clip(np.floor(wanted_D), 1, self._full_batch()).astype(np.int64)

    def observe(
        self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int, tokens_P: np.ndarray | None = None
    ) -> None:
        super().observe(indices, outcomes_PG, policy_version, tokens_P)
        groups = GroupOutcomes.of(outcomes_PG)
        streak_P = self._streak_N[indices].astype(np.int64)
        moved_P = np.select(
            [groups.right_P, groups.wrong_P, groups.mixed_P],
            [np.maximum(streak_P, 0) + 1, np.minimum(streak_P, 0) - 1, np.zeros_like(streak_P)],
            streak_P,
        )
        self._streak_N[indices] = np.clip(moved_P, -_LONGEST, _LONGEST)
        self._counts_3 += [groups.right_P.sum(), groups.wrong_P.sum(), groups.told_P.sum()]
        domain_P, domains = self.shares.domain_N[indices], len(self.shares.names)
        self._last_2D = np.stack(
            [np.bincount(domain_P[mask], minlength=domains) for mask in (groups.zero_variance_P, groups.told_P)]
        )

    def snapshot(self) -> dict[str, np.ndarray]:
        return {
            **super().snapshot(),
            "streak": self._streak_N.copy(),
            "keep_probability": self.keep_probability(np.arange(len(self._streak_N))),
        }

    def metrics(self) -> dict[str, float]:
        return {**super().metrics(), "p_easy": self._p_easy, "p_hard": self._p_hard}

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "streak": self._streak_N.copy(),
            "p": [self._p_easy, self._p_hard],
            "counts": self._counts_3.copy(),
            "last": self._last_2D.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._streak_N = np.array(state["streak"], np.int8)
        self._p_easy, self._p_hard = state["p"]
        self._counts_3, self._last_2D = np.array(state["counts"], np.int64), np.array(state["last"], np.int64)
