"""What an answer says: prose and labels taken off, lists split, each part parsed, units read.

"The roots are $x=1$ and $x=2$"  ->  two items, label "x", values 1 and 2
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from rewards.mathexpr.items import Item, from_chain, point_label, without_head
from rewards.mathexpr.lexer import Token, normalise, tokenise
from rewards.mathexpr.nodes import MAX_CHARS, MAX_ITEMS, MathError, Node, number, symbol
from rewards.mathexpr.notation import combinations_written_out, respell
from rewards.mathexpr.parser import Parser
from rewards.mathexpr.phrases import canonical
from rewards.mathexpr.quantities import read_quantity, split_unit
from rewards.mathexpr.spelled import measured, spelled_count, spelled_number
from rewards.mathexpr.units import CURRENCY, Unit, read_unit
from rewards.mathexpr.wording import PROSE, bare, option, plain_text


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed answer. Without `items` it is only text; `fault` says why it is not mathematics (None: it is prose)."""

    text: str
    items: tuple[Item, ...] = ()
    join: str = ""
    integers: frozenset[str] = frozenset()
    fault: str | None = None
    word: bool = False
    option: str | None = None
    """The letter of a lettered option: B of "(B) 12"."""
    tentative: bool = False
    """Whether this reading holds only beside another answer with a unit: "5m" is 5 metres beside "500 cm", else 5 times m."""
    phrase: str | None = None
    """The name of the group of fixed phrases the text belongs to."""


# A match begins before white space, not within it, and takes all of it: else a long run of blanks takes seconds.
_INTEGER = re.compile(
    r"(?:(?<!\s)|(?=[,;]))[,;]?\s*+(?:\(\s*+)?(?:\\text\s*\{[^{}]*\}\s*)?(?<![A-Za-z\\])([a-zA-Z](?:\s*,\s*[a-zA-Z])?)\s*\\in\s*"
    r"(?:\\mathbb\s*\{?\s*[ZN]\s*\}?|[ZN])\s*+(?:[\^_]\s*+\{?[+*]\}?\s*+)*+\)?\s*+$"
)
_HEAD = re.compile(r"(?<![A-Za-z\\])([A-Za-z])\s*(?:\\left)?\(\s*[a-z](?:\s*,\s*[a-z])*\s*(?:\\right)?\)\s*=")
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_SURE_DECIMAL_COMMA = re.compile(r"-?\d{1,3}(?:\.\d{3})+,\d+")
_DECIMAL_COMMA = re.compile(r"-?\d{1,3}(?:\.\d{3})+,\d+|-?(?:0|[1-9]\d*),(?!\d{3}$)\d{1,15}|-?0,\d{3}")
_MIXED = re.compile(r"(-?\d{1,9})\s+and\s+(\d{1,9}/\d{1,9})")
_CIRCLED = re.compile(r"[①-⑳](?:[\s,，、和与及]*[①-⑳]){1,19}")
_CHOICES = re.compile(r"\(?[A-J]\)?(?:(?:\s*[,;&和与及]\s*|\s+and\s+|\s+)\(?[A-J]\)?){1,9}")
_CONDITION = re.compile(r"^(?:for|where|with|when|such that)\b", re.IGNORECASE)
_CLOCK = re.compile(r"^(\d{1,2}:(?:00|\d\d(?::\d\d|(?=\s*[ap]\.?\s?m\.?$))))\s*([ap]?)\.?\s?m?\.?(.*)$", re.IGNORECASE)
_NOT_PROSE = frozenset(["pi", "e", "i", "x", "y", "inf", "infinity"])
_JOINS = {
    **dict.fromkeys(("and", "且", "并且", "和", "与", "及", "以及"), "and"),
    **dict.fromkeys(("or", "或", "或者"), "or"),
}
_HEDGES = frozenset(
    ("not", "maybe", "or", "perhaps", "possibly", "wrong", "incorrect", "if", "else", "either", "and", "but", "than", "no")
) | frozenset(("或", "和", "不", "不是", "还是"))


def read_answer(text: str, functions: frozenset[str] = frozenset("f"), *, loose: bool = False) -> tuple[Answer, ...]:
    """The readings of `text`, likeliest first; several where the notation is ambiguous ("1,234", "5 m", "(B) 12").

    `loose` adds readings that are safe for an answer but not for a reference: a decimal comma ("3,14").
    """
    if not text.isascii() and (marks := _CIRCLED.fullmatch(text.strip().strip("$"))):
        return (Answer("".join(sorted(set(re.findall("[①-⑳]", marks.group())))), word=True),)
    try:
        normal = normalise(text)
        lettered = option(normal) if ")" in normal or "." in normal or ":" in normal else None
        if lettered is not None:
            letter, rest = lettered
            found = [
                replace(answer, option=letter) for answer in _readings(rest, functions, loose) if answer.items or answer.word
            ]
            return (
                (Answer(letter.casefold(), (Item(symbol(letter)),)), *found) if found else _readings(normal, functions, loose)
            )
        return _readings(normal, functions, loose)
    except MathError as error:
        return (Answer(plain_text(text[:MAX_CHARS]), fault=str(error)),)


def _readings(normal: str, functions: frozenset[str], loose: bool) -> tuple[Answer, ...]:
    clean = bare(normal)
    if loose and not clean.isascii() and (digits := measured(clean)) is not None:
        clean = respell(digits)
    plain = plain_text(clean)
    phrase = canonical(plain)
    if phrase == "all real numbers":
        return (Answer(plain, (Item(Node("bb", (), "R")),), phrase=phrase),)
    if phrase is not None:
        return (Answer(plain, word=True, phrase=phrase),)
    if clock := _CLOCK.match(plain):
        # A time of day is no ratio.
        return (Answer(f"{clock.group(1)} {clock.group(2)}m" if clock.group(2) else plain, word=True),)
    if not plain[:1].isdigit() and (spelled := spelled_number(plain)) is not None:
        return (Answer(plain, (Item(number(spelled)),), word=True),)
    if loose and plain[:1].isalpha() and (count := spelled_count(plain)) is not None:
        return (Answer(plain, (Item(number(count)),), word=True),)
    if _DENIED.match(plain):
        return (Answer(plain, fault="hedged"),)
    if PROSE.match(plain) and plain not in _NOT_PROSE and len(plain) > 1 and not _is_formula(clean):
        return (Answer(plain, word=True), *_choices(clean))
    found = [_read(clean, plain, functions)]
    if _THOUSANDS.search(clean):
        found.insert(0, _read(_THOUSANDS.sub(lambda m: m.group().replace(",", ""), clean), plain, functions))
    if "," in clean and (_DECIMAL_COMMA if loose else _SURE_DECIMAL_COMMA).fullmatch(clean):
        found.append(_read(clean.replace(".", "").replace(",", "."), plain, functions))
    if loose and (mixed := _MIXED.fullmatch(clean)):
        found.append(_read(f"{mixed.group(1)} {mixed.group(2)}", plain, functions))
    if (quantity := read_quantity(clean)) is not None:
        found.insert(0, Answer(plain, (Item(number(quantity[0]), quantity[1]),)))
    if (parts := split_unit(clean)) is not None:
        value, unit, tentative = parts
        found.append(replace(_read(f"{value}\\text{{{unit}}}", plain, functions), tentative=tentative))
    if (combinations := combinations_written_out(clean)) is not None:
        found.append(_read(combinations, plain, functions))
    return (*found, *_choices(clean))


def _choices(clean: str) -> tuple[Answer, ...]:
    """The reading of "A, C" and "A和C" as the choice AC; in any other order letters may be a ranking."""
    clean = re.sub(r"^\\text\s*\{([^{}]*)\}$", r"\1", clean)
    letters = re.findall("[A-J]", clean) if _CHOICES.fullmatch(clean) else []
    return (Answer("".join(letters).casefold(), word=True),) if letters and letters == sorted(set(letters)) else ()


_DENIED = re.compile(r"not\s+[a-z]?\s*[=<>\d]")


def _is_formula(clean: str) -> bool:
    """A run of letters that is mathematics after all: a command, or one or two letters ("xy")."""
    return "\\" in re.sub(r"\\(?:text|mathrm|textbf|textit)\b", "", clean) or len(clean) <= 2


def _read(text: str, plain: str, functions: frozenset[str]) -> Answer:
    integers: set[str] = set()
    while match := _INTEGER.search(text):
        if not text[: match.start()].strip():
            break
        integers.update(re.findall("[a-zA-Z]", match.group(1)))
        text = text[: match.start()]
    functions = functions | frozenset(_HEAD.findall(text))
    try:
        tokens = tokenise(text)
        items: list[Item] = []
        joins: set[str] = set()
        signs = 0
        for chunk, join in _chunks(tokens):
            parser = Parser(without_head(chunk), functions, signs)
            items.append(_item(parser))
            signs = parser.signs
            joins.add(join)
            if len(items) > MAX_ITEMS:
                raise MathError("too-complex")
        if not items:
            raise MathError("empty")
    except MathError as error:
        return Answer(plain, fault=str(error))
    joins.discard("")
    join = joins.pop() if len(joins) == 1 else "," if joins else ""
    return Answer(plain, tuple(items), join, frozenset(integers))


def _chunks(tokens: list[Token]) -> list[tuple[list[Token], str]]:
    """The parts between top-level commas, semicolons, "and" and "or", each with the separator before it.

    A closing condition ("for all x", "where ...") ends the answer.
    """
    found: list[tuple[list[Token], str]] = []
    current: list[Token] = []
    depth, join = 0, ""
    for index, token in enumerate(tokens):
        op = token.text if token.kind in ("op", "cmd") else ""
        if op in ("(", "[", "{", "lb") or op.startswith("begin:"):
            depth += 1
        elif op in (")", "]", "}", "rb") or op.startswith("end:"):
            depth -= 1
        separator = ""
        if depth == 0:
            word = _JOINS.get(token.text.casefold().strip(" ,"), "") if token.kind == "word" else ""
            if op in (",", ";"):
                separator = ","
            elif word or op == "&" or (token.kind == "cmd" and op in ("and", "or")):
                separator = word or ("and" if op == "&" else op)
            elif (
                (op == "forall" or (token.kind == "word" and _CONDITION.match(token.text)))
                and (current or found)
                and not _hedged(tokens[index + 1 :])
            ):
                break
        if token.kind == "end":
            break
        if separator:
            if current:
                found.append((current, join))
            elif not found:
                raise MathError("unparsed")
            join = separator if current or separator != "," else join
            current = []
        else:
            current.append(token)
    if current:
        found.append((current, join))
    return [([*chunk, Token("end", "")], join) for chunk, join in found]


def _hedged(rest: list[Token]) -> bool:
    return any(token.kind == "word" and token.text.casefold() in ("or", "else", "otherwise") for token in rest)


def _item(parser: Parser) -> Item:
    name = point_label(parser)
    currency = None
    negative = False
    start = parser.at
    if parser.accept("-"):
        negative = True
    if parser.head.kind == "op" and parser.head.text in CURRENCY:
        currency = read_unit(parser.next().text)
    else:
        parser.at, negative = start, False
    node = parser.relation()
    if negative:
        node = Node("neg", (node,))
    unit = _trailing_unit(parser) or currency
    if unit is not None and unit.dimensions == (("percent", 1),):
        node, unit = Node("pct", (node,)), None
    elif unit is not None and unit.dimensions == (("degree", 1),):
        node, unit = Node("deg", (node,)), None
    item = from_chain(node)
    return replace(item, unit=unit, label=name or item.label)


def _trailing_unit(parser: Parser) -> Unit | None:
    """The unit after the value. Raises MathError when what follows is neither a unit nor a noun or two."""
    rest = parser.tokens[parser.at : -1]
    if not rest:
        return None
    first = rest[0]
    if first.kind != "word" and first.text not in CURRENCY:
        raise MathError("trailing-text")
    words = [word for token in rest if token.kind == "word" for word in token.text.casefold().split()]
    if len(words) > 4 or _HEDGES & set(words):
        raise MathError("trailing-text")
    # Re-spelt with spaces only between words, so that "m ^ { 2 }" reads "m^2".
    text = ""
    for token in rest:
        piece = token.text
        text += (" " if token.kind == "word" and text[-1:].isalpha() else "") + ("" if piece in "{}" else piece)
    unit = read_unit(text.strip(" ."))
    if unit is None:
        raise MathError("trailing-text")
    return unit
