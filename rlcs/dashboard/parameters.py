"""Query parameters, read strictly: an unknown name or a bad value is an error that says what was expected."""

import math
from collections.abc import Collection

from starlette.datastructures import QueryParams

_MOST_TEXT = 1000


class BadParameter(ValueError):
    """A query parameter cannot be used; the text names it, what was found and what was expected."""


class Parameters:
    """The query of one request."""

    def __init__(self, query: QueryParams) -> None:
        self._query = query

    def known(self, names: Collection[str]) -> None:
        """Raises BadParameter for a parameter that is not among `names`."""
        for name in self._query:
            if name not in names:
                raise BadParameter(f"unknown parameter {name[:80]!r}; known: {', '.join(sorted(names))}")

    def text(self, name: str) -> str | None:
        value = self._query.get(name)
        if value is not None and len(value) > _MOST_TEXT:
            raise BadParameter(f"{name} has {len(value)} characters; expected at most {_MOST_TEXT}")
        return value

    def texts(self, name: str) -> list[str]:
        """All values of a parameter that may be repeated."""
        values = self._query.getlist(name)
        if len(values) > 200:
            raise BadParameter(f"{name} is given {len(values)} times; expected at most 200")
        return [value[:_MOST_TEXT] for value in values]

    def one_of(self, name: str, names: Collection[str], default: str) -> str:
        value = self._query.get(name, default)
        if value not in names:
            raise BadParameter(f"{name} is {value[:80]!r}; expected one of {', '.join(names)}")
        return value

    def integer(self, name: str, default: int | None = None, *, low: int = -(2**31), high: int = 2**31 - 1) -> int | None:
        """An integer from `low` to `high`."""
        value = self._query.get(name)
        if value is None or value == "":
            return default
        try:
            found = int(value) if len(value) <= 20 else high + 1
        except ValueError:
            found = high + 1
        if not low <= found <= high:
            raise BadParameter(f"{name} is {value[:80]!r}; expected an integer from {low} to {high}")
        return found

    def number(self, name: str) -> float | None:
        """A finite number."""
        value = self._query.get(name)
        if value is None or value == "":
            return None
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise BadParameter(f"{name} is {value[:80]!r}; expected a number")
        return found

    def flag(self, name: str) -> bool | None:
        """0/1 or false/true; None where it is not given."""
        value = self._query.get(name)
        if value is None or value == "":
            return None
        if value.lower() not in ("0", "1", "false", "true"):
            raise BadParameter(f"{name} is {value[:80]!r}; expected 0 or 1")
        return value.lower() in ("1", "true")
