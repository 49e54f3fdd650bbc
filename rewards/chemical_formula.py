"""Chemical formulae: read by a grammar, compared as written up to what carries no meaning.

    "H2O", "H₂O", "\\ce{H2O}"      "SO4^2-", "SO42-", "\\mathrm{SO_4^{2-}}"      "CuSO4·5H2O"      "^{14}_6C", "C-14"

A formula is a sequence of elements with counts, groups written out: order matters, since CH3OCH3 is not C2H5OH.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from rewards.chemical_notation import one_notation
from rewards.substances import ATOMIC_NUMBER, writings

MAX_CHARS = 600
MAX_TOKENS = 400
MAX_COUNT = 10_000

Token = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Species:
    """One kind of particle. `tokens`: elements in writing order ("14C" with a mass number), "·" before a crystal part."""

    tokens: tuple[Token, ...]
    charge: int = 0
    state: str | None = None

    def __str__(self) -> str:
        formula = "".join(name + (str(count) if count != 1 else "") for name, count in self.tokens)
        charge = f"^{abs(self.charge)}{'+' if self.charge > 0 else '-'}" if self.charge else ""
        return formula + charge + (f"({self.state})" if self.state else "")


@dataclass(frozen=True, slots=True)
class Term:
    """A coefficient and the species it counts; several where the writing is ambiguous ("Fe3+", "I3-")."""

    coefficient: Fraction
    readings: tuple[Species, ...]

    def __str__(self) -> str:
        return f"{self.coefficient if self.coefficient != 1 else ''}{self.readings[0]}"


# ---- species

STATE = re.compile(r"\s*\((s|l|g|aq|up|down|cr|固|液|气)\)\s*$")
_STATES = {"cr": "s", "固": "s", "液": "l", "气": "g"}
_ISOTOPE = re.compile(
    r"(?:\^<(?P<a>\d{1,3})>\s*(?:_<(?P<z>[+-]?\d{1,3})>)?|_<(?P<z2>[+-]?\d{1,3})>\s*\^<(?P<a2>\d{1,3})>)\s*(?P<name>[A-Z][a-z]?|[nepαβγ](?![a-z]))"
)
_HYPHENATED = re.compile(r"^([A-Z][a-z]?)-(\d{1,3})$")
_COEFFICIENT = re.compile(r"^\(?(\d{1,5}\s*/\s*\d{1,5}|\d{1,6}\.\d{1,6}|\d{1,6})\)?\s*[·]?\s*(?=[A-Za-z(\[^_αβγ])")
_CHARGE = re.compile(r"(?:\^<\s*(?:(\d{0,2})\s*([+-])|([+-])\s*(\d{1,2}))\s*>|\s*\((\d{0,2})([+-])\))\s*$")
_SPACED_CHARGE = re.compile(r"(?<=\S)\s+(\d{0,2})([+-])\s*$")
_PLAIN_CHARGE = re.compile(r"(?<=[A-Za-z\d)\]>])(\d{0,3})([+-]{1,3})$")
_PARTICLES = {
    "e": Species((("e", 1),), -1),
    "n": Species((("1n", 1),)),
    "p": Species((("1H", 1),), 0),
    "α": Species((("4He", 1),)),
    "β": Species((("e", 1),), -1),
    "γ": Species((("γ", 1),)),
}
_ROMAN = re.compile(r"\([IV]+\)")
_ELEMENT = re.compile(r"[A-Z][a-z]?")
_COUNT = re.compile(r"_<(\d{1,3}|n)>|(\d{1,5})|n(?![a-z])")


@lru_cache(maxsize=8192)
def _species(text: str) -> tuple[Species, ...]:
    """Readings of one species in the notation of `one_notation`, likeliest first; () when it is none."""
    state = None
    match = STATE.search(text)
    if match:
        state, text = _STATES.get(match.group(1), match.group(1)), text[: match.start()].strip()
    while text.startswith("(") and text.endswith(")") and text.count("(") == 1:
        text = text[1:-1].strip()
    hyphenated = _HYPHENATED.match(text)
    if hyphenated:
        text = f"^<{hyphenated.group(2)}>{hyphenated.group(1)}"
    readings: list[tuple[str, int]] = []
    explicit = _CHARGE.search(text) or _SPACED_CHARGE.search(text)
    plain = None if explicit else _PLAIN_CHARGE.search(text)
    if explicit:
        groups = [group for group in explicit.groups() if group is not None]
        sign = next(g for g in groups if g in ("+", "-"))
        size = next((g for g in groups if g not in ("+", "-") and g), "1")
        readings = [(text[: explicit.start()].strip(), int(sign + size))]
    elif plain and len(set(plain.group(2))) == 1:
        base, digits, sign = text[: plain.start()], plain.group(1), plain.group(2)[0]
        if len(plain.group(2)) > 1:
            readings = [(base + digits, int(f"{sign}{len(plain.group(2))}"))]
        else:
            readings = [(base + count, int(sign + (size or "1"))) for count, size in _split_digits(base, digits)]
    elif plain is None:
        readings = [(text, 0)]
    found = []
    for formula, charge in readings:
        one = _formula(formula, charge)
        if one is not None:
            found.append(replace(one, state=state))
    return tuple(found)


def _split_digits(base: str, digits: str) -> list[tuple[str, str]]:
    """How the digits before a sign may divide into a count and a charge: "SO42-" is 4 and 2-, "Fe3+" is 3+."""
    if len(digits) > 1:
        return [(digits[:-1], digits[-1])]
    if not digits:
        return [("", "")]
    alone = bool(re.fullmatch(r"[A-Z][a-z]?", base)) or base.endswith("]")
    both = [("", digits), (digits, "")]
    if alone:
        return both if base not in ("H",) else both[::-1]
    return both[::-1] if base.endswith(")") else both[1:]


def _formula(text: str, charge: int) -> Species | None:
    """One formula without coefficient, charge or state."""
    name = text.strip()
    if _ROMAN.search(name):
        return None  # an oxidation number, not iodine
    isotope = _ISOTOPE.fullmatch(name)
    if isotope is None and name in _PARTICLES:
        particle = _PARTICLES[name]
        return replace(particle, charge=charge if charge and name in "eβ" else particle.charge)
    if isotope:
        return _nuclide(isotope, charge)
    parts = re.split(r"\s*(?:·|\.(?=\d*[A-Z]))\s*", re.sub(r"(?<=[A-Za-z\d)\]>])[-=#](?=[A-Z(\[])", "", name))
    tokens: list[Token] = []
    for index, part in enumerate(parts):
        times = re.match(r"(\d{1,3})?(?:_<>)?", part)
        count = int(times.group(1) or 1) if times and index else 1
        inner = _atoms(part[times.end() :] if times and index else part)
        if inner is None:
            return None
        tokens += ([("·", count)] if index else []) + inner
    return Species(tuple(tokens), charge) if len(tokens) <= MAX_TOKENS else None


def _nuclide(match: re.Match[str], charge: int) -> Species | None:
    """A particle with mass number, and charge number where given, which must be the element's."""
    name, mass, number = match["name"], int(match["a"] or match["a2"]), match["z"] or match["z2"]
    z = None if number is None else int(number)
    if name in ATOMIC_NUMBER:
        if z not in (None, ATOMIC_NUMBER[name]):
            return None
        return Species(((_isotope(str(mass), name), 1),), charge)
    if name in "eβ" and mass == 0:
        return Species((("e", 1),), z if z is not None else charge or -1)
    expected = {"n": (1, 0), "p": (1, 1), "α": (4, 2), "γ": (0, 0)}.get(name)
    if expected is None or mass != expected[0] or z not in (None, expected[1]):
        return None
    return _PARTICLES[name]


def _isotope(mass: str, symbol: str) -> str:
    return {"2H": "D", "3H": "T"}.get(mass + symbol, mass + symbol)


def _atoms(text: str) -> list[Token] | None:
    """Elements and counts in writing order, groups repeated as often as they count; None when it is no formula."""
    stack: list[list[Token]] = [[]]
    at = 0
    while at < len(text):
        char = text[at]
        if char in "([":
            stack.append([])
            at += 1
            if len(stack) > 8:
                return None
            continue
        if char in ")]":
            at += 1
            group = stack.pop()
            if not stack or not group:
                return None
        else:
            isotope = _ISOTOPE.match(text, at)
            match = isotope or _ELEMENT.match(text, at)
            if match is None:
                return None
            symbol = isotope["name"] if isotope else match.group()
            end = match.end()
            if symbol not in ATOMIC_NUMBER and symbol not in ("D", "T"):
                symbol, end = symbol[0], end - len(symbol) + 1
                if symbol not in ATOMIC_NUMBER and symbol not in ("D", "T"):
                    return None
            mass = (isotope["a"] or isotope["a2"]) if isotope else ""
            group, at = [(_isotope(mass, symbol), 1)], end
        count = _COUNT.match(text, at)
        if count is None:
            stack[-1] += group
        else:
            at = count.end()
            digits = count.group(1) or count.group(2)
            if digits is None or digits == "n":
                stack[-1] += [("(", 1), *group, (")n", 1)]
            elif len(group) == 1:
                stack[-1].append((group[0][0], group[0][1] * int(digits)))
            elif len(group) * int(digits) > MAX_TOKENS:
                return None
            else:
                stack[-1] += group * int(digits)
        if len(stack[-1]) > MAX_TOKENS or (stack[-1] and not 0 < stack[-1][-1][1] <= MAX_COUNT):
            return None
    if len(stack) != 1 or not stack[0]:
        return None
    return _ethyl(_merged(stack[0]))


def _merged(tokens: list[Token]) -> list[Token]:
    """Neighbouring atoms of one element together: COOH is CO2H."""
    merged: list[Token] = []
    for name, count in tokens:
        if merged and merged[-1][0] == name and name not in ("(", ")n"):
            merged[-1] = (name, merged[-1][1] + count)
        else:
            merged.append((name, count))
    return merged


def _ethyl(tokens: list[Token]) -> list[Token]:
    """The ethyl group at either end written one way: CH3CH2OH is C2H5OH. (Longer alkyl groups have isomers.)"""
    ethyl: list[Token] = [("C", 2), ("H", 5)]
    if len(tokens) > 4 and tokens[:4] == [("C", 1), ("H", 3), ("C", 1), ("H", 2)]:
        tokens = ethyl + tokens[4:]
    if len(tokens) > 4 and tokens[-4:] == [("C", 1), ("H", 2), ("C", 1), ("H", 3)]:
        tokens = tokens[:-4] + ethyl
    return tokens


# ---- a formula with its coefficient


def read_term(text: str) -> Term | None:
    """A coefficient and a species in the one notation, or None."""
    text = text.strip()
    coefficient = Fraction(1)
    match = _COEFFICIENT.match(text)
    if match and not (text.startswith("(") and ")" not in match.group()):
        over, _, under = match.group(1).replace(" ", "").partition("/")
        if under and not int(under):
            return None
        coefficient = Fraction(over) / (int(under) if under else 1)
        text = text[match.end() :]
    readings = _species(text)
    return Term(coefficient, readings) if readings and coefficient else None


def read_formula(text: str) -> Term | None:
    """The one formula `text` consists of, with its coefficient ("5H2O"), or None."""
    return read_term(one_notation(text)) if len(text) <= MAX_CHARS else None


# ---- equality


def same_species(wanted: tuple[Species, ...], found: tuple[Species, ...]) -> str | None:
    """None when some reading of `found` is `wanted`; else "different-formula", "charge-differs" or "state-differs"."""
    reason = "different-formula"
    for a in wanted:
        for b in found:
            if not _same_writing(a.tokens, b.tokens):
                continue
            if a.charge != b.charge:
                reason = "charge-differs" if reason == "different-formula" else reason
            elif not _same_state(a.state, b.state):
                reason = "state-differs"
            else:
                return None
    return reason


def _same_state(wanted: str | None, found: str | None) -> bool:
    """A state of the reference must be given; the arrows for gas and precipitate may be left out."""
    meaning = {"up": "g", "down": "s"}
    if wanted in (None, "up", "down"):
        return wanted is None or found is None or meaning.get(found, found) == meaning[wanted]
    return meaning.get(found or "", found) == wanted


def _same_writing(wanted: tuple[Token, ...], found: tuple[Token, ...]) -> bool:
    if wanted == found:
        return True
    if Counter(dict(_totals(wanted))) != Counter(dict(_totals(found))):
        return False
    simple = [len({name for name, _ in tokens}) == len(tokens) for tokens in (wanted, found)]
    return simple[0] == simple[1] and found in _other_writings(wanted)


def _totals(tokens: tuple[Token, ...]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for name, count in tokens:
        totals[name] += count
    return totals


@lru_cache(maxsize=1024)
def _other_writings(tokens: tuple[Token, ...]) -> frozenset[tuple[Token, ...]]:
    """Token sequences of the known substances written in several ways (HCOOH, HOCH2CH3), that of `tokens` among them."""
    found: set[tuple[Token, ...]] = set()
    for formula, group in writings().items():
        term = read_formula(formula)
        if term is not None and term.readings[0].tokens == tokens:
            found |= {other.readings[0].tokens for one in group if (other := read_formula(one)) is not None}
    return frozenset(found)


def same_formula(wanted: Term, found: Term) -> str | None:
    """None when the formulae are the same, else the reason."""
    if wanted.coefficient != found.coefficient:
        return "different-coefficients"
    return same_species(wanted.readings, found.readings)
