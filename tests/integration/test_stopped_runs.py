"""`rlcs rl` and `rlcs sft` stopped by signals, and a damaged checkpoint: the real command, its exit status, the same run."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from killed_runs import differences
from rich.console import Console

from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig

pytestmark = pytest.mark.integration


def start(verb: str, config: dict[str, Any], *arguments: str) -> subprocess.Popen[str]:
    file = Path(f"{config['out']}.yaml")
    file.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "rlcs.cli", verb, str(file), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for_steps(process: subprocess.Popen[str], out: Path, steps: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        file = out / "metrics.jsonl"
        if file.exists() and len(file.read_bytes().splitlines()) >= steps:
            return
        time.sleep(0.01)
    process.kill()
    pytest.fail(f"{out} did not come to {steps} steps: {process.communicate()[0]}")


def newest(out: Path) -> tuple[Path, int]:
    path = max((out / "checkpoints").iterdir())
    return path, int(path.name.removeprefix("step-"))


def test_a_run_stopped_by_sigterm_then_by_ctrl_c_then_damaged_ends_as_the_undisturbed_one(
    coin_policy: Path, coin_problems: Path, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"model": str(coin_policy), "problems": str(coin_problems), "threads": 1, "steps": 8}
    common |= {"save_every": 8, "groups_per_step": 4, "group_size": 4, "think_tokens": 4, "answer_tokens": 8}
    common |= {"verifier_workers": 1, "table_every": 0, "difficulty_every": 1}
    out = tmp_path / "stopped" / "run"
    out.parent.mkdir()
    done = 0
    for arguments, signum, status in (([], signal.SIGTERM, 143), (["--resume"], signal.SIGINT, 130)):
        process = start("rl", common | {"out": str(out)}, *arguments)
        wait_for_steps(process, out, done + 2)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signum)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == status, said
        saved, steps = newest(out)
        assert done + 2 <= steps < 8 and "Traceback" not in said
        assert f"after {steps} steps, saved as {saved}; go on by --resume" in " ".join(said.split())
        assert not psutil.wait_procs(children, timeout=30)[1]
        done = steps

    weights = newest(out)[0] / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    screen = io.StringIO()
    run_rl(RlConfig(**common, out=out), resume=True, console=Console(file=screen, width=4000))
    assert f"{weights} holds other bytes than were written" in screen.getvalue()
    assert f"kept as step-{done:06d}.damaged, and the run goes on from step-" in screen.getvalue()

    whole = tmp_path / "whole" / "run"
    run_rl(RlConfig(**common, out=whole), console=Console(quiet=True))
    # What names its directory differs, and the checkpoints at which it was stopped are its own.
    own = ("config.yaml", "checkpoints/step-000008/state.pt", "checkpoints/step-000008/checksums.json")
    (fault,) = [fault for fault in differences(out, whole) if not fault.startswith(own)]
    assert fault.startswith("files: only here ['checkpoints/") and fault.endswith("missing []") and "rollouts" not in fault


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path, coin_policy: Path) -> None:
    response = {"role": "assistant", "content": "<think>so</think>\n<|begin_of_box|>1<|end_of_box|>"}
    messages = [{"role": "user", "content": "1"}, response]
    lines = [json.dumps({"id": f"e{index}", "domain": "math", "messages": messages}) + "\n" for index in range(4)]
    (tmp_path / "sft.jsonl").write_text("".join(lines))
    out = tmp_path / "run"
    config = {"model": str(coin_policy), "data": str(tmp_path / "sft.jsonl"), "out": str(out), "threads": 1}
    # One step of many examples: the first signal finds it under way, the second comes before its end.
    process = start("sft", config | {"steps": 100_000, "batch_size": 2000})
    wait_for_steps(process, out, 1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "stopped at once by a second SIGINT" in output and "Traceback" not in output
    assert not (out / "checkpoints").exists()
