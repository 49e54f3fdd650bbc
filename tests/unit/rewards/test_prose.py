"""Measures of prose, on texts whose numbers a reader can count."""

import gc
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import prose


@pytest.mark.parametrize(
    "text,count",
    [
        ("", 0),
        ("one", 1),
        ("Don't stop: it's a well-known 3.14 or 1,000 at 12:30.", 10),
        ("one,two;three/four", 4),
        ("(a) [b] {c} <d>", 4),
        ("- -- ... !!! 。，、", 0),
        ("我爱北京", 4),
        ("我用Python写代码。", 6),
        ("こんにちは", 5),
        ("안녕 하세요", 2),
        ("नमस्ते दुनिया", 2),
        ("cafe\u0301s are nice", 3),
        ("a\u00a0b\u3000c", 3),
        ("word—word", 2),
    ],
)
def test_words_are_counted_as_a_reader_would(text: str, count: int) -> None:
    assert len(prose.words(text)) == count


def test_characters_without_width_do_not_make_words() -> None:
    assert len(prose.words(prose.visible("a\u200bb\u200bc\u2060d\ufeff"))) == 1
    assert prose.visible("a\u202eb\ud800\r\nc") == "ab\ufffd\nc"


@given(
    st.lists(st.text(alphabet="abcdefgh", min_size=1, max_size=6), min_size=1, max_size=20),
    st.sampled_from([" ", "  ", "\n", ", ", "; ", " - "]),
)
def test_separated_words_are_as_many_as_were_put_in(words: list[str], separator: str) -> None:
    assert prose.words(separator.join(words)) == words


@pytest.mark.parametrize(
    "text,count",
    [
        ("One. Two! Three? Four…", 4),
        ("Mr. Smith met Dr. Jones, e.g. on Monday.", 1),
        ("J. K. Rowling wrote it.", 1),
        ("It was me and I. It was you.", 2),
        ("Pens, paper, etc. are here. We saw it etc. They left.", 3),
        ("It costs 3.14 dollars at example.com today", 1),
        ('He said: "Stop!" Then he left.', 2),
        ("Really?! Yes... no", 3),
        ("你好。再见！真的吗？", 3),
        ("他说：“好。”然后走了。", 2),
        ("- first item\n- second item\n- third", 3),
        ("A title\n\nA sentence.", 2),
        ("one line\nthat goes on. Second.", 2),
        (". . . ! ?", 0),
        ("lowercase. still two.", 2),
    ],
)
def test_sentences_are_counted_as_a_reader_would(text: str, count: int) -> None:
    assert len(prose.sentences(text)) == count, prose.sentences(text)


@pytest.mark.parametrize(
    "text,count",
    [("a\nb\n\nc", 2), ("a\n\n\n\nb", 2), ("a\n***\nb\n---\nc", 3), ("a\n \t\nb", 2), ("\n\n", 0), ("a\n\n...\n\nb", 2)],
)
def test_paragraphs_are_parted_by_blank_lines_and_rules(text: str, count: int) -> None:
    assert len(prose.paragraphs(text)) == count


def test_lists_are_told_from_emphasis_and_rules() -> None:
    text = "* a\n- b\n• c\n  + d\n1. e\n2) f\n（三）x\n**bold** x\n*it* x\n---\n* \n-"
    assert prose.bullets(text) == (4, 3)
    assert prose.bullets("（1）甲\n1、乙") == (0, 2)
    assert prose.bullets("-苹果\n1.苹果\n-5 degrees\n3.14 is pi") == (1, 1)


def test_lines_and_characters_leave_white_space_out() -> None:
    assert prose.lines("a\n\n \nb\n...") == ["a", "b"]
    assert prose.characters(" a b\n\tc ") == 3


@pytest.mark.parametrize(
    "text,language",
    [
        ("The cat is on the mat and it is not for you.", "en"),
        ("Le chat est sur le tapis et il ne bouge pas.", "fr"),
        ("Der Hund ist nicht auf dem Sofa und die Katze auch.", "de"),
        ("El perro y la casa de los niños no es para una persona.", "es"),
        ("我今天用 Python 写了很多代码，非常高兴。", "zh"),
        ("私は学生です。東京に住んでいます。", "ja"),
        ("저는 학생입니다", "ko"),
        ("Я живу в Москве", "ru"),
        ("أنا طالب", "ar"),
        ("मैं एक छात्र हूँ", "hi"),
        ("שלום עולם", "he"),
        ("สวัสดี ครับ", "th"),
    ],
)
def test_a_language_is_known_by_its_script_and_function_words(text: str, language: str) -> None:
    assert prose.is_written_in(text, language)
    others = {"en", "fr", "de", "es", "zh", "ja", "ko", "ru", "ar", "hi", "he", "th"} - {language}
    assert not [other for other in others if prose.is_written_in(text, other)]


def test_mixed_text_is_in_no_language() -> None:
    text = "The cat sat on the mat. 猫坐在垫子上面看着窗外。"
    assert not prose.is_written_in(text, "en") and not prose.is_written_in(text, "zh")
    assert not prose.is_written_in("12345", "en")


@pytest.mark.parametrize(
    "bomb",
    [
        "." * 65_000,
        "\n " * 32_000,
        "a." * 32_000,
        "-" * 65_000,
        " " * 65_000 + "x",
        "1," * 32_000,
        '."' * 32_000,
        "。" * 65_000,
        "*a" * 32_000,
    ],
)
def test_hostile_text_costs_linear_time(bomb: str) -> None:
    """Eight times the text may cost eight times as much, thrice that on a busy machine; by squares it would be 64 times.

    The time of this thread alone, the least of three, with no garbage of other tests collected in between.
    """

    def once(text: str) -> float:
        start = time.thread_time()
        for measure in (
            prose.visible,
            prose.words,
            prose.sentences,
            prose.paragraphs,
            prose.bullets,
            prose.lines,
            prose.scripts,
        ):
            measure(text)
        return time.thread_time() - start

    def cost(text: str) -> float:
        gc.disable()
        try:
            return min(once(text) for _ in range(3))
        finally:
            gc.enable()

    assert cost(bomb) < 24 * max(cost(bomb[: len(bomb) // 8]), 0.02)


@given(st.text(max_size=100))
def test_measures_take_any_text(text: str) -> None:
    text = prose.visible(text)
    assert len(prose.sentences(text)) <= len(prose.words(text)) or not prose.words(text)
    assert len(prose.paragraphs(text)) <= len(prose.lines(text)) <= max(len(prose.words(text)), len(text))
    assert sum(prose.scripts(text).values()) <= len(prose.words(text))
