"""What every rollout engine takes and gives. Axis suffixes: T tokens of a completion."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from rollout.encoded import Prompt

FinishReason = Literal["stop", "length", "repetition"]
"""How a response ended: a stop token, a limit on its length, or the response began to repeat itself."""


@dataclass(frozen=True)
class SamplingParams:
    """How completions are drawn. `temperature` 0 is greedy decoding; `top_p` 1 samples from the whole distribution.

    `max_new_tokens` bounds a completion's length, forced tokens included. `stop_token_ids` end a response too, besides
    the model's own end-of-turn tokens, and like them stay out of its text. `stop_repetition` ends a response once its
    last so many tokens are one span, at most a quarter as long, over and over (`rollout.repetition`); None never does.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    stop_token_ids: tuple[int, ...] = ()
    stop_repetition: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}; expected a number >= 0 (0 is greedy)")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p is {self.top_p}; expected 0 < top_p <= 1")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; expected at least 1")
        if self.stop_repetition is not None and self.stop_repetition < 4:
            raise ValueError(f"stop_repetition is {self.stop_repetition}; expected None or at least 4 tokens")


@dataclass(frozen=True)
class ThinkingBudget:
    """Force answering (GLM-4.1V-Thinking, arXiv 2507.01006, section 5.3): limits on the two parts of a response, in
    tokens.

    After `think_tokens` tokens of thought (the `<think>` tag not counted) `</think>` and a newline are inserted; 0
    leaves the thought empty. After `answer_tokens` tokens past `</think>` (the end-of-turn token counted) the response
    ends with finish_reason "length". None sets no limit of its own. `SamplingParams.max_new_tokens` bounds the sum in
    every case.
    """

    think_tokens: int | None = None
    answer_tokens: int | None = None

    @property
    def unlimited(self) -> bool:
        return self.think_tokens is None and self.answer_tokens is None

    def __post_init__(self) -> None:
        if self.think_tokens is not None and self.think_tokens < 0:
            raise ValueError(f"think_tokens is {self.think_tokens}; expected None or a number >= 0")
        if self.answer_tokens is not None and self.answer_tokens < 1:
            raise ValueError(f"answer_tokens is {self.answer_tokens}; expected None or a number >= 1")


@dataclass(frozen=True, eq=False)
class Completion:
    """One sampled response.

    token_ids: int32 [T], the stop token included when finish_reason is "stop"; logprobs: float32 [T] in nats, under the
    distribution each token was drawn from, 0 for forced tokens; forced: bool [T], tokens inserted by the thinking
    budget, which carry no gradient; text: prefill + decoded tokens without the stop token, what a verifier sees;
    seconds: from its submission to its last token, the wait for its turn included.
    """

    token_ids: np.ndarray
    logprobs: np.ndarray
    forced: np.ndarray
    finish_reason: FinishReason
    text: str
    weight_version: int
    seconds: float = 0.0


class Engine(ABC):
    """Draws completions from the current policy."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: SamplingParams,
        budget: ThinkingBudget | Sequence[ThinkingBudget] | None = None,
        *,
        generator: torch.Generator,
    ) -> list[list[Completion]]:
        """`n` completions of each prompt, in the order of the prompts. All randomness comes from `generator`.

        `budget`: one for all, or one for each prompt.
        """
        found: list[list[Completion]] = [[] for _ in prompts]
        for index, group in self.stream(prompts, n, sampling, budget, generator=generator):
            found[index] = group
        return found

    @abstractmethod
    def stream(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: SamplingParams,
        budget: ThinkingBudget | Sequence[ThinkingBudget] | None = None,
        *,
        generator: torch.Generator,
    ) -> Iterator[tuple[int, list[Completion]]]:
        """As `generate`, but (index of the prompt, its completions) as groups are done, so that scoring can begin."""

    @abstractmethod
    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Takes over the policy's parameters; completions drawn from now on carry `version`."""

    @abstractmethod
    def sleep(self) -> None:
        """Gives up the memory that only generation needs, while the policy is trained; nothing where that is none."""

    @abstractmethod
    def wake(self) -> None:
        """Takes the memory back. Between `sleep` and this nothing may be generated and no weights updated."""

    @abstractmethod
    def cancel(self) -> None:
        """Breaks off the call in progress, from another thread; its stream raises `concurrent.futures.CancelledError`."""

    @abstractmethod
    def close(self) -> None:
        """Frees what the engine holds."""


def refuse_long(prompts: Sequence[Prompt], sampling: SamplingParams, longest: int, mend: str) -> None:
    """Raises ValueError naming the first prompt that leaves no room for `max_new_tokens` among `longest` tokens."""
    for index, prompt in enumerate(prompts):
        length, most = len(prompt.encoded.input_ids), sampling.max_new_tokens
        if length + most > longest:
            raise ValueError(
                f"{named(prompt, index)}: {length} tokens and up to {most} of response, but the engine takes {longest} in all; "
                f"{mend}"
            )


def named(prompt: Prompt, index: int) -> str:
    """What a message calls a prompt: its problem's id, or its place."""
    return prompt.id or f"prompt {index}"
