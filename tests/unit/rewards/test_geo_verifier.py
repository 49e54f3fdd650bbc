"""Places: the deepest level named rightly, nothing wrong above it, no enumerations."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.api import check_reference, score_answer
from rewards.country_names import countries

PARIS = {"country": "France", "region": "Île-de-France", "city": "Paris"}
AUSTIN = {"country": "United States", "region": "Texas", "city": "Austin"}
CASES = [
    ("Paris", PARIS, 1),
    ("Paris, France", PARIS, 1),
    ("Paris, Île-de-France, France", PARIS, 1),
    ("France", PARIS, 0.3),
    ("Lyon, France", PARIS, 0.3),
    ("Île-de-France", PARIS, 0.6),
    ("Île-de-France, France", PARIS, 0.6),
    ("Paris, Texas", PARIS, 0),
    ("Paris, Texas, USA", PARIS, 0),
    ("Germany", PARIS, 0),
    ("Germany, France", PARIS, 0),
    ("France, Germany", PARIS, 0),
    ("Paris, London, Rome", PARIS, 0),
    ("London, Paris", PARIS, 0),
    ("Paris or London", PARIS, 0),
    ("Paris; London", PARIS, 0),
    ("法国巴黎", {**PARIS, "aliases": {"Paris": ["巴黎"]}}, 1),
    ("法国里昂", PARIS, 0.3),
    ("法国", PARIS, 0.3),
    ('{"country":"France","city":"Lyon"}', PARIS, 0.3),
    ('{"country":"France","city":"Paris"}', PARIS, 1),
    ('{"country":"USA","city":"Paris"}', PARIS, 0),
    ('{"city":"Paris"}', PARIS, 1),
    ("Austin, TX, USA", {**AUSTIN, "aliases": {"Texas": ["TX"]}}, 1),
    ("Houston, Texas, USA", AUSTIN, 0.6),
    ("Ohio, Texas", AUSTIN, 0),
    ("Paris, France", "Paris", 1),
    ("Ohio, Texas, USA", AUSTIN, 0.6),
    ("Munich, Bavaria, France", PARIS, 0.3),
    ("USA", AUSTIN, 0.3),
    ("U.S.", AUSTIN, 0.3),
    ("America", AUSTIN, 0.3),
    ("美国", AUSTIN, 0.3),
    ("Austin", AUSTIN, 1),
    ("Austin, Ohio, USA", AUSTIN, 0),
    ("Eiffel Tower, Paris, France", PARIS, 0.3),
    ("", PARIS, 0),
    ("Paris City", PARIS, 1),
    ("The photo was taken in Paris, France", PARIS, 1),
    ("Paris, France", "Paris, France", 1),
    ("France", "Paris, France", 0.3),
    ("Paris", "Paris", 1),
    ("北京市", {"country": "中国", "city": "北京"}, 1),
    ("中国北京市朝阳区", {"country": "中国", "city": "北京"}, 0.3),
    ("中国北京市", {"country": "中国", "city": "北京"}, 1),
    ("New York, USA", {"country": "US", "city": "New York"}, 1),
    ("France, Paris", PARIS, 1),
    ("a, b, c, d, e, f, France", PARIS, 0),
    ("Georgia", {"country": "USA", "region": "Georgia"}, 1),
    ("Atlanta, Georgia, USA", {"country": "USA", "region": "Georgia", "city": "Atlanta"}, 1),
    ("Mexico City", {"country": "Mexico", "city": "Mexico City"}, 1),
    ("Singapore", {"country": "Singapore"}, 1),
    ("Trinidad and Tobago", {"country": "Trinidad and Tobago"}, 1),
    ("China, India", "China", 0),
    ("not France", PARIS, 0),
    ('{"country":["France"]}', PARIS, 0),
    ('{"country":"France or Spain"}', PARIS, 0),
    ("New York", {"country": "USA", "region": "New York", "city": "New York"}, 1),
    ("Paris, Paris, France", PARIS, 0),
]


@pytest.mark.parametrize("answer,reference,expected", CASES)
def test_score_is_the_weight_of_the_deepest_right_level(answer: str, reference: Any, expected: float) -> None:
    verdict = score_answer(answer, reference, domain="geo")
    assert (verdict.score, verdict.correct) == (expected, expected == 1)
    assert (verdict.reason is None) is (expected == 1)


@pytest.mark.parametrize(
    "answer,score", [("France", 0.1), ("Île-de-France, France", 0.5), ("Paris, France", 0.8), ("Louvre, Paris, France", 1.0)]
)
def test_weights_are_arguments(answer: str, score: float) -> None:
    args = {"country": 0.1, "region": 0.5, "city": 0.8}
    assert score_answer(answer, {**PARIS, "place": "Louvre"}, domain="geo", args=args).score == score


def test_correct_has_a_threshold() -> None:
    assert score_answer("France", PARIS, domain="geo", args={"correct": 0.3}).correct is True


def test_aliases_are_accepted_names() -> None:
    assert score_answer("慕尼黑", "Munich, Germany", domain="geo").correct is False
    assert score_answer("慕尼黑", "Munich, Germany", domain="geo", args={"aliases": ["Munich|München|慕尼黑"]}).correct is True
    assert (
        score_answer("München, Deutschland", {"city": ["Munich", "München"], "country": "Germany"}, domain="geo").correct
        is True
    )


@pytest.mark.parametrize(
    "answer,score",
    [
        ('{"country": "France", "region": "Normandy", "city": "Paris"}', 0.3),
        ('{"country": "Spain", "region": "Île-de-France", "city": "Paris"}', 0.0),
        ('{"Country": "France", "town": "Paris"}', 1.0),
        ('{"country": "France", "state": "Île-de-France", "city": "Nantes"}', 0.6),
        ('{"city": "Paris", "town": "Lyon"}', 0.0),
        ('{"city": "Paris, Lyon"}', 0.0),
        ('{"planet": "Earth"}', 0.0),
        ('{"country": 5}', 0.0),
        ("{}", 0.0),
        ("{'country': 'France'", 0.0),
        ('{"country": "Spain"}', 0.0),
    ],
)
def test_levels_told_by_name_are_compared_level_by_level(answer: str, score: float) -> None:
    assert score_answer(answer, PARIS, domain="geo").score == score


@given(
    st.lists(st.sampled_from(sorted(countries())), min_size=2, max_size=5, unique=True),
    st.sampled_from([", ", "; ", " or ", "/"]),
)
def test_enumerated_countries_are_not_paid(names: list[str], separator: str) -> None:
    if len({min(countries()[name]) for name in names}) == len(names):
        for name in names:
            assert score_answer(separator.join(names), {"country": name, "city": "Nowhere"}, domain="geo").score == 0.0


@given(st.sampled_from(sorted(countries())), st.sampled_from(sorted(countries())))
def test_a_country_is_right_by_any_of_its_names_and_no_other(reference: str, answer: str) -> None:
    same = answer in countries()[reference]
    assert score_answer(answer, {"country": reference}, domain="geo").correct is same


@pytest.mark.parametrize(
    "reference,reason",
    [
        ("", "empty-reference"),
        ("a, ., b", "empty-reference"),
        ({}, "empty-reference"),
        ({"country": ""}, "empty-reference"),
        ({"country": []}, "empty-reference"),
        ({"country": None}, "empty-reference"),
        ({"planet": "Earth"}, "unknown-level"),
        ({"city": "a", "town": "b"}, "duplicate-key"),
        ({"city": "a", "aliases": 3}, "bad-aliases"),
        ({"city": "a" * 600}, "too-long"),
        ("a" * 600, "too-long"),
        ("a, b, c, d, e", "too-many-parts"),
        (5, "not-a-place"),
    ],
)
def test_reference_that_is_no_place_is_refused(reference: Any, reason: str) -> None:
    assert check_reference(reference, domain="geo") == reason


@pytest.mark.parametrize(
    "text",
    ["Paris", "Paris, France", "Austin, Texas, USA", "a, b", "a, b, c", "a, b, c, d", "Louvre, Paris, Île-de-France, France"],
)
def test_a_text_reference_is_right_for_itself(text: str) -> None:
    assert check_reference(text, domain="geo") is None


def test_overlong_answer_scores_zero() -> None:
    assert score_answer("a" * 600, "Paris", domain="geo").reason == "answer-too-long"
