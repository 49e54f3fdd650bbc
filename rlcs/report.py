"""`rlcs report`: one page with plots on what RL changed on held-out problems. Reads files only; it needs no model.

Axis suffix: P problems, the same ones in the same order before and after.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rlcs.estimates import Estimate, average, mean_interval, paired_change
from rlcs.eval_summary import BOTH, Scores
from rlcs.evaluate import Evaluation
from rlcs.plots import difficulty_png, pass_rates_png, training_png
from rlcs.report_examples import examples
from rlcs.report_run import RunRecord, run_section
from sft.rundir import RunDir

SAME = ("samples", "modes", "greedy", "temperature", "top_p", "think_tokens", "answer_tokens", "stop_repetition")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two evaluations of the same problems under the same settings."""

    before: Evaluation
    after: Evaluation
    old: Scores
    new: Scores

    @classmethod
    def read(cls, before: Path, after: Path) -> "Comparison":
        """Raises FileNotFoundError for a missing file, ValueError for evaluations that cannot be compared."""
        first, second = Evaluation.read(before), Evaluation.read(after)
        for name in SAME:
            found = getattr(first.config, name), getattr(second.config, name)
            if found[0] != found[1]:
                raise ValueError(
                    f"{before} was made with {name}={found[0]}, {after} with {name}={found[1]}; the difference between them "
                    "would not be that of the policies alone. Repeat one of them: rlcs eval CONFIG model=... out=..."
                )
        old, new = Scores.of(first.responses), Scores.of(second.responses)
        if old.ids != new.ids:
            odd = sorted(set(old.ids) ^ set(new.ids))
            raise ValueError(
                f"{before} and {after} evaluate different problems; {len(odd)} are in one alone, such as "
                f"{', '.join(odd[:3])}. Repeat one of them on the other's problem file: rlcs eval CONFIG problems=..."
            )
        return cls(first, second, old, new)

    @property
    def domains(self) -> list[str]:
        return list(dict.fromkeys(self.old.domains.tolist()))

    @property
    def modes(self) -> list[str]:
        """Both modes together first, where there are two, then each."""
        return [*([BOTH] if len(self.old.modes) > 1 else []), *self.old.modes]

    def pair(self, chosen_P: np.ndarray, mode: str = BOTH) -> tuple[Estimate, Estimate]:
        """pass@1 of these problems before and after."""
        old, new = (mean_interval(scores.pass_at(1, mode)[chosen_P]).clipped() for scores in (self.old, self.new))
        return old, new

    def change(self, chosen_P: np.ndarray, mode: str = BOTH) -> Estimate:
        """Change of pass@1 over these problems, paired by problem."""
        return paired_change(self.old.pass_at(1, mode)[chosen_P], self.new.pass_at(1, mode)[chosen_P])

    def headline(self, mode: str = BOTH) -> tuple[float, float, Estimate]:
        """pass@1 averaged over domains before and after, and its change."""
        masks = [self.old.domains == domain for domain in self.domains]
        means = [[pair[side].mean for pair in (self.pair(mask, mode) for mask in masks)] for side in (0, 1)]
        change = average([self.change(mask, mode) for mask in masks])
        return float(np.mean(means[0])), float(np.mean(means[1])), change


def write_report(
    out_dir: Path,
    *,
    before: Path,
    after: Path,
    rl_run: Path,
    sft_run: Path | None = None,
    console: Console | None = None,
) -> Path:
    """Writes report.md and its figures in `out_dir` and prints the headline table -> path of report.md.

    `before` and `after` are outputs of `rlcs eval`, `rl_run` and `sft_run` run directories. Raises FileNotFoundError naming
    a missing file and the command that makes it, ValueError when the two evaluations cannot be compared.
    """
    comparison = Comparison.read(before, after)
    run = RunRecord.read(rl_run, command="rlcs rl CONFIG", beliefs=True)
    sft = RunRecord.read(sft_run, command="rlcs sft CONFIG") if sft_run else None
    out = RunDir(out_dir)
    out.atomic_write("pass_rate.png", pass_rates_png(*_pairs(comparison)))
    out.atomic_write("difficulty.png", difficulty_png(run.beliefs, run.window))
    out.atomic_write("training.png", training_png(run.metrics, run.domains))
    flipped, pictures = examples(comparison.before, comparison.after)
    for name, content in pictures.items():
        out.atomic_write(name, content)
    sections = [
        *_result(comparison),
        *_levels(comparison),
        *_measures(comparison),
        *run_section(run, sft, {"before": comparison.before.summary, "after": comparison.after.summary}),
        *flipped,
    ]
    out.atomic_write("report.md", "\n".join(sections) + "\n")
    out.close()
    (console or Console()).print(_console_table(comparison))
    return out_dir / "report.md"


def _pairs(comparison: Comparison) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    levels: dict[str, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for domain, tier, chosen in comparison.old.selections():
        if tier is None:
            whole[domain] = comparison.pair(chosen)
        elif tier:
            levels.setdefault(domain, {})[tier] = comparison.pair(chosen)
    return levels, whole


def _result(comparison: Comparison) -> Iterator[str]:
    config, domains = comparison.after.config, comparison.domains
    old, new, change = comparison.headline()
    yield "# What RL changed on held-out problems\n"
    yield (
        f"**pass@1 averaged over {len(domains)} {'domains' if len(domains) > 1 else 'domain'}: {100 * old:.1f}% → "
        f"{100 * new:.1f}%, a change of {_points(change)} points** (95% interval, paired by problem).\n"
    )
    yield (
        f"Before: `{comparison.before.summary['model']}`. After: `{comparison.after.summary['model']}`. "
        f"{len(comparison.old.ids)} problems of `{config.problems}`, {config.samples} samples each in "
        f"{' and '.join(comparison.old.modes)} mode, temperature {config.temperature:g}, at most {config.think_tokens} tokens "
        f"of thought and {config.answer_tokens} of answer. All rates in per cent; `docs/evaluation.md` has the formulas.\n"
    )
    yield "![pass@1 before and after RL by domain and level](pass_rate.png)\n"
    head = ("domain", "mode", "problems", "before", "after", "change in points")
    yield from _table(head, _result_rows(comparison, comparison.modes))


def _result_rows(comparison: Comparison, modes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for domain in comparison.domains:
        chosen = comparison.old.domains == domain
        for mode in modes:
            old, new = comparison.pair(chosen, mode)
            change = comparison.change(chosen, mode)
            yield domain, mode, str(change.n), _rate(old), _rate(new), _points(change)
    for mode in modes:
        before, after, change = comparison.headline(mode)
        yield "**mean**", mode, str(change.n), f"{100 * before:.1f}", f"{100 * after:.1f}", f"**{_points(change)}**"


def _levels(comparison: Comparison) -> Iterator[str]:
    yield "## By level\n"
    rows = []
    for domain, tier, chosen in comparison.old.selections():
        if tier:
            old, new = comparison.pair(chosen)
            change = comparison.change(chosen)
            rows.append((domain, tier, str(change.n), _rate(old), _rate(new), _points(change)))
    if rows:
        yield f"pass@1, {' and '.join(comparison.old.modes)} mode together.\n"
        yield from _table(("domain", "level", "problems", "before", "after", "change in points"), rows)
    else:
        yield "The problems have no tiers.\n"


def _measures(comparison: Comparison) -> Iterator[str]:
    """Figures of the two summaries side by side, and how many greedy outcomes flipped either way."""
    largest = str(max(comparison.after.config.pass_k))
    both = [
        {(group["domain"], group["mode"]): group for group in evaluation.summary["groups"] if group["tier"] is None}
        for evaluation in (comparison.before, comparison.after)
    ]
    rows = []
    for domain in comparison.domains:
        for mode in comparison.old.modes:
            old, new = (side[domain, mode] for side in both)
            cells = (
                *((_percent(g["pass_at"][largest]["mean"]), _percent(g["greedy"]["mean"])) for g in (old, new)),
                *((_percent(g["well_formed"]), _percent(g["truncated"])) for g in (old, new)),
            )
            rows.append(
                (
                    domain,
                    mode,
                    f"{cells[0][0]} → {cells[1][0]}",
                    f"{cells[0][1]} → {cells[1][1]}",
                    f"{cells[2][0]} → {cells[3][0]}",
                    f"{cells[2][1]} → {cells[3][1]}",
                    f"{old['tokens']:.0f} → {new['tokens']:.0f}",
                    f"{old['abstained']} → {new['abstained']}",
                    "{} / {}".format(*_flips(comparison, domain, mode)) if comparison.after.config.greedy else "-",
                )
            )
    yield "## Other measures\n"
    head = ("domain", "mode", f"pass@{largest}", "greedy", "well-formed", "truncated", "tokens", "abstained", "flips + / -")
    yield from _table(head, rows)
    if comparison.after.config.greedy:
        yield "Flips: greedy responses wrong before and right after, and the other way round.\n"


def _flips(comparison: Comparison, domain: str, mode: str) -> tuple[int, int]:
    chosen = comparison.old.domains == domain
    old, new = (scores.greedy[chosen, scores.modes.index(mode)] for scores in (comparison.old, comparison.new))
    return int(((old == 0) & (new == 1)).sum()), int(((old == 1) & (new == 0)).sum())


def _table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table: the first two columns to the left, the others to the right."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join("---" if place < 2 else "---:" for place in range(len(head))) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def _console_table(comparison: Comparison) -> Table:
    table = Table(title="pass@1 on held-out problems (per cent; 95% interval)", box=SIMPLE)
    table.title_justify = "left"
    for place, name in enumerate(("domain", "mode", "problems", "before", "after", "change in points")):
        table.add_column(name, justify="left" if place < 2 else "right", no_wrap=True)
    for domain, mode, n, before, after, change in _result_rows(comparison, comparison.modes):
        table.add_row(domain.strip("*"), mode, n, before.split()[0], after.split()[0], change.strip("*"))
    return table


def _rate(estimate: Estimate) -> str:
    return f"{100 * estimate.mean:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _points(estimate: Estimate) -> str:
    return f"{100 * estimate.mean:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
