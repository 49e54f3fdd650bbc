"""Draws a pre-training log: `python -m rlcs.nano.curve runs/nano/log.jsonl docs/images/nano_pretraining.png`."""

import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("Agg")

import typer
from matplotlib import colormaps
from matplotlib import pyplot as plt


def read_log(path: Path) -> list[dict[str, Any]]:
    """Rows of a pre-training log, in order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def draw_log(rows: list[dict[str, Any]], png: Path) -> None:
    """Loss over steps, and the share of held-out documents of each kind that were wholly right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    left.plot([row["step"] for row in rows], [row["loss"] for row in rows], linewidth=1.2)
    left.set(xlabel="step", ylabel="loss, nats a target token", yscale="log", title="training loss (the mixture hardens)")
    measured = [row for row in rows if any(key.startswith("accuracy/") for key in row)]
    kinds = sorted({key for row in measured for key in row if key.startswith("accuracy/")})
    for place, key in enumerate(kinds):
        colour = colormaps["tab20"](2 * place % 20 + 2 * place // 20)  # the strong colours first, then the pale ones
        right.plot(
            [row["step"] for row in measured],
            [row.get(key) for row in measured],
            label=key.removeprefix("accuracy/"),
            color=colour,
        )
    right.set(xlabel="step", ylabel="documents wholly right", ylim=(0, 1), title="held-out documents, teacher-forced")
    right.legend(fontsize=7, ncols=2, loc="upper left")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=110)
    plt.close(figure)


def main(
    log: Annotated[Path, typer.Argument(help="log.jsonl of a pre-training run")],
    png: Annotated[Path, typer.Argument(help="image to write")],
) -> None:
    """Draw a pre-training log."""
    draw_log(read_log(log), png)


if __name__ == "__main__":
    typer.run(main)
