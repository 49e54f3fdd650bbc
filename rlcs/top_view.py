"""What `rlcs top` shows of a run, as a rich renderable: how far it is, each domain, alerts, and a rollout of each domain."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rlcs.believed import believed
from rlcs.dashboard.overview import overview
from rlcs.dashboard.run_alerts import run_alerts
from rlcs.dashboard.runs import Run
from rlcs.last_rollouts import last_rollouts
from rlcs.terminal_text import printable, response_text, sparkline

_RECENT = 5  # points of a curve that "now" is a mean over: a step has few groups of a domain
_MOST_ALERTS = 6
_STATUS = {"running": "green", "finished": "bold green", "starting": "cyan", "stopped": "yellow", "gone": "red"}
_KIND = {"up": "green", "down": "red"}


class View:
    """A run as it was when this was made; it draws itself for the width of any terminal."""

    def __init__(self, run: Run) -> None:
        self.beliefs = believed(run.files["difficulty"])
        self.seen = overview(run, self.beliefs)
        self.alerts = run_alerts(run)
        self.rollouts = last_rollouts(run.files["rollouts"], run.domains)
        self.at = time.time()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only = options.ascii_only
        yield from _head(self.seen, self.at, ascii_only)
        if self.seen["rows"]:
            yield ""
            yield _domains(self.seen, self.beliefs, options.max_width, ascii_only)
        yield from _alert_lines(self.alerts, ascii_only)
        for row in self.rollouts:
            yield from _rollout(row, options.max_width, ascii_only)


def _head(seen: Mapping[str, Any], now: float, ascii_only: bool) -> Iterator[RenderableType]:
    run, totals = seen["run"], seen["totals"]
    # A line of its own: what follows a long path would be broken anywhere.
    yield Text(printable(run["path"], 200, ascii_only=ascii_only), "bold")
    line = Text()
    line.append(run["status"], _STATUS.get(run["status"], ""))
    if run["step"] is not None:
        line.append(f"  step {run['step'] + 1}" + (f" of {run['steps']}" if run["steps"] else ""))
    if run["status"] == "running" and totals["eta_s"]:
        line.append(f"  about {_duration(totals['eta_s'])} left")
    if run["updated"] and run["status"] != "finished":
        line.append(f"  last written {_duration(max(0.0, now - run['updated']))} ago", "dim")
    kinds = [run["sampler"], run["advantage"], run["engine"]]
    line.append("  " + " ".join(printable(str(kind), 40, ascii_only=ascii_only) for kind in kinds if kind), "dim")
    yield line
    if run["note"]:
        yield Text(printable(run["note"], 300, ascii_only=ascii_only), "red")
    if not seen["rows"]:
        yield Text("no step has been logged yet")
        return
    speed = seen["speed"]
    rates = [_now(speed["tokens_per_s"].get(part)) for part in ("generate", "train")]
    step_s = _now(speed["seconds"].get("step"))
    parts = [
        f"{totals['rollouts']:,.0f} rollouts, {_share(totals['rollouts_wasted'], totals['rollouts'])} wasted",
        f"{totals['tokens']:,.0f} tokens, {_share(totals['tokens_wasted'], totals['tokens'])} wasted",
    ]
    if rates[0] is not None:
        parts.append(f"{rates[0]:,.0f} tokens/s generated" + (f", {rates[1]:,.0f} trained" if rates[1] is not None else ""))
    if step_s is not None:
        parts.append(f"{_duration(step_s)} a step")
    memory = _now(speed["memory_mb"])
    if memory is not None:
        parts.append(f"{memory:,.0f} MB")
    yield Text("; ".join(parts))
    yield Text(printable(seen["verdict"]["sentence"], 1000, ascii_only=ascii_only), "italic")


def _domains(seen: Mapping[str, Any], beliefs: Mapping[str, tuple[float, float]], width: int, ascii_only: bool) -> Table:
    """A line a domain; a narrow terminal shows fewer columns."""
    bars = 24 if width >= 130 else 16 if width >= 100 else 10 if width >= 70 else 0

    def curve(domain: str, name: str) -> list[float | None]:
        return (seen["training"].get(domain) or {}).get(name) or []

    def drawn(name: str) -> Callable[[str], Text]:
        return lambda domain: Text(_percent(_now(curve(domain, name), curve(domain, "groups"))))

    def spark(found: Callable[[str], Sequence[float | None]]) -> Callable[[str], Text]:
        return lambda domain: Text(sparkline(found(domain), bars, ascii_only=ascii_only), "cyan")

    def wasted(domain: str) -> Text:
        totals = seen["totals"]["domains"].get(domain, seen["totals"])
        return Text(_share(totals["rollouts_wasted"], totals["rollouts"]))

    def length(domain: str) -> Text:
        found = _now(curve(domain, "response_length"), curve(domain, "groups"))
        return Text("-" if found is None else f"{found:,.0f}")

    columns: list[tuple[str, Callable[[str], Text]]] = []
    if seen["heldout"] is not None:
        columns.append(("held out", lambda domain: _held_cell(seen, domain)))
        columns += [("", spark(lambda domain: _heldout(seen, domain)))] * bool(bars)
    if beliefs:
        columns.append(("believed", lambda domain: _changed(beliefs.get(domain, ()), "dim")))
    columns.append(("drawn", drawn("pass_rate")))
    columns += [("", spark(lambda domain: curve(domain, "pass_rate")))] * bool(bars)
    columns += [("mixed", drawn("mixed")), ("wasted", wasted)]
    columns += [("cut off", drawn("truncated")), ("length", length)] * (width >= 90)

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("domain", no_wrap=True, overflow="ellipsis", max_width=max(10, width // 4))
    for heading, _ in columns:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for domain in [*seen["domains"], ""]:
        name = Text(printable(domain or "all", 60, ascii_only=ascii_only), "" if domain else "bold")
        table.add_row(name, *(cell(domain) for _, cell in columns))
    return table


def _heldout(seen: Mapping[str, Any], domain: str) -> list[float | None]:
    found = seen["heldout"]
    curve: list[float | None] = found["domains"].get(domain, {}).get("pass_rate", []) if domain else found["mean"]
    return curve


def _held_cell(seen: Mapping[str, Any], domain: str) -> Text:
    """In colour where chance does not explain the change."""
    kind = seen["verdict"]["domains"].get(domain, {}).get("kind", "")
    return _changed(_heldout(seen, domain), _KIND.get(kind, "dim"))


def _changed(curve: Sequence[float | None], style: str) -> Text:
    """The last rate and, in `style`, how far it is from the first."""
    known = [value for value in curve if value is not None]
    if not known:
        return Text("-")
    text = Text(f"{known[-1]:.1%}")
    if len(known) > 1:
        text.append(f" ({100 * (known[-1] - known[0]):+.1f})", style)
    return text


def _alert_lines(alerts: Sequence[Mapping[str, Any]], ascii_only: bool) -> Iterator[RenderableType]:
    """Those that hold first, each on its own lines; past ones dim."""
    if alerts:
        yield ""
    for alert in alerts[:_MOST_ALERTS]:
        grave = alert["severity"] == "error"
        style = ("bold red" if grave else "yellow") if alert["active"] else "dim"
        steps = (
            f"step {alert['step']}" if alert["step_from"] == alert["step"] else f"steps {alert['step_from']}-{alert['step']}"
        )
        where = f" {alert['domain']}" if alert["domain"] else ""
        text = f"{'!!' if grave else '!'} {steps}{where} {alert['kind']}: {alert['sentence']}"
        yield Text(printable(text, 600, ascii_only=ascii_only), style)
    if len(alerts) > _MOST_ALERTS:
        yield Text(f"and {len(alerts) - _MOST_ALERTS} more", "dim")


def _rollout(row: Mapping[str, Any], width: int, ascii_only: bool) -> Iterator[RenderableType]:
    def shown(name: str, most: int) -> str:
        value = row.get(name)
        return "" if value is None else printable(str(value), most, ascii_only=ascii_only)

    reward, correct = row.get("reward"), row.get("correct")
    verdict = "could not be judged" if reward is None else f"reward {reward:.2f}"
    head = Text(f"\n{shown('domain', 60)} {shown('tier', 40)}".rstrip(), "bold")
    head.append(f"  step {row.get('step')}  ", "dim")
    head.append(verdict, "green" if correct else "red" if correct is False else "yellow")
    reason = shown("reason", 80) or ("" if row.get("status") == "ok" else shown("status", 40))
    tail = [reason, shown("fate", 40), f"{row.get('tokens')} tokens", shown("finish_reason", 40)]
    head.append("  " + ", ".join(part for part in tail if part and part != "stop"), "dim")
    yield head
    lines = Table.grid(padding=(0, 1))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row("asked", Text(shown("question", 2 * width)))
    lines.add_row("said", response_text(shown("response", 4 * width)))
    lines.add_row("right", Text(shown("answer", width)))
    yield Padding(lines, (0, 0, 0, 2), expand=False)


def _now(curve: Sequence[float | None] | None, weights: Sequence[float | None] | None = None) -> float | None:
    """Mean over the last points that are known, weighted."""
    known = [
        (value, 1.0 if weights is None else weights[place] or 0.0)
        for place, value in enumerate(curve or [])
        if value is not None
    ][-_RECENT:]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
