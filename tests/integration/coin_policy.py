"""A tiny policy that knows the format and answers 1 or 2 at random, and its problems: most of its groups are mixed."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from rlcs.learner import Learner, TrainSample
from rlcs.nano.build import build_model, build_processor
from rlcs.rl_config import RlConfig
from rollout.attention import VARLEN
from rollout.chat import ChatRenderer


def write_problems(folder: Path) -> Path:
    """Sums with and without a picture; the reference answer is always 1 or 2. -> the file."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 56, 3), dtype=np.uint8)).save(folder / "a.png")
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
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "train.jsonl"


def write_policy(folder: Path, problems: Path) -> Path:
    """Learns the format of `problems`' answers, but not which of the two is right; a few seconds. -> `folder`."""
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
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
