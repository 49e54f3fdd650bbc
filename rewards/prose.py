"""Measures of prose in English, Chinese and languages written like them: words, sentences, paragraphs, lists, script.

All are linear in the length of the text. Characters without width never count, so that they cannot pad a text.
"""

from __future__ import annotations

import re
from collections import Counter

_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")

CJK = "\u3005\u3007\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_JOINTS = (
    r"\s,;:/|=+*#!?()\[\]{}<>\"“”„«»…—–\u3000-\u3004\u3006\u3008-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
_TOKEN = re.compile(rf"[{CJK}]|(?:[^{_JOINTS}{CJK}]|(?<=\d)[,:](?=\d))+")
_SENTENCE_END = re.compile(rf"[。！？｡]+[”’」』）\"']*|(?<![.!?…])[.!?…]++[\"'”’)\]*]*+(?=\s|$|[{CJK}])")
_LIST_ITEM = re.compile(
    rf"[^\S\n]*(?:(?:[-*+]|(?P<number>\d{{1,3}}[.)]))(?=\s|$|[{CJK}])|[•·●‣▪]|(?P<mark>\d{{1,3}}、|[（(](?:\d{{1,3}}|[一二三四五六七八九十]+)[）)]))"
    r"[^\S\n]*(?P<rest>.*)"
)
_RULE = re.compile(r"\s*(?:\*{3,}|-{3,}|_{3,})\s*")
_ABBREVIATIONS = dict.fromkeys(("mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "cf", "fig"), True)
_ABBREVIATIONS |= dict.fromkeys(
    ("etc", "inc", "ltd", "co", "dept", "approx", "jr", "sr", "u.s", "u.k", "a.m", "p.m", "al"), False
)
"""Abbreviation -> whether no sentence ends with it; the others end one when a capital letter follows."""

_SCRIPTS = {
    "han": "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f",
    "kana": "\u3041-\u3096\u30a1-\u30fa\u30fc",
    "hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3",
    "latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
    "cyrillic": "\u0400-\u052f",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "arabic": "\u0620-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc",
    "hebrew": "\u05d0-\u05ea",
    "devanagari": "\u0900-\u097f",
    "bengali": "\u0980-\u09ff",
    "gurmukhi": "\u0a00-\u0a7f",
    "gujarati": "\u0a80-\u0aff",
    "tamil": "\u0b80-\u0bff",
    "telugu": "\u0c00-\u0c7f",
    "kannada": "\u0c80-\u0cff",
    "malayalam": "\u0d00-\u0d7f",
    "thai": "\u0e00-\u0e7f",
}
_SCRIPT = re.compile("|".join(f"(?P<{name}>[{span}])" for name, span in _SCRIPTS.items()))
LANGUAGES = {
    "zh": "han",
    "ja": "kana",
    "ko": "hangul",
    "el": "greek",
    "he": "hebrew",
    "bn": "bengali",
    "pa": "gurmukhi",
    "gu": "gujarati",
    "ta": "tamil",
    "te": "telugu",
    "kn": "kannada",
    "ml": "malayalam",
    "th": "thai",
    **dict.fromkeys(("ru", "uk", "bg", "sr", "mk", "be"), "cyrillic"),
    **dict.fromkeys(("ar", "fa", "ur"), "arabic"),
    **dict.fromkeys(("hi", "mr", "ne"), "devanagari"),
    **dict.fromkeys(
        ("en", "fr", "de", "es", "it", "pt", "nl", "pl", "vi", "fi", "sw", "id", "tr", "sv", "da", "cs", "ro"), "latin"
    ),
}
"""Language code -> the script it is written in."""

_FUNCTION_WORDS = {
    "en": "the and of to in is that it for was with are this be on as by from at or which not have but they you",
    "fr": "le la les des une est et dans que qui pour pas sur avec ce il elle sont au du nous vous mais plus cette",
    "de": "der die das und ist nicht ein eine zu den von mit sich auf für dem auch als werden wird bei oder sind im",
    "es": "el la los las de que y en un una por con no para es se del al lo como más pero su son está",
    "it": "il la le di che è e un una per non con si del della sono come più anche gli nel alla questo ma dei",
    "pt": "o a os as de que e em um uma para com não por se do da no na mais como é são mas ao pelo",
    "nl": "de het een en van is dat niet in op te zijn voor met die aan er maar om ook als bij wordt",
}
_MARKS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
MIN_FUNCTION_WORDS = 3
MIN_SCRIPT_SHARE = 0.8


def visible(text: str) -> str:
    """`text` without characters that have no width, with lone surrogates replaced and one kind of line end."""
    text = _INVISIBLE.sub("", _SURROGATE.sub("\ufffd", text))
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def words(text: str) -> list[str]:
    """The words: each Chinese character or kana is one; otherwise what stands between white space and punctuation.

    "don't", "well-known", "3.14" and "1,000" are one word each; punctuation alone is none.
    """
    return [token for token in _TOKEN.findall(text) if any(map(str.isalnum, token))]


def has_content(text: str) -> bool:
    return any(map(str.isalnum, text))


def sentences(text: str) -> list[str]:
    """The sentences: up to `.`, `!`, `?` or `…` before white space, `。`, `！` or `？`, or a list item's or paragraph's end."""
    found: list[str] = []
    for block in _blocks(text):
        start = 0
        for end in _SENTENCE_END.finditer(block):
            if end.group() == "." and _abbreviates(block[start : end.start()], block[end.end() : end.end() + 2]):
                continue
            found.append(block[start : end.end()])
            start = end.end()
        found.append(block[start:])
    return [sentence.strip() for sentence in found if has_content(sentence)]


def _blocks(text: str) -> list[str]:
    """Stretches of text that no sentence crosses: paragraphs and list items, on one line each."""
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        item = _LIST_ITEM.fullmatch(line)
        if not line.strip() or item:
            blocks.append([])
        blocks[-1].append(item.group("rest") if item else line)
    return [" ".join(lines) for lines in blocks]


def _abbreviates(before: str, after: str) -> bool:
    last = before[-16:].split()[-1:]
    word = last[0].lstrip("(\"'“").casefold() if last else ""
    if len(word) == 1:
        return word.isalpha() and word.isascii() and word != "i"
    return word in _ABBREVIATIONS and (_ABBREVIATIONS[word] or after.strip().islower())


def paragraphs(text: str) -> list[str]:
    """The paragraphs: parted by blank lines, or by a line of three or more `*`, `-` or `_`."""
    parts: list[list[str]] = [[]]
    for line in text.split("\n"):
        if not line.strip() or _RULE.fullmatch(line):
            parts.append([])
        else:
            parts[-1].append(line)
    return ["\n".join(part).strip() for part in parts if has_content("".join(part))]


def sections_between(text: str, separator: str) -> list[str]:
    """The parts of `text` between lines that hold `separator` only; empty ones are kept."""
    parts: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip() == separator:
            parts.append([])
        else:
            parts[-1].append(line)
    return ["\n".join(part).strip() for part in parts]


def lines(text: str) -> list[str]:
    """The lines that hold a letter or a digit."""
    return [line for line in text.split("\n") if has_content(line)]


def characters(text: str) -> int:
    """The number of characters that are not white space."""
    return sum(len(part) for part in text.split())


def bullets(text: str) -> tuple[int, int]:
    """How many list items there are with a mark (`-`, `*`, `•`, …) and with a number (`1.`, `2)`, …)."""
    marked = numbered = 0
    for line in text.split("\n"):
        item = _LIST_ITEM.fullmatch(line)
        if item and has_content(item.group("rest")):
            is_numbered = (item.group("number") or item.group("mark")) is not None
            numbered += is_numbered
            marked += not is_numbered
    return marked, numbered


def scripts(text: str) -> Counter[str]:
    """The number of words per script; a word is of the script of its first letter."""
    found: Counter[str] = Counter()
    for word in words(text):
        if any(map(str.isalpha, word)):
            match = _SCRIPT.search(word)
            found[(match.lastgroup if match else None) or "other"] += 1
    return found


def is_written_in(text: str, language: str) -> bool:
    """Whether at least four fifths of the words are in the script of `language` (a key of LANGUAGES).

    Japanese needs kana and may hold Chinese characters; Chinese may not hold kana. For en, fr, de, es, it, pt and nl, the
    language whose most frequent function words are the commonest must be this one, once three of them occur. Other languages
    that share a script are not told apart.
    """
    counts = scripts(text)
    script = LANGUAGES[language]
    own = counts[script] + (counts["han"] if language == "ja" else 0)
    if not counts[script] or own < MIN_SCRIPT_SHARE * counts.total() or (language == "zh" and counts["kana"]):
        return False
    if language not in _MARKS:
        return True
    hits = Counter[str]()
    for word in words(text.casefold()):
        hits.update(name for name, marks in _MARKS.items() if word in marks)
    return max(hits.values(), default=0) < MIN_FUNCTION_WORDS or hits[language] == max(hits.values())
