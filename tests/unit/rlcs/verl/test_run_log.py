"""From verl's stored samples to the local engine's rollouts, and from those to the run directory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

pytest.importorskip("verl", reason="the verl extra is not installed")

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from rewards import Verdict
from rlcs.progress import Clock
from rlcs.rl import advantages_of
from rlcs.rl_config import RlConfig
from rlcs.rollout_log import rollout_table, step_metrics
from rlcs.scoring import ScoredRollouts, group_fates
from rlcs.verl.collected import Asked, scored_rollouts
from rlcs.verl.dataset import ProblemDataset
from rlcs.verl.replay_buffer import rows_of
from rlcs.verl.reward import number, verdict_fields
from rlcs.verl.run_log import RunLog
from rlcs.verl.sampling import Curriculum

RIGHT, WRONG, SILENT = Verdict(1.0, True, "ok", "2"), Verdict(0.0, False, "ok", "3", "different"), Verdict.abstained("timeout")
FORMAT = Verdict.format_error("two-boxes")


def sample(length: int, verdict: Verdict, *, forced: int = 0) -> dict[str, Any]:
    """A response of `length` tokens, the first `forced` of them forced, as verl puts it into the TransferQueue."""
    output = AgentLoopOutput(
        prompt_ids=[1, 2, 3],
        response_ids=list(range(length)),
        response_mask=[int(place >= forced) for place in range(length)],
        response_logprobs=[0.0 if place < forced else -0.25 for place in range(length)],
        reward_score=number(verdict.score),
        metrics={},
        extra_fields={
            "finish_reason": "stop",
            "text": f"text of {length}",
            "seconds": 0.5,
            "reward_extra_info": verdict_fields(verdict),
        },
    )
    return output.as_dict()


@pytest.fixture
def config(tmp_path: Path) -> RlConfig:
    path = tmp_path / "problems.jsonl"
    lines = [
        {"id": f"p{i}", "domain": "math", "messages": [{"role": "user", "content": f"{i}?"}], "answer": "2", "tier": "1"}
        for i in range(8)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return RlConfig(
        model="m", problems=path, out=tmp_path / "run", group_size=3, groups_per_step=2, nothink_ratio=0.5, table_every=0,
        loggers=[], sampler="uniform", heldout={"problems": path, "every_rollouts": 6}, steps=9,
    )  # fmt: skip


def curriculum_of(config: RlConfig) -> Curriculum:
    plain = config.model_copy(update={"heldout": None})  # whose problems are those trained on, here
    dataset = ProblemDataset(str(config.problems), None, {"rlcs": plain.model_dump(mode="json")})
    return Curriculum(config, dataset, dataset.problems, dataset.thinking_N)


ASKED = [Asked("u-one", 5), Asked("u-two", 1), Asked("u-three", 2)]
STORED = {
    "u-two_0_0": sample(4, RIGHT),
    "u-one_2_0": sample(3, WRONG),
    "u-one_0_0": sample(6, RIGHT, forced=2),
    "u-one_1_0": sample(3, SILENT),
    "u-two_2_0": sample(3, FORMAT),
}  # sample 1 of u-two failed, and all of u-three


def collected(curriculum: Curriculum) -> ScoredRollouts:
    rows = rows_of(list(STORED), list_of_dict_to_tensordict(list(STORED.values())))
    versions = dict.fromkeys(STORED, 7)
    return scored_rollouts(ASKED, curriculum.problems, curriculum.thinking_N, rows, versions, 3)


def test_stored_samples_become_the_local_engines_rollouts(config: RlConfig) -> None:
    curriculum = curriculum_of(config)
    rollouts = collected(curriculum)
    assert rollouts.indices.tolist() == [5, 1, 2]
    assert [problem.id for problem in rollouts.problems] == ["p5", "p1", "p2"]
    assert [prompt.thinking for prompt in rollouts.prompts] == curriculum.thinking_N[[5, 1, 2]].tolist()
    failed = Verdict.abstained("rollout-failed")
    assert rollouts.verdicts == [[RIGHT, SILENT, WRONG], [RIGHT, failed, FORMAT], [failed] * 3]
    np.testing.assert_array_equal(rollouts.outcomes_PG, [[1, np.nan, 0], [1, np.nan, 0], [np.nan] * 3])
    first = rollouts.completions[0][0]
    assert first.token_ids.tolist() == list(range(6))
    assert first.forced.tolist() == [True, True, False, False, False, False]
    np.testing.assert_allclose(first.logprobs, [0, 0, -0.25, -0.25, -0.25, -0.25])
    assert (first.text, first.finish_reason, first.weight_version, first.seconds) == ("text of 6", "stop", 7, 0.5)


def test_a_step_is_logged_as_the_local_engine_logs_it(config: RlConfig) -> None:
    curriculum = curriculum_of(config)
    rollouts = collected(curriculum)
    curriculum.sampler.observe(rollouts.indices, rollouts.outcomes_PG, policy_version=0, tokens_P=rollouts.tokens_P)
    fates = group_fates(rollouts, curriculum.sampler, config.groups_per_step)
    assert fates == ["trained", "trained", "abstained"]
    log = RunLog(config, resume=False, console=Console(quiet=True))
    log.begin(0, ["math"])
    learned = {"loss": 0.5, "grad_norm": 1.0, "packed_tokens": 30.0}
    metrics = log.step(0, rollouts, fates, curriculum, learned, Clock(), last=False, more={"seconds/train": 2.0})

    out = config.out
    assert yaml.safe_load((out / "config.yaml").read_text())["sampler"] == "uniform"
    (row,) = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert row["step"] == 0 and row["policy/loss"] == 0.5 and row["seconds/train"] == 2.0
    assert row["groups/abstained"] == 1 and row["rollouts"] == 9 and row["math/pass_rate"] == 0.5
    assert step_metrics(rollouts, fates).keys() | {f"sampler/{name}" for name in curriculum.sampler.metrics()} <= metrics.keys()
    written = pq.read_table(out / "rollouts" / "step=000000.parquet")
    assert written.equals(rollout_table(rollouts, fates, advantages_of(rollouts, fates, config), 0))
    beliefs = pq.read_table(out / "difficulty" / "step=000000.parquet")
    assert beliefs.num_rows == 8 and "thinking" in beliefs.column_names
    assert (out / "calibration" / "step=000000.parquet").is_file()
    assert log.spent.rollouts == 9


def test_heldout_answers_go_into_the_curve_and_into_the_row_of_the_last_update(config: RlConfig) -> None:
    curriculum = curriculum_of(config)
    rollouts = collected(curriculum)
    fates = group_fates(rollouts, curriculum.sampler, config.groups_per_step)
    log = RunLog(config, resume=False, console=Console(quiet=True))
    log.begin(0, ["math"])
    assert log.heldout_due(0, last=False)
    assert log.heldout(0, rollouts) == {"heldout/math/pass_rate": 0.5, "heldout/pass_rate": 0.5}
    assert not log.heldout_due(1, last=False), "no rollout since the last row"
    assert log.heldout_due(1, last=True)
    log.step(0, rollouts, fates, curriculum, {}, Clock(), last=False, more={})
    assert log.heldout_due(1, last=False), "nine rollouts since the last row, six are asked for"
    log.heldout(1, rollouts)
    rows = [json.loads(line) for line in (config.out / "heldout.jsonl").read_text().splitlines()]
    assert [(row["updates"], row["rollouts"], row["pass_rate"], row["responses"]) for row in rows] == [
        (0, 0, {"math": 0.5}, {"math": 4}),
        (1, 9, {"math": 0.5}, {"math": 4}),
    ]
    (row,) = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    assert row["step"] == 0 and row["rollouts"] == 9 and row["heldout/math/pass_rate"] == 0.5


def test_a_run_directory_is_not_overwritten_and_a_resumed_run_drops_what_came_after_its_checkpoint(config: RlConfig) -> None:
    curriculum = curriculum_of(config)
    rollouts = collected(curriculum)
    fates = group_fates(rollouts, curriculum.sampler, config.groups_per_step)
    log = RunLog(config, resume=False, console=Console(quiet=True))
    log.begin(0, ["math"])
    for step in range(3):
        log.step(step, rollouts, fates, curriculum, {}, Clock(), last=False, more={})
    with pytest.raises(FileExistsError, match="already holds a run"):
        RunLog(config, resume=False)
    resumed = RunLog(config, resume=True, console=Console(quiet=True))
    resumed.begin(2, ["math"])
    assert resumed.spent.rollouts == 18
    resumed.step(2, rollouts, fates, curriculum, {}, Clock(), last=False, more={})
    assert [json.loads(line)["step"] for line in (config.out / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2]
