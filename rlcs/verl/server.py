"""Settings of the vLLM servers that verl starts, beyond those verl has names for: what `rollout.vllm_engine` sets itself."""

from typing import Any

from rlcs.rl_config import RlConfig
from rollout.chat import ChatRenderer
from sft.checkpoint import resolve_model


def vllm_engine_kwargs(config: RlConfig) -> dict[str, Any]:
    """verl's `actor_rollout_ref.rollout.engine_kwargs.vllm`. Reads the checkpoint `config.model`: which tokens a thinking
    budget inserts and which a policy must not emit.
    """
    from transformers import AutoConfig

    from rollout.vllm_budget import engine_settings
    from rollout.vllm_engine import _overrides

    model = str(resolve_model(config.model))
    renderer = ChatRenderer.from_pretrained(model)
    thinks = renderer.token_id("<think>") is not None and renderer.token_id("</think>") is not None
    vocabulary = AutoConfig.from_pretrained(model).get_text_config().vocab_size
    settings: dict[str, Any] = {
        "logits_processors": ["rollout.vllm_budget:BudgetProcessor"],
        "additional_config": engine_settings(
            renderer.budget_tokens() if thinks else None,
            renderer.suppressed_ids(vocabulary).tolist(),
            renderer.special.end_of_turn_id,
        ),
        "hf_overrides": _overrides(model),
        "async_scheduling": False,  # the budget must see every token before the next one is drawn
        # A prompt taken in parts would move a request's random generator, which only CUDA generators can undo.
        "enable_chunked_prefill": config.device != "cpu",
    }
    if config.device == "cpu" and config.vllm.tensor_parallel == 1:
        settings["distributed_executor_backend"] = "uni"  # verl asks for a process of its own for the one worker
    return settings
