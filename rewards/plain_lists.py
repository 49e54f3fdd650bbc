"""Lists and labelled pairs as people write them: "[2010, 2011]", "China and India", "A-Paris, B-Berlin"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rewards.literals import LiteralError, read_literal
from rewards.plain_text import compose, fold

_BRACKETS = {"[": "]", "(": ")", "{": "}"}
# A comma between digits and before three of them groups thousands ("1,234"); one followed by a space never does.
_SEPARATOR = re.compile(r"[;；、\n]|[,，](?!\d{3}(?!\d))|(?<!\d)[,，]|\band\b|(?<=[\u4e00-\u9fff])[和与](?=[\u4e00-\u9fff])")
# "A-Paris", "(A) Paris", "A. Paris"; but not "10-20", "1:30" and "1.5".
_PAIR = re.compile(
    r"(?:^|(?<=[\s,;，；、(]))\(?([a-z]|\d{1,2})(?:\)\s*(?:->|[-:=→：])?|\s*(?:->|[=→]|(?:[-:：.、])(?!(?<=\d[-:：.、])\d)))\s*(?=\S)"
)
MAX_CHARS = 4_000


def read_list(text: str) -> tuple[bool, list[str]]:
    """Whether the list stands in brackets, and its items; one item when the text is no list."""
    text = compose(text).strip()
    if len(text) > MAX_CHARS:
        return False, [text]
    bracketed = len(text) > 1 and _BRACKETS.get(text[0]) == text[-1]
    if bracketed:
        try:
            value = read_literal(text) if text[0] == "[" else None
        except LiteralError:
            value = None
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            return True, value
        text = text[1:-1]
    parts = [part.strip().strip("'\"").strip() for part in _SEPARATOR.split(text)]
    return bracketed, [part for part in parts if part]


def read_pairs(text: str) -> dict[str, str]:
    """The labelled pairs of "A-Paris, B-Berlin" or "1: x 2: y" (label -> value, folded); empty unless at least two.

    Labels are single letters or small numbers; one that comes twice makes it no list of pairs.
    """
    text = compose(text).casefold()
    marks = list(_PAIR.finditer(text)) if len(text) <= MAX_CHARS else []
    if len(marks) < 2 or text[: marks[0].start()].strip(" ([{"):
        return {}
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    found = {mark[1]: fold(text[mark.end() : end]).strip("()[]{}") for mark, end in zip(marks, ends, strict=True)}
    return found if len(found) == len(marks) and all(found.values()) else {}


def can_pair(allowed: Sequence[Sequence[bool]]) -> bool:
    """Whether every row can have a column of its own among its allowed ones (bipartite matching, by augmenting paths)."""
    holder: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, possible in enumerate(allowed[row]):
            if possible and column not in seen:
                seen.add(column)
                if column not in holder or place(holder[column], seen):
                    holder[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(allowed)))
