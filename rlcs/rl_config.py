"""Configuration of `rlcs rl`: one line of doc under each field, defaults that work. Unknown keys are refused."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlcs.critic_options import CriticConfig
from rlcs.guard_config import GuardConfig
from rlcs.samplers.options import (
    CurriculumConfig,
    DapoConfig,
    DpsConfig,
    GlmTiersConfig,
    GresoConfig,
    MoppsConfig,
    PoolsConfig,
    Share,
)
from rlcs.verifier_plugins import VerifierPlugin
from rlcs.verl.fields import faults
from rlcs.verl.options import VerlOptions
from rollout.options import Rollout, VllmOptions
from sft.config import LoraConfig
from sft.optimizers import OptimizerKind
from sft.schedule import Schedule


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class DifficultyConfig(_Section):
    """The posterior over each problem's pass rate, `rlcs.difficulty.Difficulty`."""

    prior_strength: float = Field(default=2.0, gt=0)
    """Answers the prior of a problem is worth, at first."""
    discount: float = Field(default=0.98, gt=0, le=1)
    """What evidence is worth after one more policy update, at first."""
    learn: bool = True
    """Learn both from how well they would have predicted the groups that came; else they stay as given."""
    cell_strength: float = Field(default=4.0, gt=0)
    """Problems without drift that the drift of a domain or tier is shrunk by."""


class HeldoutConfig(_Section):
    """Held-out problems answered while the run goes on, `rlcs.heldout`."""

    problems: Path
    """JSON Lines file of problems that are not trained on."""
    every_rollouts: int = Field(default=4096, ge=1)
    """Training responses between two evaluations; there is one before the first step and one after the last as well."""
    samples: int = Field(default=1, ge=1)
    """Responses to each problem, in each mode the run trains."""
    max_per_domain: int | None = Field(default=None, ge=1)
    """Problems of each domain, spread evenly over its tiers; absent, all."""


class RlConfig(_Section):
    """One reinforcement-learning run."""

    engine: Literal["local", "verl"] = "local"
    """Training engine; `local` is one process on CPU or one GPU, `verl` any number of GPUs on a Ray cluster (docs/verl.md)."""
    verl: VerlOptions = Field(default_factory=VerlOptions)
    """Options of the verl engine."""
    model: str
    """Hugging Face checkpoint directory to start from, normally the final SFT checkpoint."""
    problems: Path
    """JSON Lines file of training problems."""
    out: Path
    """Run directory to create."""
    seed: int = 0
    """Seed of every random draw of the run."""
    device: str = "cpu"
    """Torch device of the policy."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Parameter type of the policy."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of PyTorch; 0 leaves its default."""
    lora: LoraConfig | None = None
    """Train low-rank adapters on a frozen policy; absent, all weights are trained."""
    gradient_checkpointing: bool = False
    """Compute activations anew in the backward pass: a fraction of their memory for about a third more time."""

    steps: int = Field(default=60, ge=1)
    """Training steps, each on freshly generated groups."""
    max_rollouts: int | None = Field(default=None, ge=1)
    """Training responses after which the run ends, with the step that reaches them; absent, `steps` alone counts."""
    groups_per_step: int = Field(default=32, ge=1)
    """Groups (problems) to train on in a step; the sampler may generate more and keep the best."""
    group_size: int = Field(default=8, ge=2)
    """Responses generated for each problem."""
    updates_per_step: int = Field(default=1, ge=1)
    """Optimiser updates a step's groups are divided into."""
    epochs_per_step: int = Field(default=1, ge=1)
    """Passes over a step's groups, each divided anew; the log-probabilities below the ratio stay those before the first."""

    sampler: Literal["uniform", "dapo", "glm-tiers", "pools", "greso", "mopps", "dps", "rlcs"] = "rlcs"
    """Which rule draws the problems (docs/curriculum.md)."""
    domain_weights: dict[str, float] | None = None
    """Relative share of each domain in the draws; absent, in proportion to its problems."""
    difficulty: DifficultyConfig = Field(default_factory=DifficultyConfig)
    """Posterior over pass rates."""
    curriculum: CurriculumConfig = Field(default_factory=CurriculumConfig)
    """Options of the rlcs sampler."""
    dapo: DapoConfig = Field(default_factory=DapoConfig)
    """Options of the dapo sampler."""
    glm_tiers: GlmTiersConfig = Field(default_factory=GlmTiersConfig)
    """Options of the glm-tiers sampler."""
    pools: PoolsConfig = Field(default_factory=PoolsConfig)
    """Options of the pools sampler."""
    greso: GresoConfig = Field(default_factory=GresoConfig)
    """Options of the greso sampler."""
    mopps: MoppsConfig = Field(default_factory=MoppsConfig)
    """Options of the mopps sampler."""
    dps: DpsConfig = Field(default_factory=DpsConfig)
    """Options of the dps sampler."""

    rollout: Rollout = "transformers"
    """Engine that generates the responses (docs/rollout.md)."""
    vllm: VllmOptions = Field(default_factory=VllmOptions)
    """Options of the vLLM engine."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature; log-probabilities are taken at it as well."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the sampling distribution; below 1 needs `old_logprobs: trainer`."""
    nothink_ratio: Share = 0.25
    """Fraction of the problems, of every domain and tier, that are posed in non-thinking form (`/nothink`)."""
    think_tokens: Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = 192
    """Thinking budget; past it `</think>` is forced. [low, high] draws one for each group, to teach any length."""
    answer_tokens: int = Field(default=96, ge=1)
    """Tokens a response may hold after its thought."""
    stop_repetition: int | None = Field(default=None, ge=4)
    """End a response, as wrong, once its last so many tokens are one span, at most a quarter as long, over and over; absent,
    never (docs/rollout.md)."""
    rollout_batch: int = Field(default=512, ge=1)
    """Most sequences generated at once."""
    max_staleness: Literal[0, 1] = 0
    """Steps by which the policy that generated a step's responses may be older than the one they train. 0 is exact; 1 generates
    the next step's while the policy is updated (docs/rl.md).
    """

    advantage: Literal["grpo", "dr_grpo", "rloo", "reinforce++", "gae"] = "grpo"
    """Group-relative advantages, divided by the group's standard deviation (grpo) or not (dr_grpo); against the mean of the
    group's others (rloo); less the group's mean and whitened over the step (reinforce++); or PPO's, of a critic that is
    trained beside the policy (gae).
    """
    critic: CriticConfig = Field(default_factory=CriticConfig)
    """Options of that critic."""
    surrogate: Literal["ppo", "gspo", "cispo"] = "ppo"
    """What a token's ratio does in the loss (`rlcs.objective.policy_loss`): PPO's clipped surrogate, GSPO's with one ratio a
    response, or CISPO's clipped weight, which keeps every token's gradient.
    """
    loss_aggregation: Literal["sample", "token", "constant"] = "sample"
    """Mean over samples of their mean over tokens, mean over all tokens, or mean over samples of their sum over tokens divided
    by the longest response there can be.
    """
    dual_clip: float | None = Field(default=None, gt=1)
    """Most a token of a bad response can cost, as a multiple of its advantage; absent, without bound."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Probability ratios are clipped below 1 - clip_low. GSPO's, means over a response, want bounds a hundred times smaller."""
    clip_high: float = Field(default=0.28, gt=0)
    """Probability ratios are clipped above 1 + clip_high."""
    old_logprobs: Literal["rollout", "trainer"] = "rollout"
    """Whose log-probabilities stand below the ratio: the rollout engine's, or the trainer's before the step's updates.
    """
    importance_cap: float | None = Field(default=None, gt=0)
    """Cap of the truncated importance weights trainer / rollout; absent, no such weights. Needs `old_logprobs:
    trainer`.
    """

    importance: Literal["truncate", "mask"] = "truncate"
    """What becomes of weights past the cap: they are cut to it, or their tokens are left out of the loss."""
    entropy_coef: float = Field(default=0.0, ge=0)
    """Weight of the policy's entropy (nats a token, averaged as the loss is), which the loss is lowered by."""

    kl_coef: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the reference policy (nats a token, averaged as the loss is) in the loss; 0 needs no
    reference.
    """
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """How that divergence is estimated (`rlcs.objective.kl_estimate`); k1 has no gradient to speak of."""
    reference_decay: float | None = Field(default=None, gt=0, lt=1)
    """The reference is the average of the policies so far with this weight of the past at each step; absent, it is `model`."""

    lr: float = Field(default=5e-4, gt=0)
    """Peak learning rate of AdamW."""
    optimizer: OptimizerKind = "adamw"
    """AdamW, or AdamW with 8-bit moments (needs rlcs[optimizers]). Weights in bfloat16 have float32 copies with either."""
    warmup_steps: int = Field(default=2, ge=0)
    """Steps of linear warm-up."""
    schedule: Schedule = "constant"
    """Learning rate after the warm-up: constant, down by a cosine or linearly, or wsd: constant, and down at the end."""
    min_lr_ratio: Share = 0.1
    """Where the rate ends that goes down, as a fraction of the peak."""
    decay_ratio: Share = 0.2
    """Fraction of the steps, the last ones, in which wsd goes down."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's moment decays."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    max_skipped_updates: int = Field(default=3, ge=0)
    """Updates in a row (the policy's, or the critic's) that are skipped where a loss or gradient is not finite; one more ends
    the run. 0: the first ends it.
    """
    token_budget: int = Field(default=8192, ge=1)
    """Tokens packed into one forward and backward pass."""

    verifier_workers: int = Field(default=0, ge=0)
    """Scoring processes; 0 is one for each core."""
    verifier_timeout_s: float = Field(default=5.0, gt=0)
    """Seconds one response may take to score, where its verifier sets no limit of its own; past it the sample abstains."""
    verifier_plugins: list[VerifierPlugin] = []
    """Modules that register verifiers of your own, imported here and in every scoring process (docs/rewards.md)."""
    style_checks: list[Literal["repetition", "mixed-language"]] = []
    """Faults of style that make a response a format error in any domain (docs/style_checks.md)."""

    heldout: HeldoutConfig | None = None
    """Held-out problems to answer while the run goes on; absent, none."""
    guard: GuardConfig | None = None
    """Audit problems that tell when a verifier is gamed; absent, none."""
    save_every: int = Field(default=20, ge=1)
    """Steps between checkpoints; the last step always has one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Latest checkpoints kept."""
    difficulty_every: int = Field(default=5, ge=1)
    """Steps between files of the sampler's beliefs."""
    log_tokens: bool = True
    """Keep token ids, log-probabilities and which were forced beside every response in rollouts/: two to five bytes a token."""
    table_every: int = Field(default=10, ge=0)
    """Steps between console tables of a few rollouts; 0 shows none."""
    loggers: list[Literal["tensorboard"]] = ["tensorboard"]
    """Where metrics go besides metrics.jsonl."""

    @property
    def most_think_tokens(self) -> int:
        """The largest thinking budget a response can have."""
        return self.think_tokens if isinstance(self.think_tokens, int) else self.think_tokens[1]

    @property
    def most_response_tokens(self) -> int:
        """Most tokens of a response: thought, answer, and room for what a thinking budget inserts."""
        return self.most_think_tokens + self.answer_tokens + 4

    @property
    def policy_starts(self) -> int:
        """First step in which the policy learns."""
        return self.critic.warmup_steps if self.advantage == "gae" else 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not isinstance(self.think_tokens, int) and self.think_tokens[0] > self.think_tokens[1]:
            raise ValueError(f"think_tokens is {list(self.think_tokens)}; expected the lower budget first")
        if self.top_p < 1.0 and self.old_logprobs == "rollout":
            raise ValueError(
                f"top_p is {self.top_p}: the rollout's log-probabilities are then renormalised over the nucleus, the "
                "trainer's are not; set old_logprobs: trainer, or top_p: 1"
            )
        if self.importance_cap is not None and self.old_logprobs == "rollout":
            raise ValueError("importance_cap corrects the ratio trainer / rollout and needs old_logprobs: trainer")
        if self.importance == "mask" and self.importance_cap is None:
            raise ValueError("importance: mask leaves out what is past importance_cap, which is absent; set it, e.g. to 2")
        if self.max_staleness and self.old_logprobs == "trainer" and self.importance_cap is None:
            raise ValueError(
                "max_staleness: 1 with old_logprobs: trainer would train on an older policy's responses as if the present one "
                "had given them; set importance_cap, e.g. to 2, or old_logprobs: rollout"
            )
        if self.max_staleness and self.rollout == "vllm" and self.vllm.sleep:
            raise ValueError(
                "vllm.sleep gives the engine's memory away while the policy is updated, when max_staleness: 1 generates; leave "
                "one of them out"
            )
        if self.dual_clip is not None and self.surrogate == "cispo":
            raise ValueError(
                "dual_clip bounds a clipped surrogate, which cispo has not; leave it out, or set surrogate: ppo or gspo"
            )
        if self.reference_decay is not None and (not self.kl_coef or self.lora is not None):
            raise ValueError(
                "reference_decay averages the policies that a KL penalty holds to: it needs kl_coef above 0, and all weights "
                "trained (no lora)"
            )
        if self.lora is not None and self.lora.dropout:
            raise ValueError(
                f"lora.dropout is {self.lora.dropout}: the trainer would compute log-probabilities of another policy than the "
                "one that was sampled; set it to 0"
            )
        if self.updates_per_step > self.groups_per_step:
            raise ValueError(
                f"updates_per_step is {self.updates_per_step}, more than the {self.groups_per_step} groups of a step"
            )
        if self.advantage == "gae" and self.critic.warmup_steps >= self.steps:
            raise ValueError(
                f"critic.warmup_steps is {self.critic.warmup_steps} of {self.steps} steps, which leaves none to the policy; "
                "lower it, or raise steps"
            )
        if self.engine == "verl" and (found := faults(self)):
            raise ValueError("engine: verl cannot run this configuration:\n  " + "\n  ".join(found))
        return self
