"""The table of verifiers. A module of `rewards/verifiers/` registers its functions; adding one touches one file.

    @verifier("ocr", domains=("ocr",), args=OcrArgs, reference=read_reference)
    def ocr(answer: str, reference: str, context: Context) -> Outcome: ...

`reference(raw, args)` turns the raw reference into what the verifier compares with and raises BadReference when it
cannot; its result is cached. `args` is a frozen dataclass whose fields are the verifier's arguments and their defaults.
Verifiers are pure functions of their arguments: no clock, no randomness, no files, bounded time and memory. (Two are not and
say so: the judge asks a server, the code verifier runs a program.) One that cannot tell raises Abstain. Each notes what it
compared and which rule decided (`Context.note`).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import json
import pkgutil
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


class BadReference(Exception):
    """The reference is one this verifier cannot accept; the text is the machine-readable reason."""


class Abstain(Exception):
    """Raised by a verifier that could not tell (a judge that is down); the text is the machine-readable reason."""


class UnknownNameError(ValueError):
    """A domain, verifier or argument that does not exist. The message names the nearest one that does."""


MAX_NOTES, MAX_NOTE_CHARS = 64, 2000

Box = Literal["required", "forbidden"]


@dataclass(frozen=True, slots=True)
class Context:
    """What a verifier may look at besides the answer and the reference; `notes` collects how it decided, when asked to."""

    args: Any
    question: str | None = None
    notes: list[tuple[str, str]] | None = None

    def note(self, name: str, value: object) -> None:
        """Record a normal form, or the rule that decided, for `rlcs score --explain`. Costs nothing when nobody asks."""
        if self.notes is None or len(self.notes) >= MAX_NOTES:
            return
        try:
            text = str(value)
        except (ValueError, RecursionError):  # an integer beyond the interpreter's print limit, a very deep structure
            text = f"({type(value).__name__} too large to print)"
        self.notes.append((name, text[:MAX_NOTE_CHARS]))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verifier's finding: score in [0, 1], whether that counts as correct, and a reason unless plainly right."""

    score: float
    correct: bool
    reason: str | None = None


@dataclass(frozen=True)
class Verifier:
    """A registered verifier; `bounded` says when it may run in the calling process without a time limit.

    `timeout_s` is the wall-clock time one item may take in a pool, where the pool's own limit does not fit (a judge that
    waits for a server, a sandbox that runs tests). `box` says how a response gives its answer: in the box, or, for
    answers that nothing can verify and a judge reads whole, without a box token anywhere. `libraries` are modules it
    imports when called; a worker imports them before its first item, so that it does not take of the item's time.
    """

    name: str
    domains: tuple[str, ...]
    args: type
    reference: Callable[[Any, Any], Any]
    compare: Callable[[str, Any, Context], Outcome]
    bounded: Callable[[str, Any], bool]
    timeout_s: float | None = None
    box: Box = "required"
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoArgs:
    """For verifiers without arguments."""


def short_texts(limit: int) -> Callable[[str, Any], bool]:
    """A `bounded` rule: answer and reference are texts of at most `limit` characters each."""
    return lambda answer, reference: len(answer) <= limit and isinstance(reference, str) and len(reference) <= limit


_VERIFIERS: dict[str, Verifier] = {}
_DOMAINS: dict[str, str] = {}
_loaded = False

Compare = Callable[[str, Any, Context], Outcome]


def verifier(
    name: str,
    *,
    domains: Iterable[str] = (),
    args: type = NoArgs,
    reference: Callable[[Any, Any], Any],
    bounded: Callable[[str, Any], bool] = lambda answer, reference: False,
    timeout_s: float | None = None,
    box: Box = "required",
    libraries: Iterable[str] = (),
) -> Callable[[Compare], Compare]:
    """Register the decorated function as verifier `name`, the default of each domain in `domains`.

    Raises ValueError when the name or a domain is taken by a function of another module, or a setting is senseless.
    """
    if box not in typing.get_args(Box) or (timeout_s is not None and not 0 < timeout_s <= 86_400):
        raise ValueError(
            f"verifier {name!r}: box={box!r}, timeout_s={timeout_s!r}; expected box 'required' or 'forbidden', and None "
            "or a time limit above 0 s and of at most a day"
        )

    def register(compare: Compare) -> Compare:
        known = _VERIFIERS.get(name)
        if known is not None and known.compare.__module__ != compare.__module__:
            raise ValueError(f"verifier {name!r} of {compare.__module__} is already defined by {known.compare.__module__}")
        for domain in domains:
            if _DOMAINS.setdefault(domain, name) != name:
                raise ValueError(f"domain {domain!r} of verifier {name!r} already belongs to {_DOMAINS[domain]!r}")
        _VERIFIERS[name] = Verifier(name, tuple(domains), args, reference, compare, bounded, timeout_s, box, tuple(libraries))
        return compare

    return register


def _load() -> None:
    """Import every module of `rewards.verifiers`, on first use: `import rewards` itself stays light."""
    global _loaded
    if _loaded:
        return
    package = importlib.import_module("rewards.verifiers")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    _loaded = True


def known_domains() -> dict[str, str]:
    """Domain -> name of its default verifier."""
    _load()
    return dict(sorted(_DOMAINS.items()))


def known_verifiers() -> list[str]:
    """Names of all verifiers."""
    _load()
    return sorted(_VERIFIERS)


def find(domain: str, name: str | None = None) -> Verifier:
    """The verifier called `name`, or the default of `domain`. Raises UnknownNameError."""
    _load()
    if name is None:
        if domain not in _DOMAINS:
            raise UnknownNameError(_unknown("domain", domain, _DOMAINS))
        name = _DOMAINS[domain]
    if name not in _VERIFIERS:
        raise UnknownNameError(_unknown("verifier", name, _VERIFIERS))
    return _VERIFIERS[name]


def _unknown(kind: str, found: object, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(str(found), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {found!r}{hint} (known: {', '.join(names) or 'none'})"


def build_args(entry: Verifier, given: Mapping[str, Any] | None) -> Any:
    """The verifier's argument object from a mapping. Raises UnknownNameError for a name, ValueError for a value."""
    given = dict(given or {})
    hints = _argument_types(entry.args)
    for key, value in given.items():
        if key not in hints:
            raise UnknownNameError(f"verifier {entry.name!r}: " + _unknown("argument", key, hints))
        if not _is_a(value, hints[key]):
            wanted = getattr(hints[key], "__name__", None) or str(hints[key])
            raise ValueError(f"verifier {entry.name!r}: argument {key!r} is {value!r}; expected {wanted}")
        given[key] = _frozen(value)
    try:
        return entry.args(**given)
    except ValueError as error:  # values that each have the right type and make no sense
        raise ValueError(f"verifier {entry.name!r}: {error}") from error


def _frozen(value: Any) -> Any:
    """Lists as tuples, at every depth: arguments are part of a cache's key."""
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


@functools.cache
def _argument_types(args: type) -> dict[str, Any]:
    hints = typing.get_type_hints(args)
    return {field.name: hints[field.name] for field in dataclasses.fields(args)}


def _is_a(value: object, wanted: Any) -> bool:
    origin = typing.get_origin(wanted)
    if origin is typing.Literal:
        return value in typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, option) for option in typing.get_args(wanted))
    if origin is tuple:
        options = typing.get_args(wanted)
        if not isinstance(value, (list, tuple)):
            return False
        kinds = options[:1] * len(value) if options[-1] is Ellipsis else options
        return len(kinds) == len(value) and all(map(_is_a, value, kinds))
    if wanted is float:
        # Not NaN or infinity, which JSON readers let through: a tolerance of either would make anything equal.
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e300
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, wanted)


def read_reference(entry: Verifier, reference: Any, args: Any) -> Any:
    """The parsed reference, cached. Raises BadReference."""
    try:
        key = reference if isinstance(reference, str) else json.dumps(reference, ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadReference("not-json") from error
    found = _cached_reference(entry, key, isinstance(reference, str), args)
    if isinstance(found, BadReference):
        raise found
    return found


@functools.lru_cache(maxsize=65536)
def _cached_reference(entry: Verifier, key: str, is_text: bool, args: Any) -> Any:
    # A refusal is cached as a value, so that a bad reference is not parsed again for each of its G responses.
    try:
        return entry.reference(key if is_text else json.loads(key), args)
    except BadReference as error:
        return error
