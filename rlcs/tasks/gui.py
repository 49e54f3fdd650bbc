"""Acting on a rendered screen of labelled widgets. The answer is an action as JSON with a box in 0-1000 coordinates.

Level 1: one button or text field, with a label of one or two letters. 2: two buttons with one-letter labels. 3: four widgets,
text fields among them. 4: two-letter labels that share letters, widgets off the grid. 5: the target named by its place beside
another widget.
"""

import json
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from rlcs.tasks.base import Sample, check_level
from rlcs.tasks.glyphs import CELL, READABLE, Colour, draw_row

ROWS, COLUMNS = 4, 5
WIDTH, HEIGHT = COLUMNS * CELL, ROWS * CELL
PAPER: Colour = (236, 238, 242)
BUTTONS: tuple[Colour, ...] = ((64, 120, 220), (200, 70, 60), (40, 140, 80), (120, 80, 170))


@dataclass(frozen=True)
class Widget:
    """A labelled button, or a text field (`field`), whose first cell is (row, column), displaced by `shift` pixels."""

    label: str
    row: int
    column: int
    field: bool = False
    shift: tuple[int, int] = (0, 0)

    @property
    def box(self) -> list[int]:
        """Its rectangle [x1, y1, x2, y2] in thousandths of the screen's width and height."""
        left = self.column * CELL + self.shift[0]
        top = self.row * CELL + self.shift[1]
        right, bottom = left + CELL * len(self.label), top + CELL
        return [round(1000 * v / size) for v, size in ((left, WIDTH), (top, HEIGHT), (right, WIDTH), (bottom, HEIGHT))]

    @property
    def place(self) -> str:
        return f"row {self.row + 1} column {self.column + 1}"


def render_screen(widgets: list[Widget], rng: np.random.Generator) -> Image.Image:
    """Draws the widgets: buttons filled with a colour and white letters, text fields white with a frame and dark letters."""
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(image)
    for widget in widgets:
        left, top = widget.column * CELL + widget.shift[0], widget.row * CELL + widget.shift[1]
        frame = (left, top, left + CELL * len(widget.label) - 1, top + CELL - 1)
        if widget.field:
            pen.rectangle(frame, fill=(255, 255, 255), outline=(60, 60, 60))
        else:
            pen.rounded_rectangle(frame, radius=5, fill=BUTTONS[int(rng.integers(len(BUTTONS)))])
        draw_row(image, widget.label, left, top, size=22, colour=(40, 40, 40) if widget.field else (255, 255, 255))
    return image


def draw_labels(rng: np.random.Generator, count: int, width: int, *, alphabet: str = READABLE) -> list[str]:
    """`count` different labels of `width` characters."""
    labels: list[str] = []
    while len(labels) < count:
        label = "".join(rng.choice(list(alphabet), width))
        if label not in labels:
            labels.append(label)
    return labels


def lay_out(rng: np.random.Generator, labels: list[str], *, fields: bool = False, off_grid: bool = False) -> list[Widget]:
    """Places labels of one width on free cells in reading order; some become text fields.

    `off_grid` leaves the last row free and moves the whole layout by a random part of a cell, so that no box falls on
    round numbers and no widget covers another.
    """
    width = len(labels[0])
    rows = ROWS - 1 if off_grid else ROWS
    slots = [(row, column) for row in range(rows) for column in range(0, COLUMNS - width + 1, width)]
    chosen = sorted(rng.choice(len(slots), len(labels), replace=False).tolist())
    dx, dy = (int(v) for v in rng.integers(0, CELL, 2)) if off_grid else (0, 0)
    return [
        Widget(label, slots[slot][0], slots[slot][1], field=fields and bool(rng.integers(2)), shift=(dx, dy))
        for label, slot in zip(labels, chosen, strict=True)
    ]


def action_json(widget: Widget, text: str | None = None) -> str:
    """`click` on the widget, or `input_text` into it, as JSON without spaces."""
    action: dict[str, object] = {"action_type": "click" if text is None else "input_text"}
    if text is not None:
        action["text"] = text
    action["box_2d"] = [widget.box]
    return json.dumps(action, separators=(",", ":"))


def _neighbours(widgets: list[Widget]) -> list[tuple[Widget, str, Widget]]:
    """(anchor, relation, target) for the next widgets in the same row or the same column."""
    found = []
    for anchor in widgets:
        right = [w for w in widgets if w.row == anchor.row and w.column > anchor.column]
        below = [w for w in widgets if w.column == anchor.column and w.row > anchor.row]
        if right:
            found.append((anchor, "right of", min(right, key=lambda w: w.column)))
        if below:
            found.append((anchor, "below", min(below, key=lambda w: w.row)))
    return found


def box_text(widget: Widget) -> str:
    """Its box as working and captions write it: `[400,250,600,500]`."""
    return f"[{','.join(map(str, widget.box))}]"


def describe(widget: Widget) -> str:
    """A widget as working and captions write it: `K [400,250,600,500]`."""
    return f"{widget.label} {box_text(widget)}"


def search(widgets: list[Widget], wanted: Widget) -> str:
    """Going through the labels in reading order up to the wanted one: `K no; Q no; F yes`."""
    passed = [f"{widget.label} no; " for widget in widgets[: widgets.index(wanted)]]
    return f"{''.join(passed)}{wanted.label} yes"


class GuiFamily:
    """See the module's docstring. The working goes through the labels until one is the one asked for."""

    domain = "gui"
    levels = 5

    def generate(self, rng: np.random.Generator, level: int) -> Sample:
        check_level(self, level)
        if level == 1:
            widgets = lay_out(rng, draw_labels(rng, 1, int(rng.integers(1, 3))), fields=True)
        elif level <= 3:
            widgets = lay_out(rng, draw_labels(rng, 2 * level - 2, 1), fields=level == 3)
        else:
            few = "".join(rng.choice(list(READABLE), 4, replace=False))
            widgets = lay_out(rng, draw_labels(rng, level, 2, alphabet=few), fields=True, off_grid=True)
        image = render_screen(widgets, rng)
        if level == 5:
            pairs = _neighbours(widgets)
            anchor, relation, target = pairs[int(rng.integers(len(pairs)))]
            asked = f"the one {relation} {anchor.label}"
            working = f"{search(widgets, anchor)}, {relation} it {describe(target)}"
        else:
            target = widgets[int(rng.integers(len(widgets)))]
            asked = target.label
            working = f"{search(widgets, target)}, {describe(target)}"
        text = "".join(rng.choice(list(READABLE), 2)) if target.field else None
        question = f"Click {asked}" if text is None else f"Type {text} into {asked}"
        answer = action_json(target, text)
        content = f"{asked}\n{answer}"
        return Sample(question, json.loads(answer), working, answer, f"find {asked}", content, image=image)
