"""Options of the samplers in a run's configuration: one line of doc under each field, the methods' own defaults."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class DapoConfig(_Options):
    """Options of `sampler: dapo`, `rlcs.samplers.DapoSampler`."""

    batch_ratio: float = Field(default=1.0, ge=1)
    """Problems of one batch for each group the step trains on."""
    max_batches: int = Field(default=10, ge=1)
    """Batches after which a step trains on the mixed groups there are."""


class GlmTiersConfig(_Options):
    """Options of `sampler: glm-tiers`, `rlcs.samplers.GlmTiersSampler`."""

    edges: tuple[Share, Share, Share, Share] = (0.1, 0.35, 0.65, 0.9)
    """Pass rates that part very hard, hard, medium, easy and very easy."""
    merge: float = Field(default=0.5, gt=0, le=1)
    """Part of the way a problem's rate moves to the pass rate of its new group."""
    floor: float = Field(default=0.05, gt=0, le=1)
    """Least weight of a tier, of 1 for one that is half right."""
    max_expansion: float = Field(default=4.0, ge=1)
    """Most groups generated for each group wanted."""
    memory: float = Field(default=0.8, ge=0, lt=1)
    """Weight of the past in the moving averages of expansion and tier pass rates."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not all(low < high for low, high in zip((0.0, *self.edges), (*self.edges, 1.0), strict=True)):
            raise ValueError(f"edges are {list(self.edges)}; expected four rising pass rates between 0 and 1")
        return self


class PoolsConfig(_Options):
    """Options of `sampler: pools`, `rlcs.samplers.PoolsSampler`."""

    easy_fraction: Share = 0.1
    """Fraction of the draws from the easy pool."""
    hard_fraction: Share = 0.1
    """Fraction of the draws from the hard pool."""
    easy_threshold: Share = 1.0
    """Pass rate of the last group from which a problem is easy."""
    hard_threshold: Share = 0.0
    """Pass rate of the last group up to which a problem is hard."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.easy_fraction + self.hard_fraction > 1:
            raise ValueError(
                f"easy_fraction {self.easy_fraction} and hard_fraction {self.hard_fraction}; expected at most 1 together"
            )
        if self.hard_threshold >= self.easy_threshold:
            raise ValueError(
                f"hard_threshold is {self.hard_threshold}, easy_threshold {self.easy_threshold}; expected the first below"
            )
        return self


class GresoConfig(_Options):
    """Options of `sampler: greso`, `rlcs.samplers.GresoSampler`."""

    batch_ratio: float = Field(default=1.5, ge=1)
    """Problems of the first batch, and most of a later one, for each group the step trains on."""
    max_batches: int = Field(default=10, ge=1)
    """Batches after which a step trains on the mixed groups there are."""
    p_easy: Share = 0.5
    """Probability, at first, of keeping a problem whose last group was all right; its power for longer streaks."""
    p_hard: Share = 0.5
    """The same for problems whose last groups were all wrong."""
    target_zero_variance: Share = 0.25
    """Fraction of all-right and all-wrong groups that the two probabilities are adjusted towards."""
    p_step: Share = 0.01
    """What the two probabilities move after each step."""
    p_range: tuple[Share, Share] = (0.05, 0.95)
    """Bounds of the two probabilities."""
    safety: float = Field(default=1.25, ge=1)
    """Factor on the size estimated for a further batch."""

    @model_validator(mode="after")
    def _within(self) -> Self:
        low, high = self.p_range
        if not low <= min(self.p_easy, self.p_hard) <= max(self.p_easy, self.p_hard) <= high:
            raise ValueError(
                f"p_easy is {self.p_easy}, p_hard {self.p_hard}; expected both within p_range {list(self.p_range)}"
            )
        return self


class MoppsConfig(_Options):
    """Options of `sampler: mopps`, `rlcs.samplers.MoppsSampler`."""

    candidates: float = Field(default=8.0, ge=1)
    """Problems whose success rate is guessed for each problem drawn."""
    discount: Share = 0.5
    """What a problem's evidence is worth once it has a further group."""
    target: Share = 0.5
    """Success rate that problems are drawn next to."""
    prior: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    """Alpha and beta of the Beta prior."""


class DpsConfig(_Options):
    """Options of `sampler: dps`, `rlcs.samplers.DpsSampler`."""

    candidates: float = Field(default=8.0, ge=1)
    """Problems whose state is predicted for each problem drawn."""
    decay: Share = 0.5
    """What transitions counted are worth after one more step."""
    prior: float = Field(default=1.0, gt=0)
    """Dirichlet count of each transition before any was seen."""


class CurriculumConfig(_Options):
    """Options of `sampler: rlcs`, `rlcs.samplers.CurriculumSampler`."""

    window: tuple[Share, Share] = (0.2, 0.8)
    """Posterior mean pass rates that count as moderate difficulty."""
    sharpness: float = Field(default=10.0, ge=0)
    """Exponent on the mixed-group probability in the draw; 0 draws evenly from the window."""
    per_token: bool = False
    """Divide the weight of a problem by the expected length of its responses: information per token."""
    rest: int = Field(default=4, ge=0)
    """Steps for which a problem just drawn is not drawn again."""
    explore: Share = 0.02
    """Share of the draws that go by posterior variance, in or out of the window."""
    review: Share = 0.03
    """Share of the draws that re-examine retired problems and deferred ones whose rest is over."""
    retire_above: Share = 0.9
    """Posterior mean from which a problem is retired to the review share."""
    defer_below: Share = 0.1
    """Posterior mean up to which a problem answered all wrong is deferred."""
    defer_updates: int = Field(default=8, ge=1)
    """Policy updates a first deferral lasts; each further one in a row lasts twice as long."""
    max_expansion: float = Field(default=1.0, ge=1)
    """Most groups generated for each group wanted; 1: a step trains on those of its groups that turn out mixed."""
    max_refills: int = Field(default=1, ge=0)
    """Further draws in a step that lacks mixed groups, for the domains that lack them, within `max_expansion`."""
    memory: float = Field(default=0.8, ge=0, lt=1)
    """Weight of the past in the moving averages of mixed groups that came and were predicted, which set the expansion."""
    domain_floor: Share = 1.0
    """Part of its fixed share that a domain keeps; the rest goes where outcomes vary most. 1 keeps the shares fixed."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window is {list(self.window)}; expected its lower end below its upper end")
        return self
