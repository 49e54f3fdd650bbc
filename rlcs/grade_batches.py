"""The batches of a grading: which problems are put to the policy together, in which mode, with which seed. No torch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlcs.eval_config import Mode
from rlcs.eval_summary import natural
from rlcs.grade_config import GradeConfig
from rlcs.grades import refuse_lost_media
from rlcs.modes import NOTHINK, THINKING, thinking_mask
from rlcs.problems import Problem, load_problems


@dataclass(frozen=True, eq=False)
class Batch:
    """Problems put to the policy together, in one mode; `number` counts the batches of the mode."""

    mode: Mode
    number: int
    problems: Sequence[Problem]

    def seed(self, seed: int, weights: str) -> int:
        """Seed of this batch's generator: it draws what it would draw had no batch come before it.

        `weights`: hexadecimal digest of the policy. Under common random numbers neighbouring checkpoints give nearly the same
        responses; graders must err independently for their counts to be pooled and compared.
        """
        entropy = [seed, int(weights, 16), (THINKING, NOTHINK).index(self.mode), self.number]
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def batches_of(problems: Sequence[Problem], config: GradeConfig) -> list[Batch]:
    """All batches of a grading, by mode and then by domain, tier and id."""
    if config.nothink_ratio is None:
        posed = {mode: list(problems) for mode in config.modes}
    else:
        # The generator and the order of the file are those of `run_rl`: with its seed and ratio, its choice of modes.
        thinking_N = thinking_mask(problems, config.nothink_ratio, np.random.default_rng([config.seed, 2]))
        posed = {
            mode: [problem for problem, thinks in zip(problems, thinking_N, strict=True) if thinks == (mode == THINKING)]
            for mode in config.modes
        }
    size = max(1, config.rollout_batch // config.samples)
    found = []
    for mode, members in posed.items():
        members.sort(key=lambda problem: (problem.domain, natural(problem.tier or ""), natural(problem.id)))
        for number, start in enumerate(range(0, len(members), size)):
            found.append(Batch(mode, number, members[start : start + size]))
    return found


def grade_plan(config: GradeConfig) -> list[tuple[str, str]]:
    """What a grading would do, for `--dry-run`: rows of name and value. Raises what loading the problems raises."""
    problems = load_problems(config.problems)
    refuse_lost_media(problems, config.problems, config.out)
    batches = batches_of(problems, config)
    posed = Counter({mode: sum(len(batch.problems) for batch in batches if batch.mode == mode) for mode in config.modes})
    domains = Counter(problem.domain for problem in problems)
    return [
        ("model", f"{config.model} ({'exists' if Path(config.model).exists() else 'does not exist yet'})"),
        ("problems", f"{len(problems):,}: " + ", ".join(f"{count:,} {domain}" for domain, count in sorted(domains.items()))),
        ("posed", ", ".join(f"{count:,} {mode}" for mode, count in posed.items())),
        ("responses", f"{posed.total() * config.samples:,}"),
        ("batches", f"{len(batches):,} of at most {config.rollout_batch:,} responses; a kill loses one of them"),
        ("tokens a response", f"at most {config.think_tokens + config.answer_tokens + 4}"),
        ("written to", f"{config.out} ({'exists already' if config.out.exists() else 'does not exist yet'})"),
    ]
