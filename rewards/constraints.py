"""Verifiable constraints on a text: one small class each, whose fields are what a reference may say of it.

    {"type": "length", "unit": "words", "at_least": 50}   ->   Length(unit="words", at_least=50)

`met(text)` takes a text that is `prose.visible` already; it is pure, linear in the text and never raises. `__post_init__`
raises ValueError for values that make no sense. Source of the kinds: IFEval, arXiv 2311.07911, table 4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from rewards import json_schemas, prose
from rewards.count_constraints import (
    Bullets,
    CapitalWords,
    Frequency,
    Highlights,
    Length,
    LetterFrequency,
    Parts,
    Placeholders,
    Sections,
    need,
    occurrences,
    whole_words,
)

QUOTES = {'"': '"', "“": "”", "„": "“", "「": "」", "『": "』", "«": "»", "‘": "’", "《": "》"}
_ALL_QUOTES = "".join({*QUOTES, *QUOTES.values(), "'"})
_COMMAS = re.compile("[,\uff0c\ufe50\ufe10\u201a\u060c\uff64]")
_TITLE = re.compile(r"<<([^\n<>]+)>>")


class Constraint(Protocol):
    """Anything a text can meet or not."""

    def met(self, text: str) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Include:
    """Every keyword occurs."""

    keywords: tuple[str, ...]
    case: Literal["ignore", "exact"] = "ignore"

    def __post_init__(self) -> None:
        need(*self.keywords)

    def met(self, text: str) -> bool:
        return all(occurrences(keyword, text, self.case) for keyword in self.keywords)


@dataclass(frozen=True, kw_only=True)
class Exclude:
    """No keyword occurs."""

    keywords: tuple[str, ...]
    case: Literal["ignore", "exact"] = "ignore"

    def __post_init__(self) -> None:
        need(*self.keywords)

    def met(self, text: str) -> bool:
        return not any(occurrences(keyword, text, self.case) for keyword in self.keywords)


@dataclass(frozen=True, kw_only=True)
class Case:
    """All letters are capital, or small."""

    case: Literal["upper", "lower"]

    def met(self, text: str) -> bool:
        return text.isupper() if self.case == "upper" else text.islower()


@dataclass(frozen=True, kw_only=True)
class NoCommas:
    """No comma of any script (the Chinese enumeration comma is none)."""

    def met(self, text: str) -> bool:
        return _COMMAS.search(text) is None


@dataclass(frozen=True, kw_only=True)
class Title:
    """A title in double angular brackets, `<<title>>`."""

    def met(self, text: str) -> bool:
        return any(prose.has_content(match.group(1)) for match in _TITLE.finditer(text))


@dataclass(frozen=True, kw_only=True)
class Quoted:
    """The whole text stands in quotation marks."""

    def met(self, text: str) -> bool:
        return len(text) > 2 and QUOTES.get(text[0]) == text[-1] and prose.has_content(text[1:-1])


@dataclass(frozen=True, kw_only=True)
class StartsWith:
    """The text begins with a phrase, letter case and quotation marks aside."""

    text: str

    def __post_init__(self) -> None:
        need(self.text)

    def met(self, text: str) -> bool:
        return _plain(text.lstrip(_ALL_QUOTES)).startswith(_plain(self.text.lstrip(_ALL_QUOTES)))


@dataclass(frozen=True, kw_only=True)
class EndsWith:
    """The text ends with a phrase, letter case and quotation marks aside."""

    text: str

    def __post_init__(self) -> None:
        need(self.text)

    def met(self, text: str) -> bool:
        return _plain(text.rstrip(_ALL_QUOTES)).endswith(_plain(self.text.rstrip(_ALL_QUOTES)))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


@dataclass(frozen=True, kw_only=True)
class FirstWord:
    """A paragraph (1 is the first) begins with a word."""

    word: str
    paragraph: int = 1

    def __post_init__(self) -> None:
        need(self.word)
        if self.paragraph < 1:
            raise ValueError("paragraph is below 1")

    def met(self, text: str) -> bool:
        found = prose.paragraphs(text)
        if len(found) < self.paragraph:
            return False
        start = re.sub(r"^[\W_]+", "", found[self.paragraph - 1]).casefold()
        return re.match(whole_words(self.word.casefold()), start) is not None


@dataclass(frozen=True, kw_only=True)
class Postscript:
    """A line after other text begins with the marker and goes on."""

    marker: str = "P.S."

    def __post_init__(self) -> None:
        need(self.marker)

    def met(self, text: str) -> bool:
        marker = "".join(self.marker.casefold().split())
        for number, line in enumerate(prose.lines(text)):
            start = "".join(line.casefold().split()).lstrip("*_#>")
            if number and start.startswith(marker) and prose.has_content(start[len(marker) :]):
                return True
        return False


@dataclass(frozen=True, kw_only=True)
class OneOf:
    """Exactly one of the options occurs; one that is part of another that occurs does not count."""

    options: tuple[str, ...]

    def __post_init__(self) -> None:
        need(*self.options)

    def met(self, text: str) -> bool:
        found = {_plain(option) for option in self.options if occurrences(option, text)}
        return len([option for option in found if not any(option != other and option in other for other in found)]) == 1


@dataclass(frozen=True, kw_only=True)
class Language:
    """Written in a language, as far as its script and its commonest words tell."""

    language: str

    def __post_init__(self) -> None:
        if self.language not in prose.LANGUAGES:
            raise ValueError("language is not one of " + ", ".join(sorted(prose.LANGUAGES)))

    def met(self, text: str) -> bool:
        return prose.is_written_in(text, self.language)


@dataclass(frozen=True, kw_only=True)
class Matches:
    """A regular expression (RE2 syntax) occurs, or describes the whole text."""

    pattern: str
    whole: bool = False

    def __post_init__(self) -> None:
        json_schemas.compiled(self.pattern)

    def met(self, text: str) -> bool:
        return json_schemas.matches(self.pattern, text, whole=self.whole)


@dataclass(frozen=True, kw_only=True)
class Json:
    """The whole text is a JSON object or array (or of the kind named); a fenced block around it is allowed."""

    kind: Literal["container", "object", "array", "any"] = "container"

    def met(self, text: str) -> bool:
        try:
            value = json_schemas.read_json(text)
        except json_schemas.JsonError:
            return False
        kinds: dict[str, tuple[type, ...]] = {"container": (dict, list), "object": (dict,), "array": (list,), "any": (object,)}
        return isinstance(value, kinds[self.kind])


@dataclass(frozen=True, kw_only=True)
class JsonSchema:
    """The whole text is a JSON value that satisfies a schema."""

    schema: Any

    def __post_init__(self) -> None:
        json_schemas.check_schema(self.schema)

    def met(self, text: str) -> bool:
        try:
            return json_schemas.fits_schema(json_schemas.read_json(text), self.schema)
        except json_schemas.JsonError:
            return False


CONSTRAINTS: dict[str, type[Any]] = {
    "length": Length,
    "include": Include,
    "exclude": Exclude,
    "frequency": Frequency,
    "letter_frequency": LetterFrequency,
    "bullets": Bullets,
    "sections": Sections,
    "highlights": Highlights,
    "placeholders": Placeholders,
    "capital_words": CapitalWords,
    "parts": Parts,
    "case": Case,
    "no_commas": NoCommas,
    "title": Title,
    "quoted": Quoted,
    "starts_with": StartsWith,
    "ends_with": EndsWith,
    "first_word": FirstWord,
    "postscript": Postscript,
    "one_of": OneOf,
    "language": Language,
    "matches": Matches,
    "json": Json,
    "json_schema": JsonSchema,
}
"""Type name of a constraint -> its class."""
