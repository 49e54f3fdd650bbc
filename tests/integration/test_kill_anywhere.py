"""kill -9 at more than twenty seeded moments, in RL and SFT; resumed, each run is bit for bit the one that nobody killed.

Moments lie before, in and after writes, renames, fsyncs, checkpoint files, metrics rows, token draws, scoring, backward passes,
the optimiser's step, held-out evaluation. `kill_sweep.py` beside this draws many more, and times as well.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kill_driver import HALVES
from killed_runs import Driver, Moment, differences, moments

from rlcs.nano.build import build_model, build_processor

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with Driver({**os.environ, "OMP_NUM_THREADS": "1"}) as driver:
        yield driver


@pytest.fixture(scope="module")
def rl_settings(coin_policy: Path, coin_problems: Path) -> dict[str, Any]:
    """Every kind of state a run has: moments, an averaged reference, two updates a step, budgets drawn, held-out answers."""
    return {
        "model": str(coin_policy),
        "problems": str(coin_problems),
        "seed": 7,
        "threads": 1,
        "steps": 4,
        "save_every": 2,
        "groups_per_step": 4,
        "group_size": 4,
        "updates_per_step": 2,
        "think_tokens": [2, 4],
        "answer_tokens": 8,
        "nothink_ratio": 0.5,
        "kl_coef": 0.01,
        "reference_decay": 0.9,
        "difficulty_every": 2,
        "verifier_workers": 1,
        "table_every": 0,
        "heldout": {"problems": str(coin_problems), "every_rollouts": 20, "max_per_domain": 2},
    }


@pytest.fixture(scope="module")
def sft_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("sft")
    build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1).save_pretrained(root / "base")
    build_processor().save_pretrained(root / "base")
    lines = []
    for index in range(20):
        response = f"<think>{'so ' * (index % 7)}it is</think>\n<|begin_of_box|>{index}<|end_of_box|>"
        messages = [{"role": "user", "content": f"sum {index}"}, {"role": "assistant", "content": response}]
        lines.append(json.dumps({"id": f"e{index}", "domain": "math", "messages": messages}) + "\n")
    (root / "sft.jsonl").write_text("".join(lines))
    common = {"model": str(root / "base"), "data": str(root / "sft.jsonl"), "eval_data": str(root / "sft.jsonl"), "threads": 1}
    return common | {"steps": 5, "batch_size": 6, "save_every": 2, "eval_every": 2, "warmup_steps": 1, "lr": 3e-3}


@pytest.mark.parametrize("verb", ["rl", "sft"])
def test_a_run_killed_at_any_moment_and_resumed_equals_the_unkilled_run(
    driver: Driver, rl_settings: dict[str, Any], sft_settings: dict[str, Any], tmp_path: Path, verb: str
) -> None:
    settings = rl_settings if verb == "rl" else sft_settings
    whole = driver.run(verb, settings, tmp_path / "whole")
    assert whole["status"] == 0
    rng = np.random.default_rng(17)
    planned: list[Moment] = moments(whole["calls"], HALVES, rng, rounds=1)
    assert len(planned) >= 12
    faults = {}
    for number, moment in enumerate(planned):
        folder = tmp_path / str(number)
        assert driver.run(verb, settings, folder, kill=moment)["status"] == -9, f"{moment} did not come"
        if number % 3 == 0:  # and once more, before or while it goes on
            again = {"seam": str(rng.choice(["fsync", "write", "rename", "backward"])), "call": int(rng.integers(1, 4))}
            driver.run(verb, settings, folder, resume=True, kill=again | {"when": "before"})
        assert driver.run(verb, settings, folder, resume=True)["status"] == 0, f"{moment}: could not be resumed"
        if found := differences(folder / "run", tmp_path / "whole" / "run"):
            faults[str(moment)] = found
    assert not faults
