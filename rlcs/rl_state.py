"""What an RL run is besides its weights, to and from a checkpoint: optimiser, sampler, random generators, position."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlcs.critic import Critic
from rlcs.generation import GroupSource
from rlcs.guard import Guard
from rlcs.learner import Learner
from rlcs.problems import Problem
from rlcs.samplers import Sampler
from sft.checkpoint import load_training_state, save_checkpoint
from sft.rundir import RunDir


@dataclass
class RunState:
    """Everything a step reads and changes. A run restored from it draws, computes and ends as the run that was never
    stopped.
    """

    problems: Sequence[Problem]
    thinking_N: np.ndarray
    """Mode of each problem; not saved, it follows from the configuration."""
    learner: Learner
    sampler: Sampler
    rng: np.random.Generator
    """Decides how a step's groups are divided into updates."""
    generator: torch.Generator
    """Decides every sampled token."""
    source: GroupSource
    """Holds what was generated ahead of the next step."""
    critic: Critic | None = None
    guard: Guard | None = None
    """What it has seen of the audit problems, and whom it accused."""

    def save(self, run: RunDir, step: int, processor: Any, keep: int) -> Path:
        """Writes the checkpoint of a run that has done `step` steps, keeping the latest `keep`."""
        ahead = self.source.state_dict(step)  # first: what is under way still draws from the generators
        state = {
            "step": step,
            "ahead": ahead,
            "problems": digest(self.problems, self.thinking_N),
            "sampler": self.sampler.state_dict(),
            "reference": self.learner.reference.state_dict() if self.learner.reference else {},
            "critic": self.critic.state_dict() if self.critic else {},
            "guard": self.guard.state_dict() if self.guard else {},
            "rng": self.rng.bit_generator.state,
            "generator": self.generator.get_state(),
        }
        path = save_checkpoint(run.checkpoint_path(step), self.learner.model, processor, self.learner.optimizer, state)
        run.prune_checkpoints(keep)
        return path

    def restore(self, checkpoint: Path) -> int:
        """Loads all but the weights from `checkpoint` -> steps done. Raises ValueError when the problems are not the
        same ones.
        """
        optimizer, state = load_training_state(checkpoint)
        if state["problems"] != digest(self.problems, self.thinking_N):
            raise ValueError(
                f"{checkpoint}: it was saved while training on other problems than those of this run, or on the same in other "
                "modes, to which its sampler state would not apply; resume with the same problem file, seed and nothink_ratio, "
                "or start a new run with this checkpoint as its model"
            )
        self.learner.optimizer.load_state_dict(optimizer)
        self.sampler.load_state_dict(state["sampler"])
        if self.learner.reference:
            self.learner.reference.load_state_dict(state["reference"])
        if self.critic:
            self.critic.load_state_dict(state["critic"])
        if self.guard and state.get("guard"):
            self.guard.load_state_dict(state["guard"])
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"])
        self.source.load_state_dict(state.get("ahead", {}))
        return int(state["step"])


def digest(problems: Sequence[Problem], thinking_N: np.ndarray) -> str:
    """SHA-256 of the problems' ids in order and their modes: the sampler knows problems by their place."""
    found = hashlib.sha256("\n".join(problem.id for problem in problems).encode())
    found.update(thinking_N.tobytes())
    return found.hexdigest()
