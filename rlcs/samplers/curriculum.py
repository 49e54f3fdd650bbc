"""Reinforcement Learning with Curriculum Sampling: draw the problems whose groups are likely to hold right and wrong
answers.

After RLCS of GLM-4.1V-Thinking (arXiv 2507.01006, section 5.3), with a posterior per problem in the place of its
difficulty tiers. Axis suffixes: N problems, P groups, G samples, D domains.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.difficulty import Difficulty, mixed_group_probability
from rlcs.samplers.base import DomainShares
from rlcs.samplers.selection import balanced_subset, group_outcome

_LAST_BACK_OFF = 16  # doublings after which a deferred problem's wait no longer grows


class CurriculumSampler:
    """The `rlcs` sampler.

    A domain's draws are made without replacement with weight `mixed_probability ** sharpness` among the problems whose
    posterior mean lies in `window`; averaging over the posterior already credits the unknown ones with their spread.
    Beyond it: a share `explore` goes to problems in proportion to their posterior variance, wherever their mean lies; a
    problem all of whose answers were wrong and whose mean is at most `defer_below` rests for `defer_updates` policy
    updates, twice as long each time in a row; one whose mean is at least `retire_above` is retired; a share `review`
    goes to the retired and to those whose rest is over. Only when a domain has nothing else left are resting problems
    drawn.

    Oversampling: each domain draws its share times `min(max_expansion, 1 / (1 - invalid))`, `invalid` the moving
    average (`memory` is the weight of the past) of the fraction of its groups that were all right or all wrong;
    `select` then keeps the most balanced ones.
    """

    def __init__(
        self,
        domains: Sequence[str],
        difficulty: Difficulty,
        *,
        group_size: int,
        seed: int,
        domain_weights: Mapping[str, float] | None = None,
        window: tuple[float, float] = (0.2, 0.8),
        sharpness: float = 4.0,
        explore: float = 0.05,
        review: float = 0.03,
        retire_above: float = 0.9,
        defer_below: float = 0.1,
        defer_updates: int = 8,
        max_expansion: float = 2.0,
        memory: float = 0.8,
    ) -> None:
        self.shares = DomainShares(domains, domain_weights)
        self.difficulty = difficulty
        self._group_size, self._window, self._sharpness = group_size, window, sharpness
        self._explore, self._review = explore, review
        self._retire_above, self._defer_below, self._defer_updates = retire_above, defer_below, defer_updates
        self._max_expansion, self._memory = max_expansion, memory
        self._rng = np.random.default_rng(seed)
        self._failures_N = np.zeros(len(difficulty), np.int8)  # all-wrong observations in a row
        self._due_N = np.zeros(len(difficulty), np.int32)  # policy version at which a deferred problem may be reviewed
        self._invalid_D = np.full(len(self.shares.names), np.nan)

    def expansion(self) -> np.ndarray:
        """Groups drawn for each group wanted [D]; 1 before anything was observed."""
        invalid_D = np.nan_to_num(self._invalid_D, nan=0.0)
        return np.minimum(self._max_expansion, 1.0 / np.maximum(1.0 - invalid_D, 1e-9))

    def draw(self, n: int) -> np.ndarray:
        alpha_N, beta_N = self.difficulty.posterior()
        mean_N = alpha_N / (alpha_N + beta_N)
        mixed_N = mixed_group_probability(alpha_N, beta_N, self._group_size)
        variance_N = mean_N * (1.0 - mean_N) / (alpha_N + beta_N + 1.0)
        state_N = self._states(mean_N)
        wanted_D = np.ceil(self.shares.split(n) * self.expansion() - 1e-9).astype(np.int64)
        drawn = []
        for members, wanted in zip(self.shares.members, wanted_D.tolist(), strict=True):
            wanted = min(wanted, len(members))
            state, weight = state_N[members], mixed_N[members] ** self._sharpness
            free = np.ones(len(members), bool)
            chosen: list[np.ndarray] = []
            for pool, score, count in (
                (np.isin(state, ("retired", "due")), np.ones(len(members)), self._rng.binomial(wanted, self._review)),
                (np.isin(state, ("window", "outside")), variance_N[members], self._rng.binomial(wanted, self._explore)),
                (state == "window", weight, wanted),
                (state == "outside", weight, wanted),
                (np.isin(state, ("retired", "due")), weight, wanted),
                (state == "deferred", weight, wanted),
            ):
                left = wanted - sum(len(picked) for picked in chosen)
                picked = self._pick(np.flatnonzero(pool & free), score, min(count, left))
                free[picked] = False
                chosen.append(picked)
            drawn.append(members[np.concatenate(chosen)])
        return np.concatenate(drawn).astype(np.int64)

    def _pick(self, pool: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
        """`count` of `pool` without replacement, one after another in proportion to weight (Gumbel top-k, arXiv
        1903.06059).
        """
        keys = np.log(np.maximum(weight[pool], 1e-300)) + self._rng.gumbel(size=len(pool))
        return pool[np.argsort(-keys, kind="stable")[:count]]

    def _states(self, mean_N: np.ndarray) -> np.ndarray:
        """One word a problem: "window", "outside" (of the window), "retired", "deferred" or "due" (deferred, rest
        over).
        """
        inside = (mean_N >= self._window[0]) & (mean_N <= self._window[1])
        deferred, resting = self._failures_N > 0, self._due_N > self.difficulty.version
        # A deferred problem whose prior has risen into the window has been overtaken by its cell, but still serves its
        # rest.
        return np.select(
            [deferred & resting, deferred & ~inside, mean_N >= self._retire_above, inside],
            ["deferred", "due", "retired", "window"],
            "outside",
        )

    def observe(self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int) -> None:
        indices = np.asarray(indices)
        self.difficulty.observe(indices, outcomes_PG, policy_version)
        alpha_N, beta_N = self.difficulty.posterior()
        mean_P = (alpha_N / (alpha_N + beta_N))[indices]
        verdicts = np.array(group_outcome(outcomes_PG))
        failed = (verdicts == "all-wrong") & (mean_P <= self._defer_below)
        count_P = np.minimum(self._failures_N[indices[failed]], _LAST_BACK_OFF - 1) + 1
        self._failures_N[indices[failed]] = count_P
        self._due_N[indices[failed]] = policy_version + self._defer_updates * 2 ** (count_P.astype(np.int64) - 1)
        solved = (verdicts == "mixed") | (verdicts == "all-right")
        self._failures_N[indices[solved]] = 0
        for domain in range(len(self.shares.names)):
            mine = verdicts[(self.shares.domain_N[indices] == domain) & (verdicts != "abstained")]
            if len(mine):
                invalid, past = float(np.mean(mine != "mixed")), self._invalid_D[domain]
                self._invalid_D[domain] = invalid if np.isnan(past) else self._memory * past + (1 - self._memory) * invalid

    def select(self, indices: np.ndarray, outcomes_PG: np.ndarray, n: int) -> np.ndarray:
        """The most balanced groups of each domain, up to its share of `n`."""
        return balanced_subset(outcomes_PG, self.shares.domain_N[indices], self.shares.quotas(n))

    def snapshot(self) -> dict[str, np.ndarray]:
        alpha_N, beta_N = self.difficulty.posterior()
        mean_N = alpha_N / (alpha_N + beta_N)
        return {
            "alpha": alpha_N,
            "beta": beta_N,
            "mean": mean_N,
            "mixed_probability": mixed_group_probability(alpha_N, beta_N, self._group_size),
            "seen_at": self.difficulty.seen_at_N.copy(),
            "state": self._states(mean_N),
        }

    def metrics(self) -> dict[str, float]:
        state_N = self.snapshot()["state"]
        counts = {
            f"share/{state}": float(np.mean(state_N == state)) for state in ("window", "outside", "retired", "deferred", "due")
        }
        domains: dict[str, float] = {}
        for name, invalid, expansion in zip(self.shares.names, self._invalid_D, self.expansion(), strict=True):
            domains |= {f"invalid/{name}": float(np.nan_to_num(invalid)), f"expansion/{name}": float(expansion)}
        return {**self.difficulty.metrics(), **counts, **domains}

    def state_dict(self) -> dict[str, Any]:
        return {
            "difficulty": self.difficulty.state_dict(),
            "shares": self.shares.state_dict(),
            "rng": self._rng.bit_generator.state,
            "failures": self._failures_N.copy(),
            "due": self._due_N.copy(),
            "invalid": self._invalid_D.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.difficulty.load_state_dict(state["difficulty"])
        self.shares.load_state_dict(state["shares"])
        self._rng.bit_generator.state = state["rng"]
        self._failures_N, self._due_N = np.array(state["failures"], np.int8), np.array(state["due"], np.int32)
        self._invalid_D = np.array(state["invalid"], np.float64)
