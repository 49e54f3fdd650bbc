"""Normal forms of short natural-language answers, shared by the verifiers that compare words."""

from __future__ import annotations

import unicodedata

_QUOTES = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032`\u00b4"), "'") | dict.fromkeys(
    map(ord, "\u201c\u201d\u201e\u2033"), '"'
)
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-")
_TABLE = _QUOTES | _DASHES
_OUTER = " .,;:!?\u3002\uff0c\uff01\uff1f\u3001"


def fold(text: str) -> str:
    """`text` in NFKC and case-folded, quotes and dashes of one kind, white space collapsed, outer punctuation off."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).translate(_TABLE).casefold())
    return " ".join(text.split()).strip(_OUTER)
