"""Chemical and nuclear equations: two multisets of species with coefficients, compared up to order and a common factor.

"2H2 + O2 = 2H2O", "H2 + 1/2 O2 -> H2O", "O2 + 2H2 \\xrightarrow{\\Delta} 2H2O"      "^{14}_6C → ^{14}_7N + e^-"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rewards.chemical_formula import MAX_CHARS, STATE, Species, Term, read_term, same_species
from rewards.chemical_notation import one_notation
from rewards.substances import ATOMIC_NUMBER

MAX_SPECIES = 24


@dataclass(frozen=True, slots=True)
class Equation:
    """A reaction. `heat` is the text after "ΔH =" where one is given."""

    left: tuple[Term, ...]
    right: tuple[Term, ...]
    heat: str | None = None

    def __str__(self) -> str:
        return " + ".join(map(str, self.left)) + " -> " + " + ".join(map(str, self.right))


def _side(text: str) -> tuple[Term, ...] | None:
    """The terms of one side. A plus sign that touches a formula and stands before another plus, or last, is a charge."""
    pieces, start = [], 0
    for match in re.finditer(r"\+", text):
        at = match.start()
        following = text[at + 1 :].lstrip()
        attached = at > 0 and not text[at - 1].isspace() and text[at - 1] not in "+<"
        in_marker = text.rfind("<", 0, at) > text.rfind(">", 0, at)
        if in_marker or (
            attached and (not following or following[0] in "+)" or STATE.match(following[:7].split(")")[0] + ")"))
        ):
            continue
        pieces.append(text[start:at])
        start = at + 1
    pieces.append(text[start:])
    if len(pieces) > MAX_SPECIES:
        return None
    terms = [read_term(piece) for piece in pieces]
    return tuple(term for term in terms if term) if all(terms) else None


_HEAT = re.compile(r"[\s,;(]*(?:Δ|∆|\\Delta)\s*_?r?\s*H\s*[^=<>]{0,12}=\s*(.+?)\)?$")


@lru_cache(maxsize=4096)
def read_equation(text: str) -> Equation | None:
    """The reaction `text` consists of, or None.

    Written with "=", it must look like one (F = ma, P = IV and U = W/Q do not): balanced, or with two terms on a side.
    """
    if len(text) > MAX_CHARS:
        return None
    heat = _HEAT.search(text)
    if heat:
        text = text[: heat.start()]
    text = one_notation(text)
    arrows = text.count("→")
    sides = text.split("→") if arrows else re.split(r"=+", text)
    if len(sides) != 2 or (not arrows and re.fullmatch(r"[^+\s]+=[^+\s]+", text) and "C" in sides[0] and "H" in text):
        return None  # CH2=CH2 is one formula
    left, right = _side(sides[0]), _side(sides[1])
    if left is None or right is None:
        return None
    found = Equation(left, right, heat.group(1) if heat else None)
    if (
        not arrows
        and not is_balanced(found)
        and not (len(left) + len(right) > 2 and re.search(r"[A-Z][a-z]|[A-Z]\d|\d[A-Z]", text))
    ):
        return None
    return found


def is_balanced(equation: Equation) -> bool:
    """Whether atoms and charge (for nuclear reactions mass and charge numbers) are conserved, in some reading."""
    sides = [[(t.coefficient, s) for t in side for s in t.readings[:1]] for side in (equation.left, equation.right)]
    atoms: dict[str, Fraction] = {}
    charges = masses = numbers = Fraction(0)
    for sign, side in zip((1, -1), sides, strict=True):
        for coefficient, species in side:
            charges += sign * coefficient * species.charge
            scale = Fraction(1)
            for name, count in species.tokens:
                if name == "·":
                    scale = Fraction(count)
                    continue
                amount = sign * coefficient * count * scale
                atoms[name] = atoms.get(name, Fraction(0)) + amount
                mass, symbol = _mass_and_symbol(name)
                masses += amount * mass
                numbers += amount * ATOMIC_NUMBER.get(symbol, -1 if symbol == "e" and species.charge < 0 else symbol == "e")
    atoms.pop("e", None)  # electrons are counted by their charge
    if not charges and not any(atoms.values()):
        return True
    nuclear = any(_mass_and_symbol(name)[0] for side in sides for _, s in side for name, _ in s.tokens)
    return nuclear and not masses and not numbers


def _mass_and_symbol(name: str) -> tuple[int, str]:
    match = re.fullmatch(r"(\d+)([A-Za-z]+)", name)
    if match:
        return int(match.group(1)), match.group(2)
    return {"D": (2, "H"), "T": (3, "H")}.get(name, (0, name))


# ---- equality


def same_equation(wanted: Equation, found: Equation) -> str | None:
    """None when the reactions are the same up to order on each side and a common factor, else the reason."""
    sides = [(_collected(wanted.left), _collected(found.left)), (_collected(wanted.right), _collected(found.right))]
    totals = [sum(term.coefficient for pair in sides for term in pair[i]) for i in (0, 1)]
    factor = Fraction(totals[1]) / Fraction(totals[0])
    reason: str | None = None
    for mine, theirs in sides:
        left = list(theirs)
        for term in mine:
            match = next((other for other in left if same_species(term.readings, other.readings) is None), None)
            if match is None:
                whys = {same_species(term.readings, other.readings) for other in theirs}
                return next((why for why in ("state-differs", "charge-differs") if why in whys), "different-species")
            left.remove(match)
            if match.coefficient != term.coefficient * factor:
                reason = "different-coefficients"
        if left:
            return "different-species"
    return reason if reason is None or is_balanced(found) else "not-balanced"


def _collected(terms: tuple[Term, ...]) -> list[Term]:
    """Terms of one species together: H2O + H2O is 2H2O."""
    found: dict[tuple[Species, ...], Fraction] = {}
    for term in terms:
        found[term.readings] = found.get(term.readings, Fraction(0)) + term.coefficient
    return [Term(coefficient, readings) for readings, coefficient in found.items()]


def scale_of(equation: Equation) -> Fraction:
    """The sum of the coefficients: the ratio of two of these is the common factor between equal equations."""
    return sum((term.coefficient for term in (*equation.left, *equation.right)), Fraction(0))
