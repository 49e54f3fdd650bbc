"""SFT examples: strict loading, rejection of responses that break the format, and the non-thinking form."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards import parse_response
from rewards.format import THINK_CLOSE, THINK_OPEN, Style
from rollout.messages import Message, check_messages, parts_of, text_of
from sft.data_record import Line

NOTHINK = "/nothink"
EMPTY_THOUGHT = f"{THINK_OPEN}{THINK_CLOSE}\n"
_REQUIRED = {"id": str, "domain": str, "messages": list}
_OPTIONAL = {"tier": str, "source": str}


class DataError(ValueError):
    """A line that is not an example; the message names file, line, id, what was found, what was expected and the mend."""


@dataclass(frozen=True, eq=False)
class Example:
    """A conversation that ends with a well-formed response. `thinks`: whether that holds a thought; without one, the
    example is in non-thinking form already. Media paths are relative to `root`.
    """

    id: str
    domain: str
    messages: Sequence[Message]
    thinks: bool
    root: Path

    def form(self, *, nothink: bool) -> Sequence[Message]:
        """The messages as they are, or in non-thinking form."""
        return as_nothink(self.messages) if nothink or not self.thinks else self.messages


@dataclass(frozen=True)
class LoadedExamples:
    """The examples of a file, and the ids of those rejected, by reason."""

    examples: list[Example]
    rejected_ids: dict[str, list[str]]

    @property
    def rejected(self) -> dict[str, int]:
        """How many were rejected for each reason."""
        return {reason: len(ids) for reason, ids in self.rejected_ids.items()}


def load_examples(path: str | Path, *, style: Style = "box") -> LoadedExamples:
    """Reads JSON Lines of {"id", "domain", "messages"}.

    An example whose response breaks the format is rejected, for the reason that `rewards.parse_response` gives or, for a
    thought in answer to `/nothink`, "thought-after-nothink". Raises DataError for a line that is no example at all, for
    media that are missing, and when no example is left.
    """
    path = Path(path)
    examples: list[Example] = []
    rejected: dict[str, list[str]] = {}
    line_of: dict[str, int] = {}
    for number, row in _rows(path):
        id = row["id"]
        if id in line_of:
            raise DataError(
                f"{path}, line {number}: id {id!r} is that of line {line_of[id]} too; expected ids used once; rename one"
            )
        line_of[id] = number
        _check_media(row["messages"], path.parent, f"{path}, line {number}, id {id!r}")
        reason, thinks = judge_format(row["messages"], style)
        if reason is not None:
            rejected.setdefault(reason, []).append(id)
        else:
            examples.append(Example(id, row["domain"], row["messages"], thinks, path.parent))
    if not examples:
        counts = ", ".join(f"{len(ids)} {reason}" for reason, ids in rejected.items()) or "the file has no line"
        raise DataError(
            f"{path}: no example is left to train on ({counts}); expected responses in style {style!r}, see docs/sft.md"
        )
    return LoadedExamples(examples, rejected)


def judge_format(messages: Sequence[Message], style: Style) -> tuple[str | None, bool]:
    """(why an example that ends with this response is not trained on, or None; whether the response holds a thought)."""
    parsed = parse_response(text_of(messages[-1]), style)
    thinks = bool((parsed.think or "").strip())
    if parsed.reason is None and thinks and any(_switched_off(message) for message in messages):
        return "thought-after-nothink", thinks
    return parsed.reason, thinks


def as_nothink(messages: Sequence[Message]) -> list[Message]:
    """The non-thinking form: `/nothink` ends every user turn, the response has an empty thought and keeps its answer part.

    These are the tokens of a non-thinking prompt followed by the answer. GLM-4.5V's non-thinking data are made this way
    (arXiv 2507.01006): better than separate data, since both forms teach the same answers.
    """
    answer = text_of(messages[-1]).rpartition(THINK_CLOSE)[2].lstrip("\n")
    rewritten: list[Message] = [_switch_off(message) if message["role"] == "user" else message for message in messages[:-1]]
    return [*rewritten, {"role": "assistant", "content": EMPTY_THOUGHT + answer}]


def lines_of(examples: Sequence[Example]) -> Iterator[Line]:
    """The examples as what `sft.data_record` compares when a run is resumed."""
    for example in examples:
        yield Line(example.id, [example.id, example.domain, example.messages], example.messages, example.root)


def _switched_off(message: Message) -> bool:
    parts = parts_of(message)
    return message["role"] == "user" and bool(parts) and parts[-1].get("text", "").endswith(NOTHINK)


def _switch_off(message: Message) -> Message:
    if _switched_off(message):
        return message
    content = message["content"]
    switched = content + NOTHINK if isinstance(content, str) else [*content, {"type": "text", "text": NOTHINK}]
    return {"role": "user", "content": switched}


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, checked object) of every line that is not blank."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _checked(line, f"{path}, line {number}")


def _checked(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:  # of JSON or of UTF-8
        raise DataError(f"{where}: {error}; found {line[:60]!r}, expected one JSON object; mend or delete the line") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: found {line[:60]!r}, expected a JSON object with {', '.join(_REQUIRED)}")
    if isinstance(row.get("id"), str):
        where += f", id {row['id']!r}"
    for name in _REQUIRED:
        if name not in row:
            raise DataError(f"{where}: no field {name!r}, found {sorted(row)}; expected {', '.join(_REQUIRED)}; add it")
    for name, value in row.items():
        known = (_REQUIRED | _OPTIONAL).get(name)
        if known is None:
            raise DataError(
                f"{where}: unknown field {name!r}; expected {', '.join(_REQUIRED | _OPTIONAL)}; delete or rename it"
            )
        if not isinstance(value, known) or not value:
            raise DataError(f"{where}: {name} is {value!r}; expected a {known.__name__} that is not empty")
    for place, message in enumerate(row["messages"]):
        if not isinstance(message, dict):
            raise DataError(f"{where}: message {place} is {message!r}; expected an object with role and content")
    try:
        check_messages(row["messages"], media=("image", "video"), name=f"{where}: ")
    except ValueError as error:
        raise DataError(str(error)) from error
    roles = [message["role"] for message in row["messages"]]
    if roles[-1] != "assistant" or "user" not in roles:
        raise DataError(f"{where}: the roles are {roles}; expected a user's turn and, last, the assistant's response to it")
    if any(
        part["type"] != "text" for message in row["messages"] if message["role"] == "assistant" for part in parts_of(message)
    ):
        raise DataError(f"{where}: media in an assistant's turn; expected text alone; move them to the user's turn")
    return row


def _check_media(messages: Sequence[Message], root: Path, where: str) -> None:
    for part in (part for message in messages for part in parts_of(message) if part["type"] != "text"):
        named = part[part["type"]]
        for name in [named] if isinstance(named, str) else named if isinstance(named, list) and named else [None]:
            if not isinstance(name, str):
                raise DataError(f"{where}: the {part['type']} is {named!r}; expected a path, relative to the file's directory")
            if not (root / name).exists():
                raise DataError(
                    f"{where}: {part['type']} {name!r} is missing, expected {root / name}; add it, or mend the path"
                )
