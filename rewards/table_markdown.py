"""Reads Markdown pipe tables."""

from __future__ import annotations

import re

from rewards.table_tree import Table, TableBuilder, TableError, unescape

_DELIMITER_CELL = re.compile(r":?-+:?")
_PIPE = re.compile(r"(?<!\\)\|")
_EMPHASIS = re.compile(r"(\*\*|__)(?=\S)([^*_\n]*\S)\1")
_INLINE_TAG = re.compile(r"</?([a-zA-Z]{1,8})(?: [^<>]{0,40})?/?>")


def read_markdown(text: str, *, max_nodes: int, max_tables: int = 1) -> Table:
    """Pipe tables (GitHub Flavored Markdown, section 4.10): a header row, a delimiter row of as many cells, then rows.

    Raises TableError: no table, more than `max_tables` tables or `max_nodes` nodes.
    """
    builder = TableBuilder(max_nodes)
    lines = text.split("\n")
    tables = at = 0
    while at + 1 < len(lines):
        header = _markdown_cells(lines[at])
        if not header or not _is_delimiter(lines[at + 1], len(header)):
            at += 1
            continue
        tables += 1
        begin = len(builder.kinds)
        row: list[str] | None = header
        at += 2
        while row:
            first = len(builder.kinds)
            for cell in [*row, *[""] * (len(header) - len(row))][: len(header)]:
                builder.add("td", len(builder.kinds), cell)
            builder.add("tr", first)
            row = _markdown_cells(lines[at]) if at < len(lines) else None
            at += 1
        builder.add("table", begin)
    if not tables:
        raise TableError("no-table")
    if tables > max_tables:
        raise TableError("many-tables")
    if tables > 1:
        builder.add("tables", 0)
    return builder.table(0, markdown=True)


def _parts(line: str) -> list[str]:
    """What stands between the pipes of a line; nothing when it has none."""
    line = line.strip()
    if "|" not in line:
        return []
    parts = _PIPE.split(line.removeprefix("|"))
    return parts[:-1] if len(parts) > 1 and not parts[-1].strip() else parts


def _is_delimiter(line: str, count: int) -> bool:
    parts = _parts(line) or [line]
    return len(parts) == count and all(_DELIMITER_CELL.fullmatch(part.strip()) for part in parts)


def _markdown_cells(line: str) -> list[str]:
    """The cells of a row, without emphasis and inline tags."""
    cells = (_EMPHASIS.sub(r"\2", part.replace("\\|", "|")) for part in _parts(line))
    return [" ".join(unescape(_INLINE_TAG.sub(_markdown_tag, cell)).split()) for cell in cells]


def _markdown_tag(match: re.Match[str]) -> str:
    return " " if match.group(1).lower() == "br" else ""
