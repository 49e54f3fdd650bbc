"""Rollout engine on the trainer's own transformers model: batched sampling with a prompt cache shared by each group.

Axis suffixes: P prompts of a wave, B sequences still in the batch, N sequences of a wave, V vocabulary, D hidden.
"""

import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from rollout.budget import BudgetTracker, budgets_of, initial_phase
from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import Completion, Engine, SamplingParams, ThinkingBudget, named, refuse_long
from rollout.forward import PackedInputs, decoder_inputs, pack
from rollout.repetition import RepetitionTracker
from rollout.sampling import sample_tokens
from rollout.shared_prefix import SHARED_PREFIX, SharedPrefixCache
from rollout.trace import Drawn, Trace
from rollout.waves import Part, waves


@dataclass(frozen=True)
class _Call:
    """What a call to `stream` asked for, and when (`time.perf_counter`)."""

    prompts: Sequence[Prompt]
    sampling: SamplingParams
    budgets: Sequence[ThinkingBudget]
    generator: torch.Generator
    began: float


class TransformersEngine(Engine):
    """Samples from `model` (GLM-4V style, or a causal LM with full attention in every layer) while the trainer holds it
    too.

    A group's prompt is computed once; finished sequences leave the batch; requests of more than `max_batch` sequences
    run in waves of prompts of similar length. `prefill_tokens` bounds the prompt tokens of one forward pass.
    `compact_below` is the share of running sequences under which the finished ones are dropped (0 never drops them).

    A wave that does not fit into memory is decoded again in halves, and later waves are cut as small from the start. The
    random numbers stay those of the whole wave, so no draw changes, but for sums that round otherwise in another batch;
    a single response that does not fit raises MemoryError naming its problem.

    `shared`: the model is the trainer's own, whose parameters are always the newest; else `update_weights` copies them in.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        renderer: ChatRenderer,
        *,
        max_batch: int = 256,
        prefill_tokens: int = 16384,
        compact_below: float = 0.85,
        shared: bool = True,
    ) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}; expected at least 1")
        self._model, self._renderer = model, renderer
        self._multimodal = getattr(model.config, "vision_config", None) is not None
        self._decoder = model.model.language_model if self._multimodal else model.model
        self._max_batch, self._prefill_tokens, self._compact_below = max_batch, prefill_tokens, compact_below
        self._fits = max_batch  # sequences that memory has held so far
        self._shared, self._cancelled = shared, threading.Event()
        self._longest = int(getattr(self._decoder.config, "max_position_embeddings", None) or 2**31)
        self.weight_version = 0
        _refuse_windowed(self._decoder.config)
        vocabulary = model.get_output_embeddings().out_features
        self._suppressed_V = torch.zeros(vocabulary, dtype=torch.bool, device=model.device)
        self._suppressed_V[torch.from_numpy(renderer.suppressed_ids(vocabulary)).to(model.device)] = True
        self._stop_ids = torch.tensor(renderer.stop_ids, device=model.device)

    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Notes the new version. Of a `shared` model `named_tensors` is not read; else ValueError unless they are all of its
        parameters.
        """
        if not self._shared:
            own = dict(self._model.named_parameters())
            with torch.no_grad():
                for name, tensor in named_tensors:
                    if name not in own:
                        raise ValueError(f"new weights: {name} is given twice, or is none of the model's parameters")
                    own.pop(name).copy_(tensor)
            if own:
                raise ValueError(f"new weights: {len(own)} parameters are missing, the first of them {min(own)}")
        self.weight_version = version

    def sleep(self) -> None:
        """Nothing to give up: caches live only during `generate`."""

    def wake(self) -> None:
        """Nothing to take back."""

    def cancel(self) -> None:
        """Breaks off the call in progress before its next token."""
        self._cancelled.set()

    def close(self) -> None:
        """Nothing to free."""

    def stream(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: SamplingParams,
        budget: ThinkingBudget | Sequence[ThinkingBudget] | None = None,
        *,
        generator: torch.Generator,
    ) -> Iterator[tuple[int, list[Completion]]]:
        """(index of the prompt, its `n` completions), wave by wave. Raises ValueError, before anything is generated, for
        a prompt that leaves no room for its response within the model's positions.
        """
        if n < 1:
            raise ValueError(f"n is {n}; expected at least 1 completion a prompt")
        refuse_long(prompts, sampling, self._longest, "lower the token budgets or leave the problem out")
        self._cancelled.clear()
        call = _Call(prompts, sampling, budgets_of(budget, len(prompts)), generator, time.perf_counter())
        drawn: dict[int, list[Completion]] = {}
        for wave in waves([len(prompt.encoded.input_ids) for prompt in prompts], n, self._max_batch):
            for index, group in self._wave(wave, call):
                drawn.setdefault(index, []).extend(group)
                if len(drawn[index]) == n:
                    yield index, drawn.pop(index)

    def _wave(self, wave: Part, call: _Call) -> list[tuple[int, list[Completion]]]:
        """A wave's completions by prompt, at once or in parts. The generator ends where the whole wave leaves it."""
        start = end = call.generator.get_state()
        most = 0
        found: list[tuple[int, list[Completion]]] = []
        left = [wave]
        while left:
            part = left.pop()
            if part.size > self._fits:
                left += reversed(part.halves())
                continue
            call.generator.set_state(start)
            failure = None
            try:
                with self._serving(), torch.inference_mode():
                    groups, steps = self._decode_part(part, call)
            except RuntimeError as error:  # torch's OutOfMemoryError is one
                if not out_of_memory(error):
                    raise
                failure = str(error)
            if failure is not None:  # only here have the tensors of the failed attempt been let go
                self._make_do(part, call, failure)
                left.append(part)
                continue
            found += zip((index for index, _ in part.members), groups, strict=True)
            if steps > most:
                end, most = call.generator.get_state(), steps
        call.generator.set_state(end)
        return found

    def _make_do(self, part: Part, call: _Call, failure: str) -> None:
        """Plans on half the sequences of a part that ran out of memory. Raises MemoryError when it was a single one."""
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if part.size == 1:
            ((index, _),) = part.members
            prompt, most = call.prompts[index], call.sampling.max_new_tokens
            raise MemoryError(
                f"{named(prompt, index)}: out of memory on {self._model.device} with a single response of up to {most} tokens "
                f"to its prompt of {len(prompt.encoded.input_ids)}; lower the token budgets, make its images smaller, free "
                f"memory or leave the problem out ({failure})"
            )
        self._fits = part.size // 2
        warnings.warn(
            f"out of memory with {part.size} sequences at once; going on with {self._fits} (set rollout_batch to that)",
            RuntimeWarning,
            stacklevel=2,
        )

    @contextmanager
    def _serving(self) -> Iterator[None]:
        """Evaluation mode and the shared-prefix attention for the time of a call; the trainer's settings come back
        after it.
        """
        config, training = self._decoder.config, self._model.training
        attention = config._attn_implementation
        self._model.eval()
        config._attn_implementation = SHARED_PREFIX
        try:
            yield
        finally:
            config._attn_implementation = attention
            self._model.train(training)

    def _decode_part(self, part: Part, call: _Call) -> tuple[list[list[Completion]], int]:
        """Completions of each member, and the steps taken."""
        prompts, counts = [call.prompts[index] for index, _ in part.members], [count for _, count in part.members]
        budgets, sampling = [call.budgets[index] for index, _ in part.members], call.sampling
        device, limit = self._model.device, sampling.max_new_tokens
        prompt_of_N = torch.repeat_interleave(torch.tensor(counts)).to(device)
        lengths_P = torch.tensor([len(prompt.encoded.input_ids) for prompt in prompts], device=device)
        next_position_P = torch.tensor([int(prompt.encoded.position_ids.max()) + 1 for prompt in prompts], device=device)
        cache = SharedPrefixCache(lengths_P, prompt_of_N, self._decoder.config.num_hidden_layers)
        tracker = self._tracker(prompts, prompt_of_N, budgets)
        loops = None
        if sampling.stop_repetition is not None:
            loops = RepetitionTracker(part.size, sampling.stop_repetition, device)
        stop_ids = torch.cat([self._stop_ids, self._stop_ids.new_tensor(sampling.stop_token_ids)])
        trace = Trace(part.size, limit, device, call.began)
        hidden_BD = self._prefill(prompts, cache)[prompt_of_N]
        for step in range(limit):
            if self._cancelled.is_set():
                raise CancelledError
            uniforms_N = part.uniforms(call.generator).to(device)
            logits_BV = self._model.get_output_embeddings()(hidden_BD)
            token_B, logprob_B = sample_tokens(logits_BV, sampling, uniforms_N[trace.rows_B], self._suppressed_V)
            forced_B = spent_B = loops_B = torch.zeros_like(trace.done_B)
            if tracker is not None:
                token_B, forced_B, spent_B = tracker.step(token_B)
            if loops is not None:
                loops_B = loops.step(token_B)
            trace.record(token_B, logprob_B, forced_B)
            running = trace.finish(step, torch.isin(token_B, stop_ids), spent_B, loops_B)
            if not running or step + 1 == limit:
                break
            if running < self._compact_below * len(token_B):
                rows = (~trace.done_B).nonzero().squeeze(1)
                token_B = token_B[rows]
                for state in (cache, trace, tracker, loops):
                    if state is not None:
                        state.keep(rows)
            hidden_BD = self._decode(token_B, next_position_P[prompt_of_N[trace.rows_B]] + step, cache)
        completions = iter(
            self._completion(prompts[p], drawn) for p, drawn in zip(prompt_of_N.tolist(), trace.drawn(), strict=True)
        )
        return [[next(completions) for _ in range(count)] for count in counts], step + 1

    def _tracker(
        self, prompts: Sequence[Prompt], prompt_of_N: torch.Tensor, budgets: Sequence[ThinkingBudget]
    ) -> BudgetTracker | None:
        if all(budget.unlimited for budget in budgets):
            return None
        phases_P = torch.tensor([initial_phase(prompt.prefill, thinking=prompt.thinking) for prompt in prompts])
        phases_N = phases_P.to(prompt_of_N.device)[prompt_of_N]
        return BudgetTracker(phases_N, [budgets[p] for p in prompt_of_N.tolist()], self._renderer.budget_tokens())

    def _prefill(self, prompts: Sequence[Prompt], cache: SharedPrefixCache) -> torch.Tensor:
        """Fills the cache with the prompts and returns the hidden state of each one's last token [P, D]."""
        last_PD, first = [], 0
        while first < len(prompts):
            last, tokens = first, 0
            while last < len(prompts):
                tokens += len(prompts[last].encoded.input_ids)
                if tokens > self._prefill_tokens and last > first:
                    break
                last += 1
            cache.prefill(first, last)
            packed = pack([prompt.encoded for prompt in prompts[first:last]]).to(self._model.device)
            hidden_TD = self._prefill_pass(packed, cache)
            last_PD.append(hidden_TD[packed.cu_seqlens[1:].long() - 1])
            first = last
        return torch.cat(last_PD)

    def _prefill_pass(self, packed: PackedInputs, cache: SharedPrefixCache) -> torch.Tensor:
        inputs = decoder_inputs(self._model, packed)
        positions = packed.position_ids.unsqueeze(1) if self._multimodal else packed.position_ids[:1]
        return self._decoder(
            **inputs,
            attention_mask=_no_mask(inputs["inputs_embeds"]),
            position_ids=positions,
            use_cache=False,
            cu_seq_lens_q=packed.cu_seqlens,
            shared_prefix_cache=cache,
        ).last_hidden_state[0]

    def _decode(self, token_B: torch.Tensor, position_B: torch.Tensor, cache: SharedPrefixCache) -> torch.Tensor:
        """One decoding step: the sequences' new tokens and positions -> hidden states [B, D]."""
        cache.decode()
        embeds_B1D = self._model.get_input_embeddings()(token_B[:, None])
        positions = position_B.view(1, -1, 1).expand(3, -1, -1) if self._multimodal else position_B[:, None]
        return self._decoder(
            inputs_embeds=embeds_B1D,
            attention_mask=_no_mask(embeds_B1D),
            position_ids=positions,
            use_cache=False,
            shared_prefix_cache=cache,
        ).last_hidden_state[:, 0]

    def _completion(self, prompt: Prompt, drawn: Drawn) -> Completion:
        said = drawn.tokens[:-1] if drawn.finish_reason == "stop" else drawn.tokens
        text = prompt.prefill + self._renderer.decode(said)
        version, seconds = self.weight_version, drawn.seconds
        return Completion(drawn.tokens, drawn.logprobs, drawn.forced, drawn.finish_reason, text, version, seconds)


def _no_mask(embeds: torch.Tensor) -> torch.Tensor:
    """A ready 4-D mask, which transformers passes on as it is instead of building a causal one; our attention reads
    none.
    """
    return embeds.new_empty((1, 1, 0, 0))


def _refuse_windowed(config: object) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ValueError(f"layers of types {sorted(kinds)}; this engine knows full attention only, use the vLLM engine")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a device could not give the memory asked for; PyTorch's CPU allocator has no error of its own for it."""
    said = str(error)
    signs = ("can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in said for sign in signs)
