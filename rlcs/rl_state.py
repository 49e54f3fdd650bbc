"""What an RL run is besides its weights, to and from a checkpoint: optimiser, sampler, random generators, position."""

import hashlib
import json
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
from rlcs.run_identity import RunIdentity, problem_lines
from rlcs.samplers import Sampler
from sft.checkpoint import load_training_state, save_checkpoint
from sft.data_record import fingerprints
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
    identity: RunIdentity
    """What the run must have in common with itself when it is resumed."""
    critic: Critic | None = None
    guard: Guard | None = None
    """What it has seen of the audit problems, and whom it accused."""

    def save(self, run: RunDir, step: int, processor: Any, keep: int) -> Path:
        """Writes the checkpoint of a run that has done `step` steps, keeping the latest `keep`."""
        ahead = self.source.state_dict(step)  # first: what is under way still draws from the generators
        state = {
            "step": step,
            "ahead": ahead,
            "identity": self.identity.state_dict(),
            "sampler": self.sampler.state_dict(),
            "reference": self.learner.reference.state_dict() if self.learner.reference else {},
            "critic": self.critic.state_dict() if self.critic else {},
            "guard": self.guard.state_dict() if self.guard else {},
            "skipped": self.learner.skipped.state_dict(),
            "rng": self.rng.bit_generator.state,
            "generator": self.generator.get_state(),
        }
        run.flush()
        path = save_checkpoint(run.checkpoint_path(step), self.learner.model, processor, self.learner.optimizer, state)
        run.prune_checkpoints(keep)
        return path

    def restore(self, checkpoint: Path) -> int:
        """Loads all but the weights from `checkpoint` -> steps done. `identity` has found that it is this run's."""
        optimizer, state = load_training_state(checkpoint)
        self.learner.optimizer.load_state_dict(optimizer)
        self.sampler.load_state_dict(state["sampler"])
        if self.learner.reference:
            self.learner.reference.load_state_dict(state["reference"])
        if self.critic:
            self.critic.load_state_dict(state["critic"])
        if self.guard and state.get("guard"):
            self.guard.load_state_dict(state["guard"])
        self.learner.skipped.load_state_dict(state["skipped"])
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"])
        self.source.load_state_dict(state.get("ahead", {}))
        return int(state["step"])


def digest(problems: Sequence[Problem], thinking_N: np.ndarray) -> str:
    """SHA-256 of the problems' contents in order and their modes: the sampler knows problems by their place."""
    found = hashlib.sha256(json.dumps(fingerprints(problem_lines(problems))).encode())
    found.update(thinking_N.tobytes())
    return found.hexdigest()
