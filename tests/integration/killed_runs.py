"""Runs that are killed at given moments and resumed, and what must then be equal to the run that nobody killed."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow.parquet as pq
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

DRIVER = Path(__file__).with_name("kill_driver.py")
VOLATILE = ("seconds", "cpu_seconds", "tokens_per_s", "peak_memory_mb", "time", "idle", "mfu", "policy/mfu")
Moment = dict[str, Any]


class Driver:
    """The process whose children train (kill_driver.py)."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.communicate()

    def run(
        self, verb: str, config: dict[str, Any], folder: Path, *, resume: bool = False, kill: Moment | None = None
    ) -> dict[str, Any]:
        """Trains in `folder`, where the run directory is "run" -> {"status", "calls"}."""
        folder.mkdir(exist_ok=True)
        job = {"verb": verb, "config": config | {"out": "run"}, "folder": str(folder), "resume": resume, "kill": kill}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def moments(calls: dict[str, int], halves: set[str], rng: np.random.Generator, rounds: int) -> list[Moment]:
    """`rounds` moments at each seam that an undisturbed run passed, at calls drawn evenly from all of its, and one "during" a
    call of each seam of `halves`.
    """
    found: list[Moment] = []
    for seam, count in calls.items():
        for _ in range(rounds if count else 0):
            when = str(rng.choice(["before", "after"]))
            found.append({"seam": seam, "call": int(rng.integers(1, count, endpoint=True)), "when": when})
        if count and seam in halves:
            found.append({"seam": seam, "call": int(rng.integers(1, count, endpoint=True)), "when": "during"})
    return found


def differences(run: Path, whole: Path) -> list[str]:
    """What of `run` is not as in `whole`; clocks and memory are not compared."""
    found = []
    ours, theirs = _files(run), _files(whole)
    if ours != theirs:
        found.append(f"files: only here {sorted(ours - theirs)}, missing {sorted(theirs - ours)}")
    for name in sorted(ours & theirs):
        if name.endswith(".jsonl"):
            same = _rows(run / name) == _rows(whole / name)
        elif name.endswith(".parquet"):
            same = _equal(pq.read_table(run / name).to_pydict(), pq.read_table(whole / name).to_pydict())
        else:
            same = (run / name).read_bytes() == (whole / name).read_bytes()
        if not same:
            found.append(f"{name} differs")
    found += [f"events: {fault}" for fault in _event_faults(run)]
    return found


def _files(run: Path) -> set[str]:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith("events/") and name != "lock"}


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith(VOLATILE)} for row in rows]


def _equal(one: Any, other: Any) -> bool:
    try:
        np.testing.assert_equal(one, other)
    except AssertionError:
        return False
    return True


def _event_faults(run: Path) -> list[str]:
    """Curves of TensorBoard that are not those of metrics.jsonl, whatever was killed in between."""
    events = EventAccumulator(str(run / "events"), size_guidance={"scalars": 0})
    events.Reload()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = []
    for name in ("reward", "loss", "policy/loss", "grad_norm"):
        expected = [(row["step"], np.float32(row[name])) for row in rows if row.get(name) is not None]
        shown = [(event.step, np.float32(event.value)) for event in events.Scalars(name)] if expected else []
        if shown != expected:
            found.append(f"{name} has steps {[step for step, _ in shown]}, expected {[step for step, _ in expected]}")
    return found
