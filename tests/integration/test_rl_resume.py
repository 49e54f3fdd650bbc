"""A killed RL run, resumed, is the run that was never stopped: same draws, same losses, same weights bit for bit."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from rlcs.learner import Learner, TrainSample
from rlcs.nano.build import build_model, build_processor
from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig
from rollout.attention import VARLEN
from rollout.chat import ChatRenderer

pytestmark = pytest.mark.integration

STEPS, SAVE_EVERY = 6, 2
CHILD = "import sys, yaml; from rlcs.rl import run_rl; from rlcs.rl_config import RlConfig; " \
    "run_rl(RlConfig(**yaml.safe_load(open(sys.argv[1]))))"  # fmt: skip


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sums with and without a picture; the reference answer is always 1 or 2."""
    root = tmp_path_factory.mktemp("problems")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 56, 3), dtype=np.uint8)).save(root / "a.png")
    lines = []
    for index in range(24):
        text = {"type": "text", "text": f"pick {index}"}
        parts = [{"type": "image", "image": "a.png"}, text] if index % 3 == 0 else [text]
        lines.append(
            {
                "id": f"p{index}",
                "domain": "ocr" if index % 3 == 0 else "math",
                "messages": [{"role": "user", "content": parts}],
                "answer": str(1 + index % 2),
                "tier": str(index % 2),
            }
        )
    (root / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root / "train.jsonl"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory, problems: Path) -> Path:
    """A tiny policy that knows the format and answers 1 or 2 at random, so that most groups are mixed."""
    model, processor = build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1), build_processor()
    model.config._attn_implementation = VARLEN
    renderer = ChatRenderer(processor)
    samples = []
    for index, line in enumerate(problems.read_text().splitlines()):
        messages = json.loads(line)["messages"]
        answer = f"<|begin_of_box|>{1 + (index // 2) % 2}<|end_of_box|>"
        for thinking, said in ((True, f"<think>a</think>\n{answer}<|user|>"), (False, f"\n{answer}<|user|>")):
            prompt = renderer.prompt(messages, root=problems.parent, thinking=thinking).encoded
            ids = np.array(renderer.special.encode(said))
            # Advantage 1 against the likelihood itself makes the policy gradient that of supervised learning.
            samples.append(TrainSample(prompt.extended(ids, np.ones(len(ids), bool)), np.zeros(len(ids), np.float32), 1.0))
    config = RlConfig(model="-", problems="-", out="-", lr=4e-3, old_logprobs="trainer", token_budget=4096)  # type: ignore[arg-type]
    learner = Learner(model, config)
    for step in range(60):
        learner.update(samples, step, np.random.default_rng(0))
    path = tmp_path_factory.mktemp("policy")
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def config(policy: Path, problems: Path, out: Path) -> RlConfig:
    return RlConfig(
        model=str(policy),
        problems=problems,
        out=out,
        seed=7,
        threads=1,
        steps=STEPS,
        save_every=SAVE_EVERY,
        groups_per_step=6,
        group_size=4,
        updates_per_step=2,
        think_tokens=4,
        answer_tokens=8,
        token_budget=512,
        nothink_ratio=0.5,
        difficulty_every=1,
        verifier_workers=1,
        table_every=3,
    )


def records(out: Path) -> list[dict[str, Any]]:
    """Metric rows without what a clock says."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    volatile = ("seconds/", "tokens_per_s/", "peak_memory_mb", "time")
    return [{key: value for key, value in row.items() if not key.startswith(volatile)} for row in rows]


def tables(out: Path, kind: str) -> list[list[dict[str, Any]]]:
    return [pq.read_table(path).to_pylist() for path in sorted((out / kind).glob("*.parquet"))]


def kill_after(out: Path, process: subprocess.Popen[bytes], steps: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "metrics.jsonl").exists() and len((out / "metrics.jsonl").read_text().splitlines()) >= steps:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"


def test_a_run_killed_between_checkpoints_and_resumed_equals_the_unkilled_run(
    policy: Path, problems: Path, tmp_path: Path
) -> None:
    quiet = Console(quiet=True)
    whole = run_rl(config(policy, problems, tmp_path / "whole"), console=quiet)

    settings = config(policy, problems, tmp_path / "killed")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "config.yaml")], stdout=subprocess.DEVNULL)
    kill_after(settings.out, process, steps=SAVE_EVERY + 1)
    resumed = run_rl(settings, resume=True, console=quiet)

    expected = records(tmp_path / "whole")
    assert [row["step"] for row in expected] == list(range(STEPS))
    assert any(row["policy/loss"] != 0 for row in expected if "policy/loss" in row), "nothing was learned in this test"
    assert records(settings.out) == expected
    for kind in ("rollouts", "difficulty"):
        assert tables(settings.out, kind) == tables(tmp_path / "whole", kind)
    first, second = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = load_file(policy / "model.safetensors")
    assert any(not torch.equal(first[name], start[name]) for name in first)


def test_a_run_is_resumed_only_with_its_own_problems(policy: Path, problems: Path, tmp_path: Path) -> None:
    settings = config(policy, problems, tmp_path / "run").model_copy(update={"steps": 1})
    run_rl(settings, console=Console(quiet=True))
    with pytest.raises(FileExistsError, match="resume"):
        run_rl(settings, console=Console(quiet=True))
    lines = problems.read_text().splitlines()
    other = problems.with_name("other.jsonl")
    other.write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(ValueError, match="other problems"):
        run_rl(settings.model_copy(update={"problems": other, "steps": 2}), resume=True, console=Console(quiet=True))
