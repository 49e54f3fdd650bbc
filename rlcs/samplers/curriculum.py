"""Reinforcement Learning with Curriculum Sampling: draw the problems whose groups are likely to hold right and wrong
answers.

After RLCS of GLM-4.1V-Thinking (arXiv 2507.01006, section 5.3), with a posterior per problem in the place of its
difficulty tiers. Axis suffixes: N problems, M some of them, P groups, G samples, D domains, C cells (domain x tier).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.beta_binomial import mixed_group_probability
from rlcs.difficulty import Difficulty
from rlcs.samplers.base import NO_PROBLEMS
from rlcs.samplers.domain_sampler import DomainSampler
from rlcs.samplers.outcomes import GroupOutcomes
from rlcs.samplers.selection import balanced_subset, group_outcome
from rlcs.samplers.weighted_pools import WeightedPools

STATES = ("window", "outside", "retired", "deferred", "due", "resting")
WINDOW, OUTSIDE, RETIRED, DEFERRED, DUE, RESTING = range(len(STATES))
_LAST_BACK_OFF = 16  # doublings after which a deferred problem's wait no longer grows
_REFRESHED = 32768  # problems whose state and weight are brought up to date at each draw, besides those just observed
_SILENT = 0.02  # moving average of mixed groups under which a domain is said to carry no signal
_PATIENCE = 5  # observations of a domain before it can be called silent
_PROBE = 0.1  # part of its share that a silent domain keeps, to notice when signal comes back


class CurriculumSampler(DomainSampler):
    """The `rlcs` sampler.

    A domain's draws are made without replacement with weight `mixed_probability ** sharpness` among the problems whose
    posterior mean lies in `window`; averaging over the posterior already credits the unknown ones with their spread.
    With `per_token` the weight is divided by the expected length of a response of the problem's cell: information per
    token generated. A problem drawn is not drawn again in the next `rest` steps, so that a few problems of the right
    difficulty are not trained on again and again. Beyond that a share `explore` goes to problems in proportion to their
    posterior variance, wherever their mean lies; a problem all of whose answers were wrong and whose mean is at most
    `defer_below` rests for `defer_updates` policy updates, twice as long each time in a row; one whose mean is at least
    `retire_above` is retired; a share `review` goes to the retired and to those whose rest is over. Only when a domain
    has nothing else left are resting problems drawn: what one domain lacks is made up in the same domain.

    Oversampling: a domain draws as many groups as are needed for the mixed ones among them to fill its share, by its
    posteriors' own predictions, and `max_expansion` times its share at most. The predictions are corrected by the
    moving average (`memory` is the weight of the past) of how many mixed groups came for each one predicted, the
    posterior's form of the paper's ratio-based expansion. A domain that still lacks mixed groups when its groups are
    in draws again, sized in the same way, at most `max_refills` times and within the same cap. `select` then keeps the
    most balanced groups. At a `max_expansion` of 1, the default, a step generates what it wants and trains on what is
    mixed: at equal rollouts more and smaller steps learn more (benchmarks/curriculum).

    Domains: fixed shares, of which each keeps at least the part `domain_floor`; what is above the floor goes to domains
    in proportion to the variance of outcomes within their recent groups (1: shares stay fixed). A domain that has had
    no mixed group for long draws a tenth of its share until it has one again.

    States and weights are kept for all problems and brought up to date for those observed and, in turn, for the others,
    32,768 at each draw (all of them in a file no larger): a draw costs about the same for a hundred thousand problems and
    ten million. 31 bytes a problem with its posterior.
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
        sharpness: float = 10.0,
        per_token: bool = False,
        rest: int = 4,
        explore: float = 0.02,
        review: float = 0.03,
        retire_above: float = 0.9,
        defer_below: float = 0.1,
        defer_updates: int = 8,
        max_expansion: float = 1.0,
        max_refills: int = 1,
        memory: float = 0.8,
        domain_floor: float = 1.0,
    ) -> None:
        super().__init__(domains, difficulty, group_size=group_size, seed=seed, domain_weights=domain_weights)
        self._window, self._sharpness, self._per_token = window, sharpness, per_token
        self._rest, self._explore, self._review = rest, explore, review
        self._retire_above, self._defer_below, self._defer_updates = retire_above, defer_below, defer_updates
        self._max_expansion, self._max_refills = max_expansion, max_refills
        self._memory, self._domain_floor = memory, domain_floor
        self._failures_N = np.zeros(len(difficulty), np.int8)  # all-wrong observations in a row
        self._due_N = np.zeros(len(difficulty), np.int32)  # policy version at which a deferred problem may be reviewed
        self._pools = WeightedPools(self.shares.members, self.shares.domain_N, len(STATES), self._rng)
        self._cursor = 0
        domains_D = len(self.shares.names)
        # Moving averages of each domain's observations: mixed groups that came, that were predicted, outcome variance.
        self._mixed_D, self._predicted_D, self._signal_D = (np.full(domains_D, np.nan) for _ in range(3))
        self._observed_D = np.zeros(domains_D, np.int64)
        self._length_C = np.full(len(difficulty.domain_C), np.nan)
        self._expansion_D = np.ones(domains_D)
        self._quota_D = np.zeros(domains_D, np.int64)  # groups of each domain that the running step trains on
        self._refills = 0  # of the running step
        self._held = NO_PROBLEMS  # problems the running step already has when it draws again
        for start in range(0, len(difficulty), _REFRESHED):
            self._refresh(np.arange(start, min(start + _REFRESHED, len(difficulty))))

    def draw(self, n: int) -> np.ndarray:
        count = min(_REFRESHED, len(self.difficulty))
        self._refresh((self._cursor + np.arange(count)) % len(self.difficulty))
        self._cursor = (self._cursor + count) % len(self.difficulty)
        self.shares.adjust(self._leaning())
        self._quota_D, self._refills, self._held = self.shares.split(n), 0, NO_PROBLEMS
        drawn = self._draw_each(self._quota_D)
        self._expansion_D = self._count(drawn) / np.maximum(self._quota_D, 1)
        return drawn

    def _count(self, indices: np.ndarray) -> np.ndarray:
        """How many of problems `indices` are of each domain [D]."""
        return np.bincount(self.shares.domain_N[indices], minlength=len(self.shares.names))

    def _most_D(self) -> np.ndarray:
        """Groups that each domain may generate in the running step [D]."""
        size_D = np.array([len(members) for members in self.shares.members])
        most_D: np.ndarray = np.minimum(np.ceil(self._quota_D * self._max_expansion - 1e-9).astype(np.int64), size_D)
        return most_D

    def _draw_domain(self, domain: int, count: int) -> np.ndarray:
        """Problems of `domain` that are likely to give `count` mixed groups, as far as the cap allows; in a step's first
        draw at least `count` of them.
        """
        chosen = taken = self._held[self.shares.domain_N[self._held] == domain]
        most, first = int(self._most_D()[domain]), self._refills == 0
        for states, weight, wanted in (
            ((RETIRED, DUE), None, self._rng.binomial(count, self._review) if first else 0),
            ((WINDOW, OUTSIDE), self._variance, self._rng.binomial(count, self._explore) if first else 0),
            ((WINDOW,), self._pools.weight, most),
            ((OUTSIDE,), self._pools.weight, most),
            ((RETIRED, DUE), self._pools.weight, most),
            ((RESTING,), self._pools.weight, most),
            ((DEFERRED,), self._pools.weight, most),
        ):
            more = min(wanted, most - len(chosen))
            if more > 0:
                chosen = np.concatenate([chosen, self._pools.pick(domain, states, weight, more, taken=chosen)])
        fresh = chosen[len(taken) :]
        expected = np.cumsum(self._mixed_probability(fresh) * self._correction(domain))
        enough = int(np.searchsorted(expected, count - 1e-9)) + 1
        return fresh[: max(enough, count) if first else enough]

    def _correction(self, domain: int) -> float:
        """Mixed groups that came for each one predicted, in the domain's recent past."""
        predicted = self._predicted_D[domain]
        return 1.0 if np.isnan(predicted) else float(np.clip(self._mixed_D[domain] / max(predicted, 1e-3), 0.1, 1.5))

    def _mixed_probability(self, indices: np.ndarray) -> np.ndarray:
        return mixed_group_probability(*self.difficulty.posterior(indices), self._group_size)

    def _variance(self, indices: np.ndarray) -> np.ndarray:
        alpha_M, beta_M = self.difficulty.posterior(indices)
        total_M = alpha_M + beta_M
        return alpha_M * beta_M / (total_M * total_M * (total_M + 1.0))

    def _refresh(self, indices: np.ndarray) -> None:
        """Brings state and weight of problems `indices`, distinct, up to date."""
        alpha_M, beta_M = self.difficulty.posterior(indices)
        weight_M = mixed_group_probability(alpha_M, beta_M, self._group_size) ** self._sharpness
        if self._per_token:
            weight_M = weight_M / self._relative_length()[self.difficulty.cell_N[indices]]
        self._pools.update(indices, self._states(indices, alpha_M / (alpha_M + beta_M)), weight_M)

    def _relative_length(self) -> np.ndarray:
        """Expected response length of each cell [C] over the shortest one's; 1 where none is known."""
        if np.isnan(self._length_C).all():
            return np.ones_like(self._length_C)
        shortest = max(float(np.nanmin(self._length_C)), 1.0)
        known_C = np.where(np.isnan(self._length_C), np.nanmean(self._length_C), self._length_C)
        return np.maximum(known_C / shortest, 1.0)

    def _states(self, indices: np.ndarray, mean_M: np.ndarray) -> np.ndarray:
        inside = (mean_M >= self._window[0]) & (mean_M <= self._window[1])
        deferred, resting = self._failures_N[indices] > 0, self._due_N[indices] > self.difficulty.version
        # The version moves with each observation, so a problem of the last step is one of this version.
        seen_at = self.difficulty.seen_at_N[indices]
        drawn_lately = (seen_at >= 0) & (self.difficulty.version - seen_at < self._rest)
        # A deferred problem whose prior has risen into the window has been overtaken by its cell, but still serves its
        # rest.
        return np.select(
            [deferred & resting, deferred & ~inside, mean_M >= self._retire_above, drawn_lately, inside],
            [DEFERRED, DUE, RETIRED, RESTING, WINDOW],
            OUTSIDE,
        )

    def refill(self, n: int, indices: np.ndarray, outcomes_PG: np.ndarray) -> np.ndarray:
        """Further problems of each domain that lacks mixed groups, as many as its predictions say, within the cap."""
        if self._refills >= self._max_refills:
            return NO_PROBLEMS
        self._refills, self._held = self._refills + 1, indices
        short_D = self._quota_D - self._count(indices[GroupOutcomes.of(outcomes_PG).mixed_P])
        has_room_D = self._count(indices) < self._most_D()
        drawn = self._draw_each(np.where(has_room_D, np.maximum(short_D, 0), 0))
        self._expansion_D = self._expansion_D + self._count(drawn) / np.maximum(self._quota_D, 1)
        return drawn

    def observe(
        self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int, tokens_P: np.ndarray | None = None
    ) -> None:
        indices = np.asarray(indices)
        self.difficulty.advance(policy_version)
        predicted_P = self._mixed_probability(indices)
        self.difficulty.observe(indices, outcomes_PG, policy_version)
        alpha_P, beta_P = self.difficulty.posterior(indices)
        verdicts = np.array(group_outcome(outcomes_PG))
        self._defer(indices, verdicts, alpha_P / (alpha_P + beta_P))
        for domain in range(len(self.shares.names)):
            mine = (self.shares.domain_N[indices] == domain) & (verdicts != "abstained")
            if mine.any():
                self._observed_D[domain] += 1
                for average_D, value in (
                    (self._mixed_D, np.mean(verdicts[mine] == "mixed")),
                    (self._predicted_D, predicted_P[mine].mean()),
                    (self._signal_D, np.nanvar(outcomes_PG[mine], axis=1).mean()),
                ):
                    average_D[domain] = self._moved(average_D[domain], float(value))
        if tokens_P is not None:
            cell_P = self.difficulty.cell_N[indices]
            for cell in np.unique(cell_P):
                self._length_C[cell] = self._moved(self._length_C[cell], float(tokens_P[cell_P == cell].mean()))
        self._refresh(np.unique(indices))

    def _moved(self, past: float, value: float) -> float:
        return value if np.isnan(past) else self._memory * past + (1.0 - self._memory) * value

    def _defer(self, indices: np.ndarray, verdicts: np.ndarray, mean_P: np.ndarray) -> None:
        failed = indices[(verdicts == "all-wrong") & (mean_P <= self._defer_below)]
        count = np.minimum(self._failures_N[failed], _LAST_BACK_OFF - 1) + 1
        self._failures_N[failed] = count
        self._due_N[failed] = self.difficulty.version + self._defer_updates * 2 ** (count.astype(np.int64) - 1)
        self._failures_N[indices[(verdicts == "mixed") | (verdicts == "all-right")]] = 0

    def _leaning(self) -> np.ndarray:
        """Factor on each domain's fixed share [D]: floor plus signal, and little for domains without signal."""
        signal_D = np.nan_to_num(self._signal_D, nan=float(np.nanmean(self._signal_D)) if self._observed_D.any() else 1.0)
        typical = float(signal_D @ self.shares.fixed_D)
        relative_D = signal_D / typical if typical > 0 else np.ones_like(signal_D)
        factor_D = self._domain_floor + (1.0 - self._domain_floor) * relative_D
        return np.where(self.silent(), _PROBE * factor_D, factor_D)

    def silent(self) -> np.ndarray:
        """bool [D]: domains whose recent groups were all right or all wrong throughout."""
        return (self._observed_D >= _PATIENCE) & (np.nan_to_num(self._mixed_D, nan=1.0) < _SILENT)

    def select(self, indices: np.ndarray, outcomes_PG: np.ndarray, n: int) -> np.ndarray:
        """The most balanced groups of each domain, up to what the step drew for: shares are kept, not made up by others."""
        quota_D = self._quota_D
        if quota_D.sum() != n:
            quota_D = self.shares.quotas(n)
        return balanced_subset(outcomes_PG, self.shares.domain_N[indices], quota_D)

    def snapshot(self) -> dict[str, np.ndarray]:
        found = super().snapshot()
        return {**found, "state": np.array(STATES)[self._states(np.arange(len(found["mean"])), found["mean"])]}

    def metrics(self) -> dict[str, float]:
        count_DS = self._pools.count_DS
        found = {f"share/{state}": float(share) for state, share in zip(STATES, count_DS.sum(0) / count_DS.sum(), strict=True)}
        for d, name in enumerate(self.shares.names):
            found |= {
                f"share/{name}/{state}": float(share)
                for state, share in zip(STATES, count_DS[d] / count_DS[d].sum(), strict=True)
            }
            found |= {
                f"invalid/{name}": 1.0 - float(np.nan_to_num(self._mixed_D[d], nan=1.0)),
                f"expansion/{name}": float(self._expansion_D[d]),
                f"domain_share/{name}": float(self.shares.share_D[d]),
                f"silent/{name}": float(self.silent()[d]),
            }
        return {**super().metrics(), **found}

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "failures": self._failures_N.copy(),
            "due": self._due_N.copy(),
            "pools": self._pools.state_dict(),
            "cursor": self._cursor,
            "averages": np.stack([self._mixed_D, self._predicted_D, self._signal_D]),
            "observed": self._observed_D.copy(),
            "length": self._length_C.copy(),
            "expansion": self._expansion_D.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._failures_N, self._due_N = np.array(state["failures"], np.int8), np.array(state["due"], np.int32)
        self._pools.load_state_dict(state["pools"])
        self._cursor = int(state["cursor"])
        self._mixed_D, self._predicted_D, self._signal_D = np.array(state["averages"], np.float64)
        self._observed_D, self._length_C = np.array(state["observed"]), np.array(state["length"])
        self._expansion_D = np.array(state["expansion"])
