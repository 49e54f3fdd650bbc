"""Answers of physics, chemistry and biology: quantities, formulae, chemical formulae and equations, words.

What the reference is decides the rule; the answer must be readable as the same kind of thing. Source: GLM-4.5V report,
arXiv 2507.01006, table 1 (physics and chemistry: units).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from rewards.chemical_formula import Term, read_formula, same_formula
from rewards.chemistry import Equation, read_equation, same_equation, scale_of
from rewards.denials import denied
from rewards.electron_configuration import read_configuration
from rewards.mathexpr.equality import Tolerance
from rewards.physics_formula import same_physics
from rewards.plain_text import fold
from rewards.quantity import Quantity, read_quantities
from rewards.registry import BadReference, Context, Outcome, verifier
from rewards.substances import UNKNOWN, Name, name_key, named
from rewards.understood_units import Rules, list_reason, read_question

MAX_CHARS = 4096


@dataclass(frozen=True)
class StemArgs:
    """Arguments of the `stem` verifier."""

    rtol: float | None = None
    """Relative tolerance of numbers; None is 0.005, and whole numbers of up to three digits in one unit must be equal."""
    atol: float | None = None
    """Absolute tolerance in the reference's unit, in addition."""
    unit: Literal["any", "same"] = "any"
    """Whether any unit of the reference's dimension will do, or only the reference's own."""
    require_unit: bool | None = None
    """Whether a bare number is wrong where the reference has a unit; None: unless the question names such a unit."""


@dataclass(frozen=True)
class Reference:
    """The reference as written, and what it can be read as."""

    source: str
    quantities: tuple[Quantity, ...] = ()
    equation: Equation | None = None
    term: Term | None = None
    name: Name = UNKNOWN
    words: str | None = None
    shells: tuple[tuple[str, int], ...] | None = None
    is_formula: bool = False

    @property
    def is_chemical(self) -> bool:
        """A chemical formula that is no product of the letters physicists use for power, current, charge and the like."""
        if self.term is None:
            return False
        tokens = self.term.readings[0].tokens
        product = all(count == 1 and name in _PHYSICAL_LETTERS for name, count in tokens)
        return not product and (len(tokens) > 1 or tokens[0][1] > 1 or bool(self.term.readings[0].charge))


_PHYSICAL_LETTERS = frozenset("BFIKNPSUVWY")


def read_reference(raw: Any, args: StemArgs) -> Reference:
    """The readings of the reference. Raises BadReference when it is no text, empty or too long."""
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise BadReference("not-text")
    text = _SURROGATE.sub("\ufffd", str(raw)).strip()
    if not _has_content(text):
        raise BadReference("empty-reference")
    if len(text) > MAX_CHARS:
        raise BadReference("too-long")
    equation = read_equation(text)
    if equation is not None:
        return Reference(text, equation=equation)
    term, quantities = read_formula(text), read_quantities(text)
    if quantities and quantities[0].value is not None:
        term = None  # 5 N is no nitrogen
    symbols_only = term is not None or (bool(quantities) and (quantities[0].value is not None or len(text) < 4))
    is_words = bool(_WORD.search(text)) and (not symbols_only or text.casefold() == "no")
    words = word_key(text) if is_words and (_PROSE.search(text) or not _RELATION.search(text)) else None
    is_formula = words is None or bool(_FORMULA.search(text))
    return Reference(text, quantities, None, term, named(text), words, read_configuration(text), is_formula)


def _has_content(text: str) -> bool:
    return any(c.isalnum() or c == "\u221e" for c in text)


_SURROGATE = re.compile("[\ud800-\udfff]")  # no text; it cannot be encoded


# ---- words

_FORMULA = re.compile(r"[=<>\u2264\u2265^_/+*\\\u00d7\u00b7\u221a\d]|^\S{1,4}$")
_COUNTED = re.compile(r"(-?\d{1,12}(?:\.\d{1,12})?)(?:\s+[a-z]{3,20}(?:\s[a-z]{3,20})?|\s*[\u3400-\u9fff]{1,5})")
_WORD = re.compile(r"[A-Za-z]{2}|[\u3400-\u9fff]")
_ANSWER = re.compile(
    r"^(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is|:)\s*:?\s*|^(?:所以|因此|故)?(?:最终)?(?:答案|结果)\s*(?:是|为)?\s*[:：]?\s*",
    re.IGNORECASE,
)
_TEXT_COMMANDS = re.compile(r"\\(?:text|mathrm|textbf|mathbf|boxed|textit)\s*\{([^{}]*)\}|\$|\*\*")
_GREEK_LETTERS = (
    "α alpha β beta γ gamma δ delta ε epsilon ζ zeta η eta θ theta κ kappa λ lambda μ mu ν nu π pi ρ rho σ sigma τ tau ω omega"
)
_GREEK = dict(zip(_GREEK_LETTERS.split()[::2], _GREEK_LETTERS.split()[1::2], strict=True))
_TREND_WORDS = """
increase: increases increased increasing rises goes_up 增大 增加 变大 升高
decrease: decreases decreased decreasing falls goes_down 减小 减少 变小 降低
unchanged: no_change constant stays_the_same does_not_change remains_constant remains_the_same remains_unchanged 不变 保持不变
正确: 对 是
错误: 错 否
"""
_TRENDS = {word: line.split(":")[0] for line in _TREND_WORDS.strip().splitlines() for word in line.split(": ")[1].split()}
_CASE_COUNTS = re.compile(r"(?:([A-Za-z])(?i:\1)){1,8}|[A-Za-z]{1,12}(?<=[a-z])[A-Z][A-Za-z]{0,12}")  # genotypes, mRNA


_PROSE = re.compile(r"[A-Za-z]{4}|[\u3400-\u9fff]")
_RELATION = re.compile(r"[=<>\u2264\u2265]")
_AROUND_SIGNS = re.compile(r"\s*([=<>\u2264\u2265+/*-])\s*")
_JOINED = re.compile(r"(?<=[a-z])-(?=[a-z]{3})")  # x-ray; but a minus in mg-T


def _has_prose(text: str) -> bool:
    """Whether a text has words, so that its hyphens are hyphens and its letter case is nothing: not `F = -kx`, not `-mgh`."""
    return bool(_PROSE.search(text)) and not _RELATION.search(text)


def word_key(text: str) -> str:
    """The form words are compared in: folded, without article, Greek letters by name, one word for each trend."""
    bare = _TEXT_COMMANDS.sub(lambda m: m.group(1) or "", _ANSWER.sub("", text.strip()))
    key = name_key(bare) if _has_prose(bare) else _JOINED.sub(" ", fold(_AROUND_SIGNS.sub(r"\1", bare)))
    key = "".join(f" {_GREEK[c]} " if c in _GREEK else c for c in key)
    key = re.sub(r"^(?:the|an|a|it|it will|will) (?=\S)", "", " ".join(key.split()))
    return _TRENDS.get(key.replace(" ", "_"), key)


# ---- the verifier

_GLOSS = re.compile(r"^(.{1,200}?)\s*[(（]\s*([^()（）]{1,100})\s*[)）]$", re.DOTALL)
_CHEMICAL_LEAD = re.compile(
    r"^(?:[A-Za-z]+\s+){0,8}?(?:is|are)\s*:?\s+(?=[\dA-Z\\$\[(^])|^[\u3400-\u9fff]{1,16}(?:是|为)?[:：]?\s*(?=[\dA-Z\\$\[(^])"
    r"|^(?:[A-Za-z]+\s+){0,4}[A-Za-z]{4,}\s*:\s+(?=[\dA-Z\\$\[(^])"
)
_NEGATION = re.compile(r"\b(?:not|never|no|cannot|or)\b|不|非|或", re.IGNORECASE)
_BOUNDED = re.compile(r"\s*-?\d{1,12}(?:\.\d{1,12})?\s*[A-Za-z°%]{0,4}\s*")


def _is_short(answer: str, reference: Any) -> bool:
    return bool(_BOUNDED.fullmatch(answer)) and bool(_BOUNDED.fullmatch(str(reference)[:40]))


@verifier(
    "stem", domains=("stem",), args=StemArgs, reference=read_reference, bounded=_is_short, libraries=("pint", "sympy", "mpmath")
)
def stem(answer: str, reference: Reference, context: Context) -> Outcome:
    """Score 1 when the answer is the reference by the rule of its kind, else 0 with the reason."""
    if len(answer) > MAX_CHARS:
        return Outcome(0.0, False, "answer-too-long")
    answer = _SURROGATE.sub("\ufffd", answer).strip()
    if not _has_content(answer):
        return Outcome(0.0, False, "empty-answer")
    if answer == reference.source:
        context.note("rule", "same text")
        return Outcome(1.0, True)
    if denied(answer, reference.source):
        context.note("rule", "denied")
        return Outcome(0.0, False, "hedged")
    reason = _reason(answer, reference, context)
    gloss = _GLOSS.match(answer) if reason is not None else None
    if gloss and all(_has_content(part) and _reason(part, reference, context) is None for part in gloss.groups()):
        context.note("rule", "said twice: both parts are the reference")  # "CaO (quicklime)", "1 km (1000 m)"
        reason = None
    return Outcome(1.0, True) if reason is None else Outcome(0.0, False, reason)


def _reason(answer: str, reference: Reference, context: Context) -> str | None:
    """None when the answer is right under one of the reference's readings, else the reason of the first that applied."""
    if reference.equation is not None:
        return _equation_reason(answer, reference.equation, context)
    reasons: list[str] = []
    args: StemArgs = context.args

    def settled(rule: str, why: str | None, wanted: object, found: object) -> bool:
        context.note("reference", wanted)
        context.note("answer", found)
        context.note("rule", rule)
        if why is not None:
            reasons.append(why)
        return why is None

    quantities = read_quantities(answer)
    if not quantities and len(reference.quantities) == 1 and reference.quantities[0].unit is None:
        counted = _COUNTED.fullmatch(answer)  # "6 electrons", "6个电子" where the reference is 6
        if counted and not _NEGATION.search(answer):
            quantities = read_quantities(counted.group(1))
    if reference.quantities and quantities:
        rules = Rules(args.rtol, args.atol, args.unit == "same", args.require_unit, read_question(context.question))
        why = list_reason(reference.quantities, quantities, rules)
        if settled("quantity", why, _listed(reference.quantities), _listed(quantities)):
            return None
    elif reference.quantities and reference.quantities[0].value is not None:
        reasons.append("not-a-quantity")
    if reference.term is not None or reference.name.formulae:
        found = _chemical(answer)
        why = _substance_reason(answer, found, reference)
        if settled("chemical formula", why, reference.term or reference.name.formulae, found or answer):
            return None
    if reference.words is not None:
        key = word_key(answer)
        if _CASE_COUNTS.fullmatch(reference.source) and reference.source not in answer:
            key = ""
        if settled("words", None if key == reference.words else "text-differs", reference.words, key):
            return None
    if reference.shells is not None:
        shells = read_configuration(answer)
        why = None if shells == reference.shells else "different-configuration"
        return None if settled("electron configuration", why, reference.shells, shells) else reasons[-1]
    if reference.is_chemical or (quantities and reference.quantities) or not reference.is_formula:
        return reasons[0]
    measured = any(quantity.unit and quantity.value is not None for quantity in reference.quantities)
    if measured and not _letters(reference.source) <= _letters(answer):
        return reasons[0]  # mathematics would do without the unit: "3mg" may be a product, "five" is no force
    why = same_physics(reference.source, answer, Tolerance(args.rtol, args.atol))
    if settled("formula", why, reference.source, answer):
        return None
    return reasons[0 if reference.quantities or reference.name.formulae else -1]


def _letters(text: str) -> set[str]:
    return {char for char in text if char.isalpha()}


def _listed(quantities: tuple[Quantity, ...]) -> str:
    return ", ".join(map(str, quantities))


def _chemical(answer: str) -> Term | None:
    """The chemical formula an answer gives, perhaps at the end of a short sentence."""
    term = read_formula(answer)
    lead = _CHEMICAL_LEAD.match(answer) if term is None else None
    if lead is None or _NEGATION.search(lead.group()):
        return term
    return read_formula(answer[lead.end() :])


def _substance_reason(answer: str, found: Term | None, reference: Reference) -> str | None:
    """Formula against formula, formula against name, name against name."""
    if reference.term is not None and found is not None:
        return same_formula(reference.term, found)
    other = named(_ANSWER.sub("", answer))
    if reference.term is not None:
        terms = [read_formula(formula) for formula in sorted(other.formulae)]
        return None if any(t and same_formula(reference.term, t) is None for t in terms) else "different-formula"
    if found is not None:
        terms = [read_formula(formula) for formula in sorted(reference.name.formulae)]
        return None if any(t and same_formula(t, found) is None for t in terms) else "different-formula"
    return None if reference.name.identities & other.identities else "different-substance"


def _equation_reason(answer: str, reference: Equation, context: Context) -> str | None:
    lead = _CHEMICAL_LEAD.match(answer)
    text = answer[lead.end() :] if lead and not _NEGATION.search(lead.group()) else answer
    found = read_equation(text)
    context.note("reference", reference)
    context.note("answer", found)
    context.note("rule", "chemical equation")
    if found is None:
        return "no-equation"
    return same_equation(reference, found) or _heat_reason(reference, found)


def _heat_reason(reference: Equation, found: Equation) -> str | None:
    """The heat of reaction, where the reference gives it, for the amounts of the reference's equation."""
    if reference.heat is None:
        return None
    wanted, given = read_quantities(reference.heat), read_quantities(found.heat or "")
    if len(wanted) != 1 or wanted[0].value is None:
        return None if reference.heat == found.heat else "heat-differs"
    if len(given) != 1 or given[0].value is None:
        return "heat-missing"
    factor: Fraction = scale_of(found) / scale_of(reference)
    per_reference = Quantity(given[0].value / factor, given[0].unit)
    return None if list_reason(wanted, (per_reference,), Rules()) is None else "heat-differs"
