"""Tables as trees: table > sections > rows > cells."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

CELLS = ("td", "th")
SECTIONS = ("thead", "tbody", "tfoot", "caption", "colgroup")
STRUCTURE = ("table", "tr", "col", *SECTIONS, *CELLS)
"""The elements that are a table's nodes; all others are a cell's content."""
_INLINE = ("b", "strong", "i", "em", "u", "s", "sub", "sup", "small", "big", "font", "span", "p", "div", "a", "code", "tt",
           "del", "ins", "ul", "ol", "li", "br", "hr", "img", "wbr", "h1", "h2", "h3", "h4", "h5", "h6")  # fmt: skip

# An inline tag is one token of a cell's text: a private-use character; the end tag is the one after the start tag.
_TOKENS = {name: 0xF0000 + 2 * place for place, name in enumerate((*_INLINE, *STRUCTURE))}
_OTHER = 0xF0000 + 2 * len(_TOKENS)
_BREAK = chr(_TOKENS["br"])
_ANY_TOKEN = re.compile(f"[\U000f0000-{chr(_OTHER + 1)}]")


class TableError(ValueError):
    """The text is not one table; the message is a machine-readable reason."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as an ordered tree in postorder, one entry a node; the last is the table (or what holds several)."""

    kinds: tuple[tuple[str, int, int], ...]
    """(tag, colspan, rowspan)."""
    texts: tuple[str, ...]
    """The content of a cell, an inline tag being one character; empty for other nodes."""
    left: tuple[int, ...]
    """The first leaf of the node's subtree."""
    inline: int
    """Inline elements in the cells; they are no nodes."""
    markdown: bool
    """Written as Markdown, which has no sections, header cells or spans to compare."""

    @property
    def size(self) -> int:
        """Nodes below the table itself, as the published scorer counts them."""
        return len(self.kinds) - 1


class TableBuilder:
    """Collects nodes in postorder."""

    def __init__(self, max_nodes: int) -> None:
        self.kinds: list[tuple[str, int, int]] = []
        self.texts: list[str] = []
        self.left: list[int] = []
        self.max_nodes = max_nodes

    def add(self, tag: str, begin: int, text: str = "", colspan: int = 1, rowspan: int = 1) -> None:
        """The node `tag` above all nodes since the `begin`-th."""
        if len(self.kinds) >= self.max_nodes:
            raise TableError("too-many-nodes")
        self.kinds.append((tag, colspan, rowspan))
        self.texts.append(text)
        self.left.append(begin)

    def table(self, inline: int, markdown: bool) -> Table:
        return Table(tuple(self.kinds), tuple(self.texts), tuple(self.left), inline, markdown)


def tag_tokens(tag: str) -> tuple[str, str]:
    """The characters that stand for an inline element's start and end tag in a cell's text."""
    token = _TOKENS.get(tag, _OTHER)
    return chr(token), chr(token + 1)


def unescape(text: str) -> str:
    """`text` with character references replaced; as it stands when one has too many digits for a number."""
    try:
        return html.unescape(text)
    except ValueError:
        return text


def plain(table: Table) -> Table:
    """`table` with what Markdown cannot say taken out: sections, header cells, spans and inline markup."""
    builder = TableBuilder(len(table.kinds))
    row = first = 0  # where the next row and the next table begin
    for (tag, _, _), text in zip(table.kinds, table.texts, strict=True):
        if tag in CELLS:
            bare = _ANY_TOKEN.sub("", text.replace(_BREAK, " "))
            builder.add("td", len(builder.kinds), " ".join(bare.split()))
        elif tag == "tr":
            builder.add(tag, row)
            row = len(builder.kinds)
        elif tag == "table":
            builder.add(tag, first)
            row = first = len(builder.kinds)
        elif tag == "tables":
            builder.add(tag, 0)
    return builder.table(0, markdown=True)
