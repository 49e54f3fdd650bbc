"""What runs test code: in a sandbox of its own, beside the one of the program, which never sees the tests.

The program's functions stand in the tests as `Remote` objects; a call sends the arguments and brings the plain value back.
Whatever compares values runs here. A `Remote` therefore takes part in no arithmetic and in no comparison: `abs(f(x) - 2.5) <
1e-6` must not ask the program what `f(x) - 2.5` is.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterator
from typing import Any

from rewards.sandbox import wire

_NOT_RAISED = ("StopIteration", "StopAsyncIteration", "GeneratorExit")
"""Raised inside map() or a generator these would end a test early, and with it what it asserts."""


class ProgramGone(BaseException):
    """The program ended or wrote something that is no answer. No test can catch it by mistake."""


class CannotTell(BaseException):
    """The test needs what this sandbox does not offer; the text is the machine-readable reason."""


class Channel:
    """Requests to the program, and its answers."""

    def __init__(self, requests: int, replies: int) -> None:
        self.requests = requests
        self.replies = open(replies, "rb")  # noqa: SIM115 (open as long as this process)
        self.calls = 0
        self.fault: BaseException | None = None
        """Why the run has to end, kept because test code may catch what is raised for it (`except:`, unittest)."""

    def stop(self, fault: BaseException) -> BaseException:
        self.fault = fault
        return fault

    def receive(self) -> dict[str, Any]:
        """The next answer."""
        line = self.replies.readline(wire.MAX_MESSAGE)
        if not line.endswith(b"\n"):
            raise self.stop(ProgramGone())
        try:
            return wire.decode(line)
        except wire.WireError as error:
            raise self.stop(ProgramGone()) from error

    def number(self, value: Any) -> int:
        """The number of an object of the program; a callback or an object of the test's own class has none."""
        if type(value) is not Remote:
            raise wire.WireError("not-a-value")
        return value.resolve()

    def ask(self, operation: str, of: int | None, name: str | None = None, args: Any = (), kwargs: Any = None) -> Any:
        """Do one operation on object `of` of the program. Raises what the program raised, as the nearest built-in."""
        self.calls += 1
        try:
            forms = [wire.pack(item, self.number) for item in args]
            named = {key: wire.pack(item, self.number) for key, item in (kwargs or {}).items()}
        except wire.WireError as error:
            raise self.stop(CannotTell("test-sends-object")) from error
        if self.fault:
            raise self.fault
        line = memoryview(wire.encode({"op": operation, "of": of, "name": name, "args": forms, "kwargs": named}))
        try:
            while line:
                line = line[os.write(self.requests, line) :]
        except BrokenPipeError as error:
            raise self.stop(ProgramGone()) from error
        answer = self.receive()
        if "value" in answer:
            try:
                return wire.unpack(answer["value"], lambda number: Remote(self, number))
            except wire.WireError as error:
                raise self.stop(ProgramGone()) from error
        raise _exception(answer.get("raised"), str(answer.get("text")))


def _exception(names: Any, text: str) -> Exception:
    for name in names if isinstance(names, list) else []:
        kind = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(kind, type) and issubclass(kind, Exception) and name not in _NOT_RAISED:
            try:
                return kind(text)
            except TypeError:  # UnicodeError and its kin want more arguments
                continue
    return RuntimeError(text)


class Remote:
    """An object of the program that has no plain value: a class, an instance, an iterator, a bound method."""

    def __init__(self, channel: Channel, of: int | None, name: str | None = None) -> None:
        object.__setattr__(self, "_channel", channel)
        object.__setattr__(self, "_of", of)
        object.__setattr__(self, "_name", name)

    def _ask(self, operation: str, name: str | None = None, args: Any = (), kwargs: Any = None) -> Any:
        return self._channel.ask(operation, self.resolve(), name, args, kwargs)

    def resolve(self) -> int:
        """Its number in the program; a name is looked up at its first use other than a call."""
        if self._of is None:
            found = self._channel.ask("name", None, self._name)
            if type(found) is not Remote:
                raise self._channel.stop(CannotTell("test-reads-variable"))
            object.__setattr__(self, "_of", found._of)
            object.__setattr__(self, "_name", None)
        return int(self._of)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._channel.ask("call", self._of, self._name, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, (value,))

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", None, (key,))

    def __iter__(self) -> Iterator[Any]:
        iterator: Iterator[Any] = self._ask("iter")
        return iterator

    def __next__(self) -> Any:
        found = self._ask("next")
        if found is None:
            raise StopIteration
        return found[0]

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if type(other) is Remote and other is not self:
            raise self._channel.stop(CannotTell("test-compares-objects"))  # only the program's own __eq__ could say
        return other is self

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return str(self._ask("str"))

    def __repr__(self) -> str:
        return str(self._ask("repr"))


def run_tests(job: dict[str, Any], channel: Channel, report: Callable[[dict[str, Any]], None]) -> None:
    """Run the test codes of `job["tests"]`, each in a name space of its own, and report each one's outcome.

    A report is {"passed": bool} or, ending the run, {"gone": true} or {"cannot": reason}.
    """
    try:
        channel.receive()  # the program is loaded
        for source in job["tests"]:
            report({"passed": _passes(source, job, channel)})
    except ProgramGone:
        report({"gone": True})
    except CannotTell as error:
        report({"cannot": str(error)})


def _passes(source: str, job: dict[str, Any], channel: Channel) -> bool:
    scope: dict[str, Any] = {"__name__": "tests"}
    try:
        _import_modules(job["modules"], scope)
        scope.update({name: Remote(channel, None, name) for name in job["names"]})
        exec(compile(job["setup"], "setup.py", "exec"), scope)  # noqa: S102 (the caller's code, in a sandbox)
        code = compile(source, "tests.py", "exec")
    except Exception as error:
        raise CannotTell("test-setup-fails") from error
    before = channel.calls
    try:
        exec(code, scope)  # noqa: S102 (the caller's code, in a sandbox)
        _call_collected(scope, job["names"])
        passed = True
    except BaseException:  # noqa: BLE001 (whatever a test raises, it has failed)
        passed = False
    if channel.fault:
        raise channel.fault
    if passed and channel.calls == before:
        raise CannotTell("test-calls-nothing")
    return passed


def _import_modules(modules: dict[str, list[str] | None], scope: dict[str, Any]) -> None:
    """Standard modules that the tests use without importing them, and names of such modules."""
    for module, names in modules.items():
        found = __import__(module)
        scope.update({module: found} if names is None else {name: getattr(found, name) for name in names})


def _call_collected(scope: dict[str, Any], names: list[str]) -> None:
    """Call what a test runner would find: `check(candidate)` of HumanEval, functions `test_…`, unittest cases."""
    for name, item in list(scope.items()):
        if type(item) is Remote or not callable(item):
            continue
        arguments = item.__code__.co_argcount if hasattr(item, "__code__") else None
        if name == "check" and arguments == 1:
            item(scope[names[0]])
        elif name.startswith("test") and arguments == 0:
            item()
        elif isinstance(item, type) and item.__module__ == "tests" and hasattr(item, "countTestCases"):
            import unittest

            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(item).run(result)
            assert result.testsRun and result.wasSuccessful()


def main(source: bytes, requests: int, replies: int, report: int) -> None:
    """Run the job in `source` (JSON)."""
    job = wire.decode(source)

    def write(message: dict[str, Any]) -> None:
        os.write(report, wire.encode(message))

    run_tests(job, Channel(requests, replies), write)
