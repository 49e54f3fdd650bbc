"""Units as answers write them: `km/h`, `J/(mol·K)`, `\\mathrm{m\\,s^{-2}}`, `square metres`, `米每秒`. A grammar with bounds.

The names and what they measure are `rewards.unit_names`'.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from rewards.mathexpr.vocabulary import SUB_RUN, SUBS, SUPER_RUN, SUPERS
from rewards.stream_safe import normalise
from rewards.unit_names import MULTIWORD, AtomicUnit, Dimensions, atomic_unit, chinese_units

MAX_CHARS = 400
MAX_UNITS = 12
MAX_POWER = 12
HAN = "\u3400-\u9fff"


@dataclass(frozen=True, slots=True)
class Unit:
    """A product of powers of units: 1 of it is `factor` base units; `offset` is that of a lone temperature scale."""

    factor: float
    offset: float
    dimensions: Dimensions
    kinds: frozenset[str] = frozenset()

    @property
    def absolute_temperature(self) -> bool:
        return self.dimensions == (("[temperature]", 1),)


_SPACES = re.compile(
    r"\\[,;:! ]|\\q?quad(?![a-zA-Z])|~|\\(?:left|right|displaystyle|rm|it|bf)(?![a-zA-Z])|\$|\\[()\[\]]|\u200b"
)
_WRAPPER = (
    r"\\(?:math(?:rm|it|sf|bf|tt)|text(?:rm|it|bf|sf|tt|normal)?|operatorname\*?|mbox|hbox|boxed|si|unit|boldsymbol|bm)\s*"
)
_WRAPPED = re.compile(_WRAPPER + r"\{((?:[^{}]|\{[^{}]*\})*)\}(?P<next>\s*(?=" + _WRAPPER + r"\{))?")
_SIUNITX = re.compile(r"\\(?:SI|qty)\s*\{([^{}]*)\}\s*\{([^{}]*)\}|\\num\s*\{([^{}]*)\}")
_COMMANDS = [
    (re.compile(r"\^?\s*\{?\s*\\(?:circ|degree|textdegree)(?![a-zA-Z])\s*\}?"), "\u00b0"),
    (re.compile(r"\\(?:degreeCelsius|celsius)(?![a-zA-Z])"), "\u00b0C"),
    (re.compile(r"\\times(?![a-zA-Z])"), "\u00d7"),
    (re.compile(r"\\(?:cdot|ast|bullet)(?![a-zA-Z])"), "\u00b7"),
    (re.compile(r"\\mu(?![a-zA-Z])\s*"), "\u03bc"),
    (re.compile(r"\\(?:Omega|ohm)(?![a-zA-Z])"), "\u03a9"),
    (re.compile(r"\\(?:AA|angstrom)(?![a-zA-Z])|\\r\s*\{A\}|\\mathring\s*\{A\}"), "\u00c5"),
    (re.compile(r"\\ell(?![a-zA-Z])"), "L"),
    (re.compile(r"\\(?:approx|sim|simeq)(?![a-zA-Z])"), "\u2248"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\[dt]frac(?![a-zA-Z])"), r"\\frac"),
]
_CHARACTERS = {ord(c): "-" for c in "\u2010\u2011\u2012\u2013\u2014\u2212\ufe63"}
_CHARACTERS |= {ord(c): "\u00b7" for c in "\u2219\u22c5\u2022\u30fb\u2e31\u00b7"}
_CHARACTERS |= {0x2032: "'", 0x2019: "'", 0x2033: '"', 0x201D: '"', 0x00BA: "\u00b0", 0x2217: "*", 0x2215: "/", 0x2044: "/"}


def simplify(text: str) -> str:
    """`text` with LaTeX wrappers and spacing off, one sign for each operator, exponents as `^{...}`."""
    text = SUPER_RUN.sub(lambda m: "^{" + "".join(SUPERS[c] for c in m.group()) + "}", text)
    text = SUB_RUN.sub(lambda m: "_{" + "".join(SUBS[c] for c in m.group()) + "}", text)
    text = normalise("NFKC", text.translate(_CHARACTERS)).translate(_CHARACTERS)
    if "\\" in text or "$" in text or "~" in text:
        text = _SIUNITX.sub(lambda m: m.group(3) or f"{m.group(1)} {m.group(2)}", _SPACES.sub(" ", text))
        for pattern, sign in _COMMANDS:
            text = pattern.sub(sign, text)
        for _ in range(3):  # wrappers nest: \\boxed{5\\,\\mathrm{N}}
            text = _WRAPPED.sub(lambda m: m.group(1) + ("" if m["next"] is None else " "), text)
    return " ".join(text.split()).lstrip(" ,;:!").rstrip(" .,;:!\u3002\uff0c")


# ---- units

_FRACTION = re.compile(r"\\frac\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_WORD_POWERS = {"square": 2, "sq": 2, "平方": 2, "二次方": 2, "cubic": 3, "cu": 3, "立方": 3, "三次方": 3}
_AFTER = {"squared": 2, "cubed": 3}
_STEP = re.compile(
    r"\s*(?P<op>\u00d7|\u00b7|\*(?!\*)|\.|/|(?:per|a)\b(?=\s)|每)?\s*(?P<open>[({]\s*)*"
    r"(?:(?P<power>square|cubic|sq|cu|平方|立方|二次方|三次方)\s*\.?\s*)?"
    r"(?P<name>\u00b0\s*[CFR](?![A-Za-z])|[\u00b0'\"%\u2030]|[A-Za-z\u03bc\u03a9\u00c5\u2113_]+"
    rf"|(?:(?![每平立二三])[{HAN}])+|1(?=\s*/))"
    r"(?:\s*(?:\^|\*\*)\s*(?P<brace>[({])?\s*(?P<exponent>[+-]?\d{1,2})\s*(?(brace)[)}])|(?P<digit>-?\d)(?!\d)"
    r"|\s*(?P<after>squared|cubed)\b)?(?P<close>\s*[)}])*"
)


@lru_cache(maxsize=8192)
def read_unit(text: str) -> Unit | None:
    """The unit `text` denotes ("km/h", "J/(mol K)", "m s^{-1}", "\\frac{m}{s^2}", "米每秒"), or None.

    Everything after a solidus or "per" divides: "J/mol K" is J/(mol K), as text books write it.
    """
    text = simplify(text) if len(text) <= MAX_CHARS else ""
    text = _FRACTION.sub(r"(\1)/(\2)", text)
    text = MULTIWORD.sub(lambda m: re.sub(r"[ -]", "_", m.group()).replace("s_", "_"), text)
    if not text or text.count("(") != text.count(")") or text.count("{") != text.count("}"):
        return None
    parts: list[tuple[str, int]] = []
    at, over = 0, False
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or len(parts) > MAX_UNITS or (not parts and match["op"] not in (None, "/", "per", "每")):
            return None
        at = match.end()
        over = over or match["op"] in ("/", "per", "a", "每")
        power = int(match["exponent"] or match["digit"] or _AFTER.get(match["after"]) or _WORD_POWERS.get(match["power"]) or 1)
        if match["name"] == "1":
            parts.append(("", 1))
            continue
        names = chinese_units(match["name"]) if match["name"][0] > "\u3400" else [match["name"].replace(" ", "")]
        if names is None or not power or abs(power) > MAX_POWER:
            return None
        parts += [(name, 1) if i < len(names) - 1 else (name, power) for i, name in enumerate(names)]
        if over:
            parts[-len(names) :] = [(name, -p) for name, p in parts[-len(names) :]]
    return _product(parts)


def _product(parts: list[tuple[str, int]]) -> Unit | None:
    factor, offset = 1.0, 0.0
    dimensions: dict[str, int] = {}
    kinds: set[str] = set()
    for name, power in parts:
        unit = atomic_unit(name) if name else AtomicUnit(1.0, 0.0, ())
        if unit is None:
            return None
        try:
            factor *= unit.factor**power
        except OverflowError:
            return None
        offset = unit.offset if len(parts) == 1 and power == 1 else 0.0
        for base, times in unit.dimensions:
            dimensions[base] = dimensions.get(base, 0) + times * power
        if unit.kind is not None:
            kinds.add(unit.kind)
    if not math.isfinite(factor) or factor == 0.0:
        return None
    return Unit(factor, offset, tuple(sorted((n, p) for n, p in dimensions.items() if p)), frozenset(kinds))
