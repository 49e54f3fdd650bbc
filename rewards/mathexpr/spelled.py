"""Numbers written as words: "forty-two", "three quarters", "二十五", "三分之二", "5 million", "1.2万"."""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_UNITS = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * (2 + i) for i, word in enumerate(_TENS)}
_POWERS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7}
_PARTS |= {"eighth": 8, "ninth": 9, "tenth": 10}
_PARTS |= {f"{word}s": value for word, value in list(_PARTS.items()) if not word.endswith("s")}
_MAX_CHARS = 200

_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_PLACES = {"十": 10, "百": 100, "千": 1000}
_CHINESE = re.compile(r"负?[零〇一二两三四五六七八九十百千万亿]+(?:点[零〇一二三四五六七八九]+)?")

_SCALE = re.compile(r"(?<=\d)\s*(?:\\text\s*\{\s*)?\b(hundred|thousand|million|billion|trillion)s?\b\s*\}?", re.IGNORECASE)
_CHINESE_SCALE = re.compile(r"(?<=\d)\s*(万亿|千万|百万|万|亿)")
_CHINESE_POWERS = {"万": 4, "百万": 6, "千万": 7, "亿": 8, "万亿": 12}
_PER_HUNDRED = re.compile(r"百分之\s*([\d.]+|[零〇一二两三四五六七八九十百点]+)")
_PART_OF = re.compile(r"(\d{1,9}|[一二两三四五六七八九十百千]{1,9})分之(\d{1,9}|[一二两三四五六七八九十百千]{1,9})")


def spelled_number(text: str) -> Fraction | None:
    """The value of a text that is nothing but a number in English or Chinese words, else None."""
    text = text.strip().casefold()
    if not text or len(text) > _MAX_CHARS:
        return None
    if not text.isascii():
        return _chinese(text)
    words = text.replace("-", " ").split()
    if not words:
        return None
    negative = words[0] in ("minus", "negative")
    value = _english(words[negative:])
    return value if value is None or not negative else -value


def spelled_count(text: str) -> Fraction | None:
    """The number of "six people": a spelled number and one noun."""
    number, _, noun = text.strip().casefold().rpartition(" ")
    if not noun.isalpha() or noun in _UNITS or noun in _POWERS or noun in _PARTS or noun in ("hundred", "or", "and"):
        return None
    return spelled_number(number)


_MEASURE = "个只条张人米度元岁天年月日次种名位本块棵辆支件组对双克升吨分秒平立厘毫公小周页步层套倍"
_CHINESE_MEASURED = re.compile(rf"((?>{_CHINESE.pattern}))(?=[{_MEASURE}])(?!\S*[数程式形体角项系])([\u4e00-\u9fff]{{1,6}})")


def measured(text: str) -> str | None:
    """ "九十度" and "五平方米" with the number in digits; None unless a Chinese numeral and a measure are all there is.

    "二次函数" and "一元二次方程" measure nothing.
    """
    match = _CHINESE_MEASURED.fullmatch(text)
    value = _chinese(match.group(1)) if match else None
    return None if match is None or value is None else f"{_decimal(value)}{match.group(2)}"


def _decimal(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"({value.numerator}/{value.denominator})"


def _english(words: list[str]) -> Fraction | None:
    if words and words[-1] in _PARTS:
        over = _whole([word for word in words[:-1] if word != "a"]) if words[:-1] not in (["a"], []) else 1
        alone = words[-1] in ("half", "quarter")  # "third" alone is a place in a queue
        return Fraction(over, _PARTS[words[-1]]) if over and (len(words) > 1 or alone) else None
    whole = _whole(words)
    return None if whole is None else Fraction(whole)


def _whole(words: list[str]) -> int | None:
    """ "two hundred and five thousand" -> 205000; None where the words do not make one number."""
    total = current = 0
    last = 10**15
    previous = None
    for word in words:
        if word == "and" and previous in ("hundred", *_POWERS):
            previous = None
            continue
        if word in _UNITS:
            value = _UNITS[word]
            if previous in _UNITS and not (_UNITS[previous or ""] >= 20 and 0 < value < 10):
                return None
            current += value
        elif word == "hundred" and 0 < current < 10 and previous in _UNITS:
            current *= 100
        elif word in _POWERS and current and _POWERS[word] < last:
            last = _POWERS[word]
            total, current = total + current * last, 0
        else:
            return None
        previous = word
    return total + current if previous is not None else None


def _chinese(text: str) -> Fraction | None:
    if not _CHINESE.fullmatch(text):
        return None
    whole, _, decimals = text.removeprefix("负").partition("点")
    total = section = 0
    digit: int | None = None
    for char in whole:
        if char in _DIGITS:
            if digit:
                return None  # "一二三": a row of digits, not a number
            digit = _DIGITS[char]
        elif char in _PLACES:
            section += (digit or 1) * _PLACES[char]
            digit = None
        else:
            section += digit or 0
            total = total + section * 10**4 if char == "万" else (total + section) * 10**8
            section, digit = 0, None
    value = Fraction(total + section + (digit or 0))
    if decimals:
        value += Fraction(int("".join(str(_DIGITS[char]) for char in decimals)), 10 ** len(decimals))
    return -value if text.startswith("负") else value


def digits_for_words(text: str) -> str:
    """`text` with powers of ten after digits ("5 million", "1.2万") and Chinese percentages and fractions in digits."""
    if "illion" in text or "hundred" in text or "thousand" in text:
        text = _SCALE.sub(lambda m: f"*10^{{{len(str(_POWERS.get(m.group(1).lower(), 100))) - 1}}} ", text)
    if not text.isascii():
        text = _CHINESE_SCALE.sub(lambda m: f"*10^{{{_CHINESE_POWERS[m.group(1)]}}} ", text)
        text = _PER_HUNDRED.sub(lambda m: _digits(m.group(1)) + r"\%", text)
        text = _PART_OF.sub(lambda m: f"\\frac{{{_digits(m.group(2))}}}{{{_digits(m.group(1))}}}", text)
    return text


def _digits(text: str) -> str:
    value = None if text.isascii() else _chinese(text)
    return text if value is None else _decimal(value)
