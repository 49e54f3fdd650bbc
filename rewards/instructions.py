"""Lists of constraints as references give them: this library's own objects, or IFEval's instruction ids and arguments.

IFEval: arXiv 2311.07911 and its data set (`instruction_id_list` beside `kwargs`, in which null means absent).
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

from rewards.constraints import CONSTRAINTS, Constraint

MAX_CONSTRAINTS = 32
MAX_CHARS = 20_000


class InstructionError(ValueError):
    """A list of constraints that cannot be read; the message is machine-readable and names what is wrong."""


def read_constraints(raw: Any) -> tuple[tuple[str, Constraint], ...]:
    """(type name, constraint) of each constraint of a reference, in order. Raises InstructionError.

    `raw` is a list of constraint objects, one such object, `{"constraints": […]}`, or an IFEval row's
    `{"instruction_id_list": […], "kwargs": […]}`.
    """
    if isinstance(raw, dict) and "instruction_id_list" in raw:
        raw = _from_ifeval(raw)
    elif isinstance(raw, dict) and set(raw) == {"constraints"}:
        raw = raw["constraints"]
    elif isinstance(raw, dict) and "type" in raw:
        raw = [raw]
    if not isinstance(raw, list):
        raise InstructionError("not-a-list")
    if not raw:
        raise InstructionError("no-constraints")
    if len(raw) > MAX_CONSTRAINTS:
        raise InstructionError("too-many-constraints")
    return tuple(map(_read_one, raw))


def _read_one(raw: Any) -> tuple[str, Constraint]:
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        raise InstructionError("no-constraint-type")
    kind = raw["type"]
    if kind not in CONSTRAINTS:
        raise InstructionError(f"unknown-constraint:{kind[:64]}")
    given = {key: value for key, value in raw.items() if key != "type" and value is not None}
    hints = _hints(kind)
    for key, value in given.items():
        if key not in hints:
            raise InstructionError(f"unknown-field:{kind}.{key[:64]}")
        if not _is_a(value, hints[key]):
            raise InstructionError(f"bad-value:{kind}.{key}")
        if isinstance(value, list) and hints[key] is not Any:
            given[key] = tuple(value)
    for field in dataclasses.fields(CONSTRAINTS[kind]):
        if field.default is dataclasses.MISSING and field.name not in given:
            raise InstructionError(f"missing-field:{kind}.{field.name}")
    try:
        return kind, CONSTRAINTS[kind](**given)
    except ValueError as error:
        raise InstructionError(f"bad-value:{kind}: {error}"[:300]) from error


@functools.cache
def _hints(kind: str) -> dict[str, Any]:
    return typing.get_type_hints(CONSTRAINTS[kind])


def _is_a(value: Any, wanted: Any) -> bool:
    """Whether a JSON value has a field's type: a text, a whole number, a flag, a choice, or a list of texts."""
    origin = typing.get_origin(wanted)
    if wanted is Any:
        return True
    if origin is typing.Literal:
        return value in typing.get_args(wanted)
    if origin is types.UnionType:
        return any(_is_a(value, option) for option in typing.get_args(wanted))
    if origin is tuple:
        return isinstance(value, list) and 0 < len(value) <= 256 and all(_is_a(item, str) for item in value)
    if wanted is str:
        return isinstance(value, str) and len(value) <= MAX_CHARS
    return type(value) is wanted


def _from_ifeval(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The constraints of an IFEval row."""
    names, arguments = raw["instruction_id_list"], raw.get("kwargs")
    if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments):
        raise InstructionError("instructions-and-kwargs-differ")
    found: list[dict[str, Any]] = []
    for name, given in zip(names, arguments, strict=True):
        if not isinstance(name, str) or not isinstance(given, dict):
            raise InstructionError("not-an-ifeval-row")
        given = {key: value for key, value in given.items() if value is not None}
        try:
            found += _ifeval(name, given)
        except KeyError as error:
            raise InstructionError(f"missing-field:{name[:64]}.{error.args[0]}") from error
        except (TypeError, AttributeError) as error:
            raise InstructionError(f"bad-value:{name[:64]}") from error
        if given:
            raise InstructionError(f"unknown-field:{name[:64]}.{min(map(str, given))[:64]}")
    return found


def _ifeval(name: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    """The constraints of one IFEval instruction; takes what it uses off `given`."""
    family, _, kind = name.partition(":")
    take = given.pop
    match family, kind:
        case "length_constraints", "number_words":
            return [{"type": "length", "unit": "words", **_relation(take("relation"), take("num_words"))}]
        case "length_constraints", "number_sentences":
            return [{"type": "length", "unit": "sentences", **_relation(take("relation"), take("num_sentences"))}]
        case "length_constraints", "number_paragraphs":
            return [{"type": "parts", "separator": "***", "exactly": take("num_paragraphs")}]
        case "length_constraints", "nth_paragraph_first_word":
            number = take("num_paragraphs")
            first = {"type": "first_word", "word": take("first_word").strip(), "paragraph": take("nth_paragraph")}
            return [{"type": "length", "unit": "paragraphs", "exactly": number}, first]
        case "keywords", "existence":
            return [{"type": "include", "keywords": _stripped(take("keywords"))}]
        case "keywords", "forbidden_words":
            return [{"type": "exclude", "keywords": _stripped(take("forbidden_words"))}]
        case "keywords", "frequency":
            bounds = _relation(take("relation"), take("frequency"))
            return [{"type": "frequency", "keyword": take("keyword").strip(), **bounds}]
        case "keywords", "letter_frequency":
            bounds = _relation(take("let_relation"), take("let_frequency"))
            return [{"type": "letter_frequency", "letter": take("letter"), **bounds}]
        case "language", "response_language":
            return [{"type": "language", "language": take("language")}]
        case "detectable_content", "number_placeholders":
            return [{"type": "placeholders", "at_least": take("num_placeholders")}]
        case "detectable_content", "postscript":
            return [{"type": "postscript", "marker": take("postscript_marker").strip()}]
        case "detectable_format", "number_bullet_lists":
            return [{"type": "bullets", "exactly": take("num_bullets")}]
        case "detectable_format", "number_highlighted_sections":
            return [{"type": "highlights", "at_least": take("num_highlights")}]
        case "detectable_format", "multiple_sections":
            return [{"type": "sections", "marker": take("section_spliter").strip(), "at_least": take("num_sections")}]
        case "detectable_format", "constrained_response":
            return [{"type": "one_of", "options": ["My answer is yes.", "My answer is no.", "My answer is maybe."]}]
        case "detectable_format", "json_format":
            return [{"type": "json"}]
        case "detectable_format", "title":
            return [{"type": "title"}]
        case "combination", "two_responses":
            return [{"type": "parts", "separator": "******", "exactly": 2}]
        case "combination", "repeat_prompt":
            return [{"type": "starts_with", "text": take("prompt_to_repeat").strip()}]
        case "startend", "end_checker":
            return [{"type": "ends_with", "text": take("end_phrase").strip()}]
        case "startend", "quotation":
            return [{"type": "quoted"}]
        case "change_case", "capital_word_frequency":
            return [{"type": "capital_words", **_relation(take("capital_relation"), take("capital_frequency"))}]
        case "change_case", "english_capital":
            return [{"type": "case", "case": "upper"}, {"type": "language", "language": "en"}]
        case "change_case", "english_lowercase":
            return [{"type": "case", "case": "lower"}, {"type": "language", "language": "en"}]
        case "punctuation", "no_comma":
            return [{"type": "no_commas"}]
    raise InstructionError(f"unknown-constraint:{name[:64]}")


def _stripped(texts: Any) -> list[str]:
    return [text.strip() for text in texts]


def _relation(relation: Any, number: Any) -> dict[str, Any]:
    """IFEval's "at least" or "less than" as a bound."""
    if relation not in ("at least", "less than") or type(number) is not int:
        raise TypeError
    return {"at_least": number} if relation == "at least" else {"at_most": number - 1}
