"""Test cases: what a program is run on and what it has to give. Read from the forms public data sets use.

One test is one of: `{"stdin", "stdout"}` (also "input"/"output"); `{"args", "kwargs", "returns"}` or `{"call": "f(1, 2)",
"returns"}`, where call is read as literals and never evaluated; test code as text (`assert f(1) == 2`). MBPP's `test_list`,
HumanEval's `test` with `entry_point`, and APPS' `inputs`/`outputs`/`fn_name` are read as well.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rewards.registry import BadReference
from rewards.sandbox import wire

MAX_TESTS = 1000
_NAMES_OF = ("math", "collections", "itertools", "functools", "heapq", "bisect", "random", "statistics", "string", "operator")
"""Standard modules whose names (isclose, Counter, …) tests use without importing them: the program's header did."""


@dataclass(frozen=True)
class Script:
    """The program is run with this standard input and has to print this."""

    stdin: str
    stdout: str


@dataclass(frozen=True)
class FunctionCall:
    """The function is called with these JSON values and has to return this one."""

    entry: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    returns: Any


@dataclass(frozen=True)
class AssertCode:
    """Code that raises unless the program is right."""

    source: str


Case = Script | FunctionCall | AssertCode


@dataclass(frozen=True)
class Suite:
    """All tests of a problem. `names` are the program's names that test code uses, `modules` the standard modules it uses
    without importing them (None: the module itself, else names of it), `setup` code that runs before each test code."""

    cases: tuple[Case, ...]
    names: tuple[str, ...] = ()
    modules: dict[str, list[str] | None] = field(default_factory=dict)
    setup: str = ""


def read_suite(raw: Any) -> Suite:
    """The tests of a raw reference. Raises BadReference with the reason."""
    if isinstance(raw, list):
        raw = {"tests": raw}
    if not isinstance(raw, dict):
        raise BadReference("not-an-object")
    entries = _entries(raw)
    cases = tuple(_read_case(item, entries) for item in _tests(raw, entries))
    if not cases:
        raise BadReference("no-tests")
    if len(cases) > MAX_TESTS:
        raise BadReference("too-many-tests")
    if all(isinstance(case, Script) and not case.stdout.strip() for case in cases):
        raise BadReference("no-expected-output")
    setup = raw.get("setup", raw.get("test_setup_code", ""))
    if not isinstance(setup, str):
        raise BadReference("setup-not-text")
    sources = [case.source for case in cases if isinstance(case, AssertCode)]
    if not sources:
        return Suite(cases)
    names, modules = _resolve(sources, setup, entries)
    return Suite(cases, names, modules, setup)


def _entries(raw: dict[str, Any]) -> tuple[str, ...]:
    """Names of the functions or classes under test, if given."""
    found = next((raw[key] for key in ("entry", "entry_point", "fn_name") if raw.get(key)), ())
    entries = (found,) if isinstance(found, str) else found
    if not isinstance(entries, (list, tuple)) or not all(isinstance(item, str) and _is_path(item) for item in entries):
        raise BadReference("bad-entry")
    return tuple(entries)


def _is_path(text: str) -> bool:
    return len(text) <= 200 and text.count(".") <= 1 and all(part.isidentifier() for part in text.split("."))


def _tests(raw: dict[str, Any], entries: tuple[str, ...]) -> list[Any]:
    """The list of raw tests, whatever the data set calls it."""
    if "inputs" in raw and "outputs" in raw:
        inputs, outputs = raw["inputs"], raw["outputs"]
        if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
            raise BadReference("inputs-and-outputs-differ")
        if entries:
            return [{"args": given, "returns": wanted} for given, wanted in zip(inputs, outputs, strict=True)]
        return [{"stdin": given, "stdout": wanted} for given, wanted in zip(inputs, outputs, strict=True)]
    found = next((raw[key] for key in ("tests", "test_list", "test") if key in raw), None)
    if isinstance(found, str):
        return [found]
    if not isinstance(found, list):
        raise BadReference("no-tests")
    return found


def _read_case(raw: Any, entries: tuple[str, ...]) -> Case:
    if isinstance(raw, str):
        return AssertCode(raw)
    if not isinstance(raw, dict):
        raise BadReference("bad-test")
    if "call" in raw and "returns" in raw:
        return _read_call(raw["call"], raw["returns"])
    if "args" in raw or "kwargs" in raw:
        args, kwargs, entry = raw.get("args", []), raw.get("kwargs", {}), raw.get("entry", entries[0] if entries else None)
        if not isinstance(args, list) or not isinstance(kwargs, dict) or "returns" not in raw:
            raise BadReference("bad-test")
        if not isinstance(entry, str) or not _is_path(entry):
            raise BadReference("no-entry")
        return _checked(FunctionCall(entry, tuple(args), kwargs, raw["returns"]))
    given, wanted = raw.get("stdin", raw.get("input", "")), raw.get("stdout", raw.get("output"))
    if not isinstance(given, str) or not isinstance(wanted, str):
        raise BadReference("bad-test")
    return Script(given, wanted)


def _parse(source: str, mode: str = "exec") -> ast.AST:
    try:
        return ast.parse(source, mode=mode)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadReference("test-syntax-error") from error


def _read_call(text: Any, returns: Any) -> FunctionCall:
    """`f(1, [2], key="x")`: a name and literals."""
    if not isinstance(text, str):
        raise BadReference("bad-test")
    tree = _parse(text.strip(), "eval")
    call = tree.body if isinstance(tree, ast.Expression) else None
    if not isinstance(call, ast.Call) or any(item.arg is None for item in call.keywords):
        raise BadReference("bad-call")
    entry = ast.unparse(call.func)
    if not _is_path(entry):
        raise BadReference("bad-call")
    try:
        args = tuple(ast.literal_eval(item) for item in call.args)
        kwargs = {str(item.arg): ast.literal_eval(item.value) for item in call.keywords}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise BadReference("bad-call") from error
    return _checked(FunctionCall(entry, args, kwargs, returns))


def _checked(case: FunctionCall) -> FunctionCall:
    try:
        wire.pack([case.args, case.kwargs, case.returns])
    except (wire.WireError, RecursionError) as error:  # nested too deeply
        raise BadReference("bad-test") from error
    return case


def _resolve(
    sources: Iterable[str], setup: str, entries: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, list[str] | None]]:
    """Whose each free name of the test code is: the program's, or a standard module's.

    A helper such as `isclose` must not be looked up in the program, which could then define it to say yes. So without a
    stated entry a free name is the program's only when nothing else could be meant.
    """
    defined = _Names.of(setup).bound
    free: dict[str, bool] = {}  # name -> whether it is ever called or used otherwise than as `name.attribute`
    for source in sources:
        names = _Names.of(source)
        for name, direct in names.used.items():
            if name not in names.bound and name not in defined and (name in entries or not hasattr(builtins, name)):
                free[name] = free.get(name, False) or direct
    heads = [entry.partition(".")[0] for entry in entries]
    modules: dict[str, list[str] | None] = {}
    unknown = []
    for name, direct in free.items():
        if name in heads:
            continue
        if name in sys.stdlib_module_names and not direct:
            modules[name] = None
        elif not direct:
            raise BadReference("unknown-name")
        else:
            unknown.append(name)
    homes = {name: module for name in unknown if (module := _home(name))}
    if heads and len(homes) < len(unknown):
        raise BadReference("unknown-name")
    if heads:
        for name, module in homes.items():
            names_of = modules.setdefault(module, [])
            modules[module] = None if names_of is None else [*names_of, name]
        found = [name for name in heads if name in free or any("check" in _Names.of(source).bound for source in sources)]
    elif 0 < len(homes) < len(unknown):
        raise BadReference("ambiguous-entry")
    else:
        found = unknown
    if not found:
        raise BadReference("test-calls-nothing")
    return tuple(found), modules


def _home(name: str) -> str | None:
    """The standard module a name comes from, if it is one that tests use without importing it."""
    for module in _NAMES_OF:
        if not name.startswith("_") and hasattr(__import__(module), name):
            return module
    return None


@dataclass(frozen=True)
class _Names:
    """Names a piece of code binds anywhere, and names it uses."""

    bound: frozenset[str]
    used: dict[str, bool]

    @staticmethod
    def of(source: str) -> _Names:
        bound: set[str] = set()
        used: dict[str, bool] = {}
        owners = set()
        for node in ast.walk(_parse(source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owners.add(id(node.value))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                used[node.id] = used.get(node.id, False) or id(node) not in owners
            elif isinstance(node, ast.Name):
                bound.add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                bound.add(node.name)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                bound.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                bound |= _imported(node)
        return _Names(frozenset(bound), used)


def _imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Names an import binds. Raises BadReference for a module outside the standard library: it is not in the sandbox."""
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    if any(module.partition(".")[0] not in sys.stdlib_module_names for module in modules):
        raise BadReference("test-imports-package")
    return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
