"""What an answer says: prose and labels taken off, lists split, each part parsed, units read.

"The roots are $x=1$ and $x=2$"  ->  two items, label "x", values 1 and 2
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from rewards.mathexpr.lexer import Token, normalise, tokenise
from rewards.mathexpr.nodes import MAX_ITEMS, MathError, Node, symbols, walk
from rewards.mathexpr.parser import Parser
from rewards.mathexpr.units import CURRENCY, Unit, read_unit


@dataclass(frozen=True, slots=True)
class Item:
    """One value. `others` are the further sides of a chain: `(1+sqrt 97)/8 ~ 1.36`, `2*3 = 6`."""

    node: Node
    unit: Unit | None = None
    label: str | None = None
    others: tuple[Node, ...] = ()
    approximate: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed answer. Without `items` it is only text; `fault` says why it is not mathematics (None: it is prose)."""

    text: str
    items: tuple[Item, ...] = ()
    join: str = ""
    integers: frozenset[str] = frozenset()
    fault: str | None = None
    word: bool = False


_WORD = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"
_STATEMENT = re.compile(rf"^(?:{_WORD}\s+){{0,7}}?(?:is|are|equals|equal to|est|es|ist)\s*:?\s+(?=\S)", re.IGNORECASE)
_HEADING = re.compile(rf"^(?:{_WORD}\s+){{0,5}}(?:[^\W\d_]{{2,}})\s*[:：]\s*(?=\S)")
_CHINESE = re.compile(r"^(?:所以|因此|故)?(?:最终)?(?:答案|结果|值)(?:是|为)\s*[:：]?")
_PROSE_LABEL = re.compile(rf"^(?:\\text\s*\{{\s*)?(?:{_WORD}\s+){{0,3}}[^\W\d_]{{4,}}\s*\}}?\s*=\s*(?=\S)")
_NEGATED = re.compile(r"\b(?:not|never|no|isn't|aren't|cannot)\b", re.IGNORECASE)
_PROSE = re.compile(rf"^{_WORD}(?:[\s,]+{_WORD})*$")
_NOT_PROSE = frozenset(["pi", "e", "i", "x", "y", "inf", "infinity"])
_INTEGER = re.compile(
    r"[,;]?\s*\(?\s*(?:\\text\s*\{[^{}]*\}\s*)?(?<![A-Za-z\\])([a-zA-Z](?:\s*,\s*[a-zA-Z])?)\s*\\in\s*"
    r"(?:\\mathbb\s*\{?\s*[ZN]\s*\}?|[ZN])\s*(?:[\^_]\s*\{?[+*]\}?\s*)*\)?\s*$"
)
_HEAD = re.compile(r"(?<![A-Za-z\\])([A-Za-z])\s*(?:\\left)?\(\s*[a-z](?:\s*,\s*[a-z])*\s*(?:\\right)?\)\s*=")
_INVERSE_HEAD = re.compile(r"^[A-Za-z]\^\{?-1\}?\s*\(\s*[a-z]\s*\)\s*=")
_DERIVATIVE_HEAD = re.compile(
    r"^(?:\\frac\{d\s*[a-z]?\}\{d\s*[a-z]\}|[a-z]'(?:_\{?[a-z]\}?)?|[a-z]_\{?[a-z]\}?')\s*(?:\([a-z]\))?\s*="
)
_ORDINAL = re.compile(
    r"(?<![\w.])(\d+)\s*(?:\^\s*\{?\s*)?(?:\\(?:text|mathrm)\s*\{\s*(?:st|nd|rd|th)\s*\}|(?:st|nd|rd|th)(?![a-z]))\}?"
)
_SURE_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!,?|,\\!)(?=\d{3}(?!\d))")
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d,]| ?[/\d])")
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_UNIT_LETTER = re.compile(r"[\d}]\s+[A-Za-z](?:\^\{?[23]\}?)?\s*$")
_OPTION = re.compile(r"^\\(?:text|textbf|mathrm|mathbf)\s*\{\s*\(?\s*([A-Z])\s*\)?\s*\.?\s*\}\.?$")
_DOLLARS = re.compile(r"^\s*[-+]?\$\s*[-+]?[\d.]")
_CONDITION = re.compile(r"^(?:for|where|with|when|such that)\b", re.IGNORECASE)
_PLAIN_SET = re.compile(r"^\{([^{}]*,[^{}]*)\}$")
_SET_BUILDER = re.compile(
    r"^(?:\\left)?\\\{\s*[a-z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid|\\middle\||\\vert|\||:|,(?=.*[<>]))"
    r"(.*?)(?:\\right)?\\\}$"
)
_CLOCK = re.compile(r"^\d{1,2}:(?:00|\d\d(?::\d\d|\s*[ap]\.?m)).*$", re.IGNORECASE)
_ALL_REALS = frozenset(("all real numbers", "all reals", "all real number", "the set of all real numbers"))
_UNKNOWNS = frozenset("xyzt")
_HEDGES = frozenset(
    [
        "not",
        "maybe",
        "or",
        "perhaps",
        "possibly",
        "wrong",
        "incorrect",
        "if",
        "else",
        "either",
        "and",
        "but",
        "than",
        "no",
    ]
)


def plain_text(text: str) -> str:
    """The answer as text to compare with text: mark-up, case, spacing and closing punctuation removed."""
    text = re.sub(r"\\(?:text|mathrm|textbf|textit|mathbf|operatorname|mbox)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\(?:angle|triangle|overline|vec|overrightarrow)\b|[{}]", " ", text)
    text = re.sub(r"\\[()\[\],;!]|\$|~", " ", text)
    text = " ".join(text.split()).strip(" .,;:\"'`*").casefold()
    # After a word an exclamation mark is punctuation; after a number it is a factorial.
    return text.rstrip(" !") if _PROSE.match(text.rstrip(" !")) else text


def read_answer(text: str, functions: frozenset[str] = frozenset("f")) -> tuple[Answer, ...]:
    """The readings of `text`, likeliest first; several where the notation is ambiguous ("1,234", "5 m")."""
    try:
        clean = _strip(normalise(text))
    except MathError as error:
        return (Answer(plain_text(text[:4096]), fault=str(error)),)
    plain = plain_text(clean)
    if plain in _ALL_REALS:
        return (Answer(plain, (Item(Node("bb", (), "R")),)),)
    if _CLOCK.match(plain):
        return (Answer(plain, fault=None, word=True),)  # a time of day is no ratio
    if _PROSE.match(plain) and plain not in _NOT_PROSE and len(plain) > 1 and not _is_formula(clean):
        return (Answer(plain, fault=None, word=True),)
    variants = [(clean, False)]
    if _THOUSANDS.search(clean):
        variants.insert(0, (_THOUSANDS.sub(lambda m: m.group().replace(",", ""), clean), False))
    if _UNIT_LETTER.search(clean):
        variants.append((clean, True))
    return tuple(_read(variant, plain, functions, unit_letters) for variant, unit_letters in variants)


def _is_formula(clean: str) -> bool:
    """A run of letters that is mathematics after all: a command, or one or two letters ("xy")."""
    return "\\" in re.sub(r"\\(?:text|mathrm|textbf|textit)\b", "", clean) or len(clean) <= 2


def _strip(text: str) -> str:
    text = text.strip()
    if _DOLLARS.match(text) and text.count("$") - text.count(r"\$") == 1:
        text = text.replace("$", r"\$", 1)
    text = re.sub(r"(?<!\\)\$", " ", text)
    text = re.sub(r"\\[()\[\]]", " ", text).strip()
    text = re.sub(r"^\s*(?:\\(?:quad|qquad|displaystyle|[,;!: ])\s*)+", "", text)
    option = _OPTION.match(text)
    if option:
        return option.group(1)
    for _ in range(2):
        unwrapped = re.sub(r"^\\text\s*\{([^{}]*)\}", r"\1", text) if text.startswith("\\text") else text
        for pattern in (_STATEMENT, _HEADING, _CHINESE):
            match = pattern.match(unwrapped)
            if match and not _NEGATED.search(match.group()):
                text = unwrapped[match.end() :].strip()
                break
    match = _PROSE_LABEL.match(text)
    if match and not _NEGATED.search(match.group()):
        text = text[match.end() :]
    text = re.sub(r"^\s*=\s*", "", text)
    text = re.sub(r"(?:\\(?:quad|qquad|[,;!: ])|[.,;:!\s](?<!\d!)|\\)+$", "", text) if not text.endswith("!") else text
    text = re.sub(r"\^\s*$", r"^\\circ", text)  # "90^": a degree mark lost in conversion
    text = _SURE_THOUSANDS.sub("", text)
    text = _SPACED_THOUSANDS.sub(lambda m: m.group().replace(" ", ""), text)
    text = _ORDINAL.sub(r"\1", text)
    text = _PLAIN_SET.sub(r"\\{\1\\}", text.strip())
    builder = _SET_BUILDER.match(text)
    return builder.group(1).strip() if builder else text


def _read(text: str, plain: str, functions: frozenset[str], unit_letters: bool) -> Answer:
    integers: set[str] = set()
    while match := _INTEGER.search(text):
        if not text[: match.start()].strip():
            break
        integers.update(re.findall("[a-zA-Z]", match.group(1)))
        text = text[: match.start()]
    functions = functions | frozenset(_HEAD.findall(text))
    try:
        tokens = tokenise(text, unit_letters=unit_letters)
        items: list[Item] = []
        joins: set[str] = set()
        signs = 0
        for chunk, join in _chunks(tokens):
            parser = Parser(_without_head(chunk), functions, signs)
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
            word = token.text.casefold().strip(" ,") if token.kind == "word" else ""
            if op in (",", ";"):
                separator = ","
            elif word in ("and", "or") or (token.kind == "cmd" and op in ("and", "or")):
                separator = word or op
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


def _without_head(tokens: list[Token]) -> list[Token]:
    """The chunk without a head that is only a name for what follows: `f^{-1}(x) =`, `dy/dx =`."""
    for index, token in enumerate(tokens[:16]):
        if token.kind == "op" and token.text == "=":
            head = "".join(("\\" + t.text if t.kind == "cmd" else t.text) for t in tokens[:index]) + "="
            if _INVERSE_HEAD.match(head) or _DERIVATIVE_HEAD.match(head):
                return tokens[index + 1 :]
            break
    return tokens


def _item(parser: Parser) -> Item:
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
    item = _from_chain(node)
    return replace(item, unit=unit)


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


def label_of(node: Node) -> str | None:
    """The name a left side gives to a value: `x`, `a_1`, `f(x)`, `AB`, `(x, y)`.

    Numbered unknowns (x_1, x_2) lose their number: they are the roots of one equation, in any order.
    """
    if node.op == "sym":
        head, _, index = node.value.partition("_")
        return str(head if head in _UNKNOWNS and index.isdigit() else node.value)
    if node.op == "mul" and (points := [n for n in walk(node) if n.op != "mul"]):
        if all(n.op == "sym" and n.value[:1].isupper() for n in points):
            return "".join(n.value for n in reversed(points))
        return None
    if node.op == "app" and all(arg.op == "sym" for arg in node.args):
        return f"{node.value}({','.join(arg.value for arg in node.args)})"
    if node.op == "tuple" and all(arg.op == "sym" for arg in node.args):
        return f"({','.join(arg.value for arg in node.args)})"
    return None


def _from_chain(node: Node) -> Item:
    """The value of a chain of equations, its label and its other sides. Inequalities and equations stay relations."""
    if node.op != "rel":
        return Item(node)
    ops, sides = node.value, node.args
    if ops == ("in",):
        label = label_of(sides[0])
        return Item(sides[1], label=label) if label else Item(node)
    if not set(ops) <= {"=", "~="}:
        return Item(node)
    labels = []
    while len(sides) > 1:
        label = label_of(sides[0])
        if (
            label is None
            or (sides[0].op == "tuple" and sides[-1].op != "tuple")
            or (sides[0].op == "sym" and _defined_by(sides[0].value, sides[-1]))
        ):
            break
        labels.append(label)
        sides, ops = sides[1:], ops[1:]
    if len(sides) == 2 and not labels and ops == ("=",):
        label = label_of(sides[1])
        if label is not None and label not in symbols(sides[0]):
            return Item(sides[0], label=label)
    label = labels[-1] if labels else None
    if len(sides) == 1:
        return Item(sides[0], label=label)
    if not labels and len(sides) == 2 and ops == ("=",) and (symbols(sides[0]) or symbols(sides[1])):
        return Item(node)
    if "~=" in ops:
        cut = ops.index("~=")
        return Item(sides[0], label=label, others=sides[1:], approximate=cut == 0)
    return Item(sides[-1], label=label, others=sides[:-1])


def _defined_by(name: str, value: Node) -> bool:
    """Whether `name = value` is an equation in `name`, not its definition (x = x is harmless: it is its value)."""
    return name in symbols(value) and not (value.op == "sym" and value.value == name)
