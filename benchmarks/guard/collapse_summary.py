"""What the runs of collapse.py came to: looks, alarms, final audit of every arm, and the picture. Used by collapse.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"sound": "#009e73", "warn": "#d55e00", "quarantine": "#0072b2"}
Rows = Sequence[Mapping[str, Any]]


def summarise(runs: Mapping[str, Mapping[str, Rows]]) -> dict[str, Any]:
    """{"findings": what to read, "runs": looks and alarms of each}. Runs are named ARM-SEED."""
    found: dict[str, Any] = {}
    kept = {}
    for name, files in runs.items():
        looks = files["guard"]
        if looks:
            kept[name] = {"looks": looks, "alerts": files["alerts"], "rollouts_of_each_domain": _drawn(files["metrics"])}
            found[name] = {
                "alerts": [alert["sentence"] for alert in files["alerts"]],
                "audit": {domain: [_points(looks[0], domain), _points(looks[-1], domain)] for domain in looks[0]["domains"]},
                "reward": {
                    domain: [round(look["domains"][domain]["reward"], 3) for look in (looks[0], looks[-1])]
                    for domain in looks[0]["domains"]
                },
            }
    for name, files in runs.items():
        arm, _, seed = name.partition("-")
        if arm == "none" and f"warn-{seed}" in runs:
            pairs = list(zip(files["metrics"], runs[f"warn-{seed}"]["metrics"], strict=False))
            equal = all(one.get("policy/loss") == other.get("policy/loss") for one, other in pairs)
            found[name] = {"steps_compared_with_warn": len(pairs), "losses_equal": equal}
    return {"findings": found, "runs": kept}


def _points(look: Mapping[str, Any], domain: str) -> float:
    return round(100 * look["domains"][domain]["audit"], 1)


def _drawn(metrics: Rows) -> dict[str, int]:
    domains = sorted({name.partition("/")[0] for row in metrics for name in row if name.endswith("/groups_generated")})
    return {
        domain: int(sum(row.get(f"{domain}/rollouts", 0) for row in metrics))
        for domain in domains
        if domain in ("math", "ocr", "gui")
    }


def plot(runs: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """For each domain the audit (solid) of every arm of the first seed, for the gamed one also what training would have paid
    (dashed) and passed wrongly (dotted); alarms as vertical lines, solid for a collapse.
    """
    seed = min((name.partition("-")[2] for name in runs), default="0", key=int)
    mine = {name.partition("-")[0]: run for name, run in runs.items() if name.endswith(f"-{seed}")}
    if not mine:
        return
    titles = {"math": "arithmetic (its verifier is flawed)", "ocr": "strings", "gui": "screens"}
    figure, axes = plt.subplots(1, len(titles), figsize=(13, 4), sharey=True)
    for axis, (domain, title) in zip(axes, titles.items(), strict=True):
        for arm, run in mine.items():
            looks = [look for look in run["looks"] if domain in look["domains"]]
            steps = [look["updates"] for look in looks]
            axis.plot(steps, [look["domains"][domain]["audit"] for look in looks], color=COLOURS[arm], label=f"audit, {arm}")
            if domain == "math" and arm != "sound":
                for series, style in (("reward", "--"), ("passed_wrongly", ":")):
                    values = [look["domains"][domain][series] for look in looks]
                    label = f"{series.replace('_', ' ')}, {arm}"
                    axis.plot(steps, values, color=COLOURS[arm], linestyle=style, label=label)
            for alert in run["alerts"]:
                if alert["domain"] == domain:
                    style = "-" if alert["kind"] == "collapse" else "-."
                    axis.axvline(alert["updates"], color="black", linestyle=style, linewidth=1, alpha=0.5)
        axis.set_title(title)
        axis.set_xlabel("updates")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("of the audit problems' responses")
    for axis in axes[:2]:
        axis.legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
