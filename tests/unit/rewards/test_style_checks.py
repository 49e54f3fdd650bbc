"""Style checks: loops and mixed languages are found however they are dressed up; ordinary text of any kind passes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import score
from rewards.repetition import loops, stretches
from rewards.scripts import languages
from rewards.style import CHECKS, find_fault

PROSE = (
    "First, we look at the picture and count the balls on the left. There are three red ones and two blue ones. Adding them "
    "gives five. Then the right side holds four more, so nine in all. "
)
SENTENCE = "I think that the answer must be in the picture somewhere. "
CHINESE = "我们先看左边，这里有三个红色的球和两个蓝色的球，加起来是五个。右边还有四个，所以一共是九个。"


def words(count: int, seed: int = 0) -> str:
    source = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(source.choice(letters) for _ in range(source.randint(2, 8))) for _ in range(count))


def dressed(change: Callable[[random.Random, str], str], seed: int = 1) -> str:
    source = random.Random(seed)
    return PROSE + "".join(change(source, char) for char in SENTENCE * 10)


TWINS = {"a": "а", "e": "е", "o": "о", "p": "р", "c": "с"}

LOOPS = {
    "the sentence again and again": PROSE + SENTENCE * 10,
    "the last words until the end": PROSE + "so the answer is nine, " * 12 + "so the ans",
    "a line each": PROSE + "\n\n".join(["I think that the answer must be in the picture"] * 10),
    "spaces": dressed(lambda source, char: " " * source.randint(0, 3) + char),
    "line breaks": dressed(lambda source, char: char + source.choice(["", "", "\n", "\r\n", "\u2028", "\x0b"])),
    "case": dressed(lambda source, char: source.choice([char.upper(), char])),
    "punctuation": dressed(lambda source, char: char + source.choice(["", "", ".", ",", "!", "*", "—"])),
    "invisible characters": dressed(lambda source, char: char + source.choice(["", "\u200b", "\u00ad", "\u2060", "\ufeff"])),
    "combining accents": dressed(lambda source, char: char + source.choice(["", "", "\u0301", "\u0308"])),
    "full-width letters": dressed(
        lambda source, char: source.choice([char, chr(ord(char) + 0xFEE0)]) if char.isalpha() else char
    ),
    "look-alike letters": dressed(lambda source, char: source.choice([char, TWINS.get(char, char)])),
    "counters of a word": "".join(f"{n}. foo " for n in range(1, 81)),
    "counters of a sentence": PROSE + "".join(f"Step {n}: I think the answer is in the picture. " for n in range(1, 50)),
    "lettered counters": PROSE + "".join(f"({chr(97 + n % 26)}) I think the answer is in it. " for n in range(50)),
    "Chinese counters": CHINESE + "".join(f"第{'一二三四五六七八九十'[n % 10]}，我想答案就在这张图片里面。" for n in range(50)),
    "one word": PROSE + "wait, " * 60,
    "one syllable": "ha" * 100,
    "one letter": "a" * 300,
    "exclamation marks": "The answer is" + "!" * 500,
    "emoji": "😀" * 500,
    "digits": "It is 0." + "3" * 1200,
    "Chinese sentence": CHINESE + "答案应该是这样的。" * 15,
    "Chinese phrase": CHINESE + "所以答案是五，" * 15,
    "a paragraph": PROSE + (PROSE + "Hmm, let me check it once more because I am not sure about it at all. ") * 4,
    "a page": (words(300) + ". ") * 3,
    "other words between": " ".join(f"{SENTENCE} {words(3, n)}." for n in range(40)),
    "other words between, without full stops": " ".join(f"{SENTENCE.rstrip('. ')} {words(2, n)}" for n in range(60)),
    "in the middle of much": words(3000) + " " + SENTENCE * 12 + words(3000, 1),
    "beyond the middle that is not looked at": words(60_000) + SENTENCE * 50,
}

SOURCE = random.Random(5)
ORDINARY = {
    "nothing": "",
    "prose": PROSE,
    "Chinese prose": CHINESE,
    "prose copied to check it": PROSE + "Let me check. " + PROSE + "So nine.",
    "a nursery rhyme": "Row, row, row your boat,\nGently down the stream.\nMerrily, merrily, merrily, merrily,\nA dream.\n" * 2,
    "a song with a refrain": "".join(
        words(40, n) + "\nOh my love is like a red red rose\nThat is newly sprung in June\nOh my love is like the melody\n"
        for n in range(5)
    ),
    "wait, now and then": "".join(words(60, n) + ". Wait, let me double-check this. " for n in range(15)),
    "a table": "\n".join(f"| Row {n} | {SOURCE.randint(0, 99)} | {SOURCE.randint(0, 99)} | N/A | yes |" for n in range(60)),
    "equal rows": "| N/A | N/A | yes |\n" * 10,
    "an HTML table": "".join(f"<tr><td>{words(1, n)}</td><td>N/A</td><td>N/A</td></tr>" for n in range(60)),
    "multiplication": "\n".join(f"{a} x {b} = {a * b}" for a in range(1, 13) for b in range(1, 13)),
    "sums in words": "\n".join(f"So {a} + {b} = {a + b}, and we carry on." for a in range(1, 15) for b in range(1, 5)),
    "trial division": " ".join(f"Is {p} a divisor of 997? No." for p in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)),
    "a search": " ".join(
        f"For n = {n}: n^2 + 1 = {n * n + 1}, which is {'prime' if n % 3 else 'not prime'}." for n in range(1, 60)
    ),
    "one sentence a prime": " ".join(
        f"The number {p} is prime because it has no divisors other than 1 and itself."
        for p in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)
    ),
    "frames of a video": " ".join(f"Frame {n}: no person is visible." for n in range(1, 21)),
    "boxes in JSON": json.dumps(
        [{"bbox_2d": [SOURCE.randint(0, 999) for _ in range(4)], "label": "traffic light"} for _ in range(60)]
    ),
    "records in JSON": json.dumps([{"id": n, "category": "traffic light", "iscrowd": 0} for n in range(60)], indent=1),
    "a matrix of zeros": str([[0] * 20] * 20),
    "code": "".join(f"def f{n}(x):\n    if x is None:\n        return None\n    return x + {n}\n\n" for n in range(40)),
    "numbered names": ", ".join(f"bytes{n}" for n in range(1, 40)),
    "LaTeX": r"\begin{pmatrix}"
    + r" \\ ".join(" & ".join(f"x_{{{a}{b}}}" for b in range(6)) for a in range(6))
    + r"\end{pmatrix}",
    "a spelled string": "A A A A A A A A A A",
    "bits": "0101" * 60,
    "a periodic decimal": "1/3 = 0." + "3" * 60,
    "rules": "|" + "---|" * 30 + "\n" + "-" * 120 + "\n" + "=" * 120,
    "a form's blanks": "\n".join(f"{name}: " + "_" * 60 for name in ("Name", "Date", "Place", "Age", "Sum")),
    "a sentence with little in it": "Buffalo buffalo Buffalo buffalo buffalo buffalo Buffalo buffalo",
    "terms": " + ".join(["x^2 y"] * 20),
    "random words": words(5000),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loop_is_found(name: str) -> None:
    assert find_fault(LOOPS[name], "", None, CHECKS[:1]) == "repetition"
    assert find_fault("", LOOPS[name], None, CHECKS[:1]) == "repetition"


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_text_is_no_loop(name: str) -> None:
    assert find_fault(ORDINARY[name], ORDINARY[name], None, CHECKS[:1]) is None


@pytest.mark.parametrize(
    ("unit", "least"),
    [
        ("wait", 40),
        ("the answer is five ", 14),
        ("w" * 10 + words(8, 3).replace(" ", ""), 8),
        (words(30, 4), 4),
        (words(80, 4), 3),
    ],
)
def test_a_loop_begins_at_the_documented_number_of_repeats(unit: str, least: int) -> None:
    tail = words(40, 9)
    assert loops(tail + (" " + unit) * least + tail)
    assert not loops(tail + (" " + unit) * (least - 2) + tail)


def test_counted_rounds_are_allowed_up_to_thirty() -> None:
    rounds = [f"Step {n}: I think the answer is in the picture. " for n in range(1, 40)]
    assert loops("".join(rounds)) and not loops("".join(rounds[:25]))


def brute_force(text: str) -> int:
    """The longest periodic stretch of at least two periods, by trying every period."""
    longest = 0
    for period in range(1, len(text) // 2 + 1):
        run = 0
        for at in range(period, len(text)):
            run = run + 1 if text[at] == text[at - period] else 0
            if run >= period:
                longest = max(longest, run + period)
    return longest


@given(st.integers(0, 10**9), st.integers(1, 60), st.integers(100, 240), st.integers(0, 100))
def test_stretches_find_the_loop_that_brute_force_finds(seed: int, period: int, length: int, before: int) -> None:
    source = random.Random(seed)
    unit = "".join(source.choice("abcdefghij") for _ in range(period))
    loop = (unit * (length // period + 3))[: length + 2 * period]
    text = words(before // 5, seed).replace(" ", "") + loop + words(10, seed + 1).replace(" ", "")
    found = max((stretch.length for stretch in stretches(text)), default=0)
    assert len(loop) <= found <= brute_force(text)


@given(st.text(alphabet="ab ", max_size=400))
def test_every_stretch_is_periodic(text: str) -> None:
    for stretch in stretches(text):
        piece = text[stretch.start : stretch.start + stretch.length]
        assert len(piece) == stretch.length >= 2 * stretch.period
        assert all(piece[at] == piece[at - stretch.period] for at in range(stretch.period, len(piece)))


ENGLISH = "Let me look at the picture carefully. There are three red balls on the left, and two on the right. So it is five."
MANDARIN = "让我仔细看看这张图片。左边有三个红球，右边有两个球。所以总数是五个。"
BOX = "<|begin_of_box|>{}<|end_of_box|>"

MIXED = {
    "Chinese sentence": (ENGLISH + " 所以我们需要计算总数。" + ENGLISH, BOX.format(5), "How many balls are there?"),
    "Chinese clause": (ENGLISH + " so we need to 计算一下总数的 value", BOX.format(5), "How many balls are there?"),
    "Chinese words all over": (
        ENGLISH + " 计算 then 得到 and 总数 or 数量 then 红球 and 左边 plus 右边 is 结果",
        BOX.format(5),
        "How many?",
    ),
    "English in Chinese": (
        MANDARIN + "Then we need to count all of the balls on the table." + MANDARIN,
        BOX.format(5),
        "图中有多少个球？",
    ),
    "English without grammar words": (MANDARIN + " ".join(["ball", "table", "green"] * 5), BOX.format(5), "图中有多少个球？"),
    "Russian": (ENGLISH + " Поэтому ответ равен пяти.", BOX.format(5), "How many balls are there in it?"),
    "Japanese": (ENGLISH + " これは赤いボールです。", BOX.format(5), None),
    "Korean": (ENGLISH + " 그래서 정답은 다섯 개입니다.", BOX.format(5), None),
    "Arabic": (ENGLISH + " إذن الجواب هو خمسة كرات في الصورة", BOX.format(5), None),
    "thinking in another language": (
        MANDARIN,
        "The answer is five balls in total " + BOX.format(5),
        "How many balls are there?",
    ),
    "answer in two languages": ("", "答案是五个球，因为左边有三个。" + ENGLISH + BOX.format(5), "How many balls are there?"),
    "answer's last sentence": ("", ENGLISH + "所以答案是五个。", None),
    "Cyrillic letter in a word": (
        "The аnswer is five because there are five balls.",
        BOX.format(5),
        "How many balls are there?",
    ),
    "word of look-alikes": ("The сор is in the picture on the left side.", BOX.format(5), "Who is there in the picture?"),
    "Greek letters in a word": ("The ballοοn is red and it is on the left.", BOX.format(5), "Which balloon is red here?"),
    "Latin letter in a Russian word": (
        "Oтвет равен пяти, потому что cлева три шара.",
        BOX.format(5),
        "Сколько шаров на картинке?",
    ),
}

UNMIXED = {
    "English": (ENGLISH, BOX.format(5), "How many balls are there?"),
    "Chinese": (MANDARIN, BOX.format(5), "图中有多少个球？"),
    "no question, English": (ENGLISH, BOX.format(5), None),
    "no question, Chinese": (MANDARIN, BOX.format(5), None),
    "a quotation": (ENGLISH + ' The sign reads "欢迎光临本店，请勿吸烟".', BOX.format("Welcome"), "What does the sign say?"),
    "Chinese quotation marks": (
        ENGLISH + " It says 「欢迎光临本店，请勿吸烟」.",
        BOX.format("Welcome"),
        "What does the sign say?",
    ),
    "the text that was read": (
        "The sign reads 欢迎光临本店 in red letters.",
        BOX.format("欢迎光临本店"),
        "What is written on it?",
    ),
    "glosses": (
        "Beijing (北京) is the capital, Shanghai (上海) is not.",
        BOX.format("Beijing"),
        "What is the capital of China?",
    ),
    "a name": ("The poet Li Bai 李白 wrote it.", BOX.format("Li Bai"), "Who wrote this poem shown here?"),
    "words of the question": (
        "The question says 红色的球 so count them all.",
        BOX.format(5),
        "How many 红色的球 are there in the picture?",
    ),
    "a question in two languages": (ENGLISH + MANDARIN, BOX.format(5), ENGLISH + MANDARIN + MANDARIN),
    "terms and formulas": (
        MANDARIN
        + "我们用 Python 的 NumPy 库和 GPU 计算 sin(x) 与 ABC 三角形。设 $f(x)=the sum of all x and y in the set of z$。",
        BOX.format(5),
        "计算图中角度的大小",
    ),
    "code": (
        MANDARIN + "代码：```python\nfor x in the_list:\n    print(x if x is not None and x in y or z)\n```",
        BOX.format(5),
        "写一段代码",
    ),
    "a title": (
        MANDARIN + "这是《Attention Is All You Need》与 Deep Residual Learning。",
        BOX.format("Transformer"),
        "这篇论文提出了什么？",
    ),
    "Greek symbols": ("We have α + β = γ, so Δx = 3 μm and πr with λ = 5 and Ω.", BOX.format(3), "Find the value of x here."),
    "Russian with terms": (
        "Скорость тела v = 5 м/с, x-координата растёт. Наш IT-отдел и PDFка.",
        BOX.format(5),
        "Найдите скорость тела в точке А.",
    ),
    "Japanese": ("この赤いボールの数を数えます。東京都の人口も見ます。", BOX.format(5), "図にはいくつありますか？"),
    "Korean with hanja": ("이 문제는 大韓民國 역사에 관한 것입니다.", BOX.format(5), "정답은 무엇입니까? 알려 주세요."),
    "a translation": ("", "你好，世界，今天天气很好", "Translate this sentence: Hello, world, it is fine today"),
    "a translation talked about": (
        "I translate it: «Привет, мир» means hello.",
        "Привет, мир",
        "Translate into Russian: hello, world",
    ),
    "an author": ("Tolstoy (Лев Толстой) wrote War and Peace.", BOX.format("Tolstoy"), "Who wrote War and Peace?"),
    "characters discussed": (
        "The characters 大 and 小 mean big and small; 中 means middle.",
        BOX.format("big"),
        "What does it mean?",
    ),
    "numbers only": ("", BOX.format("42"), None),
    "nothing": ("", "", ""),
    "an attack explained": ("The word аpple hides a Cyrillic letter.", BOX.format("a"), "Which letter of аpple is Cyrillic?"),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_language_is_found(name: str) -> None:
    assert find_fault(*MIXED[name], CHECKS) == "mixed-language"


@pytest.mark.parametrize("name", UNMIXED)
def test_what_may_stand_in_another_script_is_no_mixture(name: str) -> None:
    assert find_fault(*UNMIXED[name], CHECKS) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", set()),
        ("x = 5", set()),
        ("The answer is five", {"latin"}),
        ("答案是五个红球", {"han"}),
        ("答案是五个红球和蓝球 red and blue balls", {"han", "latin"}),
        ("東京都の人口を調べます", {"han", "kana"}),
        ("정답은 다섯 개입니다", {"hangul", "han"}),
        ("Ответ равен пяти", {"cyrillic"}),
    ],
)
def test_scripts_of_a_text(text: str, expected: set[str]) -> None:
    assert languages(text) == expected


def test_checks_are_made_in_the_order_given_and_only_those() -> None:
    think = LOOPS["one word"] + " 所以我们需要计算总数。"
    arguments = (think, BOX.format(5), "How many balls are there?")
    assert find_fault(*arguments, ["repetition", "mixed-language"]) == "repetition"
    assert find_fault(*arguments, ["mixed-language", "repetition"]) == "mixed-language"
    assert find_fault(*arguments, []) is None


def test_unknown_check_is_the_caller_s_mistake() -> None:
    with pytest.raises(ValueError, match="unknown style check 'speling'"):
        find_fault("", "", None, ["speling"])


def test_faulty_style_scores_zero_when_the_check_is_on() -> None:
    response = f"<think>{LOOPS['one word']}</think>{BOX.format('5')}"
    assert score(response, "5", domain="math").score == 1.0
    found = score(response, "5", domain="math", checks=["repetition"])
    assert (found.score, found.reason) == (0.0, "repetition")


HOSTILE = {
    "line breaks": "\n" * 300_000,
    "invisible": "\u200b" * 300_000,
    "accents": "a\u0301" * 150_000,
    "surrogates": "\ud800x" * 150_000,
    "quotes": "\"'`" * 100_000,
    "dollars": "$(" * 150_000,
    "brackets": "([{「" * 75_000,
    "open formulas": "\\(x" * 100_000,
    "two letters": "".join(random.Random(1).choice("ab") for _ in range(300_000)),
    "almost periodic": "".join("ab" * (n % 40) + "c" for n in range(7500)),
    "Chinese": "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x59B8), k=100_000))),
    "counters": " ".join(map(str, range(50_000))),
    "equals signs": "a=" * 150_000,
    "long word": "é" * 300_000,
    "a million": words(180_000),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(60)  # what it guards against takes minutes
def test_hostile_text_takes_bounded_time_and_never_raises(name: str) -> None:
    find_fault(HOSTILE[name], HOSTILE[name], HOSTILE[name][:1000], CHECKS)


@given(st.text(max_size=300), st.text(max_size=100), st.none() | st.text(max_size=50))
def test_any_text_has_a_known_fault_or_none(think: str, answer: str, question: str | None) -> None:
    assert find_fault(think, answer, question, CHECKS) in (None, *CHECKS)
