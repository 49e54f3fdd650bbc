"""Console view of a run: a progress bar with the time left, a line a step, and the time each part of a step takes."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from rlcs.alerts import MISMATCH, PATIENCE
from rollout.memory import peak_memory_mb
from sft.progress import step_bar


class Clock:
    """Seconds spent in each named part since it was made: `with clock("train"): ...`."""

    def __init__(self, device: str = "cpu") -> None:
        self.began, self._cpu_began = time.perf_counter(), time.process_time()
        self._device = device
        self.parts: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.add(part, time.perf_counter() - began)

    def add(self, part: str, seconds: float) -> None:
        """Seconds of a part that were measured elsewhere."""
        self.parts[part] = self.parts.get(part, 0.0) + seconds

    def metrics(self, *, generated_tokens: int, packed_tokens: int) -> dict[str, float]:
        """Seconds of each part and of the whole, processor seconds of this process (its scoring workers left out), tokens a
        second of generation and training, and the peak memory of the process or its GPU.
        """
        seconds = {f"seconds/{part}": spent for part, spent in self.parts.items()}
        return {
            **seconds,
            "seconds/step": time.perf_counter() - self.began,
            "cpu_seconds/step": time.process_time() - self._cpu_began,
            "tokens_per_s/generate": generated_tokens / max(self.parts.get("generate", 0.0), 1e-9),
            "tokens_per_s/train": packed_tokens / max(self.parts.get("train", 0.0), 1e-9),
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


class SignalWatch:
    """Notices the domains whose groups have long been all right or all wrong, whatever sampler draws them."""

    def __init__(self, domains: Sequence[str], *, patience: int = PATIENCE) -> None:
        self._patience = patience
        self._quiet = dict.fromkeys(domains, 0)
        self._groups = {domain: Counter[str]() for domain in domains}

    def notices(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Sentences for a person on the domains that have now gone `patience` steps without a mixed group, and again at
        each doubling; the run goes on.
        """
        found = []
        for domain, groups in self._groups.items():
            if f"{domain}/mixed_fraction" not in metrics:
                continue
            if metrics[f"{domain}/mixed_fraction"] > 0:
                self._quiet[domain] = 0
                groups.clear()
                continue
            self._quiet[domain] += 1
            for fate in ("all-right", "all-wrong", "abstained"):
                groups[fate] += int(metrics.get(f"{domain}/groups/{fate}", 0))
            doublings, rest = divmod(self._quiet[domain], self._patience)
            if not rest and doublings & (doublings - 1) == 0:
                counts = ", ".join(f"{count} {fate}" for fate, count in groups.items() if count)
                found.append(
                    f"step {step}: no signal in domain {domain} for {self._quiet[domain]} steps ({counts} groups); its "
                    "problems teach nothing as they are: add easier or harder ones, or look at its verifier's reasons"
                )
        return found


def mismatch_notice(step: int, metrics: Mapping[str, float]) -> str | None:
    """A sentence when the rollout engine's log-probabilities are not those of the trainer's weights."""
    kl = metrics.get("policy/rollout_kl", 0.0)
    if kl < MISMATCH:
        return None
    if metrics.get("staleness/max", 0.0) > 0:
        return (
            f"step {step}: the policy has moved far from the one that generated the rollouts: KL {kl:.3g} nats a token, "
            f"largest gap {metrics['policy/logprob_gap_max']:.3g}; lower lr, or set max_staleness: 0"
        )
    return (
        f"step {step}: the rollout engine and the trainer disagree: KL {kl:.3g} nats a token, largest gap "
        f"{metrics['policy/logprob_gap_max']:.3g}. Likely causes: the engine computes in another dtype, serves older weights, "
        "or samples with top_p below 1; correct small gaps with old_logprobs: trainer and importance_cap"
    )


@contextmanager
def progress(
    console: Console, total: int, done: int, domains: Sequence[str]
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """A bar over `total` steps of which `done` are behind; call what it yields with (step, metrics) after each."""
    with step_bar(console) as bar:
        task = bar.add_task("rl", total=total, completed=done)
        watch = SignalWatch(domains)

        def advance(step: int, metrics: Mapping[str, float]) -> None:
            console.print(step_line(step, metrics, domains), highlight=False, soft_wrap=True)
            for notice in filter(None, [*watch.notices(step, metrics), mismatch_notice(step, metrics)]):
                console.print(f"[yellow]{escape(notice)}[/yellow]", highlight=False, soft_wrap=True)
            bar.update(task, completed=step + 1, description=f"rl  reward {metrics.get('reward', float('nan')):.3f}")

        yield advance
