"""Answers that take back what they name are paid by no verifier; words that only look like a denial cost nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import score
from rewards.denials import denied

DENIALS = [
    *(
        "not: {}",
        "wrong: {}",
        "Wrong answer: {}",
        "The wrong answer is {}",
        "incorrect option: {}",
        "false: {}",
        "ｗｒｏｎｇ： {}",
    ),
    *(
        "except {}",
        "everything except: {}",
        "anything but {}",
        "the opposite of {}",
        "never {}",
        "≠{}",
        "\\neq {}",
        "!= {}",
        "¬{}",
    ),
    *(
        "错误答案：{}",
        "错误答案是{}",
        "错误选项:{}",
        "假的：{}",
        "不是：{}",
        "不等于{}",
        "除了{}",
        "除{}以外",
        "排除{}",
        "别选{}",
    ),
    *("{} is wrong", "{} is not correct", "{} isn't right", "{} (wrong)", "{}? No", "{}是错的", "{}不对", "{}是不正确的"),
]
REFERENCES = [
    *(("math", "5", "5"), ("math", "x=3", "x=3"), ("math", r"\frac{1}{2}", r"\frac{1}{2}"), ("stem", "5 m", "5 m")),
    *(
        ("stem", "CaO", "CaO"),
        ("stem", "F = ma", "F = ma"),
        ("counting", "5", "5"),
        ("chart", "25", "25"),
        ("chart", "China", "China"),
    ),
    *(("vqa", "cat", "cat"), ("vqa", "猫", "猫"), ("spatial", "left", "left"), ("geo", "Paris, France", "Paris, France")),
    *(("choice", "B", "B"), ("video", [10, 20], "from 10 to 20"), ("video", "00:10", "00:10"), ("video", "B", "B")),
]


def boxed(answer: str) -> str:
    return f"<think></think><|begin_of_box|>{answer}<|end_of_box|>"


@pytest.mark.parametrize("domain,reference,right", REFERENCES)
def test_right_answer_taken_back_is_not_paid(domain: str, reference: object, right: str) -> None:
    assert score(boxed(right), reference, domain=domain).score == 1.0
    paid = [form for form in DENIALS if score(boxed(form.format(right)), reference, domain=domain).score]
    assert paid == []


@pytest.mark.parametrize("box", ["not [10, 10, 60, 60]", "≠ [10, 10, 60, 60]", "all but: [10, 10, 60, 60]"])
def test_denied_box_is_not_paid(box: str) -> None:
    assert score(boxed(box), [[10, 10, 60, 60]], domain="grounding").score == 0.0


@pytest.mark.parametrize(
    "text",
    [
        *("5", "-5", "5!", "", " ", "No, it is red", "False, it is red", "不是，它是红的", "不是", "错误", "wrong", "never"),
        *("the number of incorrect answers is 5", "The false positive rate is 5%", "错误率是5%", "不等式的解集为(1,2)", "非洲"),
        *("除湿机", "没有", "没有猫", "没错，是5", "5没错", "5 (no units)", "neverland", "(5, no)", "nothing but net"),
    ],
)
def test_words_that_deny_nothing_are_no_denial(text: str) -> None:
    assert not denied(text)


@pytest.mark.parametrize(
    "reference,answer",
    [
        ("≠ 5", "≠ 5"),
        ("False", "False: it is red"),
        ("false", "The statement is false"),
        ("错误", "这个说法是错的"),
        ("x is wrong", "x is wrong"),
    ],
)
def test_denial_that_the_reference_makes_too_is_none(reference: str, answer: str) -> None:
    assert denied(answer) and not denied(answer, reference)


@pytest.mark.parametrize("answer", ["wrong answer: yes", "incorrect: yes", "错误答案：yes", "yes is wrong", "≠yes"])
@pytest.mark.parametrize("domain", ["math", "vqa", "chart", "stem", "spatial"])
def test_yes_taken_back_is_no_yes(answer: str, domain: str) -> None:
    assert score(boxed(answer), "yes", domain=domain).score == 0.0


@pytest.mark.parametrize("answer", ["wrong answer: no", "错误答案：no", "≠no", "anything but no"])
def test_no_taken_back_is_no_no(answer: str) -> None:
    assert score(boxed(answer), "no", domain="math").score == 0.0


@given(st.text(alphabet=st.sampled_from("not is wrong:,.?()错的不是除了以外 5\u0301\ud800≠!"), max_size=300))
def test_any_text_is_read(text: str) -> None:
    assert denied(text) in (True, False)


@pytest.mark.parametrize("piece", ["is ", "the it ", "( ", "错误", "1) ", "- ", "not ", "x is not ", "所以", "\u0345\u0301"])
@pytest.mark.timeout(60)  # what it guards against takes minutes
def test_only_the_ends_of_a_long_text_are_read(piece: str) -> None:
    denied(piece * 20_000)
