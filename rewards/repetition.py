"""Loops in a text: the same words again and again, found whatever stands between them.

Spacing, line breaks, case, punctuation, invisible and look-alike characters do not count, so none of them hides a loop;
numbers, single letters and number words that count the rounds do not hide one either. What is repeated is found as
periodic stretches of the remaining letters, anywhere in the text, in linear time. The thresholds stand in
docs/style_checks.md. Source: GLM-4.5V report, arXiv 2507.01006 (repetition gets a low reward).
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rewards.scripts import LOOK_ALIKES
from rewards.stream_safe import normalise

MAX_CHARS = 300_000
"""Of a longer text the head and the tail are looked at, half of this each."""

_STRIDE, _ANCHOR, _MAX_PERIOD, _CANDIDATES = 48, 24, 6_000, 6

# (longest unit it holds for, repeats it takes, letters the whole stretch must have)
_LIMITS = ((8, 24, 160), (80, 8, 200), (250, 4, 400), (_MAX_PERIOD, 3, 900))
_DIGIT_CHARS = 1_000
"""A stretch that is mostly digits: 0.333… and matrices of zeros are written out."""
_SYMBOL_CHARS = 400
"""A stretch without letters and digits: rules of tables and lines of underscores are shorter."""
_COUNTED_REPEATS, _COUNTED_LETTERS, _LISTED_REPEATS = 30, 160, 60
"""Rounds that differ in one number each: a search by trial is allowed this many, a list of one short word (x1, x2, …) more."""
_SENTENCE_LETTERS, _SENTENCE_REPEATS = 16, 6
_PHRASE_WORDS, _PHRASE_REPEATS = 8, 30
_SHARE_LETTERS, _SHARE = 600, 0.5
"""What comes back apart from itself: sentences this often, or phrases this often, that make up this share of the text."""
_STRUCTURE_SHARE = 0.10
"""Text with more than this share of brackets, quotes, bars and equals signs is code, JSON or a table: it repeats by nature."""

_WORDS = re.compile(r"\d+|[\u3040-\u9fff]|[^\W\d_\u3040-\u9fff]+")
_COUNTER = re.compile(
    r"\d+|[a-z]|[ivxlc]{2,8}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|first|second|third|fourth|fifth|sixth|"
    r"seventh|eighth|ninth|tenth|[\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341\u767e]"
)
_SENTENCE_END = re.compile(r"[.!?;\u3002\uff01\uff1f\uff1b\n]+")
_STRUCTURE = frozenset('{}[]<>|="\\`_')
_RECORD = re.compile(r"[\"']\s?:|</?t[dr]\b|\||\bdef \w+\(|[;{}]\n|\w\([^()\n]{0,60}\)[:;]?\n")
_CODE_LINE = re.compile(
    r"\s*(?:def|class|if|for|while|else|elif|try|except|with|switch|case)\b.*[:{)]|\s*(?:return|import|from|raise)\b.{0,60}|.*[;{}]|"
    r"\s*[\w.\[\]]{1,40}\s?[-+*/]?=\s?\S.*|\s*[\w.]{1,40}\(.*\)"
)
_CODE_SHARE = 0.5
_DROPPED = frozenset({"Mn", "Me", "Cf", "Cc", "Cs"})


@dataclass(frozen=True, slots=True)
class Stretch:
    """text[start : start + length] is periodic: each character equals the one `period` before it."""

    start: int
    length: int
    period: int


def loops(text: str) -> bool:
    """Whether `text` repeats itself beyond the limits of docs/style_checks.md."""
    if len(text) < 80:
        return False
    if len(text) > MAX_CHARS:
        text = text[: MAX_CHARS // 2] + "\n" + text[-(MAX_CHARS // 2) :]
    text = _plain(text)
    words = _WORDS.findall(text)
    if any(_is_loop(unit, stretch) for unit, stretch in _units("".join(words))):
        return True
    symbols = "".join(" " if char.isalnum() else char for char in text if not char.isspace())
    if any(" " not in unit and stretch.length >= _SYMBOL_CHARS for unit, stretch in _units(symbols)):
        return True
    return _counted(text) or (not _is_structured(text) and (_sentences(text) or _phrases(words)))


def _plain(text: str) -> str:
    """Lower case, look-alikes as Latin, without accents and invisible characters: those must not cut a word either."""
    text = "\n".join(text.splitlines())
    if text.isascii():
        return "".join(char for char in text.lower() if char >= " " or char in "\n\t")
    text = normalise("NFKC", text).casefold().translate(LOOK_ALIKES)
    text = normalise("NFD", text)
    return normalise("NFC", "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in _DROPPED))


def stretches(text: str) -> Iterator[Stretch]:
    """Periodic stretches of `text`, left to right, those of at least two periods and some 75 characters more.

    Every `_STRIDE` characters the next occurrence of the following `_ANCHOR` gives a period to try; `str.find` and
    comparisons of slices do the work, at most `_MAX_PERIOD` characters ahead.
    """
    at = 0
    while at + _ANCHOR <= len(text):
        anchor, found = text[at : at + _ANCHOR], at
        best: Stretch | None = None
        for _ in range(_CANDIDATES):
            found = text.find(anchor, found + 1, at + _MAX_PERIOD + _ANCHOR)
            if found < 0:
                break
            start = at - _agree_back(text, at, found)
            end = found + _agree(text, at, found)
            if end - start >= 2 * (found - at) and (best is None or end - start > best.length):
                best = Stretch(start, end - start, found - at)
                if best.length > 2 * _MAX_PERIOD:
                    break
        at += _STRIDE
        if best is not None:
            yield best
            at = max(at, best.start + best.length - best.period)  # its last unit may be the first of another stretch


def _agree(text: str, left: int, right: int) -> int:
    """How many characters from `left` on equal those from `right` on."""
    size, agreed = 64, 0
    while size:
        if right + agreed + size <= len(text) and text.startswith(text[right + agreed : right + agreed + size], left + agreed):
            agreed += size
            size *= 2
        else:
            size //= 2
    return agreed


def _agree_back(text: str, left: int, right: int) -> int:
    """How many characters before `left` equal those before `right`; more than a stride were found from further left."""
    agreed = 0
    while agreed < min(_STRIDE, left) and text[left - agreed - 1] == text[right - agreed - 1]:
        agreed += 1
    return agreed


def _units(text: str) -> Iterator[tuple[str, Stretch]]:
    for stretch in stretches(text):
        yield text[stretch.start : stretch.start + stretch.period], stretch


def _is_loop(unit: str, stretch: Stretch) -> bool:
    if 3 * sum(char.isdecimal() for char in unit) > 2 * len(unit):
        return stretch.length >= _DIGIT_CHARS
    for longest, repeats, letters in _LIMITS:
        if stretch.period <= longest:
            return stretch.length >= max(letters, repeats * stretch.period) * _density(unit)
    return False


def _density(unit: str) -> float:
    """What a character of the unit weighs against a letter: a Chinese character says as much as two or three."""
    wide = sum("\u3040" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7a3" for char in unit)
    return 1.0 if 2 * wide < len(unit) else 0.5


def _counted(text: str) -> bool:
    """Whether rounds come back that differ in one number only, or in a letter or number word that counts them."""
    pieces: list[str] = []
    starts: list[int] = []  # where each word begins in the joined text below
    words: list[re.Match[str]] = list(_WORDS.finditer(text))
    at = 0
    for word in words:
        piece = "#" if _COUNTER.fullmatch(word.group()) else word.group()
        starts.append(at)
        pieces.append(piece)
        at += len(piece)
    for unit, stretch in _units("".join(pieces)):
        repeats = stretch.length // stretch.period
        letters = sum(char != "#" for char in unit)
        enough = _COUNTED_REPEATS if letters >= 12 * _density(unit) else _LISTED_REPEATS
        if repeats < enough or letters * repeats < _COUNTED_LETTERS * _density(unit.replace("#", "")):
            continue
        first, last = bisect.bisect_left(starts, stretch.start), bisect.bisect_left(starts, stretch.start + stretch.length)
        if first < last and _RECORD.search(text, words[first].start(), min(words[last - 1].end(), words[first].start() + 2000)):
            continue
        columns: dict[int, list[str]] = {}
        for index in range(first, last):
            offset = starts[index] - stretch.start
            if pieces[index] == "#" and offset < repeats * stretch.period:
                columns.setdefault(offset % stretch.period, []).append(words[index].group())
        varying = {tuple(column) for column in columns.values() if len(set(column)) > 1}
        if len(varying) <= 1:
            return True
    return False


def _is_structured(text: str) -> bool:
    """Whether `text` is code, JSON or a table rather than prose."""
    if sum(char in _STRUCTURE for char in text) > _STRUCTURE_SHARE * len(text):
        return True
    lines = [line for line in text.split("\n") if line.strip()]
    return len(lines) >= 8 and sum(map(bool, map(_CODE_LINE.fullmatch, lines))) >= _CODE_SHARE * len(lines)


def _sentences(text: str) -> bool:
    """Whether sentences or lines that come back often, next to one another or not, make up much of the text."""
    sentences = ["".join(_WORDS.findall(sentence)) for sentence in _SENTENCE_END.split(text)]
    counts = Counter(sentences)
    repeated = sum(
        (count - 1) * len(sentence)
        for sentence, count in counts.items()
        if count >= _SENTENCE_REPEATS and len(sentence) >= _SENTENCE_LETTERS * _density(sentence)
    )
    total = sum(map(len, sentences))
    return total >= _SHARE_LETTERS * _density(text[:1000]) and repeated >= _SHARE * total


def _phrases(words: Sequence[str]) -> bool:
    """Whether phrases of `_PHRASE_WORDS` words that come back very often cover much of the text."""
    if sum(map(len, words)) < _SHARE_LETTERS or len(words) < _PHRASE_WORDS * _PHRASE_REPEATS:
        return False
    grams = list(zip(*(words[offset:] for offset in range(_PHRASE_WORDS)), strict=False))
    counts = Counter(grams)
    covered = 0
    end = 0
    for index, gram in enumerate(grams):
        if counts[gram] >= _PHRASE_REPEATS:
            covered += index + _PHRASE_WORDS - max(end, index)
            end = index + _PHRASE_WORDS
    return covered >= _SHARE * len(words)
