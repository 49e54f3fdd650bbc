"""Numbers as people write them, read exactly; against an independent speller of both languages."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.number_words import chinese_number, english_number
from rewards.plain_numbers import pairs, read_number, within

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    " nineteen"
)
TENS = "x x twenty thirty forty fifty sixty seventy eighty ninety"


def spell(value: int, joiner: str = " ") -> str:
    """English words of a whole number below 10^12, by repeated division."""
    if value < 20:
        return ONES.split()[value]
    if value < 100:
        return TENS.split()[value // 10] + ("-" + ONES.split()[value % 10] if value % 10 else "")
    for scale, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if value >= scale:
            rest = value % scale
            between = joiner if rest < 100 else " "
            return f"{spell(value // scale, joiner)} {name}" + (between + spell(rest, joiner) if rest else "")
    raise AssertionError


def spell_chinese(value: int) -> str:
    """Chinese numerals of a whole number below 10^12, digit by digit with 零 for gaps."""

    def section(part: int) -> str:
        text = ""
        for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
            digit, part = divmod(part, unit)
            if digit:
                text += "零一二三四五六七八九"[digit] + name
            elif text and part and not text.endswith("零"):
                text += "零"
        return text

    out = ""
    for scale, name in ((10**8, "亿"), (10**4, "万"), (1, "")):
        part, value = divmod(value, scale)
        if part:
            gap = "零" if out and part < 1000 else ""
            out += gap + section(part) + name
    return out or "零"


@given(st.one_of(st.integers(0, 3000), st.integers(0, 10**12 - 1)), st.sampled_from([" ", " and "]))
def test_english_words_are_read_back(value: int, joiner: str) -> None:
    text = spell(value, joiner)
    assert english_number(text) == value
    number = read_number(text.capitalize())
    assert number is not None and (number.value, number.spelled, number.bare) == (value, True, False)


@given(st.one_of(st.integers(0, 3000), st.integers(0, 10**12 - 1)))
def test_chinese_numerals_are_read_back(value: int) -> None:
    assert chinese_number(spell_chinese(value)) == value


@pytest.mark.parametrize(
    "text,value",
    [
        ("a hundred", 100),
        ("a hundred and five", 105),
        ("a dozen", 12),
        ("two dozen", 24),
        ("half a dozen", 6),
        ("three point one four", Fraction("3.14")),
        ("zero point five", Fraction("0.5")),
    ],
)
def test_english_idioms(text: str, value: Fraction) -> None:
    assert english_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "two and three",
        "twenty twenty",
        "one two three",
        "twenty eleven",
        "hundred",
        "and five",
        "five and",
        "thousand million",
        "one thousand two thousand",
        "three point",
        "point five hundred",
        "zero zero",
        "a",
        "a five",
        "five hundred and",
        "zero dozen hundred",
        "one " * 40,
        "",
    ],
)
def test_english_words_that_are_not_one_number_are_none(text: str) -> None:
    assert english_number(text) is None


@pytest.mark.parametrize(
    "text,value",
    [
        ("十二", 12),
        ("二〇二〇", 2020),
        ("一九九九", 1999),
        ("一百二", 120),
        ("三万五", 35000),
        ("三点一四", Fraction("3.14")),
        ("两百", 200),
    ],
)
def test_chinese_idioms(text: str, value: Fraction) -> None:
    assert chinese_number(text) == value


@pytest.mark.parametrize(
    "text", ["三四", "两三", "三十四五", "百", "万", "三点五十", "十百", "三百四千", "零百", "一" * 40, "三万四万", ""]
)
def test_chinese_numerals_that_are_not_one_number_are_none(text: str) -> None:
    assert chinese_number(text) is None


@pytest.mark.parametrize(
    "text,value",
    [
        ("1,234", 1234),
        ("1,234,567.5", Fraction("1234567.5")),
        ("12,34,567", 1234567),
        ("1 234 567", 1234567),
        ("1\u00a0234", 1234),
        ("1.234,56", Fraction("1234.56")),
        (".5", Fraction("0.5")),
        ("5.", 5),
        ("-3", -3),
        ("\u22123", -3),
        ("- 3", -3),
        ("+3", 3),
        ("-$3", -3),
        ("$-3", -3),
        ("1e5", 100_000),
        ("1.5×10^6", 1_500_000),
        ("1.5x10⁶", 1_500_000),
        ("2*10^{-2}", Fraction("0.02")),
        ("3/4", Fraction(3, 4)),
        ("½", Fraction(1, 2)),
        ("$1.2 million", 1_200_000),
        ("3k", 3000),
        ("3 K", 3000),
        ("5M", 5_000_000),
        ("2.5bn", 2_500_000_000),
        ("3 hundred thousand", 300_000),
        ("1.2亿", 120_000_000),
        ("3万", 30_000),
        ("５", 5),
        ("٣", 3),
        ("about 25", 25),
        ("约25", 25),
    ],
)
def test_value(text: str, value: Fraction) -> None:
    number = read_number(text)
    assert number is not None and number.value == value


@pytest.mark.parametrize(
    "text", ["50%", "50 %", "50 percent", "50 per cent", "50 pct", "fifty percent", "百分之五十", "50个百分点", "50\\%"]
)
def test_percent(text: str) -> None:
    number = read_number(text)
    assert number is not None and (number.value, number.percent) == (50, True)


@pytest.mark.parametrize(
    "one,other",
    [
        ("$5", "5 dollars"),
        ("US$5", "5 USD"),
        ("USD 5", "$5"),
        ("￥5", "5元"),
        ("RMB 5", "5 yuan"),
        ("25 °C", "25℃"),
        ("90°", "90 degrees"),
        ("5 m", "500 cm"),
        ("20 people", "20 persons"),
        ("3 cats", "3 cat"),
        ("3 cats", "3只猫"),
        ("$5", "$5 dollars"),
        ("2.5千克", "2.5 kg"),
    ],
)
def test_units_that_are_one_and_the_same(one: str, other: str) -> None:
    left, right = read_number(one), read_number(other)
    assert left is not None and right is not None and left.unit is not None and right.unit is not None
    assert [wanted == found for wanted, found in pairs(left, right, False)] == [True]


@pytest.mark.parametrize("one,other", [("$5", "€5"), ("3 cats", "3 dogs"), ("5 m", "5 kg"), ("5 °C", "5 °F"), ("5 m", "5 m^2")])
def test_units_that_differ_cannot_be_compared(one: str, other: str) -> None:
    left, right = read_number(one), read_number(other)
    assert left is not None and right is not None and pairs(left, right, False) == []


@pytest.mark.parametrize(
    "text",
    [
        "", "five or six", "5 or 6", "3-4", "3 to 4", "1,2,3", "1 2 3", "5+", "5 ± 1", "between 0 and 10",
        "nan", "inf", "-inf", "infinity", "1e999", "1e99", "5²", "1½", "12,5", "1,00", "10/12/2020", "10:30",
        "3rd", "5 ish", "5 or so", "at least 5", "9" * 50, "x" * 300, "$", "%", "--5", "+-5", "-+5", "-$-5",
        "5%%", "百分之五十%", "red", "5 million billion trillion x9", "1.2.3", "1..2", "5 5", "第三", "三四只", "5/0",
        "0x10", "1_000", "5 red and 6 blue", "$5 euros", "5 a b c d e f",
    ],
)  # fmt: skip
def test_what_is_not_one_number_is_none(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.parametrize(
    "text,year",
    [
        ("2010", True),
        ("2010年", True),
        ("1,999", False),
        ("2010.0", False),
        ("$2010", False),
        ("999", False),
        ("2200", False),
        ("-2010", False),
        ("2010%", False),
    ],
)
def test_a_year_is_four_bare_digits(text: str, year: bool) -> None:
    number = read_number(text)
    assert number is not None and number.is_year is year


@pytest.mark.parametrize(
    "reference,answer,asked,equal",
    [
        ("2%", "2", False, True),
        ("2%", "0.02", False, True),
        ("2", "2%", False, True),
        ("0.5", "50%", False, True),
        ("0.5", "0.5%", False, False),
        ("0.5", "0.5%", True, True),
        ("10", "0.1", False, False),
        ("10", "1000%", False, False),
        ("50%", "50%", False, True),
        ("50%", "5%", False, False),
    ],
)
def test_percent_and_fraction_meet_at_one_scale(reference: str, answer: str, asked: bool, equal: bool) -> None:
    left, right = read_number(reference), read_number(answer)
    assert left is not None and right is not None
    assert any(within(wanted, found, Fraction(0)) for wanted, found in pairs(left, right, asked)) is equal


def test_the_boundary_of_the_tolerance_is_inside() -> None:
    assert within(Fraction(100), Fraction(105), Fraction("0.05"))
    assert not within(Fraction(100), Fraction("105.0001"), Fraction("0.05"))
    assert not within(Fraction(0), Fraction(1, 10**9), Fraction("0.05"))


@given(st.decimals(-(10**12), 10**12, places=3))
def test_decimals_are_read_exactly_with_and_without_separators(value: object) -> None:
    for text in (f"{value}", f"{value:,}"):
        number = read_number(text)
        assert number is not None and number.value == Fraction(str(value))


@given(st.text("0123456789.,-+%$ eEkmM/×^一二十百万亿点分之 and million", max_size=40))
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = read_number(text)
    assert number is None or abs(number.value) < 10**140
