"""PNG figures of a report. They are drawn for the width of a README: 9 inches at 150 dots, text of 9 points and more."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rlcs.estimates import Estimate

WIDTH, DPI = 9.0, 150
COLUMNS = 3  # panels a row, at most
SHADES = (0.35, 1.0)  # of a domain's colour, before and after
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#666666")  # Okabe and Ito, 2 more
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}

Pair = tuple[Estimate, Estimate]  # before, after
CURVES = (
    ("reward", "reward", 1.0),
    ("pass_rate", "pass rate (%)", 100.0),
    ("mixed_fraction", "mixed groups (%)", 100.0),
    ("response_length", "response (tokens)", 1.0),
    ("entropy", "entropy (nats/token)", 1.0),
    ("format_error_fraction", "format errors (%)", 100.0),
)


def colours(domains: Sequence[str]) -> dict[str, str]:
    """One colour a domain, the same in every figure: by alphabetical order."""
    return {domain: PALETTE[place % len(PALETTE)] for place, domain in enumerate(sorted(domains))}


def pass_rates_png(levels: Mapping[str, Mapping[str, Pair]], whole: Mapping[str, Pair]) -> bytes:
    """pass@1 before and after, a panel a domain: bars with 95% intervals for each level, then for the whole domain.

    `levels[domain][tier]` and `whole[domain]` are (before, after), rates in [0, 1].
    """
    palette = colours(list(whole))
    with mpl.rc_context(STYLE):
        figure, panels = _panels(len(whole), height=3.1, share_y=True)
        for axes, (domain, total) in zip(panels, whole.items(), strict=True):
            tiers = levels.get(domain, {})
            places = [*range(len(tiers)), len(tiers) + (0.5 if tiers else 0.0)]
            pairs = [*tiers.values(), total]
            for side, shade in enumerate(SHADES):
                _bars(
                    axes, np.array(places) + (side - 0.5) * 0.4, [pair[side] for pair in pairs], _tint(palette[domain], shade)
                )
            plain = all(tier.startswith("level-") for tier in tiers)
            names = [*(tier.removeprefix("level-") if plain else tier for tier in tiers), "all"]
            crowded = sum(len(name) for name in names) > 24
            axes.set_xticks(places, names, rotation=35 if crowded else 0, ha="right" if crowded else "center")
            axes.set_xlabel("level" if plain and tiers else "")
            axes.grid(False, axis="x")
            axes.set_title(f"{domain}  {100 * total[0].mean:.0f} → {100 * total[1].mean:.0f}%", color=palette[domain])
        for axes in panels[::COLUMNS]:
            axes.set_ylabel("pass@1 (%)")
            axes.set_ylim(0, 100)
        swatches = [Patch(color=_tint("#444444", shade)) for shade in SHADES]
        labels = ["before RL", "after RL (whiskers: 95% interval over problems)"]
        figure.legend(swatches, labels, loc="outside upper left", ncols=2, handlelength=1.2)
        return _png(figure)


def budgets_png(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """pass@1 against the thinking budget, a line with its 95% band a domain; beside it the share of thoughts that were cut.

    `rows` as from `rlcs.budget_eval.budget_rows`.
    """
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    palette = colours([domain for domain in domains if domain != "all"]) | {"all": "#222222"}
    budgets = sorted({row["budget"] for row in rows})
    with mpl.rc_context(STYLE):
        figure, (rates, cuts) = _panels(2, height=3.4, share_y=False)
        for domain in domains:
            mine = sorted((row for row in rows if row["domain"] == domain), key=lambda row: row["budget"])
            places = [budgets.index(row["budget"]) for row in mine]
            found = np.array(
                [
                    [np.nan if row["pass_at_1"][key] is None else row["pass_at_1"][key] for key in ("mean", "low", "high")]
                    for row in mine
                ],
                np.float64,
            )
            line: dict[str, Any] = {"color": palette[domain], "marker": "o", "linewidth": 2.4 if domain == "all" else 1.8}
            rates.plot(places, 100 * found[:, 0], label=domain, **line)
            rates.fill_between(places, 100 * found[:, 1], 100 * found[:, 2], color=palette[domain], alpha=0.12, linewidth=0)
            cuts.plot(places, [100 * row["forced"] for row in mine], **line)
        for axes, label in ((rates, "pass@1 (%)"), (cuts, "thoughts cut (%)")):
            axes.set_ylabel(label)
            axes.set_ylim(0, 100)
            axes.set_xticks(range(len(budgets)), [str(budget) for budget in budgets])
            axes.set_xlabel("thinking budget (tokens)")
        rates.legend()
        return _png(figure)


def difficulty_png(beliefs: Mapping[str, Mapping[int, np.ndarray]], window: tuple[float, float] | None) -> bytes:
    """Histogram of the posterior mean pass rates of all training problems over steps, a heat map a domain.

    `beliefs[domain][step]` are posterior means [N]; `window` is the range that the sampler draws from.
    """
    palette, bins = colours(list(beliefs)), np.linspace(0.0, 1.0, 21)
    shares = {
        domain: np.stack([np.histogram(means, bins)[0] / max(1, len(means)) for means in series.values()], axis=1)
        for domain, series in beliefs.items()
    }
    top = 100 * max(float(np.quantile(share, 0.99)) for share in shares.values())
    norm = PowerNorm(0.5, 0.0, max(top, 1.0))  # so that a few problems still show
    with mpl.rc_context(STYLE):
        figure, panels = _panels(len(beliefs), height=3.1, share_y=True)
        for axes, (domain, series) in zip(panels, beliefs.items(), strict=True):
            steps = np.array(list(series), np.float64)
            mesh = axes.pcolormesh(_edges(steps), 100 * bins, 100 * shares[domain], cmap="Greys", norm=norm)
            means = [100 * float(values.mean()) for values in series.values()]
            axes.plot(steps, means, color=palette[domain], marker="o" if len(steps) == 1 else None, label="mean")
            for bound in window or ():
                axes.axhline(100 * bound, color="#222222", linewidth=1, linestyle=(0, (4, 3)))
            axes.set_title(domain, color=palette[domain])
            axes.set_xlabel("step")
            axes.grid(False)
        for axes in panels[::COLUMNS]:
            axes.set_ylabel("posterior mean pass rate (%)")
        figure.colorbar(mesh, ax=panels, label="problems (%)", pad=0.015, aspect=30, extend="max").outline.set_visible(False)
        handles = [Line2D([], [], color="#444444")]
        labels = ["mean over problems"]
        if window:
            handles.append(Line2D([], [], color="#222222", linewidth=1, linestyle=(0, (4, 3))))
            labels.append("window the sampler draws from")
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
        return _png(figure)


def training_png(metrics: Sequence[Mapping[str, Any]], domains: Sequence[str]) -> bytes:
    """Curves of a run's metrics.jsonl, a line a domain: each step thin, a moving average bold."""
    palette = colours(domains)
    steps = np.array([row["step"] for row in metrics])
    with mpl.rc_context(STYLE):
        figure, panels = _panels(len(CURVES), height=2.4, share_y=False)
        for axes, (name, label, scale) in zip(panels, CURVES, strict=True):
            for domain in domains:
                values = scale * np.array([row.get(f"{domain}/{name}", np.nan) for row in metrics], np.float64)
                axes.plot(steps, values, color=palette[domain], linewidth=0.8, alpha=0.3)
                axes.plot(steps, _moving_average(values, max(1.0, len(steps) / 20)), color=palette[domain])
            axes.set_title(label, fontweight="normal", fontsize=10)
            axes.set_ylim(bottom=0)
        for axes in panels[-COLUMNS:]:
            axes.set_xlabel("step")
        handles = [Line2D([], [], color=palette[domain]) for domain in domains]
        figure.legend(handles, list(domains), loc="outside upper left", ncols=max(1, len(domains)))
        return _png(figure)


def _panels(count: int, *, height: float, share_y: bool) -> tuple[Figure, list[Axes]]:
    """`count` panels, their y axes shared or their x axes; `height` in inches is that of a row."""
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=share_y, sharex=not share_y).ravel().tolist()
    for spare in grid[count:]:
        spare.remove()
    return figure, grid[:count]


def _bars(axes: Axes, places: np.ndarray, estimates: Sequence[Estimate], colour: Any) -> None:
    mean = 100 * np.array([estimate.mean for estimate in estimates])
    low, high = (100 * np.array([getattr(estimate, end) for estimate in estimates]) for end in ("low", "high"))
    axes.bar(places, mean, 0.4, color=colour)
    whiskers = np.nan_to_num(np.stack([mean - low, high - mean])).clip(0)
    axes.errorbar(places, mean, whiskers, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)


def _tint(colour: str, share: float) -> tuple[float, ...]:
    return tuple(1 - share * (1 - channel) for channel in to_rgb(colour))


def _edges(steps: np.ndarray) -> np.ndarray:
    """Borders between columns drawn at `steps`, half-way between neighbours."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return np.array([steps[0], *middle, steps[-1]])


def _moving_average(values: np.ndarray, span: float) -> np.ndarray:
    """Exponential moving average, corrected for its start; unknown values are passed over."""
    keep, total, weight, averaged = 1.0 - 1.0 / span, 0.0, 0.0, np.full(len(values), np.nan)
    for place, value in enumerate(values):
        known = float(not np.isnan(value))
        total, weight = keep * total + (value if known else 0.0), keep * weight + known
        averaged[place] = total / weight if weight > 0 else np.nan
    return averaged


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=DPI, facecolor="white")
    return sink.getvalue()
