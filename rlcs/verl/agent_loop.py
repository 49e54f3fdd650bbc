"""One response: our prompt and limits in, vLLM's tokens out, as an agent loop of verl's.

Registered under the name that `rlcs.verl.dataset` writes in every row. The thinking budget and `stop_repetition` are
enforced inside vLLM by `rollout.vllm_budget`, which the server loads as a logits processor; here its rules are replayed on the
tokens that came, to tell forced ones from sampled ones.
"""

import asyncio
import time
import zlib
from typing import Any
from uuid import uuid4

import numpy as np
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, DictConfigWrap, register

from rlcs.engines import sampling_of
from rlcs.rl_config import RlConfig
from rlcs.scoring import score_row
from rlcs.verl.dataset import AGENT, problem_of, settings_of
from rlcs.verl.prompts import RENDERING, rendered, renderer_of
from rollout.budget import initial_phase
from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import ThinkingBudget
from rollout.limits import ResponseLimits, replayed
from rollout.vllm_budget import request_arguments


@register(AGENT)
class ProblemAgentLoop(AgentLoopBase):
    """Poses one problem once. verl makes one of these for every response."""

    # verl's own constructor prepares its tokenisation, once for every response; ours is `rlcs.verl.prompts`.
    def __init__(self, trainer_config: DictConfigWrap, server_manager: Any, **_: Any) -> None:
        self.config, self.server_manager = trainer_config.config, server_manager
        self.settings = _settings(trainer_config.config)

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """The response to the problem of a row (`rlcs.verl.dataset.problem_row`), to which the trainer adds `global_steps` and
        `visit`, and verl `session_id`.

        What it draws depends on the seed, the step, the problem, how often the step has posed it before (`visit`) and the
        session alone: a run that is resumed draws the same.
        `extra_fields`: how it ended (`finish_reason`), its `text` as a verifier sees it, its `seconds`, the `score_row` of the
        reward worker and the thinking budget it had (`think_tokens`).
        """
        settings, problem, thinking = self.settings, problem_of(row), bool(row["thinking"])
        model = str(self.config.actor_rollout_ref.model.path)
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        problem_input = await loop.run_in_executor(RENDERING, lambda: rendered(model, problem, thinking=thinking))
        prompt, renderer = problem_input.prompt, renderer_of(model)
        self._refuse_long(prompt)

        step, index, visit, session = (int(row[name]) for name in ("global_steps", "index", "visit", "session_id"))
        # Held-out answers get the full budget and draws of their own, as in `rlcs.heldout`.
        heldout = bool(row["heldout"])
        full = ThinkingBudget(settings.most_think_tokens, settings.answer_tokens)
        budget = full if heldout else drawn_budget(settings, step, index, visit)
        phase = initial_phase(prompt.prefill, thinking=prompt.thinking)
        stop_ids = list(renderer.stop_ids)
        sampled = time.perf_counter()
        output = await self.server_manager.generate(
            request_id=uuid4().hex,
            prompt_ids=problem_input.inputs.prompt_ids,
            sampling_params={
                **sampling_params,
                "max_tokens": sampling_of(settings, settings.most_think_tokens).max_new_tokens,
                "seed": response_seed(settings.seed, "heldout" if heldout else "train", step, index, visit, session),
                "stop_token_ids": stop_ids,
                "detokenize": False,
                "extra_args": request_arguments(phase, budget, settings.stop_repetition),
            },
            image_data=problem_input.inputs.images,
            video_data=problem_input.inputs.videos,
        )
        seconds = time.perf_counter() - sampled
        limits = limits_of(renderer, phase, budget, settings.stop_repetition)
        length, forced_T, reason = replayed(output.token_ids, limits, stop_ids)
        tokens = list(output.token_ids[:length])
        logprobs = None if output.log_probs is None else np.where(forced_T, 0.0, output.log_probs[:length]).tolist()
        text = prompt.prefill + renderer.decode(tokens[:-1] if reason == "stop" else tokens)
        return AgentLoopOutput(
            prompt_ids=prompt.encoded.input_ids.tolist(),
            response_ids=tokens,
            response_mask=(~forced_T).astype(int).tolist(),
            response_logprobs=logprobs,
            multi_modal_data=problem_input.media,
            num_turns=2,
            metrics={
                "generate_sequences": seconds,
                "num_preempted": -1 if output.num_preempted is None else output.num_preempted,
            },
            extra_fields={
                **output.extra_fields,
                "finish_reason": reason,
                "text": text,
                "seconds": time.perf_counter() - began,
                "think_tokens": budget.think_tokens,
                "score_row": score_row(problem, text),
            },
        )

    def _refuse_long(self, prompt: Prompt) -> None:
        longest, length = int(self.config.actor_rollout_ref.rollout.prompt_length), len(prompt.encoded.input_ids)
        if length > longest:
            raise ValueError(
                f"{prompt.id}: the prompt has {length} tokens, the run takes {longest} (verl's data.max_prompt_length); raise "
                "vllm.max_length or leave the problem out"
            )


def drawn_budget(settings: RlConfig, step: int, index: int, visit: int) -> ThinkingBudget:
    """The thinking budget of a group: the configured one, or one drawn evenly from the configured range."""
    if isinstance(settings.think_tokens, int):
        return ThinkingBudget(settings.think_tokens, settings.answer_tokens)
    low, high = settings.think_tokens
    rng = np.random.default_rng([settings.seed, 3, step, index, visit])
    return ThinkingBudget(int(rng.integers(low, high, endpoint=True)), settings.answer_tokens)


def response_seed(seed: int, use: str, step: int, index: int, visit: int, session: int) -> int:
    """Seed of one response's draws, 32 bits."""
    return zlib.crc32(f"{seed}/{use}/{step}/{index}/{visit}/{session}".encode())


def limits_of(renderer: ChatRenderer, phase: int, budget: ThinkingBudget, stop_repetition: int | None) -> ResponseLimits:
    """The limits that vLLM's logits processor held the response to."""
    tokens = None if budget.unlimited else renderer.budget_tokens()
    return ResponseLimits(phase, budget, tokens, stop_repetition, renderer.special.end_of_turn_id)


_validated: list[tuple[Any, RlConfig]] = []  # at most one: a worker has one configuration


def _settings(config: Any) -> RlConfig:
    """Our configuration in verl's, validated once and not for every response."""
    if not _validated or _validated[0][0] is not config:
        _validated[:] = [(config, settings_of(config))]
    return _validated[0][1]
