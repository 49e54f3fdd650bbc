"""What integration tests share: layers of the sandbox, and a policy whose groups are mixed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sandboxed_runs import LAYERS, SECRET

from rewards.sandbox.process import capabilities
from rlcs.learner import Learner, TrainSample
from rlcs.nano.build import build_model, build_processor
from rlcs.rl_config import RlConfig
from rollout.attention import VARLEN
from rollout.chat import ChatRenderer


@pytest.fixture(params=LAYERS)
def layers(request: pytest.FixtureRequest) -> dict[str, bool]:
    wanted = LAYERS[request.param]
    if not capabilities(**wanted).full:
        pytest.skip("this machine does not offer these layers")
    return wanted


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "tests.json"
    path.write_text(SECRET)
    os.chmod(tmp_path, 0o777)
    os.chmod(path, 0o666)
    for parent in tmp_path.parents[:3]:
        os.chmod(parent, 0o755)
    return path


@pytest.fixture(scope="session")
def coin_problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


@pytest.fixture(scope="session")
def coin_policy(tmp_path_factory: pytest.TempPathFactory, coin_problems: Path) -> Path:
    """A tiny policy that knows the format and answers 1 or 2 at random, so that most groups are mixed."""
    model, processor = build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1), build_processor()
    model.config._attn_implementation = VARLEN
    renderer = ChatRenderer(processor)
    samples = []
    for index, line in enumerate(coin_problems.read_text().splitlines()):
        messages = json.loads(line)["messages"]
        answer = f"<|begin_of_box|>{1 + (index // 2) % 2}<|end_of_box|>"
        for thinking, said in ((True, f"<think>a</think>\n{answer}<|user|>"), (False, f"\n{answer}<|user|>")):
            prompt = renderer.prompt(messages, root=coin_problems.parent, thinking=thinking).encoded
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
