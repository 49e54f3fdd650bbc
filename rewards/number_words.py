"""Numbers written in words, English and Chinese: "two hundred and five", "三万五", "二〇二〇". Values are exact."""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.plain_text import vocabulary

_SMALL = {
    word: value
    for value, word in enumerate(
        vocabulary(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
            " eighteen nineteen"
        )
    )
}
_TENS = {word: 10 * n for n, word in enumerate(vocabulary("twenty thirty forty fifty sixty seventy eighty ninety"), 2)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORDS = "|".join([*sorted(_SMALL, key=len, reverse=True), *_TENS, *_SCALES, "hundred", "dozen", "half", "point"])
# "a" opens a number only before a scale: "a hundred", "a dozen"; "half a dozen" has it inside.
_A = r"an?(?=[\s]+(?:hundred|thousand|million|billion|trillion|dozen)(?![a-z]))"
ENGLISH_RUN = re.compile(
    rf"(?<![a-z-])(?:{_A}|{_WORDS})(?:(?:\s+|-)(?:and\s+)?(?:{_A}|{_WORDS})(?![a-z]))*(?![a-z]|-[a-z])", re.IGNORECASE
)
"""A run of English number words; `english_number` says whether it is one number."""

_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "俩": 2, "○": 0}
_DIGITS |= {char: value for value, char in enumerate("壹贰叁肆伍陆柒捌玖", 1)}
_UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}
_RUN = "".join(_DIGITS) + "".join(_UNITS) + "".join(_MYRIADS)
# 一 opens many words that are no numbers: 一共 (in all), 一些 (some), 一定 (surely); 第一 is an ordinal.
CHINESE_RUN = re.compile(rf"(?<!第)(?<!统)(?<!唯)(?!万一)(?!一[共些定样起般直边旦])[{_RUN}]+(?:点[{''.join(_DIGITS)}]+)?")
"""A run of Chinese numerals; `chinese_number` says whether it is one number."""


def english_number(text: str) -> Fraction | None:
    """The cardinal `text` spells ("twenty-one", "a hundred and five", "three point five", "half a dozen"), or None."""
    words = text.casefold().replace("-", " ").split()
    if len(words) > 30:
        return None
    if words in (["half", "a", "dozen"], ["half", "dozen"]):
        return Fraction(6)
    if words and words[-1] == "dozen":
        count = 1 if words[:-1] in ([], ["a"]) else _integer(words[:-1])
        return None if count is None else Fraction(12 * count)
    if "point" in words:
        at = words.index("point")
        whole, digits = _integer(words[:at]), [_SMALL.get(word, 10) for word in words[at + 1 :]]
        if whole is None or not digits or max(digits) > 9:
            return None
        return whole + Fraction(int("".join(map(str, digits))), 10 ** len(digits))
    value = _integer(words)
    return None if value is None else Fraction(value)


def _integer(words: list[str]) -> int | None:
    """The whole number of a list of words; None unless it is written in the usual order."""
    if words == ["zero"]:
        return 0
    total, last, at = 0, 10**15, 0
    while at < len(words):
        value, at = _below_thousand(words, at, bool(total))
        if not value:
            return None
        scale = _SCALES.get(words[at], 0) if at < len(words) else 1
        if scale == 0 or scale >= last:
            return None
        total, last, at = total + value * scale, scale, at + (scale > 1)
    return total or None


def _below_thousand(words: list[str], at: int, inside: bool) -> tuple[int, int]:
    """The value from 1 to 999 that starts at word `at`, and the word after it; 0 when there is none."""
    if inside and words[at] == "and":
        at += 1
        value, end = _below_hundred(words, at)
        return (value, end) if end == len(words) else (0, at)
    if words[at] in ("a", "an"):
        return (1, at + 1) if words[at + 1 : at + 2] and words[at + 1] in _SCALES else _hundreds(words, 1, at + 1)
    value, end = _below_hundred(words, at)
    return _hundreds(words, value, end) if words[end : end + 1] == ["hundred"] and 0 < value < 100 else (value, end)


def _hundreds(words: list[str], value: int, at: int) -> tuple[int, int]:
    if words[at : at + 1] != ["hundred"]:
        return 0, at
    at += 1
    joined = words[at : at + 1] == ["and"]
    rest, end = _below_hundred(words, at + joined)
    if joined and not rest:
        return 0, at
    return 100 * value + rest, end if rest else at


def _below_hundred(words: list[str], at: int) -> tuple[int, int]:
    """The value from 1 to 99 that starts at word `at`, and the word after it; 0 when there is none."""
    if at >= len(words):
        return 0, at
    if words[at] in _TENS:
        unit = _SMALL.get(words[at + 1], 0) if at + 1 < len(words) else 0
        return (_TENS[words[at]] + unit, at + 2) if 0 < unit < 10 else (_TENS[words[at]], at + 1)
    value = _SMALL.get(words[at], 0)
    return (value, at + 1) if value else (0, at)


def chinese_number(text: str) -> Fraction | None:
    """The number a run of Chinese numerals writes ("三十二", "一百零五", "三万五", "三点五"), or None, also for any other text.

    Adjacent digits are a numeral only when digit by digit: "二〇二〇"; "三四" means three or four.
    """
    if len(text) > 30:
        return None
    whole, _, decimals = text.partition("点")
    value = _chinese_integer(whole)
    if value is None:
        return None
    if not decimals:
        return Fraction(value)
    if any(char not in _DIGITS for char in decimals):
        return None
    return value + Fraction(int("".join(str(_DIGITS[char]) for char in decimals)), 10 ** len(decimals))


def _chinese_integer(text: str) -> int | None:
    if all(char in _DIGITS for char in text):
        if len(text) == 1 or len(text) >= 4 or "〇" in text or "○" in text:
            return int("".join(str(_DIGITS[char]) for char in text)) if text else None
        return None
    total, section, digit, last, top = 0, 0, None, 10**5, 10**12
    for at, char in enumerate(text):
        if char in _DIGITS:
            value = _DIGITS[char]
            if digit:  # two digits side by side
                return None
            digit = value
            if value and at == len(text) - 1 and at and text[at - 1] in "百千万亿佰仟":
                section += value * (_UNITS.get(text[at - 1]) or _MYRIADS[text[at - 1]]) // 10  # "三万五" is 35,000
                digit = None
        elif char in _UNITS:
            unit = _UNITS[char]
            if unit >= last or (digit is None and unit != 10) or (digit == 0 and unit != 10):
                return None
            section, digit, last = section + (digit or 1) * unit, None, unit
        elif char not in _MYRIADS:
            return None
        else:
            section += digit or 0
            if char == "亿" and total and section == 0:
                section, total = total, 0  # "万亿"
            if not section or (_MYRIADS[char] >= top and char != "亿"):
                return None
            total, section, digit, last = total + section * _MYRIADS[char], 0, None, 10**5
            top = _MYRIADS[char]
    return total + section + (digit or 0)
