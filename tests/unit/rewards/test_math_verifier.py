"""Mathematical equality, one row a rule: reference, answer, and the question where it matters."""

import pytest

from rewards import check_reference, score
from rewards.api import score_answer

RIGHT = [
    ("1/3", "0.333", None),
    ("8/3", "2 2/3", None),
    ("8/3", "2\\frac23", None),
    ("\\frac{8}{3}", "2\\frac{2}{3}", None),
    ("-8/3", "-2\\frac23", None),
    ("0.1", "10%", None),
    ("10\\%", "0.1", None),
    ("10", "10%", "What percent of them?"),
    ("\\frac{\\pi}{3}", "60^\\circ", None),
    ("60^\\circ", "\\frac{\\pi}{3}", None),
    ("1,2", "a=1, b=2", None),
    ("1,2", "b=2, a=1", None),
    ("2,1", "b=2, a=1", None),
    ("1, 2", "b=1,a=2", None),
    ("(1,2)", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", None),
    ("1 m", "100 cm", None),
    ("40 red, 60 blue", "40 red, 60 blue", None),
    ("1234", "1,234", None),
    ("1,234", "1234", None),
    ("1,234,567", "1234567", None),
    ("1{,}000", "1000", None),
    ("1\\,000", "1000", None),
    ("1 000 000", "1000000", None),
    ("1,2,3", "3,2,1", None),
    ("120,240", "240, 120", None),
    ("$5", "5", None),
    ("\\$5.50", "5.50 dollars", None),
    ("\\$5.50", "5.5", None),
    ("5 cm", "5", None),
    ("5", "5 cm", None),
    ("5 cm^2", "5 \\text{ cm}^2", None),
    ("25\\pi \\text{ cm}^2", "25\\pi", None),
    ("60 \\mathrm{~km} / \\mathrm{h}", "60 km/h", None),
    ("5 m", "5", None),
    ("5", "5 m", None),
    ("x^2", "x^2", None),
    ("x+y", "y+x", None),
    ("(x+1)^2", "x^2+2x+1", None),
    ("\\sqrt{8}", "2\\sqrt{2}", None),
    ("\\sqrt8", "2\\sqrt2", None),
    ("\\frac{1}{\\sqrt{2}}", "\\frac{\\sqrt{2}}{2}", None),
    ("\\ln(x^2)", "2\\ln x", None),
    ("\\log_2 8", "3", None),
    ("e^{i\\pi}", "-1", None),
    ("\\sin 30^\\circ", "\\frac12", None),
    ("\\cos^2 x", "1-\\sin^2 x", None),
    ("5!", "120", None),
    ("\\binom{5}{2}", "10", None),
    ("\\lfloor 2.7\\rfloor", "2", None),
    ("|{-3}|", "3", None),
    ("|x-1|", "|1-x|", None),
    ("\\{1,2\\}", "\\{2,1\\}", None),
    ("\\{1,2\\}", "1,2", None),
    ("[1,2)", "1 \\le x < 2", None),
    ("x\\in[1,2)", "[1,2)", None),
    ("(-\\infty,0)\\cup(0,\\infty)", "x \\ne 0", None),
    ("\\mathbb{R}\\setminus\\{0\\}", "x\\neq 0", None),
    ("\\mathbb{R}", "(-\\infty,\\infty)", None),
    ("x>2", "2<x", None),
    ("x < -1 \\text{ or } x > 1", "(-\\infty,-1)\\cup(1,\\infty)", None),
    ("\\emptyset", "no solution", None),
    ("no solution", "\\emptyset", None),
    ("x=1 \\text{ or } x=2", "1,2", None),
    ("x=1,x=2", "x=2 \\text{ or } x=1", None),
    ("\\pm 2", "2,-2", None),
    ("2,-2", "\\pm 2", None),
    ("x=\\pm\\sqrt{3}", "\\sqrt3,-\\sqrt3", None),
    ("y=2x+1", "2x+1", None),
    ("y=2x+1", "2x-y+1=0", None),
    ("x^2+y^2=1", "x^2+y^2-1=0", None),
    ("2^{2018}", "2\\cdot 2^{2017}", None),
    ("100!", "99!\\cdot 100", None),
    ("A", "(A)", None),
    ("A", "\\text{(A)}", None),
    ("A", "A.", None),
    ("\\text{(B)}", "B", None),
    ("yes", "Yes.", None),
    ("3:4", "\\frac{3}{4}", None),
    ("3:4", "6:8", None),
    ("12th", "12^{\\text{th}}", None),
    ("12", "12th", None),
    ("0.\\overline{3}", "1/3", None),
    ("1010_2", "1010_{2}", None),
    ("1010_2", "1010", None),
    ("-\\frac{1}{2}", "\\frac{-1}{2}", None),
    ("\\frac{-1}{2}", "-0.5", None),
    (".5", "\\frac12", None),
    ("1e-3", "0.001", None),
    ("3.14", "\\pi", None),
    ("\\pi", "3.14", None),
    ("k\\pi", "n\\pi", None),
    ("\\frac{\\pi}{2}+k\\pi, k\\in\\mathbb{Z}", "\\frac{3\\pi}{2}+n\\pi", None),
    ("x=2k\\pi\\pm\\frac{\\pi}{3}", "\\frac{\\pi}{3}+2k\\pi, -\\frac{\\pi}{3}+2k\\pi", None),
    ("\\frac{k\\pi}{2}", "k\\pi, k\\pi+\\frac{\\pi}{2}", None),
    ("45^\\circ+180^\\circ k", "\\frac{\\pi}{4}+k\\pi", None),
    ("\\frac{n(n+1)}{2}", "1+2+\\cdots+n", None),
    ("f(x)=2x", "f(x)=2x", None),
    ("f(x+1)", "f(1+x)", None),
    ("x^2/2+C", "\\frac{x^2}{2}+C", None),
    ("\\frac{\\sin^2 x}{2}+C", "-\\frac{\\cos^2x}{2}+C", None),
    ("\\frac{3}{4}", "3/4", None),
    ("\\frac34", "0.75", None),
    ("3/4", "75\\%", None),
    ("\\dfrac{3}{4}", "\\tfrac34", None),
    ("1", "1.", None),
    ("-1", "−1", None),
    ("x≥2", "x>=2", None),
    ("√2", "\\sqrt{2}", None),
    ("2√3", "2\\sqrt{3}", None),
    ("½", "0.5", None),
    ("2½", "2.5", None),
    ("x²+1", "x^2+1", None),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "[[1,2],[3,4]]", None),
    ("\\langle 1,2,3\\rangle", "(1,2,3)", None),
    ("(1,2,3)", "[1,2,3]", None),
    ("\\tan x", "\\frac{\\sin x}{\\cos x}", None),
    ("2\\sin x\\cos x", "\\sin 2x", None),
    ("\\log x", "\\ln x", None),
    ("\\lg 100", "2", None),
    ("x^{1/3}", "\\sqrt[3]{x}", None),
    ("\\sqrt[3]{-8}", "-2", None),
    ("16\\sqrt{3}", "27.71", None),
    ("16\\sqrt{3}", "27.7", None),
    ("1000", "1000.00", None),
    ("1.5 \\times 10^{8}", "150000000", None),
    ("6.02 \\times 10^{23}", "6.02e23", None),
    ("11:30", "11:30", None),
    ("\\text{Monday}", "monday", None),
    ("a_n = 2n-1", "2n-1", None),
    ("a_n=2^n", "a_n = 2^{n}", None),
    ("S_n=n^2", "n^2", None),
    ("f'(x)=2x", "2x", None),
    ("\\frac{dy}{dx}=2x", "2x", None),
    ("x=3, y=4", "(3,4)", None),
    ("(3,4)", "x=3, y=4", None),
    ("x = 3", "3 = x", None),
    ("f(x)=x+1", "y=x+1", None),
    ("(x,y)=(3,4)", "(3,4)", None),
    ("6x^2-5x+1", "(2x-1)(3x-1)", None),
    ("\\frac{x^2-1}{x-1}", "x+1", None),
    ("2", "\\sqrt{4}", None),
    ("\\frac{5\\pi}{6}", "150°", None),
    ("1", "\\sin^2(x)+\\cos^2(x)", None),
    ("0", "\\sin\\pi", None),
    ("i", "\\sqrt{-1}", None),
    ("1+2i", "2i+1", None),
    ("\\boxed{5}", "5", None),
    ("5", "\\boxed{5}", None),
    ("5", "$5$", None),
    ("5", "\\(5\\)", None),
    ("5", "5.", None),
    ("5", "= 5", None),
    ("5", "x = 5", None),
    ("5", "The answer is 5.", None),
    ("5", "\\text{The answer is } 5", None),
    ("5 \\text{ apples}", "5", None),
    ("5 apples", "5 apple", None),
    ("3 hours", "180 minutes", None),
    ("2 \\text{ hours and } 30 \\text{ minutes}", "2 hours and 30 minutes", None),
    ("y = x^2 - 4x + 3", "y=(x-1)(x-3)", None),
    ("p \\land q", "p \\land q", None),
    ("2,3,5", "2, 3, and 5", None),
    ("a^2b", "ba^2", None),
    ("2^n", "2^{n+1}/2", None),
    ("\\infty", "\\infty", None),
    ("\\frac{a}{b}", "a/b", None),
    ("1/2x", "x/2", None),
    ("\\angle ABC", "ABC", None),
    ("\\triangle ABC", "ABC", None),
    ("\\overline{AB}", "AB", None),
    ("90", "90^\\circ", None),
    ("\\frac{1}{2}\\pi", "\\pi/2", None),
    ("sqrt(2)/2", "\\frac{\\sqrt{2}}{2}", None),
    ("log_2(8)", "3", None),
    ("4 \\sqrt{13}", "4\\sqrt{13}", None),
    ("\\frac{4}{3}", "1.333", None),
    ("\\frac43", "1.33", None),
    ("0.667", "2/3", None),
    ("0.67", "2/3", None),
    ("33.3\\%", "1/3", None),
    ("0", "-0", None),
    ("n!", "1\\cdot 2\\cdots n", None),
    ("3x+2y=6", "\\frac{x}{2}+\\frac{y}{3}=1", None),
    ("xy=6", "\\frac{6}{x}", None),
    ("v^2_0", "v_0^2", None),
    ("0.458", "\\frac{27}{59}", None),
    ("299.94", "300", None),
    ("2", "2.000000001", None),
    ("0.5", "\\frac{1}{2}", None),
]

WRONG = [
    ("1/3", "0.33", None),
    ("1/3", "0.334", None),
    ("2", "\\frac{8}{3}", None),
    ("2", "2 2/3", None),
    ("10^{-20}", "10^{-21}", None),
    ("7", "3=7", None),
    ("10", "10%", None),
    ("10\\%", "10", None),
    ("a=1, b=2", "a=2, b=1", None),
    ("100\\text{ m}", "100\\text{ cm}", None),
    ("40 red, 60 blue", "40 red, 1 blue", None),
    ("12", "\\int_0^{12} 1 dx", None),
    ("1,2,3", "1,2", None),
    ("5 cm", "5 m", None),
    ("60 km/h", "60 \\text{ mph}", None),
    ("5m", "5", None),
    ("5", "5m", None),
    ("x", "X", None),
    ("x", "y", None),
    ("\\sqrt{x^2}", "x", None),
    ("\\sin(30)", "0.5", None),
    ("(1,2)", "(2,1)", None),
    ("[1,2)", "(1,2)", None),
    ("x<1", "x\\leq 1", None),
    ("1\\pm\\sqrt2", "1+\\sqrt2", None),
    ("2x+3y=6", "2x+3y=7", None),
    ("x^2=4", "x=2", None),
    ("2^{2018}", "2^{2018}-1", None),
    ("10^{100}+x", "10^{100}", None),
    ("5", "9^{9^{9^{9}}}", None),
    ("5", "2^{30^5}", None),
    ("A", "B", None),
    ("yes", "no", None),
    ("listen", "silent", None),
    ("cat", "act", None),
    ("1010_2", "1011_2", None),
    ("\\pi", "3.1", None),
    ("\\pi", "22/7", None),
    ("0.5", "0.46", None),
    ("12.5", "12.46", None),
    ("2.5", "2.4", None),
    ("100", "100.0001", None),
    ("k\\pi", "2n\\pi", None),
    ("\\frac{k\\pi}{2}", "k\\pi", None),
    ("2f(1)", "f(2)", None),
    ("x^2+C", "x^2", None),
    ("6", "six", None),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{bmatrix}1&2\\\\3&5\\end{bmatrix}", None),
    ("O(n)", "0(n)", None),
    ("x=2", "x=x", None),
    ("5", "exec('raise SystemExit')", None),
    ("5", "5 or 6", None),
    ("5", "5, 6", None),
    ("5", "It is not 5", None),
    ("5", "5 maybe", None),
    ("5", "between 0 and 10", None),
    ("3", "a correct number between 0 and 10", None),
    ("(-8)^{1/3}", "-2", None),
    ("16\\sqrt{3}", "27.8", None),
    ("0", "0.0000001", None),
    ("1+2i", "1-2i", None),
    ("5 apples", "5 oranges", None),
    ("(-1)^n", "\\cos(n\\pi)", None),
    ("-\\infty", "\\infty", None),
    ("\\infty", "5", None),
    ("14.4", "14.42", None),
    ("0.7", "2/3", None),
    ("33\\%", "1/3", None),
    ("xy=6", "\\frac{x}{6}", None),
    ("y^2=4x", "2\\sqrt{x}", None),
    ("5", "5.001", None),
    ("1234567", "1234568", None),
    ("1000000", "1000000.5", None),
]


@pytest.mark.parametrize("reference,answer,question", RIGHT)
def test_equal_answers_are_paid(reference: str, answer: str, question: str | None) -> None:
    verdict = score_answer(answer, reference, domain="math", question=question)
    assert (verdict.score, verdict.correct, verdict.reason) == (1.0, True, None)


@pytest.mark.parametrize("reference,answer,question", WRONG)
def test_different_answers_are_not_paid(reference: str, answer: str, question: str | None) -> None:
    verdict = score_answer(answer, reference, domain="math", question=question)
    assert (verdict.status, verdict.score, verdict.correct) == ("ok", 0.0, False)
    assert verdict.reason


@pytest.mark.parametrize("reference", sorted({row[0] for row in RIGHT + WRONG}))
def test_every_reference_here_is_right_by_itself(reference: str) -> None:
    assert check_reference(reference, domain="math") is None


@pytest.mark.parametrize(
    "bomb",
    [
        "9^9^9",
        "9^{9^{9^{9}}}",
        "2^{30^5}",
        "10000!",
        r"\binom{100000}{50000}",
        "1e99999",
        r"e^{e^{e^{e^{9}}}}",
        r"\sin(9^{9^9})",
        "(" * 2000 + "5" + ")" * 2000,
        "-" * 4000 + "9^9^9",
        "5" + "!" * 3000,
        r"\sqrt{" * 1000 + "5" + "}" * 1000,
        "+".join(["5"] * 2000),
        r"\frac" * 1000,
        ",".join("12345"),
        "x" + "^x" * 500,
    ],
)
def test_bombs_score_zero_without_a_time_limit(bomb: str) -> None:
    verdict = score_answer(bomb, "5", domain="math")
    assert (verdict.status, verdict.score) == ("ok", 0.0)


def test_tower_of_powers_is_called_too_complex() -> None:
    assert score_answer("9^9^9^9", "5", domain="math").reason == "too-complex"
    assert score_answer("9^9^9^9", "x", domain="math").reason == "too-complex"


@pytest.mark.parametrize(
    "answer,reason",
    [
        (r"\int_0^5 1 dx", "unevaluated"),
        (r"\sum_{k=1}^5 1", "unevaluated"),
        (r"\frac{5}{0}", "undefined"),
        (r"\log 0", "undefined"),
        ("5 kg, 6", "wrong-count"),
        ("3 = 5", "inconsistent-equation"),
        ("((5", "incomplete-expression"),
        ("6", "different-value"),
        ("five", "text-differs"),
    ],
)
def test_wrong_answers_say_why(answer: str, reason: str) -> None:
    assert score_answer(answer, "5", domain="math").reason == reason


@pytest.mark.parametrize(
    "reference,answer,args,expected",
    [
        ("100", "101", {}, False),
        ("100", "101", {"rtol": 0.01}, True),
        ("100", "102", {"rtol": 0.01}, False),
        ("0", "0.001", {"atol": 0.01}, True),
        ("1/3", "0.333", {"rounding": False}, False),
        ("10%", "10", {"percent": "either"}, True),
        ("10", "10%", {"percent": "fraction"}, False),
        ("1,2", "2,1", {"ordered": True}, False),
        ("1,2", "1,2", {"ordered": True}, True),
        ("5 cm", "5", {"require_unit": True}, False),
        ("5 cm", "50 mm", {"require_unit": True}, True),
        ("(-1)^n", r"\cos(n\pi)", {"integers": ["n"]}, True),
        ("(-1)^n", r"\sin(n\pi)", {"integers": ["n"]}, False),
    ],
)
def test_arguments_change_the_rule(reference: str, answer: str, args: dict, expected: bool) -> None:
    assert score_answer(answer, reference, domain="math", args=args).correct is expected


def test_percent_argument_fraction_overrides_the_question() -> None:
    question = "What percentage is it?"
    assert score_answer("10", "10%", domain="math", question=question).correct is True
    strict = score_answer("10", "10%", domain="math", question=question, args={"percent": "fraction"})
    assert strict.correct is False


def test_letters_applied_in_the_question_are_functions() -> None:
    question = "Let g(x) be given. Express the result by g."
    assert score_answer("2g(1)", "g(2)", domain="math", question=question).correct is False
    assert score_answer("g(1+1)", "g(2)", domain="math", question=question).correct is True


def test_constant_of_integration_may_be_added_where_an_integral_is_asked_for() -> None:
    assert score_answer("x^2+C", "x^2", domain="math", question=r"Find \int 2x dx").correct is True
    assert score_answer("x^3+C", "x^2", domain="math", question=r"Find \int 2x dx").correct is False


def test_policy_text_is_never_executed(tmp_path) -> None:
    target = tmp_path / "made"
    for answer in (
        f"open('{target}','w').close()",
        f"__import__('os').system('touch {target}')",
        f"2\\pi if open('{target}','w') else 1",
        f"[open('{target}','w'),2]",
    ):
        for reference in ("5", r"2\pi", r"\begin{pmatrix}1\\2\end{pmatrix}"):
            assert score_answer(answer, reference, domain="math").score == 0.0
    assert not target.exists()


def test_latex_box_outside_the_answer_box_is_not_read() -> None:
    assert score(r"<think></think>\boxed{5}", "5", domain="math").reason == "no-box"


def test_numeric_reference_may_be_a_json_number() -> None:
    assert score_answer("0.5", 0.5, domain="math").correct is True
    assert check_reference(True, domain="math") == "not-text"
