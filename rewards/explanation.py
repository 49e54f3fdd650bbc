"""How a verdict came about, as data (`rewards.explain`) and as a page for a person (`rlcs score --explain ID`)."""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewards import api
from rewards.format import BOX_CLOSE, BOX_OPEN, Style
from rewards.jobs import Notes
from rewards.rows import Row, read_row
from rewards.verdict import Verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MAX_SHOWN_CHARS = 4000
"""A longer text is shown by its two ends."""


@dataclass(frozen=True)
class Explanation:
    """A verdict with every step that led to it.

    `candidate` holds the parts of the response (think, answer part, box) and the answer or the format fault found;
    `notes` what the verifier recorded: the normal forms "reference" and "answer", and the "rule" that decided. They are
    missing where it did not come so far: a format error, a bad reference, a worker that was killed.
    """

    verdict: Verdict
    row: Row
    style: Style
    checks: tuple[str, ...]
    candidate: api.Candidate
    notes: Notes

    @property
    def verifier(self) -> str:
        """Name of the verifier that decided."""
        return self.row.entry.name

    @property
    def rule(self) -> str | None:
        """The rule that decided, in the verifier's words."""
        return next((value for name, value in reversed(self.notes) if name == "rule"), None)

    @property
    def changed_args(self) -> dict[str, Any]:
        """The verifier's arguments that are not at their defaults."""
        args = self.row.args
        values = {field.name: getattr(args, field.name) for field in dataclasses.fields(args)}
        return {name: value for name, value in values.items() if value != getattr(self.row.entry.args(), name)}


def explain(
    response: str,
    reference: Any,
    *,
    domain: str,
    question: str | None = None,
    args: Mapping[str, Any] | None = None,
    verifier: str | None = None,
    style: Style = "box",
    checks: Sequence[str] = (),
) -> Explanation:
    """What `score` does with the same arguments, and how. In the calling process; `ScorePool.explain` has limits.

    Raises ValueError as `score` does.
    """
    api.known_checks(checks)
    raw = {"id": "-", "domain": domain, "answer": reference, "response": response}
    row = read_row({**raw, "question": question, "verifier": verifier, "verifier_args": args}, "explain")
    found = api.read_response(response, row.entry, style)
    fault = found.fault or api.style_fault(found.parsed, question, checks)
    notes: list[tuple[str, str]] = []
    verdict = api.judge(found.answer, fault, reference, row.entry, row.args, question, notes)
    return Explanation(verdict, row, style, tuple(checks), found, tuple(notes))


def print_explanation(explanation: Explanation, console: Console) -> None:
    """Lay the explanation out in two columns, the response's box highlighted."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    row, verdict, found = explanation.row, explanation.verdict, explanation.candidate
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, title_justify="left", title_style="bold")
    table.title = Text(f"{visible(row.id)}: domain {visible(row.domain)}, verifier {explanation.verifier}")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def line(name: str, value: object) -> None:
        if value is not None:
            table.add_row(name, value if isinstance(value, Text) else Text(visible(str(value))))

    line("question", row.question)
    line("response", _highlighted(row.response))
    line("format", found.fault or f"well-formed (style {explanation.style})")
    line("answer", found.answer if found.answer is None else visible_literal(found.answer))
    line("reference", visible_literal(row.reference))
    line("arguments", ", ".join(f"{name}={value!r}" for name, value in explanation.changed_args.items()) or None)
    line("checks", ", ".join(explanation.checks) or None)
    for name, value in explanation.notes:
        line({"reference": "reference is", "answer": "answer is"}.get(name, name), value)
    line("verdict", _verdict_line(verdict))
    console.print(table)


def _verdict_line(verdict: Verdict) -> Text:
    from rich.text import Text

    said = {True: ("correct", "bold green"), False: ("wrong", "bold red"), None: ("no score", "bold yellow")}
    text = Text.assemble(said[verdict.correct])
    text.append(f", score {verdict.score:.6g}" if verdict.score is not None else "")
    text.append(f", status {verdict.status}")
    text.append(f", reason {visible(verdict.reason)}" if verdict.reason else "")
    return text


def _highlighted(response: str) -> Text:
    """The response with box tokens and what they enclose set off, the ends of long stretches between them only."""
    from rich.text import Text

    text = Text()
    inside = False
    tokens = re.split(f"({re.escape(BOX_OPEN)}|{re.escape(BOX_CLOSE)})", response)
    if len(tokens) > 41:  # a response full of tokens is shown as plain text
        return Text(visible(response))
    for part in tokens:
        if part in (BOX_OPEN, BOX_CLOSE):
            inside = part == BOX_OPEN
            text.append(part, "bold magenta")
        else:
            text.append(visible(part), "black on bright_yellow" if inside else "")
    return text


def visible_literal(value: object) -> str:
    """Text as it stands where its ends and line breaks can be seen; other values, and other text, in JSON."""
    if isinstance(value, str) and value and " ".join(value.split()) == value:
        return visible(value)
    try:
        return visible(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        return f"a {type(value).__name__} without a JSON form"


def visible(text: str) -> str:
    """`text` as it can be shown on a terminal: at most about MAX_SHOWN_CHARS long, what cannot be seen as <U+XXXX>.

    A policy's text must not steer the reader's terminal (escape sequences) or reorder the line (bidi controls).
    """
    if len(text) > MAX_SHOWN_CHARS:
        half = MAX_SHOWN_CHARS // 2
        text = f"{text[:half]} <{len(text) - 2 * half} more characters> {text[-half:]}"
    return "".join(_seen(char) for char in text)


def _seen(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"):
        return char
    return f"<U+{ord(char):04X}>"
