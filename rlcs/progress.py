"""Console view of a run: a progress bar with the time left, a line a step, and the time each part of a step takes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console

from rollout.memory import peak_memory_mb
from sft.progress import step_bar


class Clock:
    """Seconds spent in each named part since it was made: `with clock("train"): ...`."""

    def __init__(self, device: str = "cpu") -> None:
        self._began = time.perf_counter()
        self._device = device
        self._parts: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._parts[part] = self._parts.get(part, 0.0) + time.perf_counter() - began

    def metrics(self, *, generated_tokens: int, packed_tokens: int) -> dict[str, float]:
        """Seconds of each part and of the whole, tokens a second of generation and training, and the peak memory of
        the process or its GPU.
        """
        seconds = {f"seconds/{part}": spent for part, spent in self._parts.items()}
        return {
            **seconds,
            "seconds/step": time.perf_counter() - self._began,
            "tokens_per_s/generate": generated_tokens / max(self._parts.get("generate", 0.0), 1e-9),
            "tokens_per_s/train": packed_tokens / max(self._parts.get("train", 0.0), 1e-9),
            "peak_memory_mb": peak_memory_mb(self._device),
        }


def step_line(step: int, metrics: Mapping[str, float], domains: Sequence[str]) -> str:
    """One line: pooled figures, then reward and pass rate of every domain."""
    parts = [
        f"step {step:>4}",
        f"reward {metrics.get('reward', float('nan')):.3f}",
        f"mixed {metrics['mixed_fraction']:.2f}",
        f"trained {metrics['groups_trained']:.0f}/{metrics['groups_generated']:.0f}",
        f"length {metrics['response_length']:.0f}",
        f"entropy {metrics['entropy']:.3f}",
        f"clipped {metrics.get('policy/clip_fraction_low', 0.0) + metrics.get('policy/clip_fraction_high', 0.0):.3f}",
        f"{metrics['tokens_per_s/generate']:.0f}+{metrics['tokens_per_s/train']:.0f} tok/s",
    ]
    for domain in domains:
        if f"{domain}/pass_rate" in metrics:
            parts.append(f"{domain} {metrics[f'{domain}/reward']:.2f}/{metrics[f'{domain}/pass_rate']:.2f}")
    return "  ".join(parts)


@contextmanager
def progress(
    console: Console, total: int, done: int, domains: Sequence[str]
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """A bar over `total` steps of which `done` are behind; call what it yields with (step, metrics) after each."""
    with step_bar(console) as bar:
        task = bar.add_task("rl", total=total, completed=done)

        def advance(step: int, metrics: Mapping[str, float]) -> None:
            console.print(step_line(step, metrics, domains), highlight=False, soft_wrap=True)
            bar.update(task, completed=step + 1, description=f"rl  reward {metrics.get('reward', float('nan')):.3f}")

        yield advance
