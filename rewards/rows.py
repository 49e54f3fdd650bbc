"""One line of the `rlcs score` input: what must be there, of which type, and a clear word when it is not."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewards import registry

_REQUIRED = ("id", "domain", "answer", "response")
_OPTIONAL = ("question", "verifier", "verifier_args")
_MISTAKEN = {
    **dict.fromkeys(("args", "kwargs", "verifier_kwargs"), "rename it to 'verifier_args', or remove it"),
    **dict.fromkeys(("check", "checks"), "it holds for all rows: give it as an option of the call, and remove it"),
}
"""Fields that would change the score if they were what they look like, and what to do about them."""


class RowError(ValueError):
    """A row cannot be scored as it stands. The message names the row, the field, what was found and the mend."""


@dataclass(frozen=True, slots=True)
class Row:
    """A checked row; `entry` and `args` are the verifier it goes to and its arguments."""

    id: str
    domain: str
    reference: Any
    response: str
    question: str | None
    entry: registry.Verifier
    args: Any
    raw_args: Mapping[str, Any]


def read_row(raw: Any, where: str) -> Row:
    """The checked row. `where` names its place ("line 3 of x.jsonl") in the RowError raised when it is unusable."""
    if not isinstance(raw, Mapping):
        raise RowError(f"{where}: found {_kind(raw)}, expected a JSON object with the keys {', '.join(_REQUIRED)}")
    where = f"{where}, id {raw['id']!r}" if "id" in raw else where
    for key in _REQUIRED:
        if key not in raw:
            near = difflib.get_close_matches(key, [k for k in raw if k not in _REQUIRED + _OPTIONAL], n=1)
            mend = f"rename {near[0]!r} to {key!r}" if near else f"add the key {key!r}"
            raise RowError(f"{where}: field {key!r} is missing; found the keys {', '.join(map(str, raw))}; {mend}")
    for key in raw:
        if key in _REQUIRED + _OPTIONAL:
            continue
        # Ignoring other keys is harmless, but an argument not taken as one would silently change the score.
        if key in _MISTAKEN:
            raise RowError(f"{where}: unknown field {key!r}; {_MISTAKEN[key]}")
        near = difflib.get_close_matches(str(key), _OPTIONAL, n=1, cutoff=0.8)
        if near:
            raise RowError(f"{where}: unknown field {key!r}; expected {near[0]!r}; correct the spelling or remove it")
    for key in ("domain", "response"):
        if not isinstance(raw[key], str):
            raise RowError(f"{where}: field {key!r} is {_kind(raw[key])}; expected text; write it as a JSON string")
    for key, kind in (("question", str), ("verifier", str), ("verifier_args", Mapping)):
        if raw.get(key) is not None and not isinstance(raw[key], kind):
            wanted = "an object" if kind is Mapping else "text"
            raise RowError(f"{where}: field {key!r} is {_kind(raw[key])}; expected {wanted}, null, or no such key")
    try:
        entry = registry.find(raw["domain"], raw.get("verifier"))
    except registry.UnknownNameError as error:
        field = "domain" if raw.get("verifier") is None else "verifier"
        raise RowError(f"{where}: field {field!r}: {error}; use a known name") from error
    try:
        args = registry.build_args(entry, raw.get("verifier_args"))
    except ValueError as error:
        raise RowError(f"{where}: field 'verifier_args': {error}; correct or remove it") from error
    return Row(
        str(raw["id"]),
        raw["domain"],
        raw["answer"],
        raw["response"],
        raw.get("question"),
        entry,
        args,
        dict(raw.get("verifier_args") or {}),
    )


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "an object")
