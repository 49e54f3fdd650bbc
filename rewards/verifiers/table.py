"""Tables: TEDS, the similarity of two tables as trees, from HTML or Markdown.

Source: Zhong et al., "Image-based table recognition: data, model, and evaluation", arXiv 1911.10683, section 4. The
numbers are those of the authors' published scorer but where a policy could be paid for it (docs/verifiers/table.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rewards import stream_safe
from rewards.registry import BadReference, Context, Outcome, verifier
from rewards.table_html import has_html_table, read_html
from rewards.table_markdown import read_markdown
from rewards.table_tree import CELLS, Table, TableError

MAX_CHARS = 1 << 17
MAX_TABLES = 16


@dataclass(frozen=True)
class TableArgs:
    """Arguments of the `table` verifier."""

    mode: Literal["teds", "structure"] = "teds"
    """Compare cells' contents, too, or only the structure (TEDS-S)."""
    whitespace: Literal["collapse", "exact"] = "collapse"
    """White space in a cell as HTML shows it (runs are one space, none at the ends), or as it stands."""
    header_cells: Literal["distinct", "same"] = "distinct"
    """Whether a `th` is another node than a `td`."""
    format: Literal["any", "html"] = "any"
    """Whether an answer may be a Markdown table; against an HTML one only rows and plain cell texts are compared."""
    inline: Literal["bounded", "published"] = "bounded"
    """Inline elements of the answer count in its size up to the reference's number, or all as in the published scorer."""
    threshold: float = 1.0
    """The score from which the answer counts as correct; 1.0 means an equal table."""
    max_nodes: int = 1500
    """Nodes of a table from which on it is refused: the answer scores 0, a reference is bad."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference's table (or tables), and how many it has."""

    table: Table
    tables: int


def read_table(text: str, args: TableArgs, max_tables: int) -> Table:
    """The table in a text, HTML or Markdown; what stands around it, a code fence for one, is left aside.

    Raises TableError when there is none, or more than `max_tables`, or it is too large.
    """
    if len(text) > MAX_CHARS:
        raise TableError("answer-too-long")
    text = stream_safe.normalise("NFC", text)
    if not has_html_table(text):
        return read_markdown(text, max_nodes=args.max_nodes, max_tables=max_tables)
    return read_html(
        text,
        max_nodes=args.max_nodes,
        max_tables=max_tables,
        whitespace=args.whitespace,
        header_cells=args.header_cells,
    )


def read_reference(raw: Any, args: TableArgs) -> Reference:
    """The reference's tables. Raises BadReference when there are none, too many or too large ones."""
    if not isinstance(raw, str):
        raise BadReference("not-text")
    try:
        table = read_table(raw, args, MAX_TABLES)
    except TableError as error:
        raise BadReference("too-long" if str(error) == "answer-too-long" else str(error)) from error
    return Reference(table, sum(tag == "table" for tag, _, _ in table.kinds))


@verifier(
    "table", domains=("table",), args=TableArgs, reference=read_reference, libraries=("rewards.teds", "rapidfuzz.process")
)
def table(answer: str, reference: Reference, context: Context) -> Outcome:
    """TEDS of the two tables; 0 for text without a table, or with more tables than the reference has."""
    from rewards.teds import teds

    args: TableArgs = context.args
    context.note("reference", _described(reference.table))
    try:
        found = read_table(answer, args, reference.tables)
    except TableError as error:
        return Outcome(0.0, False, str(error))
    context.note("answer", _described(found))
    if found.markdown and not reference.table.markdown and args.format == "html":
        return Outcome(0.0, False, "no-table")
    structure_only = args.mode == "structure"
    score = teds(found, reference.table, structure_only=structure_only, bound_inline=args.inline == "bounded")
    context.note("rule", "TEDS" if args.mode == "teds" else "TEDS of the structure")
    return Outcome(score, score >= args.threshold, None if score == 1.0 else "table-differs")


def _described(found: Table) -> str:
    rows = sum(tag == "tr" for tag, _, _ in found.kinds)
    cells = sum(tag in CELLS for tag, _, _ in found.kinds)
    return f"{'Markdown' if found.markdown else 'HTML'} table, {rows} rows, {cells} cells, {found.inline} inline elements"
