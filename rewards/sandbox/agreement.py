"""Whether what a program gave is what was expected."""

from __future__ import annotations

import math
from typing import Any


def same_value(form: Any, expected: Any, tolerance: float) -> bool:
    """Whether a returned value, in its form on the wire (wire.py), is the expected JSON value. Takes linear time.

    JSON knows no tuples (a tuple equals a list of the same items) and no keys but text (the key 1 equals "1"); true is not 1.
    Where either number is a float they may differ by `tolerance`, relatively or absolutely.
    """
    kind, content = None, form
    if isinstance(form, dict):
        if len(form) != 1:
            return False
        [(kind, content)] = form.items()
    if isinstance(expected, bool) or expected is None:
        return form is expected
    if isinstance(expected, str):
        return kind is None and isinstance(form, str) and form == expected
    if isinstance(expected, (int, float)):
        number = _long_integer(content) if kind == "int" else form
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return False
        return same_number(number, expected, tolerance)
    if isinstance(expected, (list, tuple)):
        if kind not in (None, "tuple") or not isinstance(content, list) or len(content) != len(expected):
            return False
        return all(same_value(one, other, tolerance) for one, other in zip(content, expected, strict=True))
    if kind != "dict" or not isinstance(expected, dict) or not isinstance(content, list) or len(content) != len(expected):
        return False
    named = {_key(pair): pair[1] for pair in content if isinstance(pair, list) and len(pair) == 2}
    return named.keys() == expected.keys() and all(same_value(named[key], expected[key], tolerance) for key in expected)


def _long_integer(text: Any) -> int | None:
    try:
        return int(text, 16)
    except (TypeError, ValueError):
        return None


def _key(pair: list[Any]) -> str | None:
    return str(pair[0]) if type(pair[0]) in (str, int) else None


def same_number(found: float, expected: float, tolerance: float) -> bool:
    """Equal; or finite, at least one of them a float, and no further apart than `tolerance`."""
    if isinstance(found, int) and isinstance(expected, int):
        return found == expected
    try:
        return found == expected or math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:  # an integer beyond the floats
        return False


def same_output(found: str, expected: str, tolerance: float | None) -> bool:
    """Whether two outputs are equal line by line, but for white space at the ends of lines and empty lines at the end.

    With a tolerance, lines are compared word by word, and a word that is a decimal number in `expected` may differ by it.
    """
    ours, theirs = _lines(found), _lines(expected)
    if ours == theirs:
        return True
    if tolerance is None or len(ours) != len(theirs):
        return False
    return all(_same_line(one.split(), other.split(), tolerance) for one, other in zip(ours, theirs, strict=True))


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_line(found: list[str], expected: list[str], tolerance: float) -> bool:
    if len(found) != len(expected):
        return False
    return all(one == other or _same_word(one, other, tolerance) for one, other in zip(found, expected, strict=True))


def _same_word(found: str, expected: str, tolerance: float) -> bool:
    if not any(sign in expected for sign in ".eE") or "_" in found + expected or len(found) > 400:
        return False
    try:
        number, wanted = float(found), float(expected)
    except ValueError:
        return False
    return math.isfinite(number) and math.isfinite(wanted) and same_number(number, wanted, tolerance)
