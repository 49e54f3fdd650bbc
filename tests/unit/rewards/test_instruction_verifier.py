"""Verifiable instructions: each constraint, how references are read, and what may not be paid."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import registry
from rewards.api import check_reference, score_answer
from rewards.constraints import CONSTRAINTS
from rewards.instructions import read_constraints


def judge(answer: str, *constraints: dict[str, object], question: str | None = None, **args: object):
    return score_answer(answer, list(constraints), domain="instruction", question=question, args=args)


LIST = "Here is it\n* one\n* two\n- three\n1. first"
LETTER = "Dear Ann,\nall is well.\n\nP.S. Come soon"
NUMBERED = "SECTION 1\nfirst\n\n## Section 2: more\nsecond"

# Type, fields, a text that meets the constraint, a text that does not.
CASES: list[tuple[dict[str, object], str, str]] = [
    ({"type": "length", "unit": "words", "at_least": 3}, "one two three", "one two"),
    ({"type": "length", "unit": "words", "at_most": 3}, "one two three", "one two three four"),
    ({"type": "length", "unit": "words", "at_least": 2, "at_most": 3}, "one two", "one"),
    ({"type": "length", "unit": "words", "exactly": 4}, "我爱北京", "我爱你"),
    ({"type": "length", "unit": "words", "at_least": 3}, "a b c", "a\u200b b\u200b ... --- !!!"),
    ({"type": "length", "unit": "sentences", "exactly": 2}, "One. Two.", "One, two."),
    ({"type": "length", "unit": "paragraphs", "exactly": 2}, "One.\n\nTwo.", "One.\nTwo."),
    ({"type": "length", "unit": "lines", "at_most": 1}, "One. Two.", "One.\nTwo."),
    ({"type": "length", "unit": "characters", "at_least": 5}, "abcde", "ab" + " " * 50 + "cd"),
    ({"type": "include", "keywords": ["cat", "dog"]}, "A Cat, a dog.", "A cat."),
    ({"type": "include", "keywords": ["cat"]}, "The cat", "Concatenate"),
    ({"type": "include", "keywords": ["NASA"], "case": "exact"}, "by NASA", "by nasa"),
    ({"type": "include", "keywords": ["人工智能"]}, "我研究人工智能技术", "我研究人工"),
    ({"type": "include", "keywords": ["AI"]}, "我用AI写作", "我用AIM写作"),
    ({"type": "include", "keywords": ["New York"]}, "in new\n york", "in newyork"),
    ({"type": "include", "keywords": ["C++"]}, "I like C++.", "I like C."),
    ({"type": "exclude", "keywords": ["bad"]}, "a badge", "a bad\u200b thing"),
    ({"type": "exclude", "keywords": ["bad"]}, "good", "b\u200bad"),
    ({"type": "frequency", "keyword": "very", "at_least": 2}, "very, very good", "very good everything"),
    ({"type": "frequency", "keyword": "very", "at_most": 1}, "very good", "very very good"),
    ({"type": "letter_frequency", "letter": "q", "at_least": 2}, "Quite quick", "Quite"),
    ({"type": "letter_frequency", "letter": "!", "exactly": 0}, "calm", "loud!"),
    ({"type": "bullets", "exactly": 3}, LIST, LIST + "\n* four"),
    ({"type": "bullets", "style": "number", "exactly": 1}, LIST, "* one"),
    ({"type": "bullets", "style": "any", "exactly": 4}, LIST, "* one\n*\n* \n*"),
    ({"type": "sections", "at_least": 2}, NUMBERED, "Section 1\nSection 2"),
    ({"type": "sections", "at_least": 2}, "Section I\na\nSection II\nb", "see Section 1 and Section 2 for it"),
    ({"type": "sections", "marker": "第{}章", "exactly": 2}, "第一章\n甲\n第二章 乙", "第一章\n甲\n第一章\n乙"),
    ({"type": "highlights", "at_least": 2}, "*one* and **two**", "*one* and * two * and ** **"),
    ({"type": "highlights", "exactly": 1}, "**a b**", "* item"),
    ({"type": "placeholders", "at_least": 2}, "Dear [name], see [place].", "[] [ ] [link](x) [name]"),
    ({"type": "capital_words", "at_least": 2}, "STOP right NOW", "Stop right NOW"),
    ({"type": "parts", "exactly": 2}, "One answer.\n******\nAnother answer.", "Same.\n******\nSame."),
    ({"type": "parts", "separator": "***", "exactly": 2}, "***\na\n***\nb\n***", "a\n***\n\n***\nb"),
    ({"type": "case", "case": "upper"}, "ALL 3 OF THEM", "ALMOST ALl"),
    ({"type": "case", "case": "lower"}, "all 3 of them", "123 !"),
    ({"type": "no_commas"}, "one; two、three", "一，二"),
    ({"type": "no_commas"}, "one two", "one, two"),
    ({"type": "title"}, "<<A poem>>\ntext", "<< >> text <<"),
    ({"type": "quoted"}, '"All of it."', '"Part" of it'),
    ({"type": "quoted"}, "“全部内容”", "“全部内容"),
    ({"type": "starts_with", "text": "Dear Ann"}, "dear  ann, hello", "My dear Ann"),
    ({"type": "ends_with", "text": "Is there more?"}, 'Yes. "Is there more?"', "Is there more? No."),
    ({"type": "first_word", "word": "Weather", "paragraph": 2}, "a\n\n**Weather** is fine", "weather\n\nweathered"),
    ({"type": "first_word", "word": "首先"}, "首先我们看", "我们首先看"),
    ({"type": "postscript"}, LETTER, "P.S. only this"),
    ({"type": "postscript", "marker": "P.P.S"}, "a\nP. P. S. b", LETTER),
    ({"type": "postscript"}, LETTER, "All is well.\n\nP.S."),
    (
        {"type": "one_of", "options": ["My answer is yes.", "My answer is no."]},
        "My answer is no.",
        "My answer is yes. My answer is no.",
    ),
    ({"type": "one_of", "options": ["yes", "yes sir"]}, "Yes sir", "maybe"),
    ({"type": "language", "language": "zh"}, "今天天气很好", "The weather is fine"),
    (
        {"type": "language", "language": "en"},
        "The weather is fine and it is warm",
        "Das Wetter ist schön und es ist nicht kalt",
    ),
    ({"type": "matches", "pattern": "[0-9]{4}-[0-9]{2}"}, "on 2024-05", "on 24-5"),
    ({"type": "matches", "pattern": "[a-z ]+", "whole": True}, "only words", "only 2 words"),
    ({"type": "json"}, '{"a": 1}', "{'a': 1}"),
    ({"type": "json"}, "```json\n[1]\n```", "1"),
    ({"type": "json", "kind": "any"}, "1", "one"),
    ({"type": "json", "kind": "object"}, '{"a": 1}', "[1]"),
    ({"type": "json_schema", "schema": {"type": "object", "required": ["a"]}}, '{"a": 1}', '{"b": 1}'),
    ({"type": "json_schema", "schema": {"type": "array"}}, "[1, 2]", "[1, 2"),
]


@pytest.mark.parametrize("constraint,good,bad", CASES)
def test_a_constraint_is_met_by_the_one_text_and_not_by_the_other(constraint: dict[str, object], good: str, bad: str) -> None:
    for answer, met in ((good, True), (bad, False)):
        verdict = judge(answer, constraint)
        assert (verdict.status, verdict.score, verdict.correct) == ("ok", float(met), met), verdict
    assert judge(bad, constraint).reason in (f"{str(constraint['type']).replace('_', '-')}-not-met", "empty-answer")


@pytest.mark.parametrize(
    ("answer", "reference", "bounded"),
    [
        ("x", {"min_words": 3}, True),
        ("x" * 2000, {"min_words": 3}, False),
        ("x", {"keywords": "y" * 2000}, False),
        ("x", {"json_schema": {}}, False),  # a schema may take long on any text
    ],
)
def test_only_short_texts_without_a_schema_are_scored_in_the_calling_process(
    answer: str, reference: object, bounded: bool
) -> None:
    assert registry.find("instruction").bounded(answer, reference) is bounded


def test_every_kind_of_constraint_has_a_case() -> None:
    assert {case[0]["type"] for case in CASES} == set(CONSTRAINTS)


TWO = ({"type": "no_commas"}, {"type": "length", "unit": "words", "at_least": 3})


def test_the_score_is_the_fraction_met_and_the_reason_the_first_failure() -> None:
    verdict = judge("one, two", *TWO, {"type": "case", "case": "lower"})
    assert (verdict.score, verdict.correct, verdict.reason) == (pytest.approx(1 / 3), False, "no-commas-not-met")
    assert judge("one two three", *TWO).correct is True


def test_mode_all_pays_nothing_for_a_part() -> None:
    assert judge("one two", *TWO, mode="all").score == 0.0
    assert judge("one two three", *TWO, mode="all").score == 1.0


@pytest.mark.parametrize("answer", ["...", "\u200b\u200b", "、。！", "***", "\u202e", "\ud800"])
def test_empty_answers_meet_nothing(answer: str) -> None:
    verdict = judge(answer, {"type": "no_commas"}, {"type": "exclude", "keywords": ["x"]})
    assert (verdict.score, verdict.correct, verdict.reason) == (0.0, False, "empty-answer")


def test_restating_the_question_is_not_paid() -> None:
    question = "Write three words, without commas"
    assert (
        judge("write  three words, without commas", {"type": "case", "case": "lower"}, question=question).reason
        == "restates-question"
    )
    assert judge("one two three", {"type": "no_commas"}, question=question).correct is True


def test_very_long_answers_are_refused() -> None:
    from rewards.verifiers.instruction import InstructionArgs, instruction

    constraints = read_constraints({"type": "no_commas"})
    outcome = instruction("a " * 40_000, constraints, registry.Context(InstructionArgs()))
    assert (outcome.score, outcome.reason) == (0.0, "answer-too-long")


@pytest.mark.parametrize(
    "reference,reason",
    [
        ("write three words", "not-a-list"),
        ('[{"type": "title"}]', "not-a-list"),
        (5, "not-a-list"),
        ({}, "not-a-list"),
        ([], "no-constraints"),
        ([{"type": "title"}] * 33, "too-many-constraints"),
        (["title"], "no-constraint-type"),
        ([{"unit": "words"}], "no-constraint-type"),
        ([{"type": "lenght"}], "unknown-constraint:lenght"),
        ([{"type": "length", "unit": "words", "at_leest": 3}], "unknown-field:length.at_leest"),
        ([{"type": "length", "at_least": 3}], "missing-field:length.unit"),
        ([{"type": "length", "unit": "words"}], "bad-value:length: at_least, at_most or exactly is missing"),
        ([{"type": "length", "unit": "words", "at_least": "3"}], "bad-value:length.at_least"),
        ([{"type": "length", "unit": "words", "at_least": True}], "bad-value:length.at_least"),
        ([{"type": "length", "unit": "pages", "at_least": 3}], "bad-value:length.unit"),
        (
            [{"type": "length", "unit": "words", "at_least": 5, "at_most": 3}],
            "bad-value:length: the bounds contradict each other",
        ),
        ([{"type": "length", "unit": "words", "exactly": -1}], "bad-value:length: the bounds contradict each other"),
        ([{"type": "include", "keywords": []}], "bad-value:include.keywords"),
        ([{"type": "include", "keywords": "cat"}], "bad-value:include.keywords"),
        ([{"type": "include", "keywords": [" "]}], "bad-value:include: an empty text, or white space around one"),
        (
            [{"type": "letter_frequency", "letter": "ab", "at_least": 1}],
            "bad-value:letter_frequency: letter is not one character",
        ),
        ([{"type": "first_word", "word": "a", "paragraph": 0}], "bad-value:first_word: paragraph is below 1"),
        ([{"type": "matches", "pattern": "(?=a)"}], "bad-value:matches: invalid perl operator: (?="),
        ([{"type": "json_schema", "schema": {"$ref": "http://x"}}], "bad-value:json_schema: remote-ref"),
    ],
)
def test_references_that_cannot_be_read_are_refused_by_name(reference: object, reason: str) -> None:
    assert check_reference(reference, domain="instruction") == reason


def test_an_unknown_language_is_refused_with_the_known_ones() -> None:
    reason = check_reference({"type": "language", "language": "xx"}, domain="instruction")
    assert reason is not None and reason.startswith("bad-value:language: language is not one of ar, be, bg")


def test_one_constraint_and_a_named_list_are_read_like_a_list() -> None:
    one = {"type": "no_commas", "case": None}
    del one["case"]
    assert read_constraints(one) == read_constraints([one]) == read_constraints({"constraints": [one]})
    assert read_constraints([{"type": "bullets", "exactly": 3, "at_least": None}]) == read_constraints(
        [{"type": "bullets", "exactly": 3}]
    )


IFEVAL: list[tuple[str, dict[str, object], str, str]] = [
    ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "a b c", "a b"),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, "a b", "a b c"),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 2}, "One.", "One. Two."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo", "one\n\ntwo"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
        "a\n\nSo b",
        "so\n\na",
    ),
    ("keywords:existence", {"keywords": ["cat ", "dog"]}, "cat dog", "cat"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "dog", "cat"),
    ("keywords:frequency", {"relation": "at least", "keyword": "cat", "frequency": 2}, "cat cat", "cat"),
    ("keywords:letter_frequency", {"let_relation": "less than", "letter": "z", "let_frequency": 1}, "dog", "zoo"),
    ("language:response_language", {"language": "ko"}, "저는 학생입니다", "I am a student"),
    ("detectable_content:number_placeholders", {"num_placeholders": 1}, "[name]", "name"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "a\nP.S. b", "a"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*a*", "a"),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day 1\na\nDay 2\nb", "Day 1\na"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Who knows"),
    ("detectable_format:json_format", {}, '{"a": 1}', "a: 1"),
    ("detectable_format:title", {}, "<<a>> b", "a b"),
    ("combination:two_responses", {}, "a\n******\nb", "a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it"}, "Say it. Done", "Done"),
    ("startend:end_checker", {"end_phrase": "The end."}, "So. The end.", "The end. So."),
    ("startend:quotation", {}, '"a b"', "a b"),
    ("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 1}, "a B", "a b"),
    ("change_case:english_capital", {}, "THE CAT IS ON THE MAT", "The cat"),
    ("change_case:english_lowercase", {}, "the cat is on the mat", "The cat"),
    ("punctuation:no_comma", {}, "a b", "a, b"),
]


@pytest.mark.parametrize("name,arguments,good,bad", IFEVAL)
def test_ifeval_instructions_are_read(name: str, arguments: dict[str, object], good: str, bad: str) -> None:
    row = {"instruction_id_list": [name], "kwargs": [{**arguments, "unused": None}]}
    assert score_answer(good, row, domain="instruction").correct is True
    assert score_answer(bad, row, domain="instruction").correct is False


def test_all_25_ifeval_instructions_are_known() -> None:
    assert len({name for name, *_ in IFEVAL}) == 25


@pytest.mark.parametrize(
    "row,reason",
    [
        ({"instruction_id_list": ["a:b"], "kwargs": []}, "instructions-and-kwargs-differ"),
        ({"instruction_id_list": [1], "kwargs": [{}]}, "not-an-ifeval-row"),
        ({"instruction_id_list": ["keywords:rhyme"], "kwargs": [{}]}, "unknown-constraint:keywords:rhyme"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{}]}, "missing-field:keywords:existence.keywords"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": [1]}]}, "bad-value:keywords:existence"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"x": 1}]}, "unknown-field:punctuation:no_comma.x"),
        (
            {"instruction_id_list": ["length_constraints:number_words"], "kwargs": [{"relation": "about", "num_words": 3}]},
            "bad-value:length_constraints:number_words",
        ),
    ],
)
def test_ifeval_rows_that_cannot_be_read_are_refused_by_name(row: object, reason: str) -> None:
    assert check_reference(row, domain="instruction") == reason


def test_explains_what_was_counted() -> None:
    entry = registry.find("instruction")
    args = registry.build_args(entry, None)
    notes: list[tuple[str, str]] = []
    entry.compare("one two", read_constraints(list(TWO)), registry.Context(args, None, notes))
    assert notes[1:] == [("answer", "one two"), ("rule", "no_commas: met"), ("rule", "length: not met (2)")]


ALL = [case[0] for case in CASES]


@given(st.text(max_size=200) | st.text(alphabet='*[]<>"{}#\n .,aA1一。\u200b\ud800', max_size=200))
def test_any_text_is_scored(text: str) -> None:
    verdict = judge(text or "a", *ALL[:32])
    assert verdict.score is not None and 0.0 <= verdict.score <= 1.0
    verdict = judge(text or "a", *ALL[32:])
    assert verdict.score is not None and 0.0 <= verdict.score <= 1.0


@pytest.mark.parametrize(
    "unit", ["*a", "[", "<<", '"', "{", "a ", "a.", "\n", "1,", "Section 1\n", "我", "very ", "- \n", "\u0301", "*", "[a"]
)
@pytest.mark.timeout(60)  # what it guards against takes minutes
def test_hostile_answers_cost_linear_time(unit: str) -> None:
    text = "x" + unit * (60_000 // len(unit))
    for half in (ALL[:32], ALL[32:]):
        judge(text, *half)


def test_references_survive_the_trip_through_a_file() -> None:
    reference = json.loads(json.dumps(ALL[:32]))
    assert check_reference(reference, domain="instruction") is None
