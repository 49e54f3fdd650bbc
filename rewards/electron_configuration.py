"""Electron configurations: `1s2 2s2 2p6`, `1s²2s²2p⁶`, `1s^{2}2s^{2}2p^{6}`, `[Ne]`."""

from __future__ import annotations

import re
from functools import lru_cache

from rewards.units import simplify

_SHELL = re.compile(
    r"\s*([1-8])([spdf])\s*(?:\^?\{(\d{1,2})\}|\^?(1[0-4]|[1-9])(?=\s*[1-8][spdf]|\s*$)|(?=\s*$|\s+[1-8][spdf]))"
)
_CORE = re.compile(r"\s*\[(He|Ne|Ar|Kr|Xe|Rn)\]")
_CORES = {
    "He": "1s2",
    "Ne": "1s2 2s2 2p6",
    "Ar": "1s2 2s2 2p6 3s2 3p6",
    "Kr": "1s2 2s2 2p6 3s2 3p6 3d10 4s2 4p6",
    "Xe": "1s2 2s2 2p6 3s2 3p6 3d10 4s2 4p6 4d10 5s2 5p6",
    "Rn": "1s2 2s2 2p6 3s2 3p6 3d10 4s2 4p6 4d10 4f14 5s2 5p6 5d10 6s2 6p6",
}
_ROOM = {"s": 2, "p": 6, "d": 10, "f": 14}


@lru_cache(maxsize=2048)
def read_configuration(text: str) -> tuple[tuple[str, int], ...] | None:
    """Electrons by subshell ("2p", 6), a noble-gas core written out; None when `text` is no configuration."""
    if len(text) > 200:
        return None
    text = simplify(text)
    core = _CORE.match(text)
    found: dict[str, int] = dict(read_configuration(_CORES[core.group(1)]) or ()) if core else {}
    at = core.end() if core else 0
    while at < len(text):
        match = _SHELL.match(text, at)
        if match is None:
            return None
        shell, electrons = match.group(1) + match.group(2), int(match.group(3) or match.group(4) or 1)
        if shell in found or not 0 < electrons <= _ROOM[shell[1]]:
            return None
        found[shell] = electrons
        at = match.end()
    return tuple(sorted(found.items())) or None
