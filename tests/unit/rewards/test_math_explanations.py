"""What the verifier says of its decisions, its answer to repeated tasks, and hostile text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processor_time import takes_less_than

from rewards import registry
from rewards.api import judge, score_answer
from rewards.mathexpr.lexer import tokenise
from rewards.mathexpr.nodes import Node
from rewards.mathexpr.parser import Parser
from rewards.mathexpr.restating import restates
from rewards.mathexpr.show import text_of


def parse(text: str) -> Node:
    return Parser(tokenise(text)).relation()


@pytest.mark.parametrize(
    "answer,reference,question,expected",
    [
        ("2x>4", "x>2", "Solve $2x > 4$.", True),
        (r"\frac{1}{2}+\frac{1}{3}", "5/6", r"What is \(\frac12\)? Compute $\dfrac{1}{2}+\dfrac{1}{3}$", True),
        ("2+2", "4", "What is 2+2?", True),
        ("x^2-1", "(x-1)(x+1)", "Factor x^2-1.", True),
        ("x^2-1", "x^2-1", "Expand x^2-1", False),
        ("x>2", "x>2", "Solve 2x>4.", False),
        ("5", "5", "Compute 5", False),
        ("2+2", "4", None, False),
        ("2+2", "4", "If 2+2 = a, name a", False),
        ("2+2", "4", "What is 2+2+1?", False),
        ("1/2", "0.5", "Is it true that 1/2 is half?", False),
        ("√8", "2√2", "化简√8", True),
        ("-5", "5", "Find -5", False),
        ("8 - 5", "3", "State the final answer to the following arithmetic problem: 8 - 5 =", True),
        ("8-5", "3", "8 - 5 = ?", True),
        ("8-5", "3", "8 - 5 = ____ apples", True),
        ("3+4", "7", "3+4等于多少？", True),
        ("6 \\times 7", "42", "What does $6 \\times 7$ equal?", True),
        ("8-5", "3", "18 - 5 = ?", False),
        ("5-2", "3", "8.5-2 = ?", False),
        ("8-5", "3", "8 - 5 = 3, true or false?", False),
    ],
)
def test_answer_that_repeats_the_task_is_recognised(answer: str, reference: str, question: str | None, expected: bool) -> None:
    assert restates(answer, reference, question) is expected


def test_repeating_the_task_scores_zero_and_says_so() -> None:
    verdict = score_answer("2x>4", "x>2", domain="math", question="Solve 2x>4.")
    assert (verdict.score, verdict.reason) == (0.0, "restates-question")
    assert score_answer("2x>4", "x>2", domain="math").correct is True


def explain(answer: str, reference: str, **args: object) -> dict[str, str]:
    entry = registry.find("math")
    notes: list[tuple[str, str]] = []
    judge(answer, None, reference, entry, registry.build_args(entry, args), None, notes)
    return dict(notes)


@pytest.mark.parametrize(
    "answer,reference,rule",
    [
        ("0.5", "1/2", "exact-arithmetic"),
        (r"2\sqrt2", r"\sqrt8", "numeric-value"),
        ("0.333", "1/3", "rounding"),
        ("1/3+10^{-10}*1.0", "1/3", "decimal-places-of-a-float"),
        ("(x+1)^2", "x^2+2x+1", "same-values-at-points"),
        ("yes", "true", "same-meaning"),
        ("East", "east", "same-words"),
        ("x>2", r"(2,\infty)", "sets-of-reals"),
        (r"n\pi", r"k\pi", "solution-family"),
        ("f(1+x)", "f(x+1)", "sympy"),
        ("5", "5", "same-expression"),
        ("6", "5", "different-value"),
        ("5;6", "5", "wrong-count"),
    ],
)
def test_explanation_names_the_rule_that_decided(answer: str, reference: str, rule: str) -> None:
    assert explain(answer, reference)["rule"] == rule


def test_explanation_names_the_tolerance_that_decided() -> None:
    assert explain("101", "100", rtol=0.02)["rule"] == "rtol"
    assert explain("0.001", "0", atol=0.01)["rule"] == "atol"


def test_explanation_shows_both_normal_forms() -> None:
    notes = explain(r"x = 5\text{ cm}", "0.05 m")
    assert notes["answer"] == "x = 5 [1/100 length^1]"
    assert notes["reference"].endswith("[1 length^1]")
    assert explain("(((", "5")["answer"].endswith("(incomplete-expression)")
    assert explain("(B) 12", "B")["answer"] == "B | (B) 12"


@pytest.mark.parametrize(
    "text,expected",
    [
        (r"\frac{-x}{2}", "-x/2"),
        (r"\{1,\pm2\}", "{1, (±*2)}"),
        ("[1,2)", "[1, 2)"),
        ("x<2", "x < 2"),
        ("3!+5\\%", "(3! + 5%)"),
        (r"1\cup2\mp3", None),
        (r"\sqrt[3]{x}", "root(x, 3)"),
        ("1:2:3", "(1 : 2 : 3)"),
        (r"1+\cdots+n", "(1 + ... + n)"),
        ("f(x)", "f(x)"),
        ("1.50", "3/2 (2 places)"),
        (r"30^\circ", "30°"),
        (r"\pi", "pi"),
        (r"\mathbb{R}", "R"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "matrix(1, 2)"),
        (r"\log_2 8", "log(8, 2)"),
        ("1010_2", "('1010', 2)"),
    ],
)
def test_trees_are_shown_in_infix_notation(text: str, expected: str | None) -> None:
    shown = text_of(parse(text))
    assert expected is None or shown.replace("(-x/2)", "-x/2") == expected


def test_variables_any_lets_names_differ() -> None:
    for answer, reference in (("y=3", "x=3"), ("t+1", "x+1"), ("a=1,b=2", "p=1,q=2")):
        assert score_answer(answer, reference, domain="math").correct is False
        assert score_answer(answer, reference, domain="math", args={"variables": "any"}).correct is True
    assert score_answer("t+2", "x+1", domain="math", args={"variables": "any"}).correct is False
    assert score_answer("s+t", "x+y", domain="math", args={"variables": "any"}).correct is False


PIECES = [
    "或",
    "且",
    "是",
    "不",
    "答案是",
    "度",
    "分之",
    "百分之",
    "万",
    "①",
    "②",
    "½",
    "．",
    "\ud800",
    "\x00",
    "\u202e",
    "one ",
    "million",
    "and ",
    " or ",
    "(B) ",
    "A.",
    r"\dot{3}",
    r"\over ",
    r"\begin{cases}",
    r"\end{cases}",
    "]",
    "[",
    "[1,2[",
    "C_5^2",
    "...",
    r"\ldots",
    ",",
    "|x|",
    "<",
    ">=",
    ":",
    "1",
    "2.5",
    "0,5",
    "x",
    "^T",
    "'",
    "%",
    "5 m",
    "km/h",
    r"\text{",
    "}",
    "{",
    "$",
    "**",
    "yes",
    "no",
    "+-",
    "=",
    r"\lim",
    "∛",
    "i",
    "j",
    r"\binom",
    "2 h 3 min",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_no_mixture_of_the_notations_raises(text: str) -> None:
    for reference in ("5", "x>2", r"\{1,2,\ldots,9\}", "(1,2)", "5 m", "yes", "1:2:3", r"C_1e^x"):
        assert score_answer(text or "0", reference, domain="math").score in (0.0, 1.0, None)


@pytest.mark.parametrize(
    "piece",
    [
        " ",
        "(",
        "1 ",
        "a ",
        "a,",
        "x或",
        "①",
        "的",
        r"\over ",
        "{",
        "[",
        ",",
        "1,",
        ".",
        "0.",
        "-",
        "1:",
        r"\dot{1}",
        "one ",
        "and ",
        "|",
        "'",
        "$",
        "**",
        r"\text{",
        "x=",
        "1 m ",
        "A. ",
        "是",
        r"\ldots,",
        "5 million ",
        "分之",
        "<",
        "^T",
        r"\cup",
        "C_5^2",
        "!",
        "x<",
        "\\",
        "~",
        "1 a",
        "all ",
    ],
)
def test_repetition_costs_little(piece: str) -> None:
    text = (piece * 4090)[:4090]
    with takes_less_than(4):  # fifteen comparisons, 0.3 s; one quadratic rule alone would take more
        for reference in ("5", "x>2", r"\{1,2\}"):
            for answer in (text, "5" + text[:-1], text[:-1] + "5", text[:-1] + ")", text[:-1] + "$"):
                assert score_answer(answer, reference, domain="math").score in (0.0, 1.0)
