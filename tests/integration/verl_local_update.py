"""The local engine's update on the very samples that a run of verl's was trained on (`verl_recording.py`)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rlcs.learner import Learner, TrainSample
from rlcs.problems import load_problems
from rlcs.reference import build_reference
from rlcs.rl import thinking_mask
from rlcs.rl_config import RlConfig
from rollout.chat import ChatRenderer
from rollout.forward import load_policy

LOCAL_ONLY = {
    "entropy",  # which costs memory: verl is not asked for it
    *("packed_tokens", "passes", "flops", "mfu", "padding_fraction", "unfilled_fraction"),  # it repeats prompts
}
"""Metrics of an update that verl has not, or not the same."""


def dumped(run: Path, step: int) -> list[dict[str, Any]]:
    """The samples of a step, those that pad the batch left out."""
    return [row for row in torch.load(run / f"dump-{step}.pt", weights_only=False) if int(row["response_mask"].sum())]


def local_update(
    rows: list[dict[str, Any]], policy: Path, config: RlConfig, step: int, *, only_look: bool = False
) -> tuple[dict[str, float], torch.nn.Module]:
    """(metrics, updated policy). `only_look` leaves the weights as they are: `policy`'s."""
    problems = load_problems(config.problems)
    thinking = thinking_mask(problems, config.nothink_ratio, np.random.default_rng([config.seed, 2]))
    model, processor = load_policy(str(policy), device="cpu", dtype="float32")
    renderer = ChatRenderer(processor)
    samples = []
    for row in rows:
        problem = problems[row["index"]]
        prompt = renderer.prompt(problem.messages, root=problem.root, thinking=bool(thinking[row["index"]])).encoded
        assert row["prompts"].tolist() == prompt.input_ids.tolist()
        own = row["response_mask"].bool().numpy()
        advantage = float(row["advantages"][row["response_mask"].bool()][0])
        encoded = prompt.extended(row["responses"].numpy(), own)
        samples.append(TrainSample(encoded, row["rollout_log_probs"].numpy()[own], advantage, prompt, problem.id))
    learner = Learner(model, config, build_reference(model, config))
    if only_look:
        learner.optimizer.step = lambda *_: None  # type: ignore[method-assign, assignment]
    return learner.update(samples, step, np.random.default_rng(0)), model


def assert_told_alike(row: dict[str, Any], learned: dict[str, float]) -> None:
    """A row of metrics.jsonl tells of its update what the local engine tells of it."""
    for name, value in learned.items():
        if name not in LOCAL_ONLY:
            # The largest gap to vLLM is rounding itself, of which either engine has its own.
            rounding = 1e-5 if name == "logprob_gap_max" else 1e-6
            assert row[f"policy/{name}"] == pytest.approx(value, rel=1e-4, abs=rounding), name


def assert_moved_alike(before: Path, after: Path, model: torch.nn.Module, lr: float) -> None:
    """The weights in `after` are those of `model`, both after their first update of those in `before`."""
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    ours = {name: value.detach() for name, value in model.state_dict().items()}
    gaps = torch.cat([(ours[name] - value).abs().flatten() for name, value in new.items()])
    moved = torch.cat([(old[name] - value).abs().flatten() for name, value in new.items()])
    assert float(moved.mean()) > 0.3 * lr, "Adam's first update is about lr wherever there is a gradient"
    # Where the gradient is of the size of rounding, Adam's first update is of size lr and of random sign.
    assert float((gaps > 0.05 * lr).float().mean()) < 0.01
    assert float(gaps.mean()) < 0.01 * lr
