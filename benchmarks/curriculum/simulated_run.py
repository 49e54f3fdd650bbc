"""One simulated run: the loop of `rlcs/rl.py` with a synthetic learner in the place of the model.

Axis suffixes: N problems, P groups, G samples, S steps (with the start: S + 1).
"""

from dataclasses import dataclass

import numpy as np
from contestants import Contestant
from synthetic_learner import Regime, SyntheticLearner, World

from rlcs.samplers import group_outcome


@dataclass(frozen=True)
class Setting:
    """Size of the simulation, the same for all samplers."""

    train: int = 2000
    heldout: int = 1000
    groups_per_step: int = 32
    group_size: int = 8
    graded: bool = False
    """Whether the training problems carry an offline pass rate: of eight answers of the learner before training."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What became of a run: after each step (and at its start) rollouts and tokens spent and the exact held-out pass rate
    [S + 1]; totals of groups, and how
    many problems were ever trained on; means over the steps of what the posterior predicted, where the sampler reads it.
    """

    rollouts: np.ndarray
    tokens: np.ndarray
    score: np.ndarray
    groups: int
    mixed: int
    trained: int
    distinct: int
    calibration: dict[str, float]


def simulate(contestant: Contestant, regime: Regime, seed: int, setting: Setting) -> Trace:
    """Trains until the rollouts of `regime.steps` steps of uniform sampling are spent.

    Of one seed, all contestants see the same problems and offline pass rates.
    """
    world = World.of(regime, seed, train=setting.train, heldout=setting.heldout)
    learner = SyntheticLearner(world, regime, seed=seed, groups_per_step=setting.groups_per_step)
    rates: list[float | None] = [None] * setting.train
    if setting.graded:
        right_N = np.random.default_rng([seed, 2]).binomial(8, learner.pass_rate(np.s_[: setting.train]))
        rates = (right_N / 8).tolist()
    sampler = contestant.build(world.domains, world.tiers, rates, group_size=setting.group_size, seed=seed)
    n, budget = setting.groups_per_step, regime.steps * setting.groups_per_step * setting.group_size
    rollouts, tokens, scores = [0], [0.0], [learner.heldout_pass_rate()]
    mixed_groups = trained_groups = version = 0
    taught_N = np.zeros(setting.train, bool)
    predictions: list[dict[str, float]] = []
    while rollouts[-1] < budget:
        wanted = sampler.draw(n)
        indices, outcomes_PG, spent = np.zeros(0, np.int64), np.zeros((0, setting.group_size)), 0.0
        while len(wanted):
            verdict_PG, length_PG = learner.answer(wanted, setting.group_size)
            indices, outcomes_PG = np.concatenate([indices, wanted]), np.concatenate([outcomes_PG, verdict_PG])
            spent += float(length_PG.sum())
            sampler.observe(wanted, verdict_PG, version, length_PG.mean(1))
            if found := sampler.difficulty.calibration.metrics():
                predictions.append(found)
            wanted = sampler.refill(n, indices, outcomes_PG)
        mixed = np.flatnonzero(np.array(group_outcome(outcomes_PG)) == "mixed")
        kept = mixed[sampler.select(indices[mixed], outcomes_PG[mixed], n)]
        learner.train(indices[kept], outcomes_PG[kept])
        version += 1
        taught_N[indices[kept]] = True
        mixed_groups, trained_groups = mixed_groups + len(mixed), trained_groups + len(kept)
        rollouts.append(rollouts[-1] + outcomes_PG.size)
        tokens.append(tokens[-1] + spent)
        scores.append(learner.heldout_pass_rate())
    names = [f"{what}_{of}" for what in ("pass_rate", "mixed") for of in ("predicted", "observed", "brier")]
    return Trace(
        np.array(rollouts),
        np.array(tokens),
        np.array(scores),
        groups=rollouts[-1] // setting.group_size,
        mixed=mixed_groups,
        trained=trained_groups,
        distinct=int(taught_N.sum()),
        calibration={name: float(np.mean([one[name] for one in predictions])) for name in names if predictions},
    )
