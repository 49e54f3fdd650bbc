"""Python values as JSON, one message a line: what crosses between a program, its tests and the verifier.

None, booleans, integers, finite floats, text and lists stand for themselves; anything else is an object with one key naming
its type: {"tuple": […]}, {"dict": [[key, value], …]}, {"set": […]}, {"int": "0x…"}, {"float": "nan"}, … What has no such form
stays where it is and is named by a number: {"object": 7}. Values are rebuilt as plain built-in ones, so that a program cannot
answer with an object that compares equal to everything. The reader bounds size and depth and never evaluates anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

MAX_MESSAGE = 4 << 20
MAX_DEPTH = 100
_MAX_DIGITS = 10_000  # of a fraction or a decimal: these take quadratic time
_PLAIN_BITS = 1024  # longer integers go as hexadecimal: reading decimal ones takes quadratic time


class WireError(ValueError):
    """A message that is not one of ours, or a value that cannot be sent; the text is the machine-readable reason."""


def pack(value: Any, keep: Callable[[Any], int] | None = None, depth: int = 0) -> Any:
    """The JSON form of `value`; `keep` gives the number of an object that has none. Raises WireError without it."""
    if depth > MAX_DEPTH:
        raise WireError("too-deep")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__int__(value)
        return number if number.bit_length() <= _PLAIN_BITS else {"int": hex(number)}
    if isinstance(value, float):
        real = float.__float__(value)
        return real if math.isfinite(real) else {"float": repr(real)}
    if isinstance(value, (list, tuple)):
        items = [pack(item, keep, depth + 1) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict):
        return {"dict": [[pack(key, keep, depth + 1), pack(item, keep, depth + 1)] for key, item in value.items()]}
    if isinstance(value, (set, frozenset)):
        name = "set" if isinstance(value, set) else "frozenset"
        return {name: [pack(item, keep, depth + 1) for item in value]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, complex):
        return {"complex": [repr(value.real), repr(value.imag)]}
    kind_name = type(value).__name__
    if kind_name == "Fraction" and type(value).__module__ == "fractions":
        return {"fraction": [hex(value.numerator), hex(value.denominator)]}
    if kind_name == "Decimal" and type(value).__module__ == "decimal":
        return {"decimal": str(value)}
    if keep is None:
        raise WireError("not-a-value")
    return {"object": keep(value)}


def unpack(form: Any, find: Callable[[int], Any] | None = None, depth: int = 0) -> Any:
    """The value a JSON form stands for; `find` gives the object of a number. Raises WireError for any other form."""
    if depth > MAX_DEPTH:
        raise WireError("too-deep")
    if isinstance(form, list):
        return [unpack(item, find, depth + 1) for item in form]
    if not isinstance(form, dict):
        return form
    if len(form) != 1:
        raise WireError("bad-message")
    [(kind, content)] = form.items()
    try:
        return _unpack_as(kind, content, find, depth + 1)
    except WireError:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise WireError("bad-message") from error


def _unpack_as(kind: str, content: Any, find: Callable[[int], Any] | None, depth: int) -> Any:
    if kind == "object" and find is not None and type(content) is int:
        return find(content)
    if kind == "object":
        raise WireError("not-a-value")
    if kind == "tuple":
        return tuple(_items(content, find, depth))
    if kind == "dict":
        return {unpack(key, find, depth): unpack(item, find, depth) for key, item in content}
    if kind == "set":
        return set(_items(content, find, depth))
    if kind == "frozenset":
        return frozenset(_items(content, find, depth))
    if kind == "int":
        return int(content, 16)
    if kind == "float":
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content]
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "complex":
        return complex(float(content[0]), float(content[1]))
    if kind == "fraction":
        from fractions import Fraction

        return Fraction(int(content[0][:_MAX_DIGITS], 16), int(content[1][:_MAX_DIGITS], 16))
    if kind == "decimal":
        from decimal import Decimal

        return Decimal(content[:_MAX_DIGITS])
    raise WireError("bad-message")


def _items(content: Any, find: Callable[[int], Any] | None, depth: int) -> list[Any]:
    if not isinstance(content, list):
        raise WireError("bad-message")
    return [unpack(item, find, depth) for item in content]


def encode(message: Any) -> bytes:
    """One line."""
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object of one line. Raises WireError."""
    try:
        message = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise WireError("bad-message") from error
    if not isinstance(message, dict):
        raise WireError("bad-message")
    return message


def _refuse(name: str) -> Any:
    raise WireError("bad-message")
