"""What an RL run must have in common with itself when it is resumed: the settings its state depends on, and its data."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlcs.problems import Problem, load_problems
from rlcs.rl_config import RlConfig
from sft.checkpoint import load_state
from sft.data_record import DataRecord, Line, fingerprints
from sft.rundir import RunDir
from sft.settings_change import refuse_changes

FIXED = {
    *("engine", "model", "seed", "dtype", "lora", "optimizer", "betas", "weight_decay"),
    *("group_size", "sampler", "domain_weights", "difficulty", "nothink_ratio", "advantage", "critic", "reference_decay"),
}
"""Settings that a run keeps when it is resumed, beside the options of its sampler: its saved state was made under them."""
FREE = {
    *("out", "problems", "heldout", "save_every", "keep_checkpoints", "difficulty_every", "log_tokens"),
    *("table_every", "loggers"),
    *("verifier_workers", "vllm", "verl"),
}
"""Settings that change nothing of what is computed; of the problem files the contents are compared."""
_SECTIONS = {"curriculum", "dapo", "glm_tiers", "pools", "greso", "mopps", "dps"}


class RunIdentity:
    """Settings and data of a run, as a checkpoint holds them and `data.json` explains them."""

    def __init__(self, config: RlConfig, problems: Sequence[Problem]) -> None:
        self._config = config
        files = {"problems": problems}
        if config.heldout is not None:
            files["heldout.problems"] = load_problems(config.heldout.problems)
        if config.guard is not None:
            files["guard.problems"] = load_problems(config.guard.problems)
        self._record = DataRecord({setting: fingerprints(problem_lines(lines)) for setting, lines in files.items()})

    def state_dict(self) -> dict[str, Any]:
        return {"config": self._config.model_dump(mode="json"), "data": self._record.state_dict()}

    def check(self, checkpoint: Path, run: RunDir) -> str | None:
        """Raises ValueError naming what differs between this run and the one that `checkpoint` is of; of settings that may
        differ, a sentence is returned.
        """
        saved = load_state(checkpoint)["identity"]
        config = self._config
        active = {"rlcs": "curriculum"}.get(config.sampler, config.sampler.replace("-", "_"))
        free = FREE | _SECTIONS - {active}
        if config.schedule == "constant":
            free |= {"steps", "max_rollouts"}
        changed = refuse_changes(saved["config"], config, checkpoint, fixed=FIXED | {active} & _SECTIONS, free=free)
        self._record.refuse_changes(saved["data"], run, checkpoint)
        return changed

    def write(self, run: RunDir) -> None:
        """Writes the record of the data beside the run."""
        self._record.write(run)


def problem_lines(problems: Sequence[Problem]) -> Iterator[Line]:
    """The problems as what `sft.data_record` compares: all but what training does not read (`grade`, `source`)."""
    for problem in problems:
        content = [problem.id, problem.domain, problem.messages, problem.answer, problem.verifier, problem.verifier_args]
        yield Line(problem.id, [*content, problem.tier, problem.pass_rate], problem.messages, problem.root)
