"""Fixtures of the SFT tests: a tiny GLM-4V on disk and a small file of examples, with and without pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sft_lines import Line, Write, example, shown
from transformers import PreTrainedModel

from rlcs.nano.build import build_model, build_processor
from rollout.chat import ChatRenderer


@pytest.fixture(scope="session")
def renderer() -> ChatRenderer:
    return ChatRenderer(build_processor())


@pytest.fixture
def tiny() -> PreTrainedModel:
    """Random weights, transformers' default attention."""
    return build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model and its processor as a Hugging Face directory."""
    path = tmp_path_factory.mktemp("base")
    build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1).save_pretrained(path)
    build_processor().save_pretrained(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a.png (28 x 84) and b.png (56 x 56)."""
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a.png": (28, 84), "b.png": (56, 56)}.items():
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def lines() -> list[Line]:
    """Six examples of different lengths in two domains; a.png is shown twice."""
    return [
        example("m0", "1+1"),
        example("o0", shown("a.png", "read"), think="A B", answer="AB", domain="ocr"),
        example("m1", "a much longer question 12+34", think="12+34 = 46 " * 4, answer="46"),
        example("o1", shown("b.png", "read it"), think="x", answer="X", domain="ocr"),
        example("m2", "7-5", think="", answer="2"),
        example("o2", shown("a.png", "again"), think="the same as before", answer="AB", domain="ocr"),
    ]


@pytest.fixture
def write(root: Path) -> Write:
    """Writes lines as JSON Lines beside the pictures."""

    def written(rows: list[Line]) -> Path:
        path = root / "sft.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return written
