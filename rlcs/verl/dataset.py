"""Our problem files as a verl dataset (`data.custom_cls`), for training and for validation.

A row holds the problem as it stands in the file; rendering and media are the agent loop's, which runs beside the vLLM servers.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch.utils.data import Dataset

from rlcs.evaluate import choose
from rlcs.modes import thinking_mask
from rlcs.problems import Problem, check_references, load_problems
from rlcs.rl_config import RlConfig

AGENT = "rlcs"
"""Name under which the agent loop is registered, and the rows ask for it."""


class ProblemDataset(Dataset[dict[str, Any]]):
    """The problems of one JSON Lines file.

    `config`: verl's `data` section; `config.rlcs` is our whole configuration. Training rows stand in the file's order, so that
    a row's index is the sampler's; of held-out problems there is a row for each mode that the run trains. Raises
    ProblemFileError with every fault of the file.
    """

    def __init__(
        self,
        data_files: str | Sequence[str],
        tokenizer: Any,
        config: Any,
        processor: Any | None = None,
        max_samples: int = -1,
    ) -> None:
        self.settings = settings_of(config)
        (path,) = [data_files] if isinstance(data_files, str) else list(data_files)
        problems = load_problems(path)
        heldout = self.settings.heldout
        self.heldout = heldout is not None and _same_file(path, heldout.problems)
        if heldout is not None and self.heldout:
            check_references(problems, Path(path))
            problems = choose(problems, heldout.max_per_domain, self.settings.seed)
            modes = [True] * (self.settings.nothink_ratio < 1) + [False] * (self.settings.nothink_ratio > 0)
            self.problems = [problem for _ in modes for problem in problems]
            self.thinking_N = np.repeat(np.array(modes, bool), len(problems))
        else:
            self.problems = problems
            rng = np.random.default_rng([self.settings.seed, 2])
            self.thinking_N = thinking_mask(problems, self.settings.nothink_ratio, rng)
        if 0 < max_samples < len(self.problems):
            kept = sorted(random.Random(self.settings.seed).sample(range(len(self.problems)), max_samples))
            self.problems, self.thinking_N = [self.problems[index] for index in kept], self.thinking_N[kept]

    def __len__(self) -> int:
        return len(self.problems)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return problem_row(self.problems[index], index, thinking=bool(self.thinking_N[index]), heldout=self.heldout)


def problem_row(problem: Problem, index: int, *, thinking: bool, heldout: bool = False) -> dict[str, Any]:
    """What goes to the agent loop: the names that verl reads itself, and `problem` for ours."""
    return {
        "index": index,
        "agent_name": AGENT,
        "data_source": problem.domain,
        "raw_prompt": [dict(message) for message in problem.messages],
        "reward_model": {"ground_truth": problem.answer},
        "extra_info": {"index": index},
        "problem": problem.model_dump(mode="json", exclude={"messages", "grade"}),
        "thinking": thinking,
        "heldout": heldout,
        "dummy_tensor": torch.zeros(1, dtype=torch.uint8),  # verl's batches hold at least one tensor
    }


def problem_of(row: Mapping[str, Any]) -> Problem:
    """The problem that `problem_row` made the row of."""
    return Problem(**row["problem"], messages=list(row["raw_prompt"]))


def settings_of(node: Any) -> RlConfig:
    """Our configuration as it travels in verl's, as the node `rlcs` of its root and of its `data` section."""
    found = node.get("rlcs") if node is not None else None
    if found is None:
        raise ValueError("verl's configuration has no node 'rlcs'; start the run by `rlcs rl engine=verl`, which puts it there")
    return RlConfig.model_validate(OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else dict(found))


def _same_file(one: str | Path, other: str | Path) -> bool:
    return Path(one).resolve() == Path(other).resolve()
