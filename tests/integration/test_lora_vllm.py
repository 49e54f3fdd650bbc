"""vLLM serving a policy with LoRA adapters: what it is given are merged weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rlcs.nano.build import build_model, build_processor
from rollout.chat import ChatRenderer
from rollout.engine import SamplingParams
from rollout.forward import hidden_states, load_policy, pack
from rollout.lora import adapter_parameters, add_adapters, plain_parameters
from rollout.options import VllmOptions
from rollout.transformers_engine import TransformersEngine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=24)


def test_vllm_answers_as_the_policy_with_its_adapters_does_before_and_after_an_update(tmp_path: Path) -> None:
    from rollout.vllm_engine import VllmEngine

    model = build_model(seed=0, hidden_size=96, layers=2, vision_size=32, vision_depth=1)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # clear margins between greedy choices
    model.save_pretrained(tmp_path)
    build_processor().save_pretrained(tmp_path)
    policy, processor = load_policy(str(tmp_path))
    add_adapters(policy, rank=4, alpha=8.0, dropout=0.0, targets="all", seed=0)
    renderer = ChatRenderer(processor)
    contents = ("1+1", "what is the capital of nowhere?")
    prompts = [renderer.prompt([{"role": "user", "content": text}], root=tmp_path, thinking=True) for text in contents]
    engine = VllmEngine(tmp_path, renderer, VllmOptions(max_sequences=8, max_length=256, eager=True))
    try:
        said = []
        for version in (1, 2):
            engine.update_weights(plain_parameters(policy), version)
            found = engine.generate(prompts, 1, GREEDY, generator=torch.Generator().manual_seed(0))
            expected = TransformersEngine(policy, renderer).generate(
                prompts, 1, GREEDY, generator=torch.Generator().manual_seed(0)
            )
            for prompt, (one,), (other,) in zip(prompts, found, expected, strict=True):
                assert one.token_ids.tolist() == other.token_ids.tolist() and one.weight_version == version
                np.testing.assert_allclose(one.logprobs, trainers(policy, renderer, prompt.encoded, one.token_ids), atol=2e-3)
            said.append([one.token_ids.tolist() for (one,) in found])
            with torch.no_grad():
                for _, parameter in adapter_parameters(policy):
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        assert said[0] != said[1]
    finally:
        engine.close()


@torch.no_grad()
def trainers(policy, renderer: ChatRenderer, prompt, token_ids: np.ndarray) -> np.ndarray:
    """Log-probabilities under the policy with its adapters, of the tokens that may be drawn."""
    policy.eval()
    start = len(prompt.input_ids)
    packed = pack([prompt.extended(token_ids, np.ones(len(token_ids), bool))])
    logits = policy.lm_head(hidden_states(policy, packed)[start - 1 : -1])
    logits[:, renderer.suppressed_ids(policy.lm_head.out_features)] = float("-inf")
    tokens = torch.from_numpy(token_ids.astype(np.int64))
    return torch.log_softmax(logits, 1).gather(1, tokens[:, None]).squeeze(1).numpy()
