"""Reads HTML tables.

A small reader of its own rather than an HTML library: of HTML only a table's grammar is needed (with the end tags that may
be left out, WHATWG HTML 13.1.2.4), in linear time and with a depth of four whatever the policy nests. Sections are not made
up where the text has none, unlike in a browser. Everything inside a cell, a nested table too, is its content.
"""

from __future__ import annotations

import re
from typing import Literal

from rewards.table_tree import CELLS, SECTIONS, STRUCTURE, Table, TableBuilder, TableError, tag_tokens, unescape

MAX_SPAN = 1000  # the largest colspan of HTML
_MAX_OPEN = 64
_MAX_ATTRIBUTES = 2048

_RAW_TEXT = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style")}
_VOID = ("br", "hr", "img", "wbr", "input", "col")
_TABLE_TAG = re.compile(r"<table\b", re.IGNORECASE)
_TAG = re.compile(r"""<(/?)([a-zA-Z][a-zA-Z0-9]{0,30})(?![a-zA-Z0-9])((?:[^<>"']|"[^"]*"|'[^']*')*+)>""")
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'<>]+))?""")
_WHOLE = re.compile(r"\s*\+?([0-9]{1,5})\s*")


def has_html_table(text: str) -> bool:
    """Whether a table begins anywhere in the text."""
    return _TABLE_TAG.search(text) is not None


def read_html(
    text: str,
    *,
    max_nodes: int,
    max_tables: int = 1,
    whitespace: Literal["collapse", "exact"] = "collapse",
    header_cells: Literal["distinct", "same"] = "distinct",
) -> Table:
    """The table in an HTML text; what stands around it is left aside.

    Raises TableError: no table, no cells, a malformed span, more than `max_tables` tables or `max_nodes` nodes.
    """
    reader = _Reader(max_nodes, whitespace, header_cells)
    reader.read(text)
    return reader.finish(max_tables)


class _Reader:
    """The state of reading: which of table, section, row and cell are open, and where their subtrees begin."""

    def __init__(self, max_nodes: int, whitespace: str, header_cells: str) -> None:
        self.nodes = TableBuilder(max_nodes)
        self.whitespace, self.header_cells = whitespace, header_cells
        self.inline = 0
        self.tables: list[int] = []  # where each begins
        self.in_table = False
        self.section: tuple[str, int] | None = None
        self.row: int | None = None
        self.cell: tuple[str, int, int] | None = None  # tag, colspan, rowspan
        self.content: list[str] = []
        self.open: list[str] = []  # elements inside the cell

    def read(self, text: str) -> None:
        """Read to the end of the text. Each character is looked at a bounded number of times."""
        at = 0
        while at < len(text):
            start = text.find("<", at)
            self._text(text[at : start if start >= 0 else len(text)])
            if start < 0:
                return
            if text.startswith("<!--", start):
                end = text.find("-->", start + 4)
                at = end + 3 if end >= 0 else len(text)
                continue
            tag = _TAG.match(text, start)
            if tag is None:
                self._text("<")
                at = start + 1
                continue
            at = tag.end()
            self._tag(bool(tag.group(1)), tag.group(2).lower(), tag.group(3))
            raw = _RAW_TEXT.get(tag.group(2).lower())
            if raw is not None and not tag.group(1):
                closing = raw.search(text, at)
                at = closing.start() if closing else len(text)

    def finish(self, max_tables: int) -> Table:
        self._close("table")
        if not self.tables:
            raise TableError("no-table")
        if not any(tag in CELLS for tag, _, _ in self.nodes.kinds):
            raise TableError("empty-table")
        if len(self.tables) > max_tables:
            raise TableError("many-tables")
        if len(self.tables) > 1:
            self.nodes.add("tables", 0)
        return self.nodes.table(self.inline, markdown=False)

    def _text(self, text: str) -> None:
        if self.cell is not None and text:
            self.content.append(unescape(text))

    def _tag(self, closing: bool, tag: str, attributes: str) -> None:
        if not self.in_table:
            if tag == "table" and not closing:
                self.in_table = True
                self.tables.append(len(self.nodes.kinds))
        elif self.cell is not None and ("table" in self.open or tag not in STRUCTURE or (tag == "table" and not closing)):
            self._content_tag(closing, tag)
        elif closing:
            if tag in CELLS or tag in ("tr", "table") or (self.section is not None and tag == self.section[0]):
                self._close(tag)
        elif tag in CELLS:
            self._close("td")
            if self.row is None:
                self._open_row()
            name = "td" if self.header_cells == "same" else tag
            self.cell, self.content, self.open = (name, *_spans(attributes)), [], []
        elif tag == "tr":
            self._open_row()
        elif tag in SECTIONS:
            self._close(tag)
            self.section = (tag, len(self.nodes.kinds))
        elif tag == "col":
            self._close("tr")
            self.nodes.add("col", len(self.nodes.kinds))

    def _open_row(self) -> None:
        self._close("tr")
        if self.section is not None and self.section[0] in ("caption", "colgroup"):
            self._close(self.section[0])
        self.row = len(self.nodes.kinds)

    def _content_tag(self, closing: bool, tag: str) -> None:
        """An element inside a cell. Its end tag closes what is open inside it; one without a start tag is left out."""
        start, end = tag_tokens(tag)
        if not closing:
            self.inline += 1
            self.content.append(start)
            if tag in _VOID or len(self.open) >= _MAX_OPEN:
                self.content.append(end)
            else:
                self.open.append(tag)
        elif tag in self.open:
            while self.open:
                last = self.open.pop()
                self.content.append(tag_tokens(last)[1])
                if last == tag:
                    break

    def _close(self, tag: str) -> None:
        """Close the open cell, for a row's tag the row too, for a section's the section, for "table" everything."""
        if self.cell is not None:
            kind, colspan, rowspan = self.cell
            self.content += [tag_tokens(last)[1] for last in reversed(self.open)]
            text = "".join(self.content)
            if self.whitespace == "collapse":
                text = " ".join(text.split())
            self.nodes.add(kind, len(self.nodes.kinds), text, colspan, rowspan)
            self.cell = None
        if tag not in CELLS and self.row is not None:
            self.nodes.add("tr", self.row)
            self.row = None
        if tag not in CELLS and tag != "tr" and self.section is not None:
            self.nodes.add(*self.section)
            self.section = None
        if tag == "table" and self.in_table:
            self.nodes.add("table", self.tables[-1])
            self.in_table = False


def _spans(attributes: str) -> tuple[int, int]:
    """(colspan, rowspan). A value that is no whole number makes the table malformed, as in the published scorer."""
    found: dict[str, int] = {}
    for match in _ATTRIBUTE.finditer(attributes[:_MAX_ATTRIBUTES]):
        name = match.group(1).lower()
        if name in ("colspan", "rowspan") and name not in found:
            value = _WHOLE.fullmatch((match.group(2) or "").strip("\"'"))
            if value is None or int(value.group(1)) > MAX_SPAN:
                raise TableError("bad-span")
            found[name] = int(value.group(1))
    return found.get("colspan", 1), found.get("rowspan", 1)
