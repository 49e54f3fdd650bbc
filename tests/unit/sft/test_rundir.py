"""The run directory: atomic files, metrics that survive a kill, checkpoints."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sft.rundir import RunDir


def steps(run: RunDir) -> list[int]:
    return [json.loads(line)["step"] for line in run.metrics_path.read_text().splitlines()]


def logged(path: Path, count: int) -> RunDir:
    run = RunDir(path, loggers=())
    for step in range(count):
        run.log(step, {"loss": float(step)})
    return run


def checkpoint(run: RunDir, step: int) -> Path:
    path = run.checkpoint_path(step)
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def test_atomic_write_makes_directories_and_replaces_the_file(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    assert run.atomic_write("a/b.txt", "old").read_text() == "old"
    assert run.atomic_write("a/b.txt", b"new").read_text() == "new"
    assert [path.name for path in (tmp_path / "run" / "a").iterdir()] == ["b.txt"]


def test_atomic_write_leaves_the_old_file_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path)
    run.atomic_write("a.txt", "old")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        run.atomic_write("a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_metric_line_holds_step_time_and_values_with_null_for_what_is_not_finite(tmp_path: Path) -> None:
    run = RunDir(tmp_path, loggers=())
    run.log(3, {"loss": 0.5, "norm": float("nan")})
    row: dict[str, Any] = json.loads(run.metrics_path.read_text())
    assert row.pop("time") > 1.7e9
    assert row == {"step": 3, "loss": 0.5, "norm": None}


def test_rewinding_drops_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    run = logged(tmp_path, 5)
    with run.metrics_path.open("a") as file:
        file.write('{"step": 5, "lo')
    resumed = RunDir(tmp_path, resume=True, loggers=())
    resumed.rewind(3)
    assert steps(resumed) == [0, 1, 2]
    resumed.log(3, {"loss": 9.0})
    assert steps(resumed) == [0, 1, 2, 3]


def test_rewinding_drops_files_of_later_steps_and_what_was_not_finished(tmp_path: Path) -> None:
    run = logged(tmp_path, 3)
    for step in range(3):
        run.atomic_write(f"rollouts/step={step:06d}.parquet", b"")
        run.atomic_write(f"audit/step={step:06d}.parquet", b"")  # after as many steps
    for left in ("rollouts/step=000001.parquet.partial", "config.yaml.partial"):
        (tmp_path / left).write_text("half")
    for other in ("rollouts/notes", "config.yaml", "rollouts/step=later"):
        (tmp_path / other).write_text("whole")
    checkpoint(run, 1)
    (tmp_path / "checkpoints" / "step-000002.partial").mkdir()
    RunDir(tmp_path, resume=True, loggers=()).rewind(1)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "audit/step=000000.parquet",
        "audit/step=000001.parquet",
        "checkpoints/step-000001/config.json",
        "config.yaml",
        "metrics.jsonl",
        "rollouts/notes",
        "rollouts/step=000000.parquet",
        "rollouts/step=later",
    ]
    assert not (tmp_path / "checkpoints" / "step-000002.partial").exists()


def test_a_run_killed_before_its_first_checkpoint_resumes_from_the_start(tmp_path: Path) -> None:
    logged(tmp_path, 2)
    run = RunDir(tmp_path, resume=True, loggers=())
    run.rewind(0)
    assert steps(run) == []


def test_a_broken_metric_line_is_named(tmp_path: Path) -> None:
    run = logged(tmp_path, 1)
    run.metrics_path.write_text('{"step": 0}\nnot json\n{"step": 1}\n')
    with pytest.raises(ValueError, match="line 2"):
        RunDir(tmp_path, resume=True).rewind(1)


@pytest.mark.parametrize("left", ["metrics", "checkpoint"])
def test_a_directory_that_holds_a_run_is_refused_unless_resuming(tmp_path: Path, left: str) -> None:
    if left == "metrics":
        logged(tmp_path, 1)
    else:
        checkpoint(RunDir(tmp_path), 1)
    with pytest.raises(FileExistsError, match="--resume"):
        RunDir(tmp_path).rewind(0)
    RunDir(tmp_path, resume=True).rewind(0)


def test_a_directory_without_a_run_in_it_is_accepted(tmp_path: Path) -> None:
    RunDir(tmp_path).atomic_write("config.yaml", "a: 1")
    RunDir(tmp_path).rewind(0)


def test_the_last_checkpoint_is_the_one_of_most_steps_and_never_a_partial_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run.last_checkpoint() is None
    for step in (20, 100, 1_000_000):
        checkpoint(run, step)
    (tmp_path / "checkpoints" / "step-2000000.partial").mkdir()
    (tmp_path / "checkpoints" / "step-9999999").write_text("a file")
    assert run.last_checkpoint() == tmp_path / "checkpoints" / "step-1000000"
    assert run.checkpoint_path(120).name == "step-000120"


def test_pruning_keeps_the_latest_and_sweeps_up_partial_ones(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in (1, 2, 3):
        checkpoint(run, step)
    (tmp_path / "checkpoints" / "step-000004.partial").mkdir()
    run.prune_checkpoints(2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000002", "step-000003"]


def test_tensorboard_events_carry_the_metrics_and_hide_those_rewound(tmp_path: Path) -> None:
    first = RunDir(tmp_path)
    for step in range(3):
        first.log(step, {"loss": float(step)})
    first.close()
    second = RunDir(tmp_path, resume=True)
    second.rewind(1)
    second.log(1, {"loss": 10.0})
    second.close()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 0.0), (1, 10.0)]


def test_what_was_logged_before_a_checkpoint_is_in_the_events_of_a_run_killed_after_it(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in range(40):
        run.log(step, {"loss": float(step)})
    run.flush()
    events = EventAccumulator(str(tmp_path / "events"))  # the writer has not been closed
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(40))
    run.close()


def test_no_events_are_written_without_the_logger(tmp_path: Path) -> None:
    run = logged(tmp_path, 1)
    run.close()
    assert not (tmp_path / "events").exists()
