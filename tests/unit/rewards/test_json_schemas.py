"""Bounded JSON and JSON schemas, against the standard library and jsonschema itself."""

import json
import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processor_time import takes_less_than

from rewards.json_schemas import JsonError, PatternError, check_schema, compiled, fits_schema, matches, read_json

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_json_is_read_as_the_standard_library_reads_it(value: object) -> None:
    assert read_json(json.dumps(value)) == value
    assert read_json(f"```json\n{json.dumps(value, indent=1)}\n```") == value


@pytest.mark.parametrize(
    "text,reason",
    [
        ("", "not-json"),
        ("{'a': 1}", "not-json"),
        ('{"a": 1} and more', "not-json"),
        ('{"a": 1, "a": 2}', "duplicate-key"),
        ("NaN", "non-finite"),
        ("[1e999]", "non-finite"),
        ("1" * 5000, "too-complex"),
        ("[" * 60_000, "too-complex"),
        ("[" + "1," * 5000 + "1]", "too-complex"),
        ('"' + '\\"' * 30_000, "not-json"),
        ('"\\' * 30_000, "not-json"),
        ("\ud800", "not-json"),
    ],
)
def test_other_text_is_refused_at_once(text: str, reason: str) -> None:
    with takes_less_than(0.2), pytest.raises(JsonError, match=reason):
        read_json(text)


def test_brackets_inside_strings_are_text() -> None:
    assert read_json(json.dumps(["[" * 100, "," * 5000])) == ["[" * 100, "," * 5000]


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"$ref": "#/$defs/word"},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/word"}, "uniqueItems": True, "minItems": 1},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["a", "b", 3]},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"word": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5}},
}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.text("abcXY1", max_size=6) | st.integers(),
            "tags": st.lists(st.text("ab", max_size=2) | st.integers(0, 2), max_size=3),
            "age": st.integers(-5, 200) | st.floats(0, 10),
            "kind": st.sampled_from(["a", "c", 3, True]),
            "other": st.none(),
        },
    )
)
def test_values_fit_a_schema_when_jsonschema_says_so(value: object) -> None:
    check_schema(SCHEMA)
    assert fits_schema(value, SCHEMA) is jsonschema.Draft202012Validator(SCHEMA).is_valid(value)


@pytest.mark.parametrize(
    "schema,reason",
    [
        (3, "not-a-schema"),
        ({"$ref": "https://example.org/schema"}, "remote-ref"),
        ({"$ref": "other.json#/a"}, "remote-ref"),
        ({"$ref": "#name"}, "remote-ref"),
        ({"$ref": "#/$defs/none"}, "unknown-ref"),
        ({"$ref": "#"}, "recursive-ref"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "recursive-ref"),
        ({"$id": "https://example.org"}, "schema-keyword:\\$id"),
        ({"$dynamicRef": "#x"}, "schema-keyword"),
        ({"patternProperties": {"a": {}}}, "schema-keyword:patternProperties"),
        ({"properties": {"a": {"tpye": "string"}}}, "schema-keyword:tpye"),
        ({"type": "text"}, "bad-schema:type"),
        ({"pattern": "(?=a)"}, "bad-pattern"),
        ({"pattern": "(a)\\1"}, "bad-pattern"),
        ({"allOf": [{}] * 500}, "schema-too-complex"),
        (
            {
                "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)} | {"d30": {}},
                "$ref": "#/$defs/d0",
            },
            "schema-too-complex",
        ),
    ],
)
def test_schemas_that_cannot_be_bounded_are_refused(schema: object, reason: str) -> None:
    with pytest.raises(JsonError, match=reason):
        check_schema(schema)


def test_names_and_data_of_a_schema_are_not_taken_for_keywords() -> None:
    check_schema({"properties": {"$id": {"const": {"patternProperties": 1}}}, "enum": [{"$ref": "x"}], "default": {"foo": 1}})
    check_schema(True)


def test_a_schema_whose_every_branch_is_tried_stays_affordable() -> None:
    schema = {"items": {"anyOf": [{"const": f"x{i}"} for i in range(190)]}}
    check_schema(schema)
    with takes_less_than(5.0):
        assert not fits_schema(["y"] * 990, schema)


@pytest.mark.parametrize(
    "pattern,text", [("^(a+)+$", "a" * 60_000 + "b"), ("(a|aa)*c", "a" * 60_000), ("(x*)*y", "x" * 60_000)]
)
def test_patterns_that_backtrack_elsewhere_take_linear_time(pattern: str, text: str) -> None:
    with takes_less_than(0.5):
        assert not matches(pattern, text)


@given(st.sampled_from(["a+b?", "^[ab]+$", "(a|b){2,3}", "中", "\\d+", "a.c"]), st.text(alphabet="abc1中\n", max_size=8))
def test_patterns_mean_what_they_mean_to_python(pattern: str, text: str) -> None:
    if "$" in pattern and text.endswith("\n"):
        return  # Python's `$` also matches before a last line end
    assert matches(pattern, text) is (re.search(pattern, text, re.ASCII) is not None)
    assert matches(pattern, text, whole=True) is (re.fullmatch(pattern, text, re.ASCII) is not None)


def test_patterns_take_lone_surrogates_and_have_a_limit() -> None:
    assert not matches("a", "\ud800")
    for bad in ("a" * 1001, "(", "\ud800", "a{5000}"):
        with pytest.raises(PatternError):
            compiled(bad)
