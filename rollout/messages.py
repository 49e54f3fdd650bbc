"""Chat messages as they come from data files: their shape, their checks, and the plain view of their parts."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
ROLES = ("system", "user", "assistant")


def parts_of(message: Message) -> list[Mapping[str, Any]]:
    """Content as a list of parts in which neighbouring texts are joined, as chat templates print them."""
    content = message["content"]
    parts: list[Mapping[str, Any]] = []
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        if parts and part["type"] == parts[-1]["type"] == "text":
            parts[-1] = {"type": "text", "text": parts[-1]["text"] + part["text"]}
        else:
            parts.append(part)
    return parts


def text_of(message: Message) -> str:
    """All text of a message, media left out."""
    return "".join(part["text"] for part in parts_of(message) if part["type"] == "text")


def check_messages(messages: Sequence[Message], *, media: Collection[str], name: str = "") -> None:
    """Raises ValueError, beginning with `name`, at the first message that cannot be rendered; `media` are the kinds of
    part besides text ("image", "video") that the checkpoint takes.
    """
    if not messages:
        raise ValueError(f"{name}no messages; expected at least one")
    for index, message in enumerate(messages):
        where = f"{name}message {index}"
        if message.get("role") not in ROLES:
            raise ValueError(f"{where}: role {message.get('role')!r}; expected one of {', '.join(ROLES)}")
        if index and message["role"] == messages[index - 1]["role"] == "assistant":
            raise ValueError(f"{where}: two assistant turns in a row; join them into one")
        content = message.get("content")
        for part in [] if isinstance(content, str) else content if isinstance(content, list | tuple) else [content]:
            _check_part(part, media, where)


def _check_part(part: object, media: Collection[str], where: str) -> None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind not in ("text", "image", "video") or kind not in part:
        raise ValueError(f"{where}: content part {part!r}; expected {{'type': T, T: ...}}, T one of text, image, video")
    if kind == "text" and not isinstance(part["text"], str):
        raise ValueError(f"{where}: text part holds {part['text']!r}; expected a string")
    if kind != "text" and kind not in media:
        raise ValueError(f"{where}: a part of type {kind}, but this checkpoint takes none; drop the part")
