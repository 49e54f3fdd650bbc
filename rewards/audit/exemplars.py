"""The references that verifiers are audited with where none are given: the kinds their docs pages name, in two languages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.audit.probes import Exemplar

_OPTIONS = "Which city is the capital of France?\nA. Rome\nB. Paris\nC. Berlin\nD. Madrid"
_SEVERAL = "Which of these are mammals? Select all that apply.\nA. Whale\nB. Shark\nC. Bat\nD. Eagle"
_CHINESE_OPTIONS = "下列哪种气体能使带火星的木条复燃？\nA. 氮气\nB. 二氧化碳\nC. 氢气\nD. 氧气"

_TABLES = (
    "<table><tr><td>a</td><td>b</td></tr><tr><td>1</td><td>2</td></tr></table>",
    "<html><body><table><thead><tr><td><b>Method</b></td><td><b>Top-1</b></td></tr></thead><tbody><tr><td>ResNet-50</td>"
    "<td>76.1</td></tr><tr><td>ViT-B/16</td><td>81.8</td></tr></tbody></table></body></html>",
    '<table><tr><td rowspan="2">地区</td><td colspan="2">产量</td></tr><tr><td>2019</td><td>2020</td></tr></table>',
    "<table><tr><th>Item</th><th>Price</th></tr><tr><td>Tea</td><td>$3.50</td></tr><tr><td>Cake</td><td>$4.25</td></tr></table>",
    "| Name | Age |\n|---|---|\n| Ann | 31 |\n| Bo | 28 |",
)


def _each(verifier: str, rows: Sequence[tuple[Any, ...]], question: str | None = None) -> list[Exemplar]:
    """Exemplars from (reference, wrong answers, question or None, right answer or None, arguments) tuples cut off anywhere."""
    found = []
    for row in rows:
        padded: list[Any] = [*row] + [None] * (5 - len(row))
        reference, wrong, own, right, args = padded
        if right is None:
            right = reference if isinstance(reference, str) else json.dumps(reference, ensure_ascii=False)
        found.append(Exemplar(verifier, reference, right, wrong, own or question, args or {}))
    return found


_MATH = _each(
    "math",
    [
        ("12", ("13", "1.2", "-12"), "Ann has 7 apples and buys 5 more. How many apples does she have?"),
        (r"\frac{1}{2}", (r"\frac{1}{3}", "2", "0.05"), r"Evaluate $\int_0^1 x\,dx$."),
        ("x=3", ("x=4", "x=-3"), "Solve $2x + 1 = 7$ for $x$."),
        ("(1,2)", ("[1,2]", "(2,1)", "(1,3)"), "On which open interval is $f'(x) < 0$?"),
        (r"\{1,2,3\}", (r"\{1,2,4\}", r"\{1,2\}"), "Find all roots of $(x-1)(x-2)(x-3)$."),
        (r"2\sqrt{3}", (r"3\sqrt{2}", "12"), "How long is the diagonal of a cube of side 2?"),
        ("x^2+1", ("x^2-1", "x^2"), "Give the sum of $x^2$ and 1."),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", (r"\begin{pmatrix}2\\1\end{pmatrix}",), "Solve for the vector $v$."),
        ("25\\%", ("75\\%", "2.5\\%"), "What percentage of 80 is 20?"),
        ("yes", ("no",), "Is 7 a prime number?"),
        ("17", ("18", "71"), "甲有9个苹果，乙有8个苹果，一共有多少个苹果？"),
    ],
)

_STEM = _each(
    "stem",
    [
        ("9.8 m/s^2", ("9.8 m", "98 m/s^2", "3.2 m/s^2"), "What is the acceleration of free fall on Earth?"),
        ("5 N", ("5 kg", "6 N"), "A net force acts on a 1 kg body and gives it 5 m/s². How large is the force?"),
        (r"3.0\times10^8 m/s", (r"3.0\times10^7 m/s", "300 m/s"), "What is the speed of light in vacuum?"),
        ("H2SO4", ("H2SO3", "H2S", "HSO4"), "Give the formula of sulfuric acid."),
        ("2H2 + O2 -> 2H2O", ("H2 + O2 -> H2O", "2H2O -> 2H2 + O2"), "Balance the combustion of hydrogen."),
        ("F = ma", ("F = mv", "F = m/a"), "State Newton's second law."),
        ("increases", ("decreases", "stays the same"), "What does the pressure do when the gas is heated in a rigid vessel?"),
        ("6", ("7", "60"), "How many protons does a carbon nucleus have?"),
        ("氧气", ("氢气", "氮气"), "哪种气体支持燃烧？"),
    ],
)

_CHOICE = _each(
    "choice",
    [
        ("B", ("A", "C", "Rome"), _OPTIONS),
        ("Paris", ("Rome", "D"), _OPTIONS),
        ("AC", ("AB", "BD", "D"), _SEVERAL),
        (["A", "C"], ("B, D", "A"), _SEVERAL, "A, C"),
        ("C", ("A", "B", "D")),
        ("D", ("A", "氮气"), _CHINESE_OPTIONS),
    ],
)

_COUNTING = _each(
    "counting",
    [
        ("3", ("4", "2", "13", "three hundred"), "How many cats are in the picture?"),
        (7, ("8", "six"), "How many people are at the table?", "7"),
        ("12", ("2", "1", "twelve hundred"), "How many windows does the house have?"),
        ("eleven", ("six", "seven"), "How many red balls are there?"),
        (148, ("147", "1480"), "How many dots are there?", "148"),
        ("4", ("5", "十四"), "图中有几只猫？"),
    ],
)

_VQA = _each(
    "vqa",
    [
        ("red", ("blue", "dark green"), "Is the car red or blue?"),
        (["a dog", "dog"], ("cat", "a horse"), "What animal is on the sofa?", "dog"),
        ("yes", ("no",), "Is the door open?"),
        ("2", ("3", "22"), "How many clocks are on the wall?"),
        ("Pepsi", ("Coca-Cola", "Pepper"), "What brand is on the can?"),
        ("on the left", ("on the right",), "Where is the lamp?"),
        ("北京", ("上海", "南京"), "照片是在哪个城市拍的？"),
    ],
)

_DOCUMENT = _each(
    "document",
    [
        (["Coca Cola", "Coca Cola Company"], ("Pepsi", "General Motors"), "Which company is named?", "Coca Cola"),
        ("March 14, 1998", ("June 2, 2011",), "What is the date of the letter?"),
        ("$1,250.00", ("$87.45",), "What is the total amount?"),
        ("Dr. John H. Smith", ("Mary Brown", "the secretary"), "Who signed the memorandum?"),
        ("北京大学出版社", ("机械工业",), "这本书由哪家出版社出版？"),
        (
            ["alpha", "beta", "gamma"],
            ("delta", "rho, sigma, tau"),
            "List the phases.",
            "alpha, beta, gamma",
            {"reference": "all"},
        ),
    ],
)

_CHART = _each(
    "chart",
    [
        ("100", ("106", "94", "10"), "What is the value of the tallest bar?"),
        ("2015", ("2016", "2014", "15"), "In which year did sales peak?"),
        ("25%", ("40%", "0.25%"), "What share do the imports have?"),
        ("Norway", ("Sweden", "Finland"), "Which country has the highest value?"),
        ("[2010, 2011]", ("[2010, 2012]", "[2010]"), "In which two years was the value below 5?"),
        ("$3.4 million", ("$3.4", "$34 million", "3.4 million people"), "How large was the profit?"),
        (14, ("15", "13"), "How many countries are shown?", "14"),
        ("上海", ("北京", "广州"), "哪个城市的人口最多？"),
    ],
)

_SPATIAL = _each(
    "spatial",
    [
        ("left", ("right", "behind"), "On which side of the sofa is the lamp?"),
        (3.5, ("0.35", "35", "-3.5"), "How far is the door from the window, in meters?", "3.5"),
        ("front-left", ("front-right", "back-left", "left"), "Where is the chair, seen from the bed?"),
        ("B", ("A", "C"), "Which is closest to the stove?\nA. fridge\nB. sink\nC. table\nD. door"),
        ("2", ("3", "20"), "How many chairs stand in the room?"),
        ("左前方", ("右前方", "左后方"), "椅子在床的哪个方向？"),
    ],
)

_GEO = _each(
    "geo",
    [
        ("Paris, France", ("Berlin, Germany", "Paris, Texas"), "Where was this photo taken?"),
        (
            {"country": "China", "region": "Sichuan", "city": "Chengdu"},
            ("Tokyo, Japan", "Bavaria, Germany"),
            "Where is this?",
            "Chengdu, Sichuan, China",
        ),
        ("Kyoto, Japan", ("Seoul, South Korea",), "Which city is shown?"),
        ("Brazil", ("Peru", "Portugal"), "Which country is this?"),
        ("巴黎, 法国", ("柏林, 德国", "罗马"), "这张照片是在哪里拍的？"),
    ],
)

_OCR = _each(
    "ocr",
    [
        ("Order #12345: $99.99", ("Invoice 7", "lorem"), "Read the text in the image."),
        ("The quick brown fox jumps over the lazy dog.", ("Pack my box with five dozen jugs",), "Transcribe the line."),
        ("峨影1958", ("长春电影制片厂",), "图中的文字是什么？"),
        ("43", ("57", "x"), "What number is written here?"),
        ("E=mc^{2}", ("x/y",), "Write the formula in LaTeX.", None, {"formula": True}),
        ("one two three four", ("five six seven",), "Read the words.", None, {"mode": "wer"}),
    ],
)

_SMALL = ("<table><tr><td>x</td></tr></table>",)
_NO_TABLE = ("There is no table.", "<p>a b 1 2</p>")
_TABLE = [
    Exemplar("table", text, text, (*_SMALL, *_NO_TABLE) if text.startswith("<") else _NO_TABLE, "Convert the table to HTML.")
    for text in _TABLES
]

_GROUNDING = _each(
    "grounding",
    [
        ([[400, 400, 500, 500]], ("[[600, 600, 700, 700]]", "[[400, 400, 420, 420]]")),
        ([[100, 100, 220, 300], [600, 620, 760, 900]], ("[[0, 0, 50, 50], [300, 300, 350, 350]]",)),
        (
            [{"bbox_2d": [10, 20, 200, 300], "label": "cat"}, {"bbox_2d": [500, 500, 800, 700], "label": "dog"}],
            (
                '[{"bbox_2d": [10, 20, 200, 300], "label": "dog"}, {"bbox_2d": [500, 500, 800, 700], "label": "cat"}]',
                "[[10, 20, 200, 300], [500, 500, 800, 700]]",
            ),
        ),
        ([[38, 115, 360, 441]], ("[[600, 600, 900, 900]]",), None, None, {"mode": "mean_iou"}),
        ("[120, 40, 300, 90]", ("[700, 700, 800, 800]",)),
        ([[1, 1, 90, 90], [200, 10, 300, 80], [400, 5, 480, 95]], ("[[500, 500, 600, 600]]",)),
    ],
    "Give the box of each object as [x1, y1, x2, y2] in 0-1000.",
)

_POINT = _each(
    "point",
    [
        ([[100, 100, 200, 200]], ("[201, 150]", "[150, 99]"), None, "[150, 150]"),
        ([[500, 500]], ("[560, 500]", "[0, 0]"), None, "[510, 505]"),
        ([{"polygon": [[0, 0], [100, 0], [0, 100]]}], ("[90, 90]", "[500, 500]"), None, "[20, 20]"),
        ([[10, 10, 60, 60], [800, 800, 900, 900]], ("[[400, 400], [500, 500]]",), None, "[[30, 30], [850, 850]]"),
        ("[[320, 240, 400, 300]]", ("[10, 10]",), None, "[350, 270]"),
    ],
    "Point at each object.",
)

_GUI = _each(
    "gui",
    [
        (
            '{"action_type": "click", "box_2d": [[503, 580, 718, 702]]}',
            ('{"action_type": "click", "box_2d": [[1, 1, 60, 60]]}',),
        ),
        (
            "{'action_type': 'input_text', 'text': 'Personal Finance Tracker', 'box_2d': [[38, 115, 961, 140]]}",
            ("{'action_type': 'input_text', 'text': 'Weather', 'box_2d': [[38, 115, 961, 140]]}",),
        ),
        ("left_click(start_box='[100, 200]')", ("left_click(start_box='[900, 800]')", "right_click(start_box='[100, 200]')")),
        ("type(content='Hello World!')", ("type(content='Good night')", "type(content='Hello')")),
        (
            "scroll(start_box='[500, 500]', direction='down', step=5)",
            ("scroll(start_box='[500, 500]', direction='up', step=5)",),
        ),
        ("key(keys='ctrl+s')", ("key(keys='ctrl')", "key(keys='ctrl+s+a')")),
        ("DONE()", ("FAIL()", "WAIT()")),
        (
            {"bbox_xywh": [42, 1102, 197, 70], "img_size": [1170, 2532]},
            ('{"point_norm": [0.9, 0.9]}',),
            None,
            '{"point_norm": [0.12, 0.449]}',
        ),
        ("Click [12]", ("Click [13]", "Click [1]")),
    ],
    "What is the next action?",
)

_VIDEO = _each(
    "video",
    [
        ([10, 20], ("30 to 40 seconds", "[21, 25]"), "When does the man open the door?", "[10, 20]"),
        ([[5, 10], [30, 42]], ("[[12, 20], [50, 60]]",), "When is the dog visible?"),
        ("from 00:15 to 00:27", ("from 01:15 to 01:27",), "When does she sing?"),
        (12.5, ("13.5 seconds", "2.5 s"), "At what time does the light go on?", "12.5"),
        ("B", ("A", "D"), "What happens next?\nA. He leaves\nB. He sits down\nC. He sings\nD. He falls"),
        ("a red car", ("a truck", "a bicycle"), "What passes at the end?"),
    ],
)

_CODE = _each(
    "code",
    [
        ({"tests": ["assert add(1, 2) == 3", "assert add(-1, 5) == 4"]}, ("def add(a, b):\n    return a - b",), None,
         "def add(a, b):\n    return a + b"),
        ({"inputs": ["3\n4\n", "10\n-2\n"], "outputs": ["7\n", "8\n"]}, ("print(7 * 7)",), None,
         "print(int(input()) + int(input()))"),
        ({"fn_name": "largest", "inputs": [[[3, 9, 2]], [[-5, -7]]], "outputs": [9, -5]},
         ("def largest(xs):\n    return xs[0]",), None, "def largest(xs):\n    return max(xs)"),
        ({"tests": [{"call": "reverse('abc')", "returns": "cba"}]}, ("def reverse(s):\n    return s",), None,
         "def reverse(s):\n    return s[::-1]"),
        ({"tests": ["assert isinstance(stack(), list)", "assert stack() == [1, 2]"]},
         ("def stack():\n    return (1, 2)",), None, "def stack():\n    return [1, 2]"),
    ],
    "Write a Python program.",
)  # fmt: skip

_INSTRUCTION_ROWS: list[tuple[list[Mapping[str, Any]], str, tuple[str, ...], float, str]] = [
    (
        [{"type": "length", "unit": "words", "at_least": 8}, {"type": "include", "keywords": ["carbon"]}],
        "Plants take carbon from the air and keep it in wood.",
        ("Plants keep it.",),
        0.5,
        "Explain photosynthesis in at least eight words and use the word 'carbon'.",
    ),
    (
        [{"type": "bullets", "exactly": 3}],
        "* wash\n* cut\n* boil",
        ("* wash\n* cut", "wash, cut, boil", "*\n*\n*"),
        0.0,
        "List three steps as bullets.",
    ),
    (
        [{"type": "json", "kind": "object"}, {"type": "include", "keywords": ["colour"]}],
        '{"colour": "red"}',
        ("red", "{}x"),
        0.5,
        "Answer as a JSON object with the key 'colour'.",
    ),
    (
        [
            {
                "type": "json_schema",
                "schema": {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}},
            }
        ],
        '{"age": 31}',
        ("{}", '{"age": "31"}', "[31]", '{"age": 31} or {"age": 32}'),
        0.0,
        "Give the person's age as JSON.",
    ),
    (
        [{"type": "case", "case": "upper"}, {"type": "ends_with", "text": "THE END"}],
        "ONCE UPON A TIME. THE END",
        ("once upon a time",),
        0.5,
        "Tell a story in capitals that ends with 'the end'.",
    ),
    (
        [{"type": "language", "language": "zh"}, {"type": "title"}],
        "<<春天>>\n春天来了，花都开了。",
        ("Spring has come.",),
        0.5,
        "写一首有标题的短诗，标题放在<<>>里。",
    ),
]
_INSTRUCTION = [
    Exemplar("instruction", reference, right, wrong, question, {}, floor)
    for reference, right, wrong, floor, question in _INSTRUCTION_ROWS
]

_JUDGED = [
    ("The report blames a lack of maintenance.", ("It blames the weather.",), "What does the report blame for the accident?"),
    ("Marie Curie", ("Ada Lovelace",), "Who discovered polonium?"),
    (["in 1969", "July 1969"], ("in 1972",), "When did people first land on the Moon?", "in 1969"),
    ("yes", ("no",), "Does the contract allow subletting?"),
    ("42", ("43", "41"), "How many pages does the document have?"),
    ("因为缺乏维护", ("因为天气",), "事故的原因是什么？"),
]
_OPEN = _each(
    "open",
    [
        ("Bees pollinate most crops, so that harvests depend on them.", ("I like honey.",), "Why do bees matter?"),
        ({"reference": "It is a satire of bureaucracy.", "rubric": "Names the target of the satire."}, ("A book.",),
         "What is the novel about?", "It is a satire of bureaucracy."),
        ("写作需要练习。", ("好的。",), "怎样才能写得更好？"),
        ("Use short sentences.", ("Use.",), "Give one tip for clear writing."),
        ("The painting shows a harbour at dawn.", ("A painting.",), "Describe the painting."),
    ],
)  # fmt: skip

EXEMPLARS: tuple[Exemplar, ...] = (
    *(_MATH + _STEM + _CHOICE + _COUNTING + _VQA + _DOCUMENT + _CHART + _SPATIAL + _GEO + _OCR + _TABLE),
    *(_GROUNDING + _POINT + _GUI + _VIDEO + _CODE + _INSTRUCTION),
    *_each("general", _JUDGED),
    *_each("judge", _JUDGED),
    *_OPEN,
)
"""At least five of each verifier of this library."""
