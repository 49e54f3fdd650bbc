"""A killed SFT run, resumed, is the run that was never stopped: same losses, same evaluations, same weights bit for bit."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from rlcs.nano.build import build_model, build_processor
from sft.checkpoint import load_training_state
from sft.config import SftConfig
from sft.train import run_sft

pytestmark = pytest.mark.integration

STEPS, SAVE_EVERY = 11, 4
CHILD = "import sys, yaml; from sft.train import run_sft; from sft.config import SftConfig; " \
    "run_sft(SftConfig(**yaml.safe_load(open(sys.argv[1]))))"  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1).save_pretrained(path)
    build_processor().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty examples of uneven lengths, half of them with one of four pictures."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in range(4):
        Image.fromarray(rng.integers(0, 256, (28, 56 + 28 * name, 3), dtype=np.uint8)).save(root / f"{name}.png")
    lines = []
    for index in range(40):
        text = {"type": "text", "text": f"sum {index}"}
        content = [{"type": "image", "image": f"{index % 4}.png"}, text] if index % 2 else [text]
        response = f"<think>{'so ' * (index % 7)}it is</think>\n<|begin_of_box|>{index}<|end_of_box|>"
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": response}]
        lines.append({"id": f"e{index}", "domain": "ocr" if index % 2 else "math", "messages": messages})
    (root / "sft.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root / "sft.jsonl"


def config(base: Path, data: Path, out: Path) -> SftConfig:
    """Several packs a step, an epoch that ends within a batch, a cache too small for all."""
    return SftConfig(
        model=str(base),
        data=data,
        eval_data=data,
        out=out,
        seed=7,
        threads=1,
        steps=STEPS,
        batch_size=12,
        token_budget=150,
        nothink_ratio=0.4,
        cache_mb=1,
        lr=3e-3,
        warmup_steps=2,
        eval_every=3,
        save_every=SAVE_EVERY,
    )


def records(out: Path) -> list[dict[str, Any]]:
    """Metric rows without what a clock says."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    volatile = ("seconds/", "tokens_per_s", "peak_memory_mb", "time", "mfu")
    return [{key: value for key, value in row.items() if not key.startswith(volatile)} for row in rows]


def run_and_kill(settings: SftConfig, after_steps: int) -> None:
    """Runs in a child process and kills it once `after_steps` steps are logged."""
    file = settings.out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(file)], stdout=subprocess.DEVNULL)
    metrics = settings.out / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= after_steps:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"


@pytest.mark.parametrize("after_steps", [SAVE_EVERY + 2, 2], ids=["between-checkpoints", "before-the-first-checkpoint"])
def test_a_killed_run_resumed_equals_the_unkilled_run(base: Path, data: Path, tmp_path: Path, after_steps: int) -> None:
    quiet = Console(quiet=True)
    whole = run_sft(config(base, data, tmp_path / "whole"), console=quiet)

    settings = config(base, data, tmp_path / "killed")
    run_and_kill(settings, after_steps)
    logged = len(records(settings.out))
    assert logged < STEPS, "the child finished its steps before it was killed"
    resumed = run_sft(settings, resume=True, console=quiet)

    expected = records(tmp_path / "whole")
    assert [row["step"] for row in expected] == list(range(STEPS))
    assert [row["step"] for row in expected if "eval/ocr/nothink/loss" in row] == [2, 5, 8, 10]
    assert records(settings.out) == expected
    assert whole.name == resumed.name
    first, second = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = load_file(base / "model.safetensors")
    assert any(not torch.equal(first[name], start[name]) for name in first)
    (optimizer, state), (other_optimizer, other_state) = load_training_state(whole), load_training_state(resumed)
    assert [one["config"].pop("out") for one in (state, other_state)] == [str(tmp_path / "whole"), str(tmp_path / "killed")]
    np.testing.assert_equal(state, other_state)
    for index, moments in optimizer["state"].items():
        assert all(torch.equal(value, other_optimizer["state"][index][name]) for name, value in moments.items())
