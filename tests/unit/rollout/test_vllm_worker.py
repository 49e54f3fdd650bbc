"""What vLLM's reload says of layers without weights in an update: nothing where all is well, a warning elsewhere."""

import logging
from collections.abc import Sequence

import pytest
import torch

from rollout.vllm_worker import _weightless, _without_false_alarms

RELOAD = logging.getLogger("vllm.model_executor.model_loader.reload.layerwise")


class RotaryEmbedding(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("angles", torch.ones(2))


class ParallelLMHead(torch.nn.Linear):
    pass


@pytest.mark.parametrize(
    ("given", "silent"),
    [
        (["embed.weight"], {"Sequential", "RotaryEmbedding", "ParallelLMHead"}),
        (["embed.weight", "lm_head.weight"], {"Sequential", "RotaryEmbedding"}),
    ],
)
def test_layers_without_parameters_and_a_tied_head_need_no_weights(given: Sequence[str], silent: set[str]) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(3, 2), RotaryEmbedding(), ParallelLMHead(2, 3))
    assert _weightless(model, given) == silent


def test_only_layers_whose_weights_were_to_come_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with _without_false_alarms({"RotaryEmbedding"}):
        RELOAD.warning("%s: Failed to load weights", "RotaryEmbedding")
        RELOAD.warning("%s: Failed to load weights", "QKVParallelLinear")
        RELOAD.warning("something else")
    RELOAD.warning("%s: Failed to load weights", "RotaryEmbedding")
    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert said == ["QKVParallelLinear", "something else", "RotaryEmbedding"]
