"""Whether the data of a resumed run are still those it began with, and which of them are not.

A checkpoint holds one digest for each data file (`digest`); `data.json` in the run directory holds a fingerprint of every line,
from which an error says what was added, removed or changed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollout.messages import Message, parts_of
from sft.rundir import RunDir

FILE = "data.json"
Fingerprints = dict[str, str]
"""Id -> fingerprint of one line, in the order of the file."""

_ENDS = 4096
_MOST_NAMED = 5


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a data file: what of it training reads, as JSON, and the messages whose media it reads besides."""

    id: str
    content: Any
    messages: Sequence[Message]
    root: Path


def fingerprints(lines: Iterable[Line]) -> Fingerprints:
    """64 bits of each line, in hexadecimal, over its content and the media that its messages show.

    Of a media file its size and its first and last 4 KiB count, not its date: enough to notice a picture that was made anew,
    and a million of them cost one short read each. A directory of frames counts with all its files.
    """
    known: dict[Path, bytes] = {}
    found = {}
    for line in lines:
        hashed = hashlib.blake2b(json.dumps(line.content, ensure_ascii=False, sort_keys=True).encode(), digest_size=8)
        for path in _media(line.messages, line.root):
            if path not in known:
                known[path] = _bytes_of(path)
            hashed.update(known[path])
        found[line.id] = hashed.hexdigest()
    return found


def _media(messages: Sequence[Message], root: Path) -> Iterator[Path]:
    for message in messages:
        for part in parts_of(message):
            if part["type"] != "text":
                named = part[part["type"]]
                yield from (root / name for name in (named if isinstance(named, list) else [named]))


def _bytes_of(path: Path) -> bytes:
    if path.is_dir():
        return b"".join(frame.name.encode() + _bytes_of(frame) for frame in sorted(path.iterdir()))
    try:
        with path.open("rb") as file:
            head = file.read(_ENDS)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(head), size - _ENDS))
            return hashlib.blake2b(head + file.read() + size.to_bytes(8, "little"), digest_size=16).digest()
    except OSError:
        return b"unreadable"  # whoever renders it says so


def digest(fingerprints: Fingerprints) -> str:
    """SHA-256 of all lines in order."""
    return hashlib.sha256(json.dumps(fingerprints).encode()).hexdigest()


class DataRecord:
    """The fingerprints of a run's data files, each under the name of its setting."""

    def __init__(self, files: Mapping[str, Fingerprints]) -> None:
        self._files = dict(files)

    def state_dict(self) -> dict[str, str]:
        """The digest of each file."""
        return {setting: digest(lines) for setting, lines in self._files.items()}

    def write(self, run: RunDir) -> None:
        """Writes data.json."""
        run.atomic_write(FILE, json.dumps(self._files, ensure_ascii=False))

    def refuse_changes(self, saved: Mapping[str, str], run: RunDir, checkpoint: Path) -> None:
        """Raises ValueError naming what differs between the data that `checkpoint` was saved with (`saved`, a `state_dict`) and
        these. A file that only one of the two has, held-out data say, is not compared.
        """
        now = self.state_dict()
        changed = [setting for setting in now if saved.get(setting, now[setting]) != now[setting]]
        if not changed:
            return
        before = _recorded(run)
        said = []
        for setting in changed:
            known = before.get(setting, {})
            sure = known and digest(known) == saved[setting]
            said.append(f"{setting}: " + (difference(known, self._files[setting]) if sure else "it differs"))
        raise ValueError(
            f"{checkpoint} was saved while training on other data than the files hold now ({'; '.join(said)}). Resume with the "
            "old data, or start a new run with this checkpoint as its model"
        )


def difference(old: Fingerprints, new: Fingerprints) -> str:
    """In words: how many lines were added, removed and changed, with the first of their ids, or that their order is another."""
    parts = {
        "added": [id for id in new if id not in old],
        "removed": [id for id in old if id not in new],
        "changed": [id for id in new if id in old and old[id] != new[id]],
    }
    said = [f"{len(ids):,} {what}: {_named(ids)}" for what, ids in parts.items() if ids]
    return ", ".join(said) or "the lines are in another order"


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_MOST_NAMED]) + (", ..." if len(ids) > _MOST_NAMED else "")


def _recorded(run: RunDir) -> dict[str, Fingerprints]:
    try:
        found: dict[str, Fingerprints] = json.loads((run.path / FILE).read_bytes())
    except (OSError, ValueError):
        return {}  # it only helps to say what differs
    return found
