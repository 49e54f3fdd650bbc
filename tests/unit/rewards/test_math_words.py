"""Numbers in words, fixed phrases and the prose around answers, against independent computations."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import score_answer
from rewards.mathexpr.exact import exact
from rewards.mathexpr.lexer import tokenise
from rewards.mathexpr.nodes import Node
from rewards.mathexpr.parser import Parser
from rewards.mathexpr.phrases import canonical
from rewards.mathexpr.spelled import digits_for_words, measured, spelled_count, spelled_number
from rewards.mathexpr.wording import bare, option


def parse(text: str) -> Node:
    return Parser(tokenise(text)).relation()


ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def english(n: int) -> str:
    """The usual algorithm, by recursion on the largest power of ten."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")
    if n < 1000:
        return ONES[n // 100] + " hundred" + (" and " + english(n % 100) if n % 100 else "")
    for size, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if n >= size:
            return english(n // size) + f" {word}" + (" " + english(n % size) if n % size else "")
    raise AssertionError


def chinese(n: int) -> str:
    """As a textbook says it, with a zero where places are left out."""
    digits = "零一二三四五六七八九"
    if n < 10:
        return digits[n]
    for size, word in ((10**8, "亿"), (10**4, "万"), (1000, "千"), (100, "百"), (10, "十")):
        if n >= size:
            head = "" if size == 10 and n < 20 else chinese(n // size)
            rest = n % size
            gap = "零" if rest and rest * 10 < size else ""
            return head + word + (gap + chinese(rest) if rest else "")
    raise AssertionError


@given(st.integers(0, 10**12 - 1))
def test_english_number_words_are_read_back(n: int) -> None:
    assert spelled_number(english(n)) == n


@given(st.integers(0, 10**11))
def test_chinese_number_words_are_read_back(n: int) -> None:
    assert spelled_number(chinese(n)) == n


@pytest.mark.parametrize(
    "text,value",
    [
        ("one half", Fraction(1, 2)),
        ("half", Fraction(1, 2)),
        ("a quarter", Fraction(1, 4)),
        ("two thirds", Fraction(2, 3)),
        ("negative five", -5),
        ("minus twenty-one", -21),
        ("负三", -3),
        ("三点一四", Fraction(157, 50)),
        ("Ten", 10),
        ("seven tenths", Fraction(7, 10)),
    ],
)
def test_words_for_fractions_and_signs_are_read(text: str, value: Fraction) -> None:
    assert spelled_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "one two",
        "twenty thirty",
        "five or six",
        "third",
        "hundred",
        "ten five",
        "one million million",
        "and",
        "",
        "-",
        "一二三",
        "甲",
        "x",
        "half half",
        "two and three",
        "point five",
        "one hundred hundred",
        "forty eleven",
        "million",
        "several",
        "a" * 200,
    ],
)
def test_words_that_are_not_one_number_are_not_read(text: str) -> None:
    assert spelled_number(text) is None


def test_count_is_a_number_and_one_noun() -> None:
    assert spelled_count("six people") == 6
    assert spelled_count("forty-two apples") == 42
    for text in ("six or seven", "six", "no people", "six hundred", "two thirds", "six big people"):
        assert spelled_count(text) is None


@pytest.mark.parametrize(
    "text,value",
    [
        ("5 million", 5 * 10**6),
        ("1.2万", 12000),
        ("3亿", 3 * 10**8),
        (r"2.5\text{ billion}", 25 * 10**8),
        ("5 hundred", 500),
        ("百分之二十", Fraction(1, 5)),
        ("百分之12.5", Fraction(1, 8)),
        ("三分之二", Fraction(2, 3)),
        ("4分之3", Fraction(3, 4)),
        ("7 thousand", 7000),
        ("百分之三十五", Fraction(7, 20)),
    ],
)
def test_scale_words_become_digits(text: str, value: Fraction) -> None:
    assert exact(parse(digits_for_words(text))) == value


def test_scale_words_leave_units_alone() -> None:
    for text in ("5千米", "5 m", "3 thou", "half a million", "百分之百"):
        assert digits_for_words(text) in (text, r"100\%")


@pytest.mark.parametrize(
    "text,expected",
    [
        ("Therefore, x = 5", "x = 5"),
        ("So the answer is 5.", "5"),
        ("Answer: 5", "5"),
        ("最大值为5", "5"),
        ("所以x的取值范围是(1,2)", "(1,2)"),
        ("**12**", "12"),
        ("不是5", "不是5"),
        ("Option A", "A"),
        (r"\textbf{(B)}", "B"),
        ("3, 4 (in any order)", "3, 4"),
        (r"\lim_{n\to\infty} a_n = 3", " 3"),
        (r"\sum_{n=1}^{9} n", r"\sum_{n=1}^{9} n"),
        ("either 1 or 2", "1 or 2"),
        ("90^", r"90^\circ"),
        ("US$5", "$5"),
    ],
)
def test_prose_around_an_answer_is_taken_off(text: str, expected: str) -> None:
    assert bare(text).strip() == expected.strip().replace("$5", r"\$5")


@pytest.mark.parametrize(
    "text,expected",
    [
        ("(B) 12", ("B", "12")),
        ("B. 12", ("B", "12")),
        (r"\textbf{(B)}\ 12", ("B", "12")),
        ("C) x+1", ("C", "x+1")),
        ("A or B", None),
        ("(A) 5 (B) 6", None),
        ("A. B. C.", None),
        ("B", None),
        ("12", None),
        ("(A) not 5", None),
    ],
)
def test_lettered_option_is_one_letter_with_its_text(text: str, expected: tuple[str, str] | None) -> None:
    found = option(text)
    assert (found and (found[0], found[1].strip())) == expected


@pytest.mark.parametrize(
    "text,group",
    [
        ("yes", "yes"),
        ("是", "yes"),
        ("no, it is not", "no"),
        ("yes, it is", "yes"),
        ("no, it is", None),
        ("yes, it is not", None),
        ("无解", "no solution"),
        ("dne", "does not exist"),
        ("maybe", None),
        ("yes, no", None),
        ("no, they cannot", "no"),
    ],
)
def test_fixed_phrases_have_one_meaning(text: str, group: str | None) -> None:
    assert canonical(text) == group


@pytest.mark.parametrize(
    "text,digits",
    [
        *(
            ("九十度", "90度"),
            ("五平方米", "5平方米"),
            ("两千米", "2000米"),
            ("三点五千克", None),
            ("负三度", "-3度"),
            ("十二个", "12个"),
        ),
        *(
            ("三角形", None),
            ("二次函数", None),
            ("一元二次方程", None),
            ("两千", None),
            ("四边形", None),
            ("五度五米六秒七分", None),
            ("个", None),
            ("90度", None),
        ),
    ],
)
def test_chinese_number_before_a_measure_is_put_in_digits(text: str, digits: str | None) -> None:
    assert measured(text) == digits


@pytest.mark.parametrize(
    "reference,answer,paid",
    [
        *(("90", "九十度", True), ("5 m", "五米", True), ("5 m", "五厘米", False), ("3", "三角形", False), ("-2", "负2", True)),
        *(("(2,+\\infty)", "{x|x>2}", True), ("(2,+\\infty)", "{x∈R|x>2}", True), ("(1,2)", "不等式的解集为{x|1<x<2}", True)),
        *(
            ("\\mathbb{R}", "x ∈ R", True),
            ("\\mathbb{Z}", "x ∈ R", False),
            ("10", "两数的和为10", True),
            ("10", "x和y为10", False),
        ),
        *(
            ("10", "未知数x的值为10", True),
            ("10", "非负整数解有10个", True),
            ("10", "不可能为10", False),
            ("10", "没有10", False),
        ),
        *(("AC", "A, C", True), ("AC", "A和C", True), ("A, C", "AC", True), ("AC", "A, D", False), ("AC", "A, C, D", False)),
        *(("A, B, C", "C, B, A", False), ("2", "二次函数", False)),
        *(("5", "5 \\text{ (approximately)}", True), ("no", "是否", False), ("无", "有无", False)),
    ],
)
def test_wording_of_answers_is_read_and_its_look_alikes_are_not_paid(reference: str, answer: str, paid: bool) -> None:
    assert score_answer(answer, reference, domain="math").correct is paid
