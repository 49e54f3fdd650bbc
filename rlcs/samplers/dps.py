"""DPS: each problem's progress as a hidden Markov model. Axis suffixes: N problems, M some of them, P groups, G samples,
3 states (in a transition [next, current]).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcs.difficulty import Difficulty
from rlcs.samplers.candidates import CandidateSampler
from rlcs.samplers.outcomes import GroupOutcomes

STATES = ("unsolved", "partial", "solved")
UNSOLVED, PARTIAL, SOLVED = range(len(STATES))
_FORGOTTEN = 1e-8  # transitions counted that are worth less than this part of one are as good as never seen


class DpsSampler(CandidateSampler):
    """Dynamics-Predictive Sampling (arXiv 2603.10887).

    A problem is unsolved (its group all wrong), partially solved or solved (all right). Its state moves once a step by
    a transition matrix of its own, whose columns have Dirichlet posteriors, at first Dirichlet(prior, prior, prior). A
    group shows the state exactly. A step then does three things to every problem, from the belief b of the step before
    and the expected matrix E of the Dirichlet counts A:

    1. observation: the belief becomes certain of the state seen, or is the prediction E b where there was no group;
    2. transition: `A <- decay * A + (1 - decay) * prior`, plus, where there was a group, the expected transition
       `xi[i, j]`, in proportion to `new_b[i] * E[i, j] * b[j]`;
    3. prediction of the next step: new E times the new belief.

    Among a candidate batch, drawn evenly, the problems predicted most likely to be partially solved get rollouts. All
    begin at the uniform belief, and by the decay those not seen for long return to it, which is what makes the method
    explore.

    The constants are those of the authors' code for Countdown and Geometry3k: prior 1, decay 0.5, 8 candidates for each
    problem drawn (for MATH 0.7 and 32; the paper's text ranks all problems: `candidates` of at least N / n). The code
    walks through the file to make up its candidate batches; here every batch is drawn anew. A group with fewer than two
    known outcomes shows nothing. Domains as in `DomainSampler`.

    A step is a policy version. Problems without a group are brought up to date only when they are candidates. 52 bytes
    a problem, but only those of problems seen are ever written or saved.
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
        decay: float = 0.5,
        prior: float = 1.0,
    ) -> None:
        if not (0 <= decay <= 1 and prior > 0):
            raise ValueError(f"decay {decay}, prior {prior}; expected a decay in [0, 1] and a prior above 0")
        common: dict[str, Any] = {"group_size": group_size, "seed": seed, "domain_weights": domain_weights}
        super().__init__(domains, difficulty, **common, candidates=candidates)
        self._decay, self._prior = decay, prior
        self._span = np.inf if decay == 1 else 1.0 if decay == 0 else np.ceil(np.log(_FORGOTTEN) / np.log(decay))
        self._next = 0  # version of the step to be predicted
        self._clear()

    def _clear(self) -> None:
        size = len(self.difficulty)
        # Transitions counted beyond the prior, belief, and version they are of; -1 for problems never seen.
        self._counts_N33 = np.zeros((size, 3, 3), np.float32)
        self._belief_N3 = np.zeros((size, 3), np.float32)
        self._as_of_N = np.full(size, -1, np.int32)

    def _expected(self, counts_M33: np.ndarray) -> np.ndarray:
        """Mean transition matrices [M, next, current]."""
        dirichlet = counts_M33 + self._prior
        return dirichlet / dirichlet.sum(1, keepdims=True)

    def _at(self, indices: np.ndarray, version: int) -> tuple[np.ndarray, np.ndarray]:
        """(counts [M, 3, 3], belief [M, 3]) of problems `indices` after the step `version`, no group since the last."""
        counts_M33, belief_M3 = self._counts_N33[indices].astype(np.float64), self._belief_N3[indices].astype(np.float64)
        steps_M = version - self._as_of_N[indices]
        blank = (self._as_of_N[indices] < 0) | (steps_M > self._span)
        counts_M33[blank], belief_M3[blank], steps_M[blank] = 0.0, 1.0 / 3.0, 0
        for step in range(1, int(steps_M.max(initial=0)) + 1):
            rows = np.flatnonzero(steps_M >= step)
            belief_M3[rows] = _moved(self._expected(counts_M33[rows]), belief_M3[rows])
            counts_M33[rows] *= self._decay
        return counts_M33, belief_M3

    def predict(self, indices: np.ndarray) -> np.ndarray:
        """Probabilities [M, 3] of each state at the next step."""
        counts_M33, belief_M3 = self._at(indices, self._next - 1)
        return _moved(self._expected(counts_M33), belief_M3)

    def _score(self, indices: np.ndarray) -> np.ndarray:
        # Bringing the candidates' records up to date shortens the way to go next time.
        seen = indices[self._as_of_N[indices] >= 0]
        self._counts_N33[seen], self._belief_N3[seen] = self._at(seen, self._next - 1)
        self._as_of_N[seen] = self._next - 1
        partial_M = np.full(len(indices), 1.0 / 3.0)
        partial_M[self._as_of_N[indices] >= 0] = self.predict(seen)[:, PARTIAL]
        return partial_M

    def observe(
        self, indices: np.ndarray, outcomes_PG: np.ndarray, policy_version: int, tokens_P: np.ndarray | None = None
    ) -> None:
        super().observe(indices, outcomes_PG, policy_version, tokens_P)
        groups = GroupOutcomes.of(outcomes_PG)
        told = groups.told_P
        indices = np.asarray(indices)[told]
        state_P = np.select([groups.wrong_P[told], groups.right_P[told]], [UNSOLVED, SOLVED], PARTIAL)
        rows = np.arange(len(indices))
        counts_P33, belief_P3 = self._at(indices, policy_version - 1)
        expected_P3 = self._expected(counts_P33)[rows, state_P] * belief_P3  # by the state before
        counts_P33 *= self._decay
        counts_P33[rows, state_P] += expected_P3 / expected_P3.sum(1, keepdims=True)
        self._counts_N33[indices], self._belief_N3[indices] = counts_P33, np.eye(3)[state_P]
        self._as_of_N[indices], self._next = policy_version, policy_version + 1

    def snapshot(self) -> dict[str, np.ndarray]:
        predicted_N3 = np.full((len(self._as_of_N), 3), 1.0 / 3.0)
        seen = np.flatnonzero(self._as_of_N >= 0)
        predicted_N3[seen] = self.predict(seen)
        return {**super().snapshot(), **{f"p_{name}": predicted_N3[:, state] for state, name in enumerate(STATES)}}

    def state_dict(self) -> dict[str, Any]:
        seen = np.flatnonzero(self._as_of_N >= 0)
        return {
            **super().state_dict(),
            "seen": seen,
            "counts": self._counts_N33[seen],
            "belief": self._belief_N3[seen],
            "as_of": self._as_of_N[seen],
            "next": self._next,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._clear()
        seen = np.asarray(state["seen"], np.int64)
        self._counts_N33[seen], self._belief_N3[seen] = state["counts"], state["belief"]
        self._as_of_N[seen], self._next = state["as_of"], int(state["next"])


def _moved(transition_M33: np.ndarray, belief_M3: np.ndarray) -> np.ndarray:
    moved: np.ndarray = np.einsum("mij,mj->mi", transition_M33, belief_M3)
    return moved
