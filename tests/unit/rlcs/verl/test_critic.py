"""The critic's model."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("verl", reason="the verl extra is not installed")

from rlcs.critic import with_value_head
from rlcs.nano.build import build_model
from rlcs.verl.critic import ValueEngine


def test_a_value_head_gives_one_number_a_token_and_learns_through_the_whole_model() -> None:
    model = build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1).train()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    assert model.lm_head.weight is model.get_input_embeddings().weight, "as in a small language model"
    critic = with_value_head(model)
    tokens = torch.arange(20).reshape(2, 10)
    values = critic(input_ids=tokens, use_cache=False).logits
    assert values.shape == (2, 10, 1)
    assert not values.detach().any(), "the first advantages have no baseline"
    critic.tie_weights()
    assert critic.lm_head.weight.shape == (1, 96), "saving and loading tie the head to nothing"
    optimizer = torch.optim.SGD(critic.parameters(), lr=1.0)
    for _ in range(2):  # the first step moves the head alone
        optimizer.zero_grad()
        (critic(input_ids=tokens, use_cache=False).logits - 1.0).square().mean().backward()
        optimizer.step()
    gradient = critic.model.language_model.layers[0].self_attn.q_proj.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_the_head_is_trained_beside_adapters() -> None:
    """All else is frozen; a head of zeros gives adapters no gradient, so that a frozen one would stay at zero."""
    adapters = {"lora_rank": 4, "lora_alpha": 8, "target_modules": "all-linear", "exclude_modules": None}
    engine = ValueEngine.__new__(ValueEngine)
    engine.model_config = SimpleNamespace(**adapters, target_parameters=None)
    model = with_value_head(build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1))
    critic = engine._build_lora_module(model)
    trained = {name for name, parameter in critic.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {"base_model.model.lm_head.weight"}
    assert any("q_proj" in name for name in trained)
