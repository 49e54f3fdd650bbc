"""Normal forms of short answers, and what may stand beside one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.plain_lists import can_pair, read_list, read_pairs
from rewards.plain_text import compose, fold, label, occurrences, only_adds_context, truth, unwrap


@pytest.mark.parametrize(
    "text,folded",
    [
        (" The  CAT. ", "the cat"),
        ("\u201cA\u201d \u2014 B", '"a" - b'),
        ("ＡＢＣ", "abc"),
        ("Stra\u00dfe", "strasse"),
        (".5", ".5"),
        ("...5", ".5"),
        ("5.", "5"),
        ("a\u200bb\u202e", "ab"),
        ("5\u00b2", "5^2"),
        ("m\u00b2", "m^2"),
        ("H\u2082O", "h2o"),
        ("1\u00bd", "1 1/2"),
        ("\u00bd", "1/2"),
        ("", ""),
        (" .,! ", ""),
    ],
)
def test_fold(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text(max_size=40))
def test_fold_is_idempotent_but_for_raised_digits(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    "text,inner",
    [
        ("\\boxed{B}", "B"),
        ("**B**", "B"),
        ("$5$", "5"),
        ("\\(5\\)", "5"),
        ("`B`", "B"),
        ('"Paris"', "Paris"),
        ("The answer is **Paris**", "Paris"),
        ("The final answer is: 5", "5"),
        ("Answer: B", "B"),
        ("So the answer is B", "B"),
        ("所以答案是B", "B"),
        ("答案：B", "B"),
        ("The answer is", "The answer is"),
        ("answering machine", "answering machine"),
        ("'a' or 'b'", "'a' or 'b'"),
        ("**a** or **b**", "**a** or **b**"),
        ("\\boxed{\\text{\\boxed{**$x$**}}}", "\\boxed{\\text{\\boxed{**$x$**}}}"),
    ],
)
def test_unwrap(text: str, inner: str) -> None:
    assert unwrap(text) == inner


@pytest.mark.parametrize(
    "text,form",
    [("The cat", "cat"), ("a", "a"), ("the", "the"), ("ice-cream", "ice cream"), ("the a cat", "cat"), ("2-3", "2-3")],
)
def test_label_drops_articles_and_hyphens(text: str, form: str) -> None:
    assert label(text) == form


@pytest.mark.parametrize(
    "text,question,said",
    [
        ("yes", None, True),
        ("t", None, True),
        ("1", None, True),
        ("no", None, False),
        ("不是", None, False),
        ("yes, it is", None, True),
        ("yes, the sky is blue", "Is the sky blue?", True),
        ("yes, the sky is red", "Is the sky blue?", None),
        ("no, it isn't", None, False),
        ("no, the sky is not blue", "Is the sky blue?", False),
        ("yes, no", None, None),
        ("yes, it is not", None, None),
        ("no, yes", None, None),
        ("yes and no", None, None),
        ("yes or no", None, None),
        ("maybe", None, None),
        ("是的,天空是蓝色的", "天空是蓝色的吗?", True),
        ("是的,天空是红色的", "天空是蓝色的吗?", None),
        ("是,不是", None, None),
    ],
)
def test_truth(text: str, question: str | None, said: bool | None) -> None:
    assert truth(text, question) is said


@pytest.mark.parametrize(
    "needle,text,count",
    [
        ("cat", "a cat", 1),
        ("cat", "category", 0),
        ("cat", "cat cat", 2),
        ("cat", "tomcat", 0),
        ("cat", "cat,dog", 1),
        ("猫", "三只猫", 1),
        ("cat", "猫cat猫", 1),
        ("", "x", 0),
    ],
)
def test_occurrences_are_whole_words(needle: str, text: str, count: int) -> None:
    assert len(occurrences(needle, text)) == count


CAPITAL, LARGER = "The capital of France is ___", "Which is larger, China or India?"


@pytest.mark.parametrize(
    "reference,answer,question,allowed",
    [
        ("paris", "paris, france", CAPITAL, True),
        ("paris", "the capital of france is paris", CAPITAL, True),
        ("paris", "paris, london", CAPITAL, False),
        ("paris", "not paris", CAPITAL, False),
        ("paris", "paris or france", CAPITAL, False),
        ("paris", "paris; france", CAPITAL, False),
        ("paris", "paris paris", CAPITAL, False),
        ("paris", "paris, france", None, False),
        ("paris", "it is paris", None, True),
        ("china", "china, india", LARGER, False),
        ("china", "it is china", LARGER, True),
        ("china", "india is larger than china", LARGER, False),
        ("washington", "president washington", "Who was the first president of the USA?", True),
        ("5", "5 france", CAPITAL, False),
        ("x", "x france", CAPITAL, False),
        ("巴黎", "法国的首都是巴黎", "法国的首都是哪里?", True),
        ("巴黎", "法国的首都是巴黎和伦敦", "法国的首都是哪里?", False),
        ("巴黎", "不是巴黎", "法国的首都是哪里?", False),
        ("巴黎", "巴黎伦敦", "法国的首都是哪里?", False),
    ],
)
def test_only_words_of_the_question_may_stand_beside_a_reference(
    reference: str, answer: str, question: str | None, allowed: bool
) -> None:
    assert only_adds_context(reference, answer, question) is allowed


@pytest.mark.parametrize(
    "text,bracketed,items",
    [
        ("[2010, 2011]", True, ["2010", "2011"]),
        ("['a, b', 'c']", True, ["a, b", "c"]),
        ("(1; 2)", True, ["1", "2"]),
        ("China and India", False, ["China", "India"]),
        ("China, India, and Japan", False, ["China", "India", "Japan"]),
        ("中国和印度", False, ["中国", "印度"]),
        ("1,234, 5", False, ["1,234", "5"]),
        ("a\nb", False, ["a", "b"]),
        ("sand", False, ["sand"]),
        ("[", False, ["["]),
        ("[]", True, []),
        ("[1, [2]]", True, ["1", "[2]"]),
        ("x" * 5000, False, ["x" * 5000]),
    ],
)
def test_lists_are_split_where_people_split_them(text: str, bracketed: bool, items: list[str]) -> None:
    assert read_list(text) == (bracketed, items)


@pytest.mark.parametrize(
    "text,pairs",
    [
        ("A-Paris, B-Rome", {"a": "paris", "b": "rome"}),
        ("A:Paris B:Rome", {"a": "paris", "b": "rome"}),
        ("1 -> x; 2 -> y", {"1": "x", "2": "y"}),
        ("(A) - Paris\n(B) - Rome", {"a": "paris", "b": "rome"}),
        ("A-Paris", {}),
        ("A-Paris, A-Rome", {}),
        ("see A-Paris, B-Rome", {}),
        ("A-, B-Rome", {}),
        ("no pairs", {}),
    ],
)
def test_pairs_are_read_by_label(text: str, pairs: dict[str, str]) -> None:
    assert read_pairs(text) == pairs


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=n, max_size=n)))
def test_pairing_agrees_with_trying_every_order(allowed: list[list[bool]]) -> None:
    from itertools import permutations

    rows = range(len(allowed))
    assert can_pair(allowed) is any(all(allowed[row][order[row]] for row in rows) for order in permutations(rows))


@given(st.text(max_size=60))
def test_nothing_raises(text: str) -> None:
    for function in (compose, fold, unwrap, label, read_list, read_pairs, truth):
        function(text)
