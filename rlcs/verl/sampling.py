"""The sampler in the place of verl's dataloader: which problems a step poses, and the state that verl's checkpoints keep of it.

verl asks its dataloader for state_dict and load_state_dict only, and reads data from it through methods of the trainer that
ours overrides; so the sampler need not be squeezed into an endless iterator of batches of one size, and nothing is fetched
ahead of what was drawn. Axis suffixes: N problems, P groups.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions

from rlcs.problems import Problem
from rlcs.rl import build_sampler
from rlcs.rl_config import RlConfig
from rlcs.rl_state import digest
from rlcs.samplers import Sampler
from sft.skipped import SkippedUpdates


class Curriculum:
    """The training problems with the sampler over them. `thinking_N`: mode of each problem, as from `thinking_mask`."""

    def __init__(
        self, config: RlConfig, dataset: Dataset[dict[str, Any]], problems: Sequence[Problem], thinking_N: np.ndarray
    ) -> None:
        self.problems, self.thinking_N = problems, thinking_N
        self.sampler: Sampler = build_sampler(config, problems, thinking_N)
        self.rng = np.random.default_rng([config.seed, 1])
        """Decides how a step's groups are divided into updates."""
        self.skipped = SkippedUpdates(config.max_skipped_updates)
        self._dataset = dataset

    def rows(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """The dataset's rows of these problems [P], in their order."""
        return [self._dataset[int(index)] for index in indices]

    def progress(self) -> dict[str, Any]:
        """What steps change; arrays may be those that the next one goes on changing."""
        return {
            "sampler": self.sampler.state_dict(),
            "rng": self.rng.bit_generator.state,
            "skipped": self.skipped.state_dict(),
        }

    def go_back_to(self, progress: dict[str, Any]) -> None:
        self.sampler.load_state_dict(progress["sampler"])
        self.rng.bit_generator.state = progress["rng"]
        self.skipped.load_state_dict(progress["skipped"])

    def state_dict(self) -> dict[str, Any]:
        return {"problems": digest(self.problems, self.thinking_N), **self.progress()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the state is of other problems, to which it would not apply."""
        if state["problems"] != digest(self.problems, self.thinking_N):
            raise ValueError(
                "the checkpoint was saved while training on other problems than those of this run, or on them in other modes, "
                "to which its sampler state would not apply; resume with the same problem file, seed and nothink_ratio, or "
                "start a new run with the exported checkpoint as its model"
            )
        self.go_back_to(state)


def visits(indices: Sequence[int], posed: Counter[int]) -> list[int]:
    """How often each of these problems has been posed before it in this step; `posed`, which counts on, by earlier calls."""
    found = []
    for index in indices:
        found.append(posed[index])
        posed[index] += 1
    return found


def update_order(seq_lens: Sequence[int], ranks: int, updates: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Order in which a step's rows go to verl, and the update that each of them, in that order, belongs to.

    verl gives each rank a run of consecutive rows and cuts it into `updates` consecutive parts of one size, so that update u is
    made of the u-th part of every rank. Rows are dealt to the updates at random, as in the local engine, and those of an update
    to the ranks so that these have about equal work. The number of rows is a multiple of ranks * updates.
    """
    rows = len(seq_lens)
    if rows % (ranks * updates):
        raise ValueError(f"{rows} rows; expected a multiple of {ranks} ranks times {updates} updates")
    work = calculate_workload(torch.tensor(seq_lens, dtype=torch.int64)).numpy()
    shuffled = np.arange(rows) if updates == 1 else rng.permutation(rows)
    parts = []
    for members in np.split(shuffled, updates):
        shares = get_seqlen_balanced_partitions(work[members].tolist(), k_partitions=ranks, equal_size=True)
        parts.append([members[share] for share in shares])
    order = np.concatenate([parts[update][rank] for rank in range(ranks) for update in range(updates)])
    update_B = np.tile(np.repeat(np.arange(updates), rows // (ranks * updates)), ranks)
    return order, update_B
