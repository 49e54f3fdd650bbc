"""From text (LaTeX, plain ASCII or Unicode mathematics) to tokens."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from rewards.mathexpr.nodes import MAX_CHARS, MAX_TOKENS, MathError
from rewards.mathexpr.units import UNIT_NAMES, read_unit
from rewards.mathexpr.vocabulary import (
    ALONE,
    COMMAND_ALIASES,
    FUNCTION_ALIASES,
    FUNCTIONS,
    GREEK,
    GREEK_ALIASES,
    IGNORED,
    OPERATORS,
    PLAIN_WORDS,
    SUB_RUN,
    SUBS,
    SUPER_RUN,
    SUPERS,
    TEXT,
    UNEVALUATED,
    UNICODE,
)
from rewards.stream_safe import normalise as normalise_text

MAX_EXPANSION = 4
"""How many times the longest text normalising may make: LaTeX for "π" has four characters, NFKC of "ﷺ" eighteen."""


@dataclass(slots=True)
class Token:
    """kind: num | letter | cmd | op | word | end. `space` says whether white space came before."""

    kind: str
    text: str
    space: bool = False


def normalise(text: str) -> str:
    """Unicode mathematics rewritten as LaTeX and ASCII. Raises MathError when the text is too long."""
    if len(text) > MAX_CHARS:
        raise MathError("too-long")
    if text.isascii():
        return text
    text = SUPER_RUN.sub(lambda m: "^{" + "".join(SUPERS[c] for c in m.group()) + "}", text)
    text = SUB_RUN.sub(lambda m: "_{" + "".join(SUBS[c] for c in m.group()) + "}", text)
    text = "".join(
        # NFKC turns a vulgar fraction into digits around U+2044; the space keeps "2½" a mixed number.
        " " + normalise_text("NFKC", c) if unicodedata.decomposition(c).startswith("<fraction>") else c
        for c in text
    )
    text = "".join(UNICODE.get(c, c) for c in text)
    text = "".join(UNICODE.get(c, c) for c in normalise_text("NFKC", text))
    if len(text) > MAX_EXPANSION * MAX_CHARS:  # one character may stand for eighteen
        raise MathError("too-long")
    return text


_NUMBER = re.compile(r"\d+\.\d+|\d+\.(?!\d)|\d+|\.\d+")
_SCIENTIFIC = re.compile(r"[eE][+-]?\d{1,6}(?![\w.])")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\{(\d+)\}")
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([a-zA-Z*]+)\}(?:\s*\{[lcr|\s]*\})?")


def tokenise(text: str) -> list[Token]:
    """Tokens of normalised text, closed by an "end" token. Raises MathError."""
    tokens: list[Token] = []
    at, space, size = 0, False, len(text)
    while at < size:
        if len(tokens) > MAX_TOKENS:
            raise MathError("too-complex")
        char = text[at]
        if char.isspace() or char == "~":
            at, space = at + 1, True
            continue
        start = len(tokens)
        if char == "\\":
            at = _command(text, at, tokens)
        elif (char.isdigit() and char.isascii()) or (char == "." and text[at + 1 : at + 2].isdigit()):
            repeating = _REPEATING.match(text, at)
            match = repeating or _NUMBER.match(text, at)
            if match is None:
                raise MathError("unparsed")
            at = match.end()
            exponent = None if repeating else _SCIENTIFIC.match(text, at)
            if exponent:
                at = exponent.end()
            tokens.append(Token("num", match.group() + (exponent.group() if exponent else "")))
        elif char.isalpha():
            end = at
            while end < size and text[end].isalpha() and (text[end].isascii() == char.isascii()):
                end += 1
            _letters(text[at:end], text[end : end + 1], tokens)
            at = end
        else:
            two = text[at : at + 2]
            op = {"<=": "<=", ">=": ">=", "!=": "!=", "==": "=", "=>": "=>", "->": "->", "**": "^"}.get(two)
            tokens.append(Token("op", op or char))
            at += 2 if op else 1
        for token in tokens[start:]:
            token.space, space = space, False
    return [*tokens, Token("end", "")]


def _command(text: str, at: int, tokens: list[Token]) -> int:
    """Read the command at `at`; returns where it ends."""
    environment = _ENVIRONMENT.match(text, at)
    if environment:
        tokens.append(Token("cmd", environment.group(1) + ":" + environment.group(2).rstrip("*")))
        return environment.end()
    match = re.compile(r"\\([a-zA-Z]+\*?|.)", re.DOTALL).match(text, at)
    if match is None:
        raise MathError("unparsed")
    name, end = match.group(1), match.end()
    if name in ("left", "right") and text[end : end + 1] == ".":
        return end + 1
    if name in IGNORED or name in (",", ";", ":", "!", " ", ">", "\n"):
        return end
    if name in TEXT:
        return _text_argument(text, end, tokens)
    if name == "mathbb":
        letter = re.compile(r"\s*\{?\s*([A-Z])\s*\}?").match(text, end)
        if letter is None:
            raise MathError("unparsed")
        tokens.append(Token("cmd", "bb" + letter.group(1)))
        return letter.end()
    name = COMMAND_ALIASES.get(name, name)
    if name in UNEVALUATED:
        raise MathError("unevaluated")
    known = FUNCTION_ALIASES.get(name, name)
    if name in OPERATORS:
        tokens.append(Token("op", OPERATORS[name]))
    elif name in "{}%$&\\|#_":
        tokens.append(Token("op", {"{": "lb", "}": "rb", "\\": "newrow"}.get(name, name)))
    elif known in FUNCTIONS:
        tokens.append(Token("cmd", known))
    elif GREEK_ALIASES.get(name, name) in GREEK:
        tokens.append(Token("letter", GREEK_ALIASES.get(name, name)))
    elif name in ("pi", "infty", "circ", "frac", "binom", "surd", "dots", "emptyset", "and", "or", "prime", "forall"):
        tokens.append(Token("cmd", name))
    else:
        raise MathError("unknown-command")
    return end


def _text_argument(text: str, at: int, tokens: list[Token]) -> int:
    match = re.compile(r"\s*\{([^{}]*)\}").match(text, at)
    if match is None:
        return at  # a bare \rm or a nested group: read on as if the command were not there
    content = match.group(1).replace("~", " ").strip()
    if not content:
        return match.end()
    name = FUNCTION_ALIASES.get(content, content)
    if name in FUNCTIONS and not (content == "min" and tokens and tokens[-1].kind == "num"):
        tokens.append(Token("cmd", name))
    elif content in ("e", "i", "d"):
        tokens.append(Token("letter", content))
    elif len(content) > 1 and content[0].isalpha() and not content.isalpha() and read_unit(content, known=True) is not None:
        tokens.append(Token("word", content))
    elif any(c.isdigit() for c in content) or not any(c.isalpha() for c in content):
        tokens.extend(tokenise(content)[:-1])
    else:
        tokens.append(Token("word", content))
    return match.end()


def _letters(run: str, following: str, tokens: list[Token]) -> None:
    """A run of letters: a known name, a product of variables ("2ab"), a unit, or a word of prose."""
    after_number = bool(tokens) and (tokens[-1].kind == "num" or tokens[-1].text in (")", "}", "pi", "%"))
    if not run.isascii():
        tokens.append(Token("word", run))
        return
    if after_number and run in UNIT_NAMES and len(run) > 1 and following != "(":
        tokens.append(Token("word", run))
        return
    parts: list[Token] = []
    at = 0
    while at < len(run):
        name = next(
            (
                run[at : at + size]
                for size in range(min(9, len(run) - at), 1, -1)
                if _is_name(run[at : at + size], following if at + size == len(run) else "x")
            ),
            run[at],
        )
        at += len(name)
        known = FUNCTION_ALIASES.get(name, name)
        if known in FUNCTIONS and len(name) > 1:
            parts.append(Token("cmd", known))
        elif name in PLAIN_WORDS:
            parts.append(Token("cmd", PLAIN_WORDS[name]))
        else:
            parts.append(Token("letter", name))
    singles = sum(len(part.text) == 1 for part in parts)
    if run.casefold() in ("and", "or", "where", "for", "if", "with", "to", "is", "no", "per") or singles > 3:
        tokens.append(Token("word", run))
    else:
        tokens.extend(parts)


def _is_name(name: str, following: str) -> bool:
    if name in ALONE:  # short enough to occur inside a product of letters: needs its bracket
        return following in ("(", "{") or (name in ("inf", "oo") and not following.isalpha())
    return name in FUNCTIONS or name in FUNCTION_ALIASES or name in PLAIN_WORDS or name in GREEK
