"""Constraints on a number that can be counted in a text: its length, how often a word occurs, how many list items it has.

Source of the kinds: IFEval, arXiv 2311.07911, table 4. See `rewards.constraints` for the others and the contract.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal

from rewards import prose

_HIGHLIGHT = re.compile(r"\*\*(?=[^\s*])([^*\n]+)(?<!\s)\*\*|\*(?=[^\s*])([^*\n]+)(?<!\s)\*")
_PLACEHOLDER = re.compile(r"\[([^\[\]\n]+)\](?!\()")
_LABEL = r"(?:\d{1,3}|[ivxlc]{1,6}|[a-z]|[一二三四五六七八九十]{1,3})"


def need(*texts: str) -> None:
    """Raises ValueError unless each text has something to look for."""
    if not texts or any(not text.strip() or text != text.strip() for text in texts):
        raise ValueError("an empty text, or white space around one")


@dataclass(frozen=True, kw_only=True)
class Count:
    """A constraint on a number: at least, at most, exactly."""

    at_least: int | None = None
    at_most: int | None = None
    exactly: int | None = None

    def __post_init__(self) -> None:
        given = [bound for bound in (self.at_least, self.at_most, self.exactly) if bound is not None]
        if not given:
            raise ValueError("at_least, at_most or exactly is missing")
        if min(given) < 0 or (self.exactly is not None and len(given) > 1) or given != sorted(given):
            raise ValueError("the bounds contradict each other")

    def count(self, text: str) -> int:
        """The number that is bounded."""
        raise NotImplementedError

    def met(self, text: str) -> bool:
        number = self.count(text)
        if self.exactly is not None:
            return number == self.exactly
        return (self.at_least or 0) <= number and (self.at_most is None or number <= self.at_most)


@dataclass(frozen=True, kw_only=True)
class Length(Count):
    """The length in words (a Chinese character is one), sentences, paragraphs, lines, or characters without white space."""

    unit: Literal["words", "sentences", "paragraphs", "lines", "characters"]

    def count(self, text: str) -> int:
        if self.unit == "characters":
            return prose.characters(text)
        measure = {"words": prose.words, "sentences": prose.sentences, "paragraphs": prose.paragraphs, "lines": prose.lines}
        return len(measure[self.unit](text))


def occurrences(phrase: str, text: str, case: Literal["ignore", "exact"] = "ignore") -> int:
    """How often `phrase` stands in `text` as whole words; Chinese needs no word boundary."""
    if case == "ignore":
        phrase, text = phrase.casefold(), text.casefold()
    return len(re.findall(whole_words(phrase), text))


@functools.lru_cache(maxsize=4096)
def whole_words(phrase: str) -> str:
    """A regular expression for `phrase` between word boundaries."""
    letter = rf"[^\W{prose.CJK}]"
    before = rf"(?<!{letter})" if re.match(letter, phrase) else ""
    after = rf"(?!{letter})" if re.match(letter, phrase[-1:]) else ""
    return before + r"\s+".join(map(re.escape, phrase.split())) + after


@dataclass(frozen=True, kw_only=True)
class Frequency(Count):
    """How often a keyword occurs."""

    keyword: str
    case: Literal["ignore", "exact"] = "ignore"

    def __post_init__(self) -> None:
        super().__post_init__()
        need(self.keyword)

    def count(self, text: str) -> int:
        return occurrences(self.keyword, text, self.case)


@dataclass(frozen=True, kw_only=True)
class LetterFrequency(Count):
    """How often a letter or sign occurs, in either case."""

    letter: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.letter) != 1 or self.letter.isspace():
            raise ValueError("letter is not one character")

    def count(self, text: str) -> int:
        return text.casefold().count(self.letter.casefold())


@dataclass(frozen=True, kw_only=True)
class Bullets(Count):
    """How many list items there are."""

    style: Literal["bullet", "number", "any"] = "bullet"

    def count(self, text: str) -> int:
        marked, numbered = prose.bullets(text)
        return {"bullet": marked, "number": numbered, "any": marked + numbered}[self.style]


@dataclass(frozen=True, kw_only=True)
class Sections(Count):
    """How many differently numbered sections with a heading line and content there are.

    `marker` is the word before the number ("Section" for "Section 1"), or has `{}` in the number's place ("第{}章").
    """

    marker: str = "Section"

    def __post_init__(self) -> None:
        super().__post_init__()
        need(self.marker)

    def count(self, text: str) -> int:
        before, _, after = self.marker.casefold().partition("{}")
        tail = rf"\s?{re.escape(after)}" if after else r"(?![^\W_])"
        heading = re.compile(rf"[\s#*_>\-]*{re.escape(before)}\s?({_LABEL}){tail}")
        label, found = None, set()
        for line in text.casefold().split("\n"):
            rest = line
            if match := heading.match(line):
                label, rest = match.group(1), line[match.end() :]
            if label is not None and prose.has_content(rest):
                found.add(label)
        return len(found)


@dataclass(frozen=True, kw_only=True)
class Highlights(Count):
    """How many parts stand in `*one*` or `**two**` asterisks."""

    def count(self, text: str) -> int:
        return sum(prose.has_content(match.group()) for match in _HIGHLIGHT.finditer(text))


@dataclass(frozen=True, kw_only=True)
class Placeholders(Count):
    """How many placeholders `[like this]` there are."""

    def count(self, text: str) -> int:
        return sum(prose.has_content(match.group()) for match in _PLACEHOLDER.finditer(text))


@dataclass(frozen=True, kw_only=True)
class CapitalWords(Count):
    """How many words are all in capital letters."""

    def count(self, text: str) -> int:
        return sum(word.isupper() for word in prose.words(text))


@dataclass(frozen=True, kw_only=True)
class Parts(Count):
    """How many different parts stand between lines that hold the separator only; none may be empty or repeat another."""

    separator: str = "******"

    def __post_init__(self) -> None:
        super().__post_init__()
        need(self.separator)

    def count(self, text: str) -> int:
        parts = prose.sections_between(text, self.separator)
        parts = parts[parts[0] == "" : len(parts) - (parts[-1] == "")]  # a separator before the first part or after the last
        different = {" ".join(part.casefold().split()) for part in parts if prose.has_content(part)}
        return len(different) if len(different) == len(parts) else 0
