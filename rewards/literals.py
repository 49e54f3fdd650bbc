"""A bounded reader for the literals policies write: JSON, Python literals with single quotes, and `name(key=value)`.

Hand-written because nothing ready-made is both safe and lenient enough: `json` refuses single quotes, and
`ast.literal_eval` has no budget for depth or size. Names are never looked up and nothing is called.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

MAX_CHARS = 16_384
MAX_DEPTH = 8
MAX_VALUES = 2_000

_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,4})?(?![\w.])")
_SURROGATES = re.compile(r"([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_HEX = re.compile(r"([0-9a-fA-F]{4})")
_NAME = re.compile(r"[A-Za-z_]\w{0,63}")
_KEY = re.compile(r"([A-Za-z_]\w{0,63})\s*=")
_SPACE = re.compile(r"\s*")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\", "'": "'", '"': '"'}


class LiteralError(ValueError):
    """The text is not one literal within the budget; the message is a machine-readable reason."""


@dataclass(frozen=True, slots=True)
class Call:
    """`name(1, 2, key=value)`: positional values and named ones."""

    name: str
    positional: tuple[Any, ...]
    named: dict[str, Any]


def read_literal(text: str) -> Any:
    """The one value `text` denotes: None, bool, float, int, str, list, dict or Call. Raises LiteralError.

    Duplicate keys and non-finite numbers are refused; what follows the value must be white space.
    """
    reader = _Reader(text)
    value = reader.value(0)
    reader.finish()
    return value


class _Reader:
    def __init__(self, text: str) -> None:
        if len(text) > MAX_CHARS:
            raise LiteralError("answer-too-long")
        self.text, self.at, self.values = text, 0, 0

    def finish(self) -> None:
        if self._peek():
            rest = self.text[self.at :]
            raise LiteralError("many-actions" if re.match(r"[;,]?\s*(\{|[A-Za-z_]\w*\s*\()", rest) else "trailing-text")

    def _peek(self) -> str:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.text[self.at : self.at + 1]

    def _take(self, expected: str) -> None:
        if self._peek() != expected:
            raise LiteralError("unparsed-literal")
        self.at += 1

    def value(self, depth: int) -> Any:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            raise LiteralError("too-complex")
        char = self._peek()
        if char == "{":
            return self._mapping(depth)
        if char in ("[", "("):
            return self._sequence("]" if char == "[" else ")", depth)
        if char in ("'", '"'):
            return self._string(char)
        number = _NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
            return _number(number.group())
        name = _NAME.match(self.text, self.at)
        if not name:
            raise LiteralError("unparsed-literal")
        self.at = name.end()
        if name.group() in _WORDS:
            return _WORDS[name.group()]
        if self._peek() != "(":
            raise LiteralError("unparsed-literal")
        return self._call(name.group(), depth)

    def _sequence(self, closing: str, depth: int) -> list[Any]:
        self.at += 1
        items: list[Any] = []
        while self._peek() != closing:
            items.append(self.value(depth + 1))
            if self._peek() != closing:
                self._take(",")
        self.at += 1
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        self.at += 1
        found: dict[str, Any] = {}
        while (quote := self._peek()) != "}":
            if quote not in ("'", '"') or not quote:
                raise LiteralError("unparsed-literal")
            key = self._string(quote)
            if key in found:
                raise LiteralError("duplicate-key")
            self._take(":")
            found[key] = self.value(depth + 1)
            if self._peek() != "}":
                self._take(",")
        self.at += 1
        return found

    def _call(self, name: str, depth: int) -> Call:
        self.at += 1
        positional: list[Any] = []
        named: dict[str, Any] = {}
        while self._peek() != ")":
            key = _KEY.match(self.text, self.at)
            if key:
                if key.group(1) in named:
                    raise LiteralError("duplicate-key")
                self.at = key.end()
                named[key.group(1)] = self.value(depth + 1)
            else:
                positional.append(self.value(depth + 1))
            if self._peek() != ")":
                self._take(",")
        self.at += 1
        return Call(name, tuple(positional), named)

    def _string(self, quote: str) -> str:
        self.at += 1
        out: list[str] = []
        while True:
            char = self.text[self.at : self.at + 1]
            self.at += 1
            if not char:
                raise LiteralError("unclosed-string")
            if char == quote:
                return "".join(out)
            if char != "\\":
                out.append(char)
                continue
            escape = self.text[self.at : self.at + 1]
            self.at += 1
            if escape == "u":
                out.append(self._code_point())
            elif escape in _ESCAPES:
                out.append(_ESCAPES[escape])
            else:
                raise LiteralError("bad-escape")

    def _code_point(self) -> str:
        """The character after `\\u`: four hexadecimal digits, or two surrogates that make one character together."""
        match = _SURROGATES.match(self.text, self.at) or _HEX.match(self.text, self.at)
        if not match:
            raise LiteralError("bad-escape")
        self.at = match.end()
        codes = [int(digits, 16) for digits in match.groups()]
        if len(codes) == 2:
            return chr(0x10000 + (codes[0] - 0xD800) * 0x400 + codes[1] - 0xDC00)
        if 0xD800 <= codes[0] < 0xE000:
            raise LiteralError("bad-escape")
        return chr(codes[0])


def _number(text: str) -> int | float:
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise LiteralError("non-finite")
    return value
