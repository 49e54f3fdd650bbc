"""verl's SFT loss, filed by domain and mode."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tensordict import TensorDict

pytest.importorskip("verl", reason="the verl extra is not installed")

from verl.utils import tensordict_utils as tu

from rlcs.verl.sft_loss import FILED, TalliedLoss

DOMAINS = ["math", "ocr/hex"]


@pytest.fixture
def alone(tmp_path: Any) -> Any:
    """A process group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def batch(examples: list[tuple[list[int], list[float], int, int]]) -> tuple[dict[str, torch.Tensor], TensorDict]:
    """(model output, data) of examples: loss mask, log-probability of every token given those before it, domain, nothink."""

    def nested(rows: list[Any]) -> torch.Tensor:
        return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)

    data = TensorDict(
        {
            "loss_mask": nested([mask for mask, *_ in examples]),
            FILED: nested([[domain, nothink] for *_, domain, nothink in examples]),
        },
        batch_size=len(examples),
    )
    tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=sum(sum(mask) for mask, *_ in examples))
    # In a model's output a token's value stands at the token before it.
    return {"log_probs": nested([[*logprobs[1:], 0.0] for _, logprobs, *_ in examples])}, data


def test_losses_are_means_over_the_target_tokens_of_each_domain_and_mode(alone: Any) -> None:
    rng = np.random.default_rng(0)
    examples = []
    for length, domain, nothink in [(5, 0, 0), (2, 0, 1), (7, 1, 0), (3, 1, 0), (4, 0, 0)]:
        mask = [0, *(rng.random(length - 2) < 0.5).astype(int).tolist(), 1]
        examples.append((mask, (-rng.random(length)).tolist(), domain, nothink))
    loss = TalliedLoss(DOMAINS)
    total = sum(float(loss(*batch(part))[0]) * sum(sum(mask) for mask, *_ in part) for part in (examples[:2], examples[2:]))
    tally = loss.take(None)
    found = tally.losses()

    def mean(chosen: list[Any]) -> float:
        nats = [-value for mask, logprobs, *_ in chosen for value, counts in zip(logprobs, mask, strict=True) if counts]
        return sum(nats) / len(nats)

    assert found.keys() == {"loss", "math/loss", "ocr/hex/loss", "thinking/loss", "nothink/loss"}
    assert found["loss"] == pytest.approx(mean(examples), rel=1e-6) == pytest.approx(total / tally.tokens, rel=1e-6)
    assert found["math/loss"] == pytest.approx(mean([one for one in examples if one[2] == 0]), rel=1e-6)
    assert found["ocr/hex/loss"] == pytest.approx(mean([one for one in examples if one[2] == 1]), rel=1e-6)
    assert found["nothink/loss"] == pytest.approx(mean([one for one in examples if one[3]]), rel=1e-6)
    assert tally.tokens == sum(sum(mask) for mask, *_ in examples)
    assert loss.take(None).tokens == 0, "taken once"
