"""Configuration of `rlcs eval`: one line of doc under each field, defaults that work. Unknown keys are refused.

Fields that `rlcs.rl_config.RlConfig` has too mean the same here and have the same default. Give them the values of
training: a policy measured at another temperature or thinking budget is another policy.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlcs.verifier_plugins import VerifierPlugin
from rollout.options import Rollout, VllmOptions

Mode = Literal["thinking", "nothink"]


class EvalConfig(BaseModel):
    """One evaluation of one checkpoint on one problem file."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: str
    """Hugging Face checkpoint directory, or a run directory, of which the last checkpoint is taken."""
    problems: Path
    """JSON Lines file of problems, none of them trained on."""
    out: Path
    """Directory for eval.json, responses.parquet and config.yaml; an earlier evaluation there is replaced."""
    seed: int = Field(default=0, ge=0)
    """Seed of every random draw."""
    device: str = "cpu"
    """Torch device of the policy."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Parameter type of the policy."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of PyTorch; 0 leaves its default."""

    modes: list[Mode] = Field(default=["thinking", "nothink"], min_length=1)
    """Forms of the prompt to evaluate, each on every problem."""
    samples: int = Field(default=4, ge=1)
    """Responses sampled to each problem in each mode."""
    pass_k: list[int] = []
    """Values of k to report pass@k for, besides 1 and none above `samples`; empty: `samples`."""
    greedy: bool = True
    """Whether to add one greedy response (temperature 0) to each problem in each mode."""
    max_per_domain: int | None = Field(default=None, ge=1)
    """Most problems of a domain, drawn evenly over its tiers; absent, all."""

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
    """Most sequences generated at once."""

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
        if self.pass_k and not 1 <= min(self.pass_k) <= max(self.pass_k) <= self.samples:
            raise ValueError(
                f"pass_k is {self.pass_k} with {self.samples} samples a problem; expected numbers from 1 to {self.samples}"
            )
        self.pass_k = sorted({1, *(self.pass_k or [self.samples])})
        return self
