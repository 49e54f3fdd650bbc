"""`rlcs audit`: cheats of every family against every verifier. What pays is a hole that a policy will find."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rewards import registry
from rewards.audit.collect import exemplars, probes, read_exemplars
from rewards.audit.report import as_json, print_report
from rewards.audit.run import Report, check_prompts, run
from rewards.pool import ScorePool

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Report", "audit", "print_report", "select"]


def select(verifiers: Iterable[str] = (), domains: Iterable[str] = (), plugins: Sequence[str] = ()) -> list[str]:
    """Names of the verifiers meant: those named, the defaults of the domains named, else all. Raises UnknownNameError."""
    for plugin in plugins:
        __import__(plugin)
    names = {registry.find("", name).name for name in verifiers} | {registry.find(domain).name for domain in domains}
    return sorted(names or registry.known_verifiers())


def audit(
    verifiers: Iterable[str] = (),
    domains: Iterable[str] = (),
    *,
    references: Path | None = None,
    out: Path | None = None,
    workers: int | None = None,
    timeout_s: float = 15.0,
    memory_mb: int = 2048,
    plugins: Sequence[str] = (),
    judge: bool = False,
    console: Console | None = None,
) -> Report:
    """Probe the verifiers and report. `references`: a file of more exemplars; of their verifiers only, when none is named.

    `judge`: ask the judge that the environment configures, which otherwise is left out, so that what needs one abstains.
    `console` gets a progress bar; `out` the report as JSON. Raises ValueError for an unknown name, an unusable row of
    `references` and a verifier without any reference.
    """
    names = select(verifiers, domains, plugins)
    extra = [] if references is None else read_exemplars(references)
    if references is not None and not (tuple(verifiers) or tuple(domains)):
        names = sorted({item.verifier for item in extra})
    chosen = exemplars(names, extra)
    made = probes(chosen)
    pool = ScorePool(workers, timeout_s=timeout_s, memory_mb=memory_mb, plugins=plugins)
    with pool, _progress(len(made), console) as advance:
        report = run(made, pool, judge=judge, on_done=advance)
    for finding in check_prompts(chosen):
        report.add(finding)
    if out is not None:
        _write(out, json.dumps(as_json(report), indent=1) + "\n")
    return report


def _write(path: Path, text: str) -> None:
    """Write a file that appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _progress(total: int, console: Console | None) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = ("probing", BarColumn(), MofNCompleteColumn(), "elapsed", TimeElapsedColumn(), "left", TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console is None, transient=True) as progress:
        task = progress.add_task("probing", total=total)
        yield lambda count: progress.advance(task, count)
