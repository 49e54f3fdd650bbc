"""What comes before a run on Ray, and what is said of one that broke off. The run itself: integration/test_verl_run.py."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("verl")

import ray
from ray.exceptions import ActorDiedError, NodeDiedError, RayTaskError

from rlcs.problems import ProblemFileError
from rlcs.rl_config import RlConfig
from rlcs.verl.launch import (
    ProcessDiedError,
    RunFailedError,
    environment_of,
    kept_by,
    plain_error,
    restarting,
    run_verl,
)
from rlcs.verl.translate import verl_overrides
from rlcs.verl.watch import DeadProcessError

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


@pytest.mark.parametrize("cause", [ActorDiedError(), NodeDiedError("10.0.0.7"), DeadProcessError("vLLM server 0 has died")])
def test_a_process_that_ended_is_told_from_an_error_in_one(cause: Exception) -> None:
    died = plain_error(RayTaskError("run", "traceback", cause))
    assert isinstance(died, ProcessDiedError) and ("a process of the run ended" in str(died) or str(died) == str(cause))
    broke = plain_error(RayTaskError("run", "traceback", KeyError("rm_scores")))
    assert type(broke) is RunFailedError and "broke off: KeyError: 'rm_scores'" in str(broke)


Attempts = tuple[list[bool], list[str]]


def made(tmp_path: Path, attempts: list[tuple[int, int, Exception | None]], *, resume: bool = False) -> Attempts:
    """What `restarting` made of attempts that each left (steps finished, steps saved) and raised that: with which `resume` they
    were called, and what was told.
    """
    settings = config(tmp_path)
    coming, called, told = iter(attempts), list[bool](), list[str]()

    def attempt(resume: bool) -> None:
        called.append(resume)
        done, saved, error = next(coming)
        write_steps(tmp_path / "run", done, saved)
        if error is not None:
            raise error

    restarting(attempt, settings, resume=resume, notice=told.append, pause_s=0.0)
    assert next(coming, None) is None, "it stopped before"
    return called, told


def write_steps(run: Path, done: int, saved: int) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in range(done)))
    if saved:
        (run / "verl").mkdir(exist_ok=True)
        (run / "verl" / "latest_checkpointed_iteration.txt").write_text(str(saved))


DIED = ProcessDiedError("a worker was killed")


def test_a_run_of_which_a_process_died_starts_again_from_its_checkpoint(tmp_path: Path) -> None:
    called, told = made(tmp_path, [(5, 3, DIED), (9, 9, None)])
    assert called == [False, True]
    assert "a worker was killed" in told[0] and "after 3 steps; 2 finished steps (3 to 4) are done again" in told[0]


def test_a_run_that_saved_its_last_step_does_none_again(tmp_path: Path) -> None:
    _, told = made(tmp_path, [(5, 5, DIED), (9, 9, None)])
    assert "after 5 steps. It may" in told[0]


def test_a_death_before_the_first_step_is_no_accident(tmp_path: Path) -> None:
    with pytest.raises(ProcessDiedError):
        made(tmp_path, [(0, 0, DIED)])


def test_a_resumed_run_counts_from_its_checkpoint(tmp_path: Path) -> None:
    write_steps(tmp_path / "run", 4, 4)
    with pytest.raises(ProcessDiedError):
        made(tmp_path, [(4, 4, DIED)], resume=True)
    assert made(tmp_path, [(5, 4, DIED), (9, 9, None)], resume=True)[0] == [True, True]


def test_steps_that_an_earlier_command_had_finished_are_no_progress(tmp_path: Path) -> None:
    write_steps(tmp_path / "run", 5, 3)
    with pytest.raises(ProcessDiedError):
        made(tmp_path, [(5, 3, DIED)], resume=True)


def test_starts_that_get_no_further_are_counted_and_others_begin_the_count_anew(tmp_path: Path) -> None:
    stuck: list[tuple[int, int, Exception | None]] = [(5, 3, DIED), (4, 3, DIED), (5, 3, DIED)]
    with pytest.raises(ProcessDiedError):
        made(tmp_path, stuck)
    called, told = made(tmp_path / "another", [(5, 3, DIED), (4, 3, DIED), (6, 3, DIED), (6, 6, DIED), (9, 9, None)])
    assert called == [False, True, True, True, True]
    assert [re.findall(r"(\d more times?) without", text) for text in told] == [["1 more time"], ["0 more times"]] * 2


@pytest.mark.parametrize("error", [RunFailedError("broke off"), ValueError("p7: too long"), KeyboardInterrupt()])
def test_what_is_no_death_is_raised_as_it_was(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        made(tmp_path, [(5, 3, error)])  # type: ignore[list-item]
    assert raised.value is error


def test_a_new_start_that_fails_otherwise_tells_both(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match=r"a worker was killed\nStarting again failed: .*8 GPUs"):
        made(tmp_path, [(5, 3, DIED), (5, 3, ValueError("the cluster has 4 GPUs, of 8 GPUs asked for"))])


def test_an_error_long_after_a_new_start_is_raised_as_it_was(tmp_path: Path) -> None:
    error = FloatingPointError("step 7: the gradient norm is nan")
    with pytest.raises(FloatingPointError) as raised:
        made(tmp_path, [(5, 3, DIED), (7, 6, error)])
    assert raised.value is error


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
