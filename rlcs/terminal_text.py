"""Text of a policy or of data made fit for a terminal, and numbers as small curves.

What a policy writes is hostile: an escape sequence in it could move the cursor, rename the window or type into the shell.
"""

import math
import re
import unicodedata
from collections.abc import Sequence

from rich.text import Text

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=*#%@"
_MARKS = 2  # combining marks that stay on one letter; more would grow over the lines around it
_THOUGHT = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)
_BOX = re.compile(r"<\|begin_of_box\|>.*?(<\|end_of_box\|>|$)", re.DOTALL)


def printable(text: str, most: int | None = None, *, ascii_only: bool = False) -> str:
    """`text` on one line with nothing in it that a terminal obeys: control and format characters (escape sequences, marks of
    writing direction, what has no width) and lone surrogates go, line ends become "⏎". Of more than `most` characters the
    middle is left out, since what is answered stands at the end.
    """
    if most is not None and len(text) > most:
        head = most // 3
        text = f"{text[:head]} … {text[len(text) - (most - head) :]}"
    kept: list[str] = []
    marks = 0
    for character in text:
        kind = unicodedata.category(character)
        if character in "\n\r\u2028\u2029\v\f\x85":
            kept.append(" ⏎ ")
        elif character == "\t" or kind == "Zs":
            kept.append(" ")
        elif kind[0] == "C":
            continue
        else:
            marks = marks + 1 if kind[0] == "M" else 0
            if marks > _MARKS:
                continue
            kept.append(character)
    line = re.sub(" {2,}", " ", "".join(kept)).strip()
    return line.replace("⏎", "/").replace("…", "...").encode("ascii", "replace").decode() if ascii_only else line


def response_text(line: str) -> Text:
    """A response with its thought dimmed and its box marked; `line` as from `printable`."""
    text = Text(line)
    for found in _THOUGHT.finditer(line):
        text.stylize("dim", *found.span())
    for found in _BOX.finditer(line):
        text.stylize("bold", *found.span())
    return text


def sparkline(values: Sequence[float | None], width: int, *, ascii_only: bool = False) -> str:
    """At most `width` bars, each the mean of its part of `values`, from the lowest to the highest of them; these count as
    a tenth apart at least, so that chance does not look like a curve. A part in which nothing is known is blank.
    """
    count = min(width, len(values))
    means: list[float] = []
    for bar in range(count):
        part = [value for value in values[len(values) * bar // count : len(values) * (bar + 1) // count] if value is not None]
        known = [value for value in part if math.isfinite(value)]
        means.append(sum(known) / len(known) if known else math.nan)
    known = [mean for mean in means if mean == mean]
    if not known:
        return ""
    low, span = min(known), max(max(known) - min(known), 0.1)
    bars = _ASCII_BARS if ascii_only else _BARS
    return "".join(" " if mean != mean else bars[min(int((mean - low) / span * len(bars)), len(bars) - 1)] for mean in means)
