"""JSON texts and JSON schemas (draft 2020-12) under a budget: hostile text is read and checked in bounded time.

A schema may use `ALLOWED` keywords only. Refused are references to other documents, recursive references, and keywords whose
cost or meaning cannot be bounded. `pattern` is matched by RE2 (linear time, no backtracking). `format` is an annotation, as the
specification has it by default. Source: https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

import functools
import json
import math
import re
from typing import Any

MAX_DEPTH = 32
MAX_VALUES = 1_000
MAX_INTEGER_DIGITS = 40
MAX_SCHEMA_NODES = 200
MAX_PATTERN_CHARS = 1_000

_STEP = re.compile(r'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[\[{]|[\]}]|[,:]', re.DOTALL)
_FENCED = re.compile(r"```(?:json|JSON)?[^\S\n]*\n(.*)\n[^\S\n]*```", re.DOTALL)

_SCHEMAS_BY_NAME = ("properties", "$defs", "definitions", "dependentSchemas")
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SCHEMAS = ("additionalProperties", "items", "contains", "propertyNames", "not", "if", "then", "else")
_DATA = (
    *("type", "enum", "const", "required", "dependentRequired", "minProperties", "maxProperties", "minItems", "maxItems"),
    *("uniqueItems", "minContains", "maxContains", "minLength", "maxLength", "pattern", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "$ref", "$schema", "$comment", "title", "description"),
    *("default", "examples", "format", "readOnly", "writeOnly", "deprecated"),
)
ALLOWED = frozenset((*_SCHEMAS_BY_NAME, *_SCHEMA_LISTS, *_SCHEMAS, *_DATA))


class JsonError(ValueError):
    """The text is not one JSON value within the budget, or the schema is refused; the message is machine-readable."""


class PatternError(ValueError):
    """The regular expression is not one RE2 takes; the message says why."""


def read_json(text: str) -> Any:
    """The JSON value `text` is, alone or in a fenced block. Raises JsonError.

    Duplicate keys and non-finite numbers are refused.
    """
    text = text.strip()
    if fenced := _FENCED.fullmatch(text):
        text = fenced.group(1)
    depth = values = 0
    for step in _STEP.finditer(text):
        mark = step.group()
        depth += (mark in "[{") - (mark in "]}")
        values += mark in ",:"
        if depth > MAX_DEPTH or values > MAX_VALUES:
            raise JsonError("too-complex")
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_short_integer
        )
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError("not-json") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise JsonError("duplicate-key")
    return found


def _no_constant(name: str) -> Any:
    raise JsonError("non-finite")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise JsonError("non-finite")
    return value


def _short_integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise JsonError("too-complex")
    return int(digits)


@functools.lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """`pattern` compiled by RE2. Raises PatternError for what it does not take (look-around, back-references)."""
    import re2

    if len(pattern) > MAX_PATTERN_CHARS:
        raise PatternError("longer than 1000 characters")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        message = error.args[0] if error.args else ""
        raise PatternError(message.decode(errors="replace") if isinstance(message, bytes) else str(message)) from error


def matches(pattern: str, text: str, *, whole: bool = False) -> bool:
    """Whether `pattern` occurs in `text`, or is all of it."""
    text = text.encode("utf-8", "replace").decode()  # RE2 takes no lone surrogates
    expression = compiled(pattern)
    return (expression.fullmatch(text) if whole else expression.search(text)) is not None


def check_schema(schema: Any) -> None:
    """Raises JsonError when `schema` is not a schema that can be checked in bounded time."""
    import jsonschema

    if not isinstance(schema, (dict, bool)):
        raise JsonError("not-a-schema")
    _walk(schema, schema, (), [0])
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise JsonError(f"bad-schema:{'/'.join(map(str, error.absolute_path))}"[:200]) from error


def _walk(schema: Any, root: Any, followed: tuple[str, ...], seen: list[int]) -> None:
    """Refuses unknown keywords and references that leave the document, recur, or unfold into too many schemas."""
    seen[0] += 1
    if seen[0] > MAX_SCHEMA_NODES:
        raise JsonError("schema-too-complex")
    if not isinstance(schema, dict):
        return  # a boolean; anything else fails the metaschema
    for keyword, value in schema.items():
        if keyword not in ALLOWED:
            raise JsonError(f"schema-keyword:{keyword}"[:200])
        inner: list[Any] = []
        if keyword in _SCHEMAS:
            inner = [value]
        elif keyword in _SCHEMA_LISTS and isinstance(value, list):
            inner = value
        elif keyword in _SCHEMAS_BY_NAME and isinstance(value, dict):
            inner = list(value.values())
        elif keyword == "pattern" and isinstance(value, str):
            try:
                compiled(value)
            except PatternError as error:
                raise JsonError(f"bad-pattern:{error}"[:200]) from error
        elif keyword == "$ref":
            if value in followed:
                raise JsonError("recursive-ref")
            _walk(_resolve(value, root), root, (*followed, value), seen)
        for item in inner:
            _walk(item, root, followed, seen)


def _resolve(reference: Any, root: Any) -> Any:
    """The part of `root` that a local reference (`#`, `#/$defs/name`) names."""
    if not isinstance(reference, str) or not re.fullmatch(r"#(?:/[^%]*)?", reference):
        raise JsonError("remote-ref")
    found = root
    for part in reference.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or part not in found:
            raise JsonError("unknown-ref")
        found = found[part]
    return found


def fits_schema(value: Any, schema: Any) -> bool:
    """Whether `value` (of `read_json`) satisfies `schema` (that `check_schema` accepts)."""
    return bool(_validator()(schema).is_valid(value))


@functools.cache
def _validator() -> Any:
    import jsonschema
    import referencing

    def pattern(validator: Any, wanted: str, instance: Any, schema: Any) -> Any:
        if isinstance(instance, str) and not matches(wanted, instance):
            yield jsonschema.ValidationError("pattern")

    checked = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": pattern})
    return functools.partial(checked, registry=referencing.Registry())  # an empty registry fetches nothing
