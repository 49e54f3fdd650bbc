"""Numbers as people write them: 1,234 · $1.2 million · 3k · 50% · twenty-one · 三十二 · 5亿 · 百分之五十.

Values are exact fractions, so that a tolerance of 5% includes 105 for 100 and excludes 105.01. Every numeral is capped
at 40 digits and every exponent at 60: nothing a policy writes makes a large number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from rewards.mathexpr.units import Unit, read_unit
from rewards.number_words import CHINESE_RUN, ENGLISH_RUN, chinese_number, english_number
from rewards.plain_text import compose, trim, vocabulary

MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class PlainNumber:
    """A number and how it was written. `value` of "50%" is 50, with `percent`; a year is `bare`: digits and nothing else."""

    value: Fraction
    percent: bool = False
    unit: Unit | None = None
    bare: bool = False
    spelled: bool = False
    magnitude: str = ""
    approximate: bool = False

    @property
    def scale(self) -> int:
        """What its magnitude word stands for."""
        return _MAGNITUDES.get(self.magnitude, 1)

    @property
    def is_year(self) -> bool:
        """Whether it can be a calendar year: four bare digits from 1000 to 2199."""
        return self.bare and self.value.denominator == 1 and 1000 <= self.value < 2200


NUMERAL = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_APPROXIMATE = re.compile(
    r"(?:about|around|approximately|approx\.?|roughly|nearly|circa|大约|约|大概)\s*|[~≈]\s*", re.IGNORECASE
)
_CURRENCY = r"(?:US\$|HK\$|A\$|C\$|[$€£¥₹₩]|USD|EUR|GBP|CNY|RMB|JPY|INR|Rs\.?)"
_HEAD = re.compile(
    rf"(?P<sign>[-+])?\s*(?P<money>{_CURRENCY})?\s*(?P<inner>[-+])?(?={NUMERAL}|[a-z\u4e00-\u9fff〇])", re.IGNORECASE
)
_DIGITS = re.compile(rf"(?P<number>{NUMERAL})(?![\d.,]*\d)(?:[eE](?P<e>[-+]?\d{{1,2}})(?![\d.]))?")
_EUROPEAN = re.compile(r"\d{1,3}(?:\.\d{3})+,\d{1,2}(?!\d)")
_SPACED = re.compile(r"\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?![\d,])")
_POWER = re.compile(r"\s*(?:[x×*·]|\\times)\s*10\s*(?:\^\s*\{?\s*(-?\d{1,2})\s*\}?)(?!\d)")
_RATIO = re.compile(r"\s*/\s*(\d{1,12})(?![\d./:-])")
_MAGNITUDES = {
    "hundred": 10**2, "thousand": 10**3, "thousands": 10**3, "k": 10**3, "lakh": 10**5, "crore": 10**7,
    "million": 10**6, "millions": 10**6, "mn": 10**6, "mil": 10**6, "mio": 10**6, "m": 10**6,
    "billion": 10**9, "billions": 10**9, "bn": 10**9, "b": 10**9, "trillion": 10**12, "trillions": 10**12, "tn": 10**12,
    "t": 10**12, "十": 10, "百": 100, "千": 1000, "万": 10**4, "十万": 10**5, "百万": 10**6, "千万": 10**7, "亿": 10**8,
    "十亿": 10**9, "百亿": 10**10, "千亿": 10**11, "万亿": 10**12,
}  # fmt: skip
_ABBREVIATED = frozenset(vocabulary("k m b t"))
_MAGNITUDE = re.compile(
    r"\s*("
    + "|".join(sorted((re.escape(word) for word in _MAGNITUDES), key=len, reverse=True))
    + r")(?![A-Za-z^/]|(?<=千)[克米瓦卡])",
    re.IGNORECASE,
)
_PERCENT = re.compile(r"\s*(?:\\?%|percent(?:age points?)?|per\s+cent|percentage|pct|pp|个?百分点)(?![a-z])", re.IGNORECASE)
_CHINESE_PERCENT = re.compile(r"百分之\s*")
_UNIT = re.compile(r"\s*(?:[^\W\d_]|[°$€£¥¢])(?:[^\W\d_]|[ °$€£¥¢/^·.'-]|(?<=[^\W\d_])\^?[1-4](?!\d))*")
_DEGREES = {"°": "degrees", "度": "degrees", "°c": "celsius", "℃": "celsius", "摄氏度": "celsius", "°f": "fahrenheit"}
_HEDGES = frozenset(
    vocabulary(
        "or and to not no nor maybe perhaps possibly probably about approximately approx roughly around between than more less"
        " fewer over under above below up down at least most plus minus so ish almost nearly but either through till versus vs"
        " wrong incorrect false untrue"
        " st nd rd th x times sth"
    )
)
_HEDGE_CHINESE = re.compile("或|还是|错|至|到|约|左右|以上|以下|多|余|几|和|与|不|第|分之|可能|大概|也许")
_PEOPLE = {"persons": "people", "person": "people"}
_CODES = {
    "US$": "$",
    "JPY": "yen",
    "HK$": "hkd",
    "A$": "aud",
    "C$": "cad",
    "₩": "krw",
    "₹": "INR",
    "RMB": "¥",
    "CNY": "¥",
    "Rs.": "Rs",
}


def read_number(text: str) -> PlainNumber | None:
    """The one number `text` is, with currency, magnitude, percent sign or unit; None for anything else.

    "between 0 and 10", "5 or 6", "3-4", "5+", "nan" and "1,2,3" are not one number.
    """
    if len(text) > MAX_CHARS:
        return None
    text = trim(compose(_SPACED.sub(lambda match: re.sub(r"\D", "", match.group()), text)))
    approximate = _APPROXIMATE.match(text)
    if approximate:
        text = text[approximate.end() :]
    percent = _CHINESE_PERCENT.match(text)
    if percent:
        text = text[percent.end() :]
    head = _HEAD.match(text)
    if head is None or (head["sign"] and head["inner"]):
        return None
    found = _magnitude(text[head.end() :])
    if found is None:
        return None
    number, rest = found
    if "-" in (head["sign"], head["inner"]):
        number = replace(number, value=-number.value)
    number = replace(number, approximate=bool(approximate), bare=number.bare and not (head["sign"] or head["money"] or percent))
    sign = _PERCENT.match(rest)
    if percent or sign:
        rest = rest[sign.end() :] if sign else rest
        number = replace(number, percent=True, bare=False)
    if sign and percent:
        return None
    if rest.strip() == "年" and replace(number, bare=True).is_year:
        return replace(number, bare=True)
    if not rest.strip(" .") and not head["money"]:
        return number
    unit = _unit(rest, head["money"])
    return None if unit is None else replace(number, unit=unit, bare=False)


def _magnitude(text: str) -> tuple[PlainNumber, str] | None:
    """The numeral at the start of `text` times its magnitude words, and what follows it."""
    european = _EUROPEAN.match(text)
    digits = _DIGITS.match(text)
    number = None
    if european:
        number = PlainNumber(Fraction(european.group().replace(".", "").replace(",", ".")))
        rest = text[european.end() :]
    elif digits:
        if len(digits.group()) > 40 or abs(int(digits["e"] or 0)) > 60:
            return None
        written = digits["number"]
        number = PlainNumber(
            Fraction(written.replace(",", "")) * Fraction(10) ** int(digits["e"] or 0), bare=digits.group().isdigit()
        )
        rest = text[digits.end() :]
        power = _POWER.match(rest)
        ratio = _RATIO.match(rest)
        if power and abs(int(power[1])) <= 60:
            number, rest = replace(number, value=number.value * Fraction(10) ** int(power[1]), bare=False), rest[power.end() :]
        elif ratio and int(ratio[1]) and number.bare:
            number, rest = replace(number, value=number.value / int(ratio[1]), bare=False), rest[ratio.end() :]
    else:
        for run, read in ((ENGLISH_RUN, english_number), (CHINESE_RUN, chinese_number)):
            match = run.match(text)
            value = read(match.group()) if match else None
            if match and value is not None:
                return PlainNumber(value, spelled=True), text[match.end() :]
        return None
    for _ in range(2):
        match = _MAGNITUDE.match(rest)
        # "5 m" is five metres and "5 t" five tonnes: a letter is a magnitude only when it touches the numeral or is a capital.
        if match is None or (match[1] in _ABBREVIATED and match.group()[0].isspace() and match[1] != "k"):
            break
        word = match[1].casefold()
        number = replace(number, value=number.value * _MAGNITUDES[word], bare=False, magnitude=word)
        rest = rest[match.end() :]
    return number, rest


def _unit(text: str, money: str | None) -> Unit | None:
    """The unit after a number (at most five words), or its currency. None when it is neither."""
    text = text.strip(" .")
    if money:
        symbol = _CODES.get(money, _CODES.get(money.upper(), money))
        own = read_unit(symbol.upper() if len(symbol) == 3 and symbol.isalpha() else symbol)
        if not text:
            return own
        after = _unit(text, None)  # "$5 dollars" says it twice
        return own if after == own else None
    if not _UNIT.fullmatch(text):
        return None
    words = text.split()
    if len(words) > 5 or _HEDGE_CHINESE.search(text) or any(word.strip(".'-").casefold() in _HEDGES for word in words):
        return None
    words = [_PEOPLE.get(word.casefold(), _DEGREES.get(word.casefold(), word)) for word in words if word.casefold() != "of"]
    return read_unit(" ".join(words).replace("°", "degrees "))


def pairs(reference: PlainNumber, answer: PlainNumber, percent_asked: bool) -> list[tuple[Fraction, Fraction]]:
    """The value pairs (reference, answer) any of which may agree; empty when the units cannot be compared.

    A unit on one side only is left out of account; two units are converted. "2%" is 2 and 0.02; a bare 0.5 is 50%; a bare
    25 is 25%; but a bare 0.5 is 0.5% only where the question asks for a percentage, and 10 is never 0.1.
    """
    wanted, found = reference.value, answer.value
    if reference.unit and answer.unit and not _other_language(reference.unit, answer.unit):
        if reference.unit.dimensions != answer.unit.dimensions:
            return []
        found = found * answer.unit.factor / reference.unit.factor
    if reference.percent == answer.percent:
        return [(wanted, found)]
    if reference.percent:
        return [(wanted, found), (wanted / 100, found)]
    options = []
    if abs(wanted) <= 1:
        options.append((wanted * 100, found))
    if abs(wanted) > 1 or percent_asked:
        options.append((wanted, found))
    return options


def _other_language(one: Unit, other: Unit) -> bool:
    """Whether both count things and at least one says so in Chinese: "3 cats", "3只" and "3只猫" are not told apart."""
    names = [name for unit in (one, other) for name, _ in unit.dimensions]
    return all(name == "count" or name.startswith("noun:") for name in names) and not "".join(names).isascii()


def within(wanted: Fraction, found: Fraction, tolerance: Fraction) -> bool:
    """|found - wanted| <= tolerance x |wanted|; a reference of 0 asks for 0."""
    return abs(found - wanted) <= tolerance * abs(wanted)
