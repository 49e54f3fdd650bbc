"""The groups of a training step: drawn, generated, scored, shown to the sampler, and drawn again until it has enough.

With `max_staleness: 1` a thread generates and scores the next step's groups while the learner updates on this one's. The thread
drives the engine and the scoring pool and nothing else: the sampler is asked and told, and every other random number drawn, by
the thread that trains, in the order of the steps. So a run is as reproducible as with 0.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from transformers import PreTrainedModel

from rewards import ScorePool
from rlcs.engines import sampling_of
from rlcs.problems import Problem
from rlcs.progress import Clock
from rlcs.rl_config import RlConfig
from rlcs.rollout_columns import from_columns, to_columns
from rlcs.samplers import Sampler
from rlcs.samplers.base import NO_PROBLEMS
from rlcs.scoring import PendingScores, ScoredRollouts
from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import Engine, ThinkingBudget
from rollout.lora import plain_parameters


@dataclass(frozen=True, eq=False)
class _Round:
    """Problems that are generated for at once; `indices` int64 are their places in the file."""

    indices: np.ndarray
    problems: Sequence[Problem]
    prompts: Sequence[Prompt]
    budgets: Sequence[ThinkingBudget]


class GroupSource:
    """Where `run_rl` has its groups from; a context manager, which breaks off what is under way when the run ends.

    A step's rollouts are made by the policy of that step (`max_staleness: 0`), or, but for those that the sampler asks for once
    it has seen the others, by the one before it (1); RuntimeError, were they ever older.
    """

    def __init__(
        self,
        config: RlConfig,
        problems: Sequence[Problem],
        thinking_N: np.ndarray,
        sampler: Sampler,
        model: PreTrainedModel,
        engine: Engine,
        renderer: ChatRenderer,
        pool: ScorePool,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> None:
        self._config, self._problems, self._thinking_N, self._sampler = config, problems, thinking_N, sampler
        self._model, self._engine, self._renderer, self._pool = model, engine, renderer, pool
        self._rng, self._generator = rng, generator
        self._sampling = sampling_of(config, config.most_think_tokens)
        self._version: int | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._stop = threading.Event()
        self._under_way: Future[tuple[ScoredRollouts, dict[str, float]]] | None = None
        self._ready: tuple[ScoredRollouts, dict[str, float]] | None = None
        self._busy: list[tuple[float, float]] = []
        self._busy_since: float | None = None
        self._waited = 0.0

    def of_step(self, step: int, clock: Clock) -> ScoredRollouts:
        """All groups of the 0-based `step`, whose policy has made as many updates. Raises what generating or scoring raised."""
        began, n = time.perf_counter(), self._config.groups_per_step
        self.serve(step)
        self._waited = time.perf_counter() - began
        ready, self._ready, found = self._ready, None, None
        wanted = NO_PROBLEMS
        if ready is None:
            with clock("draw"):
                wanted = self._sampler.draw(n)
        while ready is not None or len(wanted):
            if ready is not None:
                (scored, parts), ready = ready, None
            else:
                with clock("draw"):
                    drawn = self._round(wanted)
                scored, parts = self._generate(drawn)
                self._waited += sum(parts.values())
            for part, seconds in parts.items():
                clock.add(part, seconds)
            with clock("select"):
                version = self._checked_version(scored, step)
                self._sampler.observe(scored.indices, scored.outcomes_PG, policy_version=version, tokens_P=scored.tokens_P)
                found = scored if found is None else found + scored
                wanted = self._sampler.refill(n, found.indices, found.outcomes_PG)
        assert found is not None, "a sampler draws at least one problem"
        return found

    def start(self, clock: Clock) -> None:
        """With `max_staleness: 1`, begins the next step's groups, with the weights from before the update at hand."""
        if not self._config.max_staleness:
            return
        with clock("draw"):
            drawn = self._round(self._sampler.draw(self._config.groups_per_step))
        self._under_way = self._thread.submit(self._generate, drawn, beside=True)

    @contextmanager
    def updating(self, step: int) -> Iterator[None]:
        """For the time of the update of `step`: the engine sleeps and has the new weights afterwards, or, with `max_staleness:
        1`, generates on and has them once it is done (`serve`).
        """
        if self._config.max_staleness:
            yield
            return
        self._engine.sleep()
        yield
        self._engine.wake()
        self.serve(step + 1)

    def serve(self, version: int) -> Engine:
        """The engine, at rest and with the weights of the policy of so many updates, which is the present one."""
        if self._under_way is not None:
            try:
                self._ready = self._under_way.result()
            except Exception as error:
                error.add_note(f"while the rollouts of step {version} were generated ahead")
                raise
            self._under_way = None
        if self._version != version:
            self._engine.update_weights(self._weights(), version)
            self._version = version
        return self._engine

    def metrics(self, step: int, rollouts: ScoredRollouts, clock: Clock) -> dict[str, float]:
        """Updates by which the rollouts' policy was behind (`staleness/`); of the step that `clock` times, the seconds in which
        the learner waited for rollouts and those in which the engine generated none, and both as shares of it (`time/`).
        """
        end = time.perf_counter()
        whole = max(end - clock.began, 1e-9)
        spans = [*self._busy, *([] if self._busy_since is None else [(self._busy_since, end)])]
        self._busy.clear()
        busy = sum(max(0.0, min(till, end) - max(since, clock.began)) for since, till in spans)
        idle = {"learner": min(self._waited, whole), "engine": max(0.0, whole - busy)}
        behind = [step - completion.weight_version for group in rollouts.completions for completion in group]
        return {
            "staleness/mean": float(np.mean(behind)),
            "staleness/max": float(max(behind)),
            **{f"seconds/{name}_idle": seconds for name, seconds in idle.items()},
            **{f"time/{name}_idle": seconds / whole for name, seconds in idle.items()},
        }

    def state_dict(self, version: int) -> dict[str, Any]:
        """What was generated ahead, waited for; empty where nothing was. The policy has made `version` updates.

        The rollouts themselves are kept, and no copy of the weights that they were made with.
        """
        self.serve(version)
        return {} if self._ready is None else to_columns(self._ready[0])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            chosen, prompts = self._posed(np.asarray(state["indices"]))
            self._ready = from_columns(state, chosen, prompts), {"generate": 0.0, "score": 0.0}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._under_way is not None:
            self._engine.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _posed(self, indices: np.ndarray) -> tuple[list[Problem], list[Prompt]]:
        chosen = [self._problems[index] for index in indices]
        return chosen, [
            self._renderer.prompt(problem.messages, root=problem.root, thinking=bool(thinks), id=problem.id)
            for problem, thinks in zip(chosen, self._thinking_N[indices], strict=True)
        ]

    def _round(self, indices: np.ndarray) -> _Round:
        chosen, prompts = self._posed(indices)
        return _Round(indices, chosen, prompts, draw_budgets(self._config, len(prompts), self._rng))

    def _generate(self, drawn: _Round, *, beside: bool = False) -> tuple[ScoredRollouts, dict[str, float]]:
        """(the groups, seconds of generating them and of what scoring was left then); in any thread. `beside` the learner."""
        clock = Clock(self._config.device)
        with self._occupied(), clock("generate"), _cuda_stream(self._config) if beside else nullcontext():
            pending = PendingScores(self._pool, drawn.problems, drawn.prompts)
            groups = self._engine.stream(
                drawn.prompts, self._config.group_size, self._sampling, drawn.budgets, generator=self._generator
            )
            for position, group in groups:
                if self._stop.is_set():
                    raise CancelledError
                pending.add(position, group)
        with clock("score"):
            return pending.collect(drawn.indices), clock.parts

    @contextmanager
    def _occupied(self) -> Iterator[None]:
        began = self._busy_since = time.perf_counter()
        yield
        self._busy_since = None
        self._busy.append((began, time.perf_counter()))

    def _weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The policy's parameters. vLLM, started again while the learner changes them, needs the former: it is given copies."""
        named = plain_parameters(self._model)
        if not self._config.max_staleness or self._config.rollout == "transformers":
            return named
        return ((name, tensor.detach().to("cpu", copy=True)) for name, tensor in named)

    def _checked_version(self, scored: ScoredRollouts, step: int) -> int:
        """Updates that the policy which made them had behind it."""
        versions = {completion.weight_version for group in scored.completions for completion in group}
        if len(versions) != 1 or not 0 <= step - min(versions) <= self._config.max_staleness:
            raise RuntimeError(
                f"step {step}: rollouts of policies of {sorted(versions)} updates; expected one policy, at most "
                f"{self._config.max_staleness} (max_staleness) updates behind"
            )
        return min(versions)


def draw_budgets(config: RlConfig, prompts: int, rng: np.random.Generator) -> list[ThinkingBudget]:
    """A thinking budget for each prompt: the configured one, or one drawn evenly from the configured range."""
    if isinstance(config.think_tokens, int):
        return [ThinkingBudget(config.think_tokens, config.answer_tokens)] * prompts
    low, high = config.think_tokens
    drawn = rng.integers(low, high, prompts, endpoint=True).tolist()
    return [ThinkingBudget(think_tokens, config.answer_tokens) for think_tokens in drawn]


@contextmanager
def _cuda_stream(config: RlConfig) -> Iterator[None]:
    """On a GPU, a stream of its own: kernels of one stream wait for each other, whatever thread they come from."""
    if not config.device.startswith("cuda"):
        yield
        return
    stream = torch.cuda.Stream(config.device)
    stream.wait_stream(torch.cuda.current_stream(config.device))
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()
