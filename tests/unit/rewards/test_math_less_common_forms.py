"""Forms that few rows of the practice files hold, each beside a near miss: bases, vectors, words, signs, chains, ellipses."""

import pytest

from rewards.api import score_answer

RIGHT, WRONG = 1.0, 0.0


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        # degrees beside a bare number: radians only where it is written as such
        (r"\frac{\pi}{3}", r"60^\circ", RIGHT),
        ("1", r"60^\circ", WRONG),
        # bases
        ("1111_2", "17_8", RIGHT),
        ("101", "101_2", RIGHT),
        ("19_8", "17_8", WRONG),
        ("15", "17_8", WRONG),
        ("x", "101_2", WRONG),
        ("1/2", "101_2", WRONG),
        # multiples of vectors, matrices as rows
        ("-(1,2)", "(-1,-2)", RIGHT),
        ("-(1,2)", "(-1,2)", WRONG),
        (r"\frac{(2,4)}{2}", "(1,2)", RIGHT),
        (r"\frac{(2,4)}{2}", "(1,4)", WRONG),
        ("[[1,2],[3,4]]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", RIGHT),
        ("[[1,2],[3]]", "[[1,2],[3]]", RIGHT),
        ("[[1,2],[3]]", "[[1,2],[4]]", WRONG),
        # chains of inequalities
        ("2>x>1", "1<x<2", RIGHT),
        ("1<x<2", "1<x<3", WRONG),
        ("a<b<c", "c>b>a", RIGHT),
        ("a<b<=c", "c>b>a", WRONG),
        # numbers in words
        ("twenty-five", "25", RIGHT),
        ("two hundred and five thousand", "205000", RIGHT),
        ("three hundred", "300", RIGHT),
        ("twenty thirty", "50", WRONG),
        ("twenty thirty", "2030", WRONG),
        ("二万三千", "23000", RIGHT),
        ("一亿二千万", "120000000", RIGHT),
        ("一万零五", "10005", RIGHT),
        ("负三点五", "-3.5", RIGHT),
        ("三点一四", "3.14", RIGHT),
        ("一二三", "123", WRONG),
        ("百分之十二点五", r"12.5\%", RIGHT),
        ("百分之十二点五", r"12\%", WRONG),
        ("三分之二", "2/3", RIGHT),
        ("三分之二", "3/2", WRONG),
        # both signs inside sets and tuples
        (r"\{\pm 1,\pm 2\}", "{-2,-1,1,2}", RIGHT),
        (r"\{\pm 1,\pm 2\}", "{-2,-1,1,3}", WRONG),
        (r"(\pm 1,2)", "(1,2),(-1,2)", RIGHT),
        (r"(\pm 1,2)", "(1,2),(-1,-2)", WRONG),
        (r"\begin{pmatrix}\pm 1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", WRONG),
        (r"\pm 1\pm 2\pm 3\pm 4\pm 5", "15", WRONG),
        ("(" + r"\pm 1," * 8 + r"\pm 1)", "(" + "1," * 8 + "1)", WRONG),
        # mixed numbers and what only looks like one
        ("2 1/3", "7/3", RIGHT),
        (r"3\frac12", "7/2", RIGHT),
        (r"3\frac{5}{2}", "15/2", RIGHT),
        (r"2\frac{1}{x}", r"\frac{2}{x}", RIGHT),
        ("2 1/x", "7/3", WRONG),
        ("2 3", "23", WRONG),
        ("2 1", "3", WRONG),
        # sets of numbers in several writings
        (r"x\in(-\infty,1)\cup\{2\}", "x<1 or x=2", RIGHT),
        ("x < 1 or x = 2", "x<=1 or x=2", WRONG),
        ("0<x+1<3", "-1<x<2", RIGHT),
        ("2x+1>5", "x>2", RIGHT),
        ("2x+1>5", "x>=2", WRONG),
        (r"[1,2)\cup[2,3]", "[1,3]", RIGHT),
        (r"[1,2)\cup(2,3]", "[1,3]", WRONG),
        (r"(-\infty,3)\cap(1,\infty)", "(1,3)", RIGHT),
        (r"\emptyset", "no solution", RIGHT),
        # constants of integration
        ("x^2+1+C", "x^2+C", RIGHT),
        ("2x^2+C", "x^2+C", WRONG),
        ("x^2", "x^2+C", WRONG),
        # families and sums written with dots
        (r"\frac{\pi}{2}+k\pi, k\in\mathbb{Z}", r"\frac{\pi}{2}+n\pi, n\in\mathbb{Z}", RIGHT),
        (r"k\pi, k\in\mathbb{Z}", r"2k\pi, k\in\mathbb{Z}", WRONG),
        (r"x_1+x_2+\cdots+x_n", r"x_1+x_2+\dots+x_n", RIGHT),
        (r"1+2+\cdots+n", "n^2", WRONG),
        # labels
        ("b=2,a=1", "a=1,b=2", RIGHT),
        ("a=2,b=1", "a=1,b=2", WRONG),
        # budgets
        ("(" * 300 + "1" + ")" * 300, "1", WRONG),
        ("9" * 500, "1", WRONG),
        ("{" + ",".join(map(str, range(500))) + "}", "{1}", WRONG),
        ("(" + ",".join(map(str, range(500))) + ")", "(1,2)", WRONG),
    ],
)
def test_a_less_common_form_is_paid_and_its_near_miss_is_not(answer: str, reference: str, score: float) -> None:
    assert score_answer(answer, reference, domain="math").score == score
