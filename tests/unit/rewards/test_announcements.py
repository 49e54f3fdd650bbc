"""An announcement with nothing after it is no answer; with one after it, it is taken off."""

import pytest

from rewards import score

ANNOUNCEMENTS = [
    *(
        "The answer is",
        "the answer is:",
        "Answer:",
        "answer =",
        "Final answer:",
        "The final answer is",
        "So",
        "Thus,",
        "Therefore",
    ),
    *(
        "therefore the answer is",
        "Hence the result is",
        "We get",
        "it is",
        "The correct option is",
        "I choose",
        "x =",
        "=",
        "**Answer:**",
    ),
    *(
        "答案是",
        "答案：",
        "答案为",
        "答案是。",
        "答案是：",
        "**答案是**",
        "所以答案是",
        "因此，答案是",
        "综上，答案是",
        "最终答案是",
        "正确答案是",
    ),
    *(
        "本题答案是",
        "结果是",
        "结果为",
        "所以",
        "因此",
        "综上所述",
        "答",
        "解：",
        "可得",
        "解得",
        "故选",
        "应选",
        "一共有",
        "大约",
        "等于",
    ),
    *("是否", "有无", r"\text{答案是}", r"\boxed{答案是}", r"\therefore", "答案是\n", "答案是……"),
]
REFERENCES = [
    *(
        ("math", text)
        for text in ("yes", "no", "True", "是", "否", "正确", "5", "0", "x=3", "A", "无解", "no solution", "(1,2)", "e")
    ),
    *(
        (name, text)
        for name in ("stem", "vqa", "chart", "spatial")
        for text in ("yes", "no", "是", "否", "5", "A", "水", "left")
    ),
    *((name, text) for name in ("choice", "general") for text in ("yes", "否", "B", "water")),
    *(("geo", "Paris, France"), ("geo", "北京"), ("counting", "0"), ("counting", "5"), ("video", "yes"), ("video", "B")),
]


def boxed(answer: str) -> str:
    return f"<think></think><|begin_of_box|>{answer}<|end_of_box|>"


@pytest.mark.parametrize("domain,reference", REFERENCES)
def test_announcement_of_nothing_is_not_paid(domain: str, reference: str) -> None:
    paid = [text for text in ANNOUNCEMENTS if score(boxed(text), reference, domain=domain).score]
    assert paid == []


ANNOUNCED = ["答案：{}", "答案是{}", "所以答案是{}", "结果为{}", "The answer is {}", "The answer is: {}"]


@pytest.mark.parametrize(
    "domain,reference,forms",
    [
        *(("math", text, [*ANNOUNCED, "Therefore, {}", "故{}"]) for text in ("yes", "5", "x=3")),
        *((name, "5", ANNOUNCED) for name in ("stem", "counting", "vqa", "chart")),
        ("choice", "B", [*ANNOUNCED, "故选{}"]),
    ],
)
def test_announced_answer_is_paid(domain: str, reference: str, forms: list[str]) -> None:
    refused = [form for form in forms if score(boxed(form.format(reference)), reference, domain=domain).score != 1.0]
    assert refused == []


@pytest.mark.parametrize("answer", ["答案：是", "答案是：是", "答案为是", "是的", "对"])
def test_chinese_yes_after_an_announcement_is_a_yes(answer: str) -> None:
    assert score(boxed(answer), "yes", domain="math").score == 1.0


@pytest.mark.parametrize(
    "answer", ["no idea", "no clue", "no answer", "no comment", "no more than three", "no two", "没有答案", "没有办法"]
)
def test_none_of_something_that_is_not_counted_is_no_zero(answer: str) -> None:
    assert score(boxed(answer), "0", domain="counting").score == 0.0


@pytest.mark.parametrize(
    "answer", ["no cats", "no one", "there are no people", "nobody", "none", "没有猫", "没有", "no red cars in the picture"]
)
def test_none_of_what_is_counted_is_zero(answer: str) -> None:
    assert score(boxed(answer), "0", domain="counting").score == 1.0
