"""Formulae of physics, equal as equations: `F = ma`, `a = F/m`, `\\vec F = m\\vec a`, `E=\\frac12mv^2`, `ΔxΔp ≥ h/4π`.

The mathematics is `rewards.mathexpr`'s. Added here is what physicists write: arrows over vectors, a digit after a letter
as its index (m1m2), a product after a solidus as the divisor (h/4π), h for 2π times the reduced constant, and a law
solved for another of its letters.
"""

from __future__ import annotations

import itertools
import re
from functools import lru_cache

from rewards.mathexpr.answer import Answer, read_answer
from rewards.mathexpr.equality import Tolerance, functions_equal
from rewards.mathexpr.items import Item
from rewards.mathexpr.lexer import normalise, tokenise
from rewards.mathexpr.match import compare
from rewards.mathexpr.nodes import MathError, Node, rewrite, symbols
from rewards.mathexpr.parser import Parser
from rewards.mathexpr.policy import Policy
from rewards.mathexpr.vocabulary import SUPER_RUN, SUPERS
from rewards.stream_safe import normalise as normalise_text

MAX_CHARS = 1000
_VECTOR_MARKS = re.compile("[\u20d0-\u20dc\u20e1\u0302\u0304\u0305]")
_INDEX = re.compile(
    r"(?<![A-Za-z\\_^{\d])(\\?[A-Za-z\u0370-\u03ff])(\d)(?![\d.])|(?<=[a-zA-Z\d]{1})([A-Za-z\u0370-\u03ff])(\d)(?![\d.])"
)
_DIVISOR = re.compile(r"/\s*(\d{0,6}\s*(?:\\pi(?![a-zA-Z])|\u03c0))(?![\s]*\^)")
_LONG_DIVISOR = re.compile(
    r"/\s*((?:\d{1,6})?(?:\\?[A-Za-z\u0370-\u03ff](?:_\{?\w{1,3}\}?)?(?:\^\{?-?\d{1,2}\}?)?\s?|\u221a\([^()]{1,20}\)){2,8})"
)
_ARROWS = re.compile(r"(?<=[A-Za-z])\u2192|\u2192(?=[A-Za-z])")  # a vector's, typed beside its letter
_LETTERS = re.compile(r"(?=[A-Z]*[a-z])[b-df-hj-np-tv-zB-DF-HJ-NP-TV-Z]{3,4}")  # mgh, qvB: no word has no vowel
_HBAR = re.compile(r"\\hbar(?![a-zA-Z])|\u210f|\u0127")
_NU = re.compile(r"\\nu(?![a-zA-Z])|\u03bd")
_CROSS = re.compile(r"(\\?[A-Za-z\u0370-\u03ff]+)\s*(?:\u00d7|\\times(?![a-zA-Z]))\s*(\\?[A-Za-z\u0370-\u03ff]+)")
_CROSS_PRODUCTS = frozenset(("rF", "vB", "rp", "EB", "EH", "ωr", "lB", "LB", "IB", "μB", "pE", "mB", "rv", "ωv"))


def same_physics(reference: str, answer: str, tolerance: Tolerance) -> str | None:
    """None when the formulae say the same, else the reason of the plainest reading."""
    if len(answer) > MAX_CHARS or len(reference) > MAX_CHARS:
        return "answer-too-long"
    if _turned(reference, answer):
        return "different-value"
    if _as_written(reference) == _as_written(answer):
        return None
    policy = Policy(tolerance=tolerance)
    first = None
    for wanted, found in itertools.product(_variants(reference), _variants(answer)):
        reason = _compare(_read(wanted), _read(found), policy)
        if reason is None:
            return None
        first = first or reason
    folded = _case_folded(reference, answer)
    if folded is not None and _compare(_read(folded[0]), _read(folded[1]), policy) is None:
        return None
    return first


def _as_written(text: str) -> str:
    """The formula without spacing and index marks, for notation no parser here knows (\u2207, \u222b)."""
    text = SUPER_RUN.sub(lambda m: "^{" + "".join(SUPERS[c] for c in m.group()) + "}", _VECTOR_MARKS.sub("", text))
    text = re.sub(r"\^\{(-?\w+)\}", r"^\1", normalise_text("NFKC", text))
    return re.sub(r"_\{?(\w{1,6})\}?|[\s$]", r"\1", text)


@lru_cache(maxsize=2048)
def _read(text: str) -> tuple[Answer, ...]:
    return read_answer(text)


@lru_cache(maxsize=2048)
def _variants(text: str) -> tuple[str, ...]:
    """The text as written, and as physicists mean it, where that is another thing."""
    text = _ARROWS.sub("", _VECTOR_MARKS.sub("", text)).replace("\u0127", "\u210f")
    found = [text]
    changes = [
        lambda t: _INDEX.sub(lambda m: f"{m.group(1) or m.group(3)}_{m.group(2) or m.group(4)}", t),
        lambda t: _DIVISOR.sub(r"/(\1)", t),
        lambda t: _LONG_DIVISOR.sub(r"/(\1)", t),
        lambda t: _HBAR.sub(r"(h/(2\\pi))", t),
        lambda t: t if "v" in _NU.sub("", t) else _NU.sub("v ", t),  # E = hv: the Greek letter, typed as it looks
    ]
    for change in changes:
        found += [new for old in found if (new := change(old)) not in found]
    if not re.search(r"[\^\u00b2\u00b3_]", text):
        found.append(re.sub(r"(?<=[A-Za-z])([23])(?!\d)", r"^\1", text))  # mc2 lost its raised place
    if _LETTERS.fullmatch(text):
        found.append("*".join(text))
    return tuple(dict.fromkeys(found))[:8]


def _compare(references: tuple[Answer, ...], answers: tuple[Answer, ...], policy: Policy) -> str | None:
    first = None
    for reference, answer in itertools.product(references, answers):
        if not reference.items or not answer.items:  # words are compared elsewhere, by rules of their own
            first = first or answer.fault or "text-differs"
            continue
        if any(item.unit for item in answer.items) and not any(item.unit for item in reference.items):
            first = first or "trailing-text"  # whatever follows a formula is no unit of it
            continue
        try:
            reason = compare(reference, answer, policy)
            if reason is not None and _rearranged(reference, answer, policy.tolerance):
                return None
        except MathError as error:
            reason = str(error)
        if reason is None:
            return None
        first = first or reason
    return first


def _rearranged(reference: Answer, answer: Answer, tolerance: Tolerance) -> bool:
    """Whether the answer is the reference's law solved for one of its letters: putting it in makes the law an identity."""
    if len(reference.items) != 1 or len(answer.items) != 1:
        return False
    law, solved = _sides(reference.items[0]), _sides(answer.items[0])
    if law is None or solved is None:
        return False
    if symbols(law[0]) | symbols(law[1]) != symbols(solved[0]) | symbols(solved[1]):
        return False
    for sides in (solved, solved[::-1]):
        if all(functions_equal(a, b, tolerance) for a, b in zip(law, sides, strict=True)):
            return True
    for unknown, value in (solved, solved[::-1]):
        if unknown.op == "sym" and unknown.value not in symbols(value):

            def put_in(node: Node, name: str = unknown.value, by: Node = value) -> Node:
                return by if node.op == "sym" and node.value == name else node

            return functions_equal(rewrite(law[0], put_in), rewrite(law[1], put_in), tolerance)
    return False


def _sides(item: Item) -> tuple[Node, Node] | None:
    """Left and right side of an equation between expressions; None for anything else."""
    if item.others or item.unit is not None:
        return None
    if item.label is not None:
        parser = Parser(tokenise(normalise(item.label)))  # "PV" names nothing, it is a product
        left = parser.sum()
        return (left, item.node) if parser.head.kind == "end" else None
    if item.node.op == "rel" and item.node.value == ("=",):
        return item.node.args[0], item.node.args[1]
    return None


def _case_folded(reference: str, answer: str) -> tuple[str, str] | None:
    """Both without case, for an answer written in small letters only (`v = ir`) or with another p for pressure.

    None where case tells two letters of the reference apart, or answer and reference mix it differently (T and t).
    """
    names = set(re.findall(r"[^\W\d_]", reference))
    if len({name.casefold() for name in names}) != len(names) or "\\" in reference or "\\" in answer:
        return None
    if answer != answer.lower() and {c for c in answer if c.isalpha()} ^ names != {"p", "P"}:
        return None
    return _variants(reference)[0].casefold(), _variants(answer)[0].casefold()


def _turned(reference: str, answer: str) -> bool:
    """Whether a cross product of vectors is written the other way round: r x F is not F x r."""
    wanted, found = (
        {(a[-1], b[0]) for a, b in _CROSS.findall(_VECTOR_MARKS.sub("", _plain(text)))} for text in (reference, answer)
    )
    return any((b, a) in found and (a + b in _CROSS_PRODUCTS or b + a in _CROSS_PRODUCTS) for a, b in wanted)


def _plain(text: str) -> str:
    text = re.sub(r"\\(?:vec|mathbf|boldsymbol|bm|overrightarrow|mathrm)\s*\{?\s*(\\?[A-Za-z]+)\s*\}?", r" \1 ", text)
    for name, letter in (("omega", "ω"), ("mu", "μ")):
        text = re.sub(rf"\\{name}(?![a-zA-Z])", letter, text)
    return text.replace("\u00b5", "μ")
