"""Texts near each parser's grammar, for hypothesis: its own words in any order, with strangers among them."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st

STRANGERS = [*"\x00\u200b\u202e\ud800\u0301\uff11²½①𝟏Ⅷ١\u2028🏴\ufeff\\{}<>|&$%#@~`'\"\n\t"]
WORDS: dict[str, list[str]] = {
    target: words.split(" ")
    for target, words in json.loads((Path(__file__).parent / "grammars.json").read_text(encoding="utf-8")).items()
}
"""Target -> the words of its grammar."""


def texts(target: str, size: int = 24) -> st.SearchStrategy[str]:
    """Texts of up to `size` words of the target's grammar and strangers, sometimes repeated or with nothing between them."""
    words = st.sampled_from([*WORDS[target], *STRANGERS, " ", ""])
    runs = st.builds(lambda word, times: word * times, words, st.sampled_from((1, 1, 1, 1, 2, 3, 40)))
    return st.builds(
        lambda parts, joint: joint.join(parts), st.lists(runs, max_size=size), st.sampled_from(("", " ", "", ", "))
    )
