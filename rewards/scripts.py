"""Writing systems: which one a character belongs to, which ones go together in a language, letters that look alike.

Ranges after the Unicode blocks (Blocks.txt, version 15); look-alikes after its security data (confusables.txt), reduced to the
letters of Cyrillic and Greek that cannot be told from Latin ones.
"""

from __future__ import annotations

import re
from collections import Counter

_RANGES = {
    "latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
    "han": "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff",
    "hangul": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "cyrillic": "\u0400-\u052f\u1c80-\u1c88\u2de0-\u2dff",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "arabic": "\u0620-\u064a\u066e-\u06d3\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "hebrew": "\u05d0-\u05f2",
    "indic": "\u0900-\u0dff",
    "thai": "\u0e01-\u0e4e",
    "lao": "\u0e80-\u0eff",
    "tibetan": "\u0f00-\u0fff",
    "burmese": "\u1000-\u109f",
    "georgian": "\u10a0-\u10ff",
    "armenian": "\u0530-\u058f",
    "ethiopic": "\u1200-\u137f",
    "khmer": "\u1780-\u17ff",
    "mongolian": "\u1820-\u18aa",
}
RUNS = re.compile("|".join(f"(?P<{name}>[{ranges}]+)" for name, ranges in _RANGES.items()))
"""Runs of letters of one script; the name of the matching group is the script."""

WIDE = frozenset({"han", "kana", "hangul"})
"""Scripts whose characters say as much as two or three letters."""

_CYRILLIC = dict(zip("асеорхуіјѕԁһԛԝѵӏАВСЕНІЈКМОРЅТХУԌԚԜ", "aceopxyijsdhqwvlABCEHIJKMOPSTXYGQW", strict=True))
_GREEK = dict(zip("οΑΒΕΖΗΙΚΜΝΟΡΤΥΧνυϳ", "oABEZHIKMNOPTYXvuj", strict=True))
LOOK_ALIKES = {ord(letter): latin for letter, latin in (_CYRILLIC | _GREEK).items()}
"""Translation table: letters that cannot be told from a Latin one to that one."""
LATIN_TWINS = frozenset("aceopxyijsdhqwvlABCEHIJKMOPSTXYGQWZN")
"""The Latin letters that have one of another script."""

_MIN_LETTERS = 8


def letters_by_script(text: str) -> Counter[str]:
    """Number of letters of each script; a character of a wide script counts twice."""
    counts: Counter[str] = Counter()
    for run in RUNS.finditer(text):
        script = run.lastgroup or ""
        counts[script] += len(run.group()) * (2 if script in WIDE else 1)
    return counts


def languages(text: str, *, second: float = 0.2, least: float = 0.0) -> frozenset[str]:
    """The scripts `text` is written in: the most frequent, if it has the share `least`, and any with the share `second`.

    Empty for a text of few letters. Han goes with kana and hangul: Japanese and Korean use it.
    """
    counts = letters_by_script(text)
    total = sum(counts.values())
    if total < _MIN_LETTERS:
        return frozenset()
    most = max(counts, key=lambda script: counts[script])
    family = {most}
    if most == "kana" or (most == "han" and 10 * counts["kana"] >= counts["han"]):
        family = {"han", "kana"}
    elif most == "hangul":
        family = {"han", "hangul"}
    main = family if sum(counts[script] for script in family) >= least * total else set()
    return frozenset(main | {script for script, count in counts.items() if count >= second * total})
