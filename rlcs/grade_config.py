"""Configuration of `rlcs grade`: one line of doc under each field, defaults that work. Unknown keys are refused.

Fields that `rlcs.rl_config.RlConfig` has too mean the same here and have the same default, `nothink_ratio` apart. Give them
the values of training: pass rates at another temperature or thinking budget are those of another policy.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlcs.eval_config import Mode
from rlcs.grades import DEFAULT_TIERS, Tiers
from rlcs.verifier_plugins import VerifierPlugin
from rollout.options import Rollout, VllmOptions


class GradeConfig(BaseModel):
    """One grading of one problem file under one checkpoint."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: str
    """Hugging Face checkpoint directory, or a run directory, of which the last checkpoint is taken."""
    problems: Path
    """JSON Lines file of problems to grade."""
    out: Path
    """JSON Lines file to create: the same problems with pass_rate, grade and tier."""
    seed: int = Field(default=0, ge=0)
    """Seed of every random draw."""
    device: str = "cpu"
    """Torch device of the policy."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Parameter type of the policy."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of PyTorch; 0 leaves its default."""

    samples: int = Field(default=8, ge=1)
    """Responses to each problem in each of its modes, the k of pass@k."""
    modes: list[Mode] = Field(default=["thinking", "nothink"], min_length=1)
    """Forms of the prompt, each put to every problem."""
    nothink_ratio: float | None = Field(default=None, ge=0, le=1)
    """Pose each problem in one mode only, this fraction of every domain and tier without thinking, as RL does."""
    tiers: list[str | float] = DEFAULT_TIERS
    """Tiers and the pass rates between them, from 0 to 1: [hard, 0.3, medium, 0.7, easy]."""
    keep_tiers: bool = False
    """Leave each problem the tier it has."""

    rollout: Rollout = "transformers"
    """Engine that generates the responses (docs/rollout.md)."""
    vllm: VllmOptions = Field(default_factory=VllmOptions)
    """Options of the vLLM engine."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the sampling distribution."""
    think_tokens: int = Field(default=192, ge=0)
    """Thinking budget; past it `</think>` is forced."""
    answer_tokens: int = Field(default=96, ge=1)
    """Tokens a response may hold after its thought."""
    stop_repetition: int | None = Field(default=None, ge=4)
    """End a response, as wrong, once its last so many tokens are one span, at most a quarter as long, over and over; absent,
    never (docs/rollout.md)."""
    rollout_batch: int = Field(default=512, ge=1)
    """Most sequences generated at once; what a kill can lose."""

    verifier_workers: int = Field(default=0, ge=0)
    """Scoring processes; 0 is one for each core."""
    verifier_timeout_s: float = Field(default=5.0, gt=0)
    """Seconds one response may take to score, where its verifier sets no limit of its own; past it the sample abstains."""
    verifier_plugins: list[VerifierPlugin] = []
    """Modules that register verifiers of your own, imported here and in every scoring process (docs/rewards.md)."""
    style_checks: list[Literal["repetition", "mixed-language"]] = []
    """Faults of style that make a response a format error in any domain (docs/style_checks.md)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.modes)) != len(self.modes):
            raise ValueError(f"modes is {self.modes}; expected each mode once")
        if self.nothink_ratio is not None and len(self.modes) < 2:
            raise ValueError(
                f"modes is {self.modes} with nothink_ratio {self.nothink_ratio}, which divides the problems between both modes;"
                " leave out one of the two"
            )
        if self.out.resolve() == self.problems.resolve():
            raise ValueError(f"out is the problem file itself, {self.problems}; name another file beside it")
        Tiers.of(self.tiers)
        return self
