"""A synthetic learner for comparing samplers: what a policy of a few million weights costs minutes, it does in
milliseconds, and its pass rates are known exactly.

Axis suffixes: N problems, P groups, G samples of a group, D domains, T tiers.

A problem i lies in a domain d and a tier t and has an ease `e_i`, in logits. The policy has a skill for each domain and
tier, `s_dt`, 0 after SFT, and a memory of each training problem, `m_i`. A response is right with probability (Rasch
model of item response theory)

    p_i = sigmoid(e_i + s_dt + m_i),        p_i = 0 for problems that cannot be solved (wrong reference, missing image)

and its verdict is false with probability `false_verdict`. A step trains on K groups. Group g gives the signal

    c_g = cov(verdict, truly right) over the G samples of the group = q (1 - q) where the verdicts are true

with q the fraction right. That is how far GRPO without division by the standard deviation raises the logit of p: its
gradient is q (1 - q) (E[grad log pi | right] - E[grad log pi | wrong]), and the difference is the gradient of logit p.
Hence a group all right or all wrong teaches nothing, and of an impossible problem only false verdicts are learned from,
with c = 0. The skills then rise by

    s_dt += rate * (groups_per_step / K) ** normalise / groups_per_step * sum_g transfer(g, dt) * c_g / (1 + m_g) + noise
    transfer(g, dt) = within ** |t_g - t| * (1 if d_g == d else between)

and the memory by `m_g += memorise * c_g`, after every m has shrunk by the factor `retain`. What a problem's memory
already holds moves it less and less: repeats of the same few problems teach little that transfers. A hard tier stays out
of reach until easier ones have raised its skill: at p near 0 it has no mixed groups of its own.

`normalise` says how the optimiser treats a step with few mixed groups: 0, the gradient is a sum over the groups wanted,
in which groups without signal are zeros (plain SGD); 1, it is the mean over the K groups trained on, however few; 1/2,
Adam where noise outweighs signal: its step is the sum over its root mean square, which goes with sqrt(K).

Responses of tier t are `100 * 1.4 ** t` tokens on average (wrong ones 1.3 times as long), each log-normal.

Left out: differences in how much problems discriminate, forgetting of skills, format, and any harm of off-policy or noisy
updates beyond the random walk of the skills.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

DOMAINS = ("math", "chart", "gui")
_SHARES = (0.5, 0.3, 0.2)
_OFFSETS = (0.3, 0.0, -0.3)  # of the ease: domains start unequal
TIERS = 5
_TRIVIAL = 5.0  # ease of a trivial problem: 99.3% from the start
_LENGTH, _LENGTH_GROWTH, _LENGTH_WRONG, _LENGTH_SPREAD = 100.0, 1.4, 1.3, 0.4


@dataclass(frozen=True)
class Regime:
    """What the problems and the learner are like."""

    about: str
    tier_ease: tuple[float, float, float, float, float]
    """Mean logit of the pass rate after SFT in each tier, the easiest first."""
    spread: float
    """Standard deviation of the ease within a tier."""
    trivial: float
    """Fraction of the problems that are trivial, whatever their tier."""
    impossible: float
    """Fraction of the problems that can never be solved."""
    split: float = 0.0
    """Half of each tier is easier by this much, half harder: bimodal tiers."""
    rate: float = 0.6
    """Logits that a step of groups all of signal 1 would add to their own skill."""
    normalise: float = 0.0
    """How a step's size depends on the number of groups trained on, see the module."""
    steps: int = 200
    """Steps of uniform sampling whose rollouts are the budget."""
    within: float = 0.5
    between: float = 0.1
    memorise: float = 1.0
    retain: float = 0.99
    noise: float = 0.01
    """Standard deviation of the random walk of every skill, logits a step."""
    false_verdict: float = 0.005


@dataclass(frozen=True, eq=False)
class World:
    """Problems of one regime: the first `train` of them for training, the others held out."""

    domain_N: np.ndarray
    tier_N: np.ndarray
    ease_N: np.ndarray
    solvable_N: np.ndarray
    train: int

    @classmethod
    def of(cls, regime: Regime, seed: int, *, train: int, heldout: int) -> "World":
        """The world of a seed: problems held out are of the same kind as those for training."""
        rng = np.random.default_rng([seed, 0])
        size = train + heldout
        domain_N = rng.choice(len(DOMAINS), size, p=_SHARES)
        tier_N = rng.integers(0, TIERS, size)
        ease_N = np.array(regime.tier_ease)[tier_N] + np.array(_OFFSETS)[domain_N] + rng.normal(0, regime.spread, size)
        ease_N += regime.split * rng.choice([-1.0, 1.0], size)
        kind_N = rng.random(size)
        ease_N[kind_N < regime.trivial] = _TRIVIAL
        return cls(domain_N, tier_N, ease_N, kind_N < 1.0 - regime.impossible, train)

    @property
    def domains(self) -> list[str]:
        """Domain of each training problem."""
        return [DOMAINS[d] for d in self.domain_N[: self.train]]

    @property
    def tiers(self) -> list[str]:
        """Tier label of each training problem."""
        return [f"level-{t}" for t in self.tier_N[: self.train]]


class SyntheticLearner:
    """The policy, see the module. All its randomness comes from one generator seeded with `seed`."""

    def __init__(self, world: World, regime: Regime, *, seed: int, groups_per_step: int) -> None:
        self.world, self._regime, self._groups_per_step = world, regime, groups_per_step
        self._rng = np.random.default_rng([seed, 1])
        self.skill_DT = np.zeros((len(DOMAINS), TIERS))
        self.memory_N = np.zeros(len(world.ease_N))
        distance_TT = np.abs(np.arange(TIERS)[:, None] - np.arange(TIERS))
        self._within_TT = regime.within**distance_TT
        self._between_DD = np.where(np.eye(len(DOMAINS), dtype=bool), 1.0, regime.between)
        self._truly_right: dict[int, np.ndarray] = {}  # of this step's groups, by problem

    def pass_rate(self, indices: np.ndarray | slice = np.s_[:]) -> np.ndarray:
        """Exact probability [N] of a right answer to problems `indices`."""
        world = self.world
        skill_N = self.skill_DT[world.domain_N[indices], world.tier_N[indices]]
        return np.where(world.solvable_N[indices], expit(world.ease_N[indices] + skill_N + self.memory_N[indices]), 0.0)

    def heldout_pass_rate(self) -> float:
        """Exact mean pass rate of the problems held out."""
        return float(self.pass_rate(np.s_[self.world.train :]).mean())

    def answer(self, indices: np.ndarray, group_size: int) -> tuple[np.ndarray, np.ndarray]:
        """(verdicts 0 or 1 [P, G], response lengths in tokens [P, G]) of one group for each of problems `indices`."""
        shape = (len(indices), group_size)
        right_PG = self._rng.random(shape) < self.pass_rate(indices)[:, None]
        verdict_PG = right_PG ^ (self._rng.random(shape) < self._regime.false_verdict)
        mean_P = _LENGTH * _LENGTH_GROWTH ** self.world.tier_N[indices]
        spread_PG = np.exp(self._rng.normal(-(_LENGTH_SPREAD**2) / 2, _LENGTH_SPREAD, shape))
        length_PG = np.ceil(mean_P[:, None] * np.where(right_PG, 1.0, _LENGTH_WRONG) * spread_PG)
        self._truly_right |= dict(zip(indices.tolist(), right_PG, strict=True))
        return verdict_PG.astype(np.float64), length_PG

    def train(self, indices: np.ndarray, verdict_PG: np.ndarray) -> None:
        """One update on groups generated since the last: problems `indices` [P] (distinct) and their verdicts."""
        regime = self._regime
        if len(indices):
            right_PG = np.stack([self._truly_right[index] for index in indices.tolist()])
            signal_P = (verdict_PG * right_PG).mean(1) - verdict_PG.mean(1) * right_PG.mean(1)
            taught_DT = np.zeros_like(self.skill_DT)
            places = (self.world.domain_N[indices], self.world.tier_N[indices])
            np.add.at(taught_DT, places, signal_P / (1.0 + self.memory_N[indices]))
            scale = (self._groups_per_step / len(indices)) ** regime.normalise / self._groups_per_step
            self.skill_DT += regime.rate * scale * (self._between_DD @ taught_DT @ self._within_TT)
            self.skill_DT += self._rng.normal(0, regime.noise, self.skill_DT.shape)
            self.memory_N *= regime.retain
            self.memory_N[indices] += np.maximum(regime.memorise * signal_P, 0.0)
        self._truly_right = {}
