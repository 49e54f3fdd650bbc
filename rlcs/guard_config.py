"""Options of the guard against reward collapse in a run's configuration."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class GuardConfig(BaseModel):
    """An audit beside the training reward, `rlcs.guard` (docs/guard.md)."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    problems: Path
    """JSON Lines file of audit problems, not trained on, with the answers and verifiers that are to be believed."""
    as_trained: Path | None = None
    """The same problems, by id, with the answers and verifiers that training pays by; absent, the audit's answers under the
    verifier that the domain's training problems name.
    """
    every_steps: int = Field(default=10, ge=1)
    """Steps between two looks; there is one before the first step and one after the last as well."""
    samples: int = Field(default=1, ge=1)
    """Responses to each problem, in each mode the run trains."""
    max_per_domain: int | None = Field(default=None, ge=1)
    """Problems of each domain, spread evenly over its tiers; absent, all."""
    false_alarms: float = Field(default=0.01, gt=0, lt=0.5)
    """Chance, at most, that a domain is ever accused in a run though its audit does not fall, or nothing paid rises."""
    least_fall: float = Field(default=0.02, ge=0, lt=1)
    """Smallest fall of the audit's pass rate that counts, however certain."""
    on_collapse: Literal["warn", "quarantine", "stop"] = "warn"
    """What becomes of an accusation: a warning; no more problems of the domain; or the end of the run, with a checkpoint."""
