"""What comes before a run on Ray, and what is said of one that broke off. The run itself: integration/test_verl_run.py."""

import json
from pathlib import Path

import pytest

pytest.importorskip("verl")

import ray
from ray.exceptions import ActorDiedError, RayTaskError

from rlcs.problems import ProblemFileError
from rlcs.rl_config import RlConfig
from rlcs.verl.launch import RunFailedError, environment_of, kept_by, plain_error, run_verl
from rlcs.verl.translate import verl_overrides

NANO = str(Path(__file__).parents[4] / "assets" / "nano")


def config(tmp_path: Path) -> RlConfig:
    return RlConfig(
        engine="verl", rollout="vllm", model=NANO, problems=tmp_path / "train.jsonl", out=tmp_path / "run", threads=3
    )


def test_a_directory_that_holds_a_run_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 0}\n')
    with pytest.raises(FileExistsError, match="--resume"):
        run_verl(config(tmp_path))
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == '{"step": 0}\n'
    assert not ray.is_initialized()


def test_faults_of_the_problems_are_told_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"id": "a", "domain": "math"}) + "\n")
    with pytest.raises(ProblemFileError, match="line 1"):
        run_verl(config(tmp_path))
    assert not ray.is_initialized()


def test_the_driver_has_the_environment_of_the_other_processes(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    found = environment_of(verl_overrides(config(tmp_path)))
    assert found["VERL_PLATFORM"] == "cpu" and found["VERL_ENGINE_VENDOR"] == "rlcs" and found["OMP_NUM_THREADS"] == "3"


def test_an_error_of_the_input_comes_out_as_it_was_raised() -> None:
    cause = ValueError("p7: the prompt has 900 tokens")
    inner = RayTaskError("rollout", "a long traceback", cause)
    assert plain_error(inner) is cause
    assert plain_error(RayTaskError("run", "a longer one", inner)) is cause


def test_a_process_that_ended_is_told_from_an_error_in_one() -> None:
    died = plain_error(RayTaskError("run", "traceback", ActorDiedError()))
    assert isinstance(died, RunFailedError) and str(died).startswith("a process of the run ended")
    broke = plain_error(RayTaskError("run", "traceback", KeyError("rm_scores")))
    assert isinstance(broke, RunFailedError) and "broke off: KeyError: 'rm_scores'" in str(broke)


@pytest.mark.parametrize("checkpoint", [None, 2])
def test_a_run_that_broke_off_says_what_it_kept_and_which_steps_are_to_be_done_again(
    tmp_path: Path, checkpoint: int | None
) -> None:
    settings = config(tmp_path)
    run = tmp_path / "run"
    assert "No checkpoint was written yet" in kept_by(settings) and "done again" not in kept_by(settings)
    run.mkdir()
    if checkpoint is not None:
        (run / "checkpoints" / f"step-{checkpoint:06d}").mkdir(parents=True)
        (run / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1}\n')
        assert kept_by(settings).endswith("go on from it by --resume")
    (run / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in range(5)))
    found = kept_by(settings)
    again = "3 finished steps (2 to 4)" if checkpoint else "5 finished steps (0 to 4)"
    assert f"{again} are to be done again" in found and "save_every (20)" in found
    assert ("go on from it by --resume" in found) == (checkpoint is not None)
