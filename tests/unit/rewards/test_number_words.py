"""Numbers in words, beside a writer of numbers made here from the textbook rules."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.number_words import chinese_number, english_number
from rewards.plain_text import vocabulary

DIGITS = "零一二三四五六七八九"
SMALL = vocabulary(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    " nineteen"
)
TENS = vocabulary("twenty thirty forty fifty sixty seventy eighty ninety")


def four_digits(value: int) -> str:
    """1 to 9999 in Chinese: every digit with its place, one 零 for a row of zeros between digits."""
    out = ""
    gap = False
    for place, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // place % 10
        if digit:
            out += ("零" if gap and out else "") + DIGITS[digit] + unit
            gap = False
        else:
            gap = True
    return out


def in_chinese(value: int) -> str:
    """0 to 10^12 - 1 in Chinese."""
    if value == 0:
        return "零"
    out = ""
    for scale, unit in ((10**8, "亿"), (10**4, "万"), (1, "")):
        section = value // scale % 10**4
        if section:
            out += ("零" if out and section < 1000 else "") + four_digits(section) + unit
    return out


def in_english(value: int, *, joined: str = " ") -> str:
    """0 to 10^15 - 1 in English, hundreds joined to what follows by `joined`."""
    if value < 20:
        return SMALL[value]
    if value < 100:
        return TENS[value // 10 - 2] + (f"-{SMALL[value % 10]}" if value % 10 else "")
    for scale, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (100, "hundred")):
        if value >= scale:
            rest = (joined if scale == 100 else " ") + in_english(value % scale, joined=joined) if value % scale else ""
            return f"{in_english(value // scale, joined=joined)} {word}{rest}"
    raise AssertionError(value)


NUMBERS = st.integers(0, 9999) | st.integers(0, 10**12 - 1) | st.builds(int.__mul__, st.integers(1, 999), st.just(10**6))


@given(NUMBERS)
def test_every_chinese_number_is_read(value: int) -> None:
    assert chinese_number(in_chinese(value)) == value


@given(NUMBERS, st.sampled_from([" ", " and "]))
def test_every_english_number_is_read(value: int, joined: str) -> None:
    assert english_number(in_english(value, joined=joined)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("十五", 15),
        ("一百一", 110),
        ("三万五", 35_000),
        ("两千零五", 2005),
        ("二〇二五", 2025),
        ("一万亿", 10**12),
        ("两万亿", 2 * 10**12),
        ("三点一四", Fraction(314, 100)),
        ("五五", None),
        ("百", None),
        ("一百二百", None),
        ("一万两万", None),
        ("三点十", None),
        ("", None),
    ],
)
def test_chinese_writings_of_speech_are_read_and_rows_of_numerals_are_not(text: str, value: Fraction | int | None) -> None:
    assert chinese_number(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a hundred", 100),
        ("a dozen", 12),
        ("two dozen", 24),
        ("half a dozen", 6),
        ("three point one four", Fraction(314, 100)),
        ("point five", None),
        ("three point ten", None),
        ("twenty thirty", None),
        ("five twenty", None),
        ("two and three", None),
        ("thousand million", None),
        ("one two three", None),
        ("blue dozen", None),
        ("", None),
        ("one " * 31, None),
    ],
)
def test_english_words_that_make_no_one_number_are_none(text: str, value: Fraction | int | None) -> None:
    assert english_number(text) == value
