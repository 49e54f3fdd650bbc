"""Console view of a run: a bar with the time left, a line every few steps, a table for each evaluation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sft.tally import MODES

Advance = Callable[[int, Mapping[str, float]], None]


def step_line(step: int, metrics: Mapping[str, float], domains: Sequence[str]) -> str:
    """One line: pooled figures, then the loss of each domain the step had examples of."""
    parts = [
        f"step {step:>5}",
        f"loss {metrics['loss']:.4f}",
        f"lr {metrics['lr']:.2e}",
        f"grad norm {metrics['grad_norm']:.2f}",
        f"{metrics['tokens_per_s']:,.0f} tok/s",
        f"{metrics['peak_memory_mb']:,.0f} MB",
        *(f"{domain} {metrics[f'{domain}/loss']:.4f}" for domain in domains if f"{domain}/loss" in metrics),
    ]
    return "  ".join(parts)


def evaluation_table(step: int, metrics: Mapping[str, float], domains: Sequence[str]) -> Table:
    """Held-out loss, token accuracy and exact match of each domain in each mode."""
    table = Table("domain", "mode", "loss", "token accuracy", "exact match", title=f"held out, step {step}")
    for domain in domains:
        for mode in MODES:
            if f"eval/{domain}/{mode}/loss" in metrics:
                loss, accuracy, exact = (
                    metrics[f"eval/{domain}/{mode}/{x}"] for x in ("loss", "token_accuracy", "exact_match")
                )
                table.add_row(escape(domain), mode, f"{loss:.4f}", f"{accuracy:.1%}", f"{exact:.1%}")
    return table


ESTIMATE_SECONDS = 3600.0
"""Past over which rich estimates the time left; at its default of 30 s, slower steps would never show one."""


def step_bar(console: Console) -> Progress:
    """The bar of whatever takes long, with the task's description first: how far it is, time spent, time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=ESTIMATE_SECONDS,
    )


@contextmanager
def progress(console: Console, total: int, done: int, domains: Sequence[str], every: int) -> Iterator[Advance]:
    """A bar over `total` steps of which `done` are behind; call what it yields with (step, metrics) after each."""
    with step_bar(console) as bar:
        task = bar.add_task("sft", total=total, completed=done)

        def advance(step: int, metrics: Mapping[str, float]) -> None:
            if step % every == 0 or step + 1 == total:
                console.print(escape(step_line(step, metrics, domains)), highlight=False, soft_wrap=True)
            if "eval/loss" in metrics:
                console.print(evaluation_table(step, metrics, domains))
            bar.update(task, completed=step + 1, description=f"sft  loss {metrics['loss']:.3f}")

        yield advance
