"""Fields of `rlcs rl` that shape PPO's critic, under either engine."""

from pydantic import BaseModel, ConfigDict, Field


class CriticConfig(BaseModel):
    """The critic that `advantage: gae` trains beside the policy, `rlcs.critic`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    lr: float | None = Field(default=None, gt=0)
    """Peak learning rate, warmed up and decayed as the policy's; absent, the policy's."""
    warmup_steps: int = Field(default=0, ge=0)
    """First steps of the run in which the critic alone learns; the policy's schedule begins after them."""
    epochs: int = Field(default=1, ge=1)
    """Passes over a step's samples, each of `updates_per_step` updates."""
    value_clip: float | None = Field(default=0.5, gt=0)
    """A value gains nothing by moving further than this from what it was before the step's updates; absent, values are free."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """What a reward is worth one token earlier."""
    lam: float = Field(default=1.0, ge=0, le=1)
    """Trade-off between bias and variance of advantages: 1 trusts what came in the end, 0 the value of the next token."""
