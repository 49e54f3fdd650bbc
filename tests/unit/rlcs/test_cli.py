"""The command line: what it prints, what it refuses, with which exit status."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlcs import cli

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tasks") / "data"
    options = ["--train", "10", "--heldout", "5", "--sft", "10", "--sft-heldout", "5", "--seed", "3"]
    found = CliRunner().invoke(cli.app, ["tasks", str(out), *options])
    assert found.exit_code == 0, found.output
    return out


def run(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rlcs.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


def dry_run(verb: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *changes: str) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "out"
    found = CliRunner().invoke(cli.app, [verb, str(CONFIGS / verb / "nano.yaml"), f"out={out}", *changes, "--dry-run"])
    assert found.exit_code == 0, found.output
    assert not out.exists(), "a dry run wrote something"
    return found.output


def test_tasks_writes_four_files_that_check_accepts(data: Path) -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in data.glob("*.jsonl")}
    assert lines == {"train.jsonl": 30, "heldout.jsonl": 15, "sft.jsonl": 30, "sft_heldout.jsonl": 15}
    found = CliRunner().invoke(cli.app, ["check", *map(str, sorted(data.glob("*.jsonl")))])
    assert found.exit_code == 0, found.output


def test_check_fails_on_a_bad_file_and_names_line_and_field(data: Path, tmp_path: Path) -> None:
    row = json.loads((data / "train.jsonl").read_text().splitlines()[0])
    (tmp_path / "bad.jsonl").write_text(json.dumps({**row, "messages": [], "pass_rate": 2}) + "\n")
    found = CliRunner().invoke(cli.app, ["check", str(tmp_path / "bad.jsonl")])
    assert found.exit_code == 1
    assert "1" in found.output and "pass_rate" in found.output and "messages" in found.output


def test_dry_run_of_rl_counts_rollouts(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [f"problems={data / 'train.jsonl'}", "steps=5", "groups_per_step=6", "group_size=4", "sampler=uniform"]
    output = dry_run("rl", data, tmp_path, monkeypatch, *changes)
    assert "30: 10 gui, 10 math, 10 ocr" in output
    assert "at most 120" in output and "group_size: 4" in output


def test_dry_run_counts_what_a_sampler_may_generate_beyond_what_it_trains_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [f"problems={data / 'train.jsonl'}", "steps=5", "groups_per_step=6", "group_size=4", "sampler=dapo"]
    assert "at most 1,200" in dry_run("rl", data, tmp_path, monkeypatch, *changes)  # ten batches a step


def test_dry_run_of_sft_counts_steps(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [f"data={data / 'sft.jsonl'}", "epochs=2", "batch_size=8"]
    output = dry_run("sft", data, tmp_path, monkeypatch, *changes)
    assert "8 of 8 examples" in output  # 2 epochs x 30 examples / 8


def test_dry_run_of_eval_counts_responses(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [f"problems={data / 'heldout.jsonl'}", "samples=3", "greedy=true", "max_per_domain=4"]
    assert "96" in dry_run("eval", data, tmp_path, monkeypatch, *changes)  # 3 domains x 4 problems x 2 modes x (3 + 1)


def test_score_writes_a_verdict_a_row(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "domain": "math", "answer": "1/2", "response": "<think></think><|begin_of_box|>0.5<|end_of_box|>"},
        {"id": "b", "domain": "ocr", "answer": "X", "response": "no box"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("score", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "--workers", "1", "--quiet")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["score"], row["status"]) for row in found] == [("a", 1.0, "ok"), ("b", 0.0, "format_error")]


def test_bad_input_ends_in_one_message_and_status_2(tmp_path: Path) -> None:
    done = run("rl", str(CONFIGS / "rl" / "nano.yaml"), "group_sise=4", cwd=tmp_path)
    assert done.returncode == 2
    assert "group_sise" in done.stderr and "group_size" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["", "sft", "rl", "eval", "grade", "score", "check", "tasks", "report"])
def test_help_does_not_wait_for_torch(verb: str) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom rlcs.cli import app\n"
        f"assert CliRunner().invoke(app, {[*([verb] if verb else []), '--help']}).exit_code == 0\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP")
@pytest.mark.parametrize(
    ("given", "spins"), [({}, 3000), ({"GOMP_SPINCOUNT": "70"}, 70), ({"OMP_WAIT_POLICY": "passive"}, 0)], ids=str
)
def test_threads_sleep_early_unless_told_otherwise(given: dict[str, str], spins: int) -> None:
    """By the word of the library itself, as PyTorch loads it."""
    program = "import sys, rlcs.cli\nsys.argv = ['rlcs', '--help']\ntry: rlcs.cli.main()\nexcept SystemExit: import torch"
    left = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = left | given | {"OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)) == {str(spins)}


@pytest.mark.parametrize(("given", "pool"), [({}, "system"), ({"ARROW_DEFAULT_MEMORY_POOL": "mimalloc"}, "mimalloc")], ids=str)
def test_arrow_has_no_heap_of_its_own_unless_told_otherwise(given: dict[str, str], pool: str) -> None:
    program = (
        "import sys, rlcs.cli\nsys.argv = ['rlcs', '--help']\ntry: rlcs.cli.main()\n"
        "except SystemExit:\n    import pyarrow\n    print(pyarrow.default_memory_pool().backend_name, file=sys.stderr)"
    )
    left = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=left | given)
    assert done.stderr.split() == [pool]
