"""Configuration of `rlcs sft`: one line of doc under each field, defaults that work. Unknown keys are refused."""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sft.optimizers import OptimizerKind
from sft.schedule import Schedule
from sft.verl_options import VerlSft

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class LoraConfig(BaseModel):
    """Low-rank adapters on a frozen model, `rollout.lora`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    rank: int = Field(default=32, ge=1)
    """Rank of every adapter."""
    alpha: float = Field(default=64.0, gt=0)
    """Adapters count alpha / rank times."""
    dropout: Decay = 0.0
    """Fraction of an adapter's inputs dropped while training; RL takes 0 only."""
    targets: Literal["decoder", "all"] | Annotated[list[str], Field(min_length=1)] = "decoder"
    """Linear layers with an adapter: those of the decoder, those of the vision tower as well, or those of these names."""


class SftConfig(BaseModel):
    """One supervised fine-tuning run."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    engine: Literal["local", "verl"] = "local"
    """Training engine; `local` is one process on CPU or one GPU, `verl` any number of GPUs (docs/verl.md)."""
    verl: VerlSft = Field(default_factory=VerlSft)
    """Options of the verl engine."""
    model: str
    """Hugging Face checkpoint directory to start from, or a run directory, of which the last checkpoint is taken."""
    data: Path
    """JSON Lines file of training examples."""
    eval_data: Path | None = None
    """JSON Lines file of held-out examples; absent, nothing is evaluated."""
    out: Path
    """Run directory to create."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order of examples and of which are rewritten to non-thinking form."""
    device: str = "cpu"
    """Torch device of the model."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Parameter type of the model."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of PyTorch; 0 leaves its default."""
    lora: LoraConfig | None = None
    """Train low-rank adapters on a frozen model; absent, all weights are trained."""
    gradient_checkpointing: bool = False
    """Compute activations anew in the backward pass: a fraction of their memory for about a third more time."""

    epochs: float = Field(default=2.0, gt=0)
    """Passes over the training examples."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; absent, as many as `epochs` takes."""
    batch_size: int = Field(default=32, ge=1)
    """Examples of an optimiser step."""
    token_budget: int = Field(default=8192, ge=1)
    """Tokens packed into one forward and backward pass; changes speed and memory, never the gradient."""
    max_length: int = Field(default=8192, ge=1)
    """Examples of more tokens are rejected."""
    cache_mb: int = Field(default=512, ge=0)
    """Memory for rendered examples; those beyond it are rendered anew each time."""

    style: Literal["box", "answer"] = "box"
    """Response format the examples are held to: GLM-4.5V's or GLM-4.1V's."""
    nothink_ratio: Share = 0.3
    """Fraction of the examples rewritten to non-thinking form (`/nothink`), drawn anew every epoch."""

    lr: float = Field(default=1e-5, gt=0)
    """Peak learning rate of AdamW."""
    optimizer: OptimizerKind = "adamw"
    """AdamW, or AdamW with 8-bit moments (needs rlcs[optimizers]). Weights in bfloat16 have float32 copies with either."""
    warmup_steps: int = Field(default=10, ge=0)
    """Steps of linear warm-up."""
    schedule: Schedule = "cosine"
    """Learning rate after the warm-up: constant, down by a cosine or linearly, or wsd: constant, and down at the end."""
    min_lr_ratio: Share = 0.1
    """Where the rate ends that goes down, as a fraction of the peak."""
    decay_ratio: Share = 0.2
    """Fraction of the steps, the last ones, in which wsd goes down."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of matrices; norms and biases have none."""
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    """AdamW's moment decays."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    max_skipped_updates: int = Field(default=3, ge=0)
    """Updates in a row that are skipped where a loss or gradient is not finite; one more ends the run. 0: the first ends it."""

    eval_every: int = Field(default=50, ge=0)
    """Steps between evaluations; the last step always has one. 0: no other."""
    save_every: int = Field(default=100, ge=1)
    """Steps between checkpoints; the last step always has one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Latest checkpoints kept."""
    log_every: int = Field(default=10, ge=1)
    """Steps between console lines; metrics.jsonl has every step."""
    loggers: list[Literal["tensorboard"]] = ["tensorboard"]
    """Where metrics go besides metrics.jsonl."""

    def total_steps(self, examples: int) -> int:
        """Optimiser steps of the run over this many training examples."""
        return self.steps or math.ceil(self.epochs * examples / self.batch_size)
