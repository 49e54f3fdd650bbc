"""Running a program on test cases. Expected values and test code stay outside its process.

Each generator yields one reason per case, in order: None where the program was right. Whatever ends the program early fails
the case it was at; the cases after it get a fresh one.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rewards.sandbox import wire
from rewards.sandbox.agreement import same_output, same_value
from rewards.sandbox.cases import AssertCode, FunctionCall, Script, Suite
from rewards.sandbox.process import Clock, Isolation, Limits, NoVerdict, Pipe, Role, Sandboxed, pump
from rewards.sandbox.program import EXIT_MEMORY, EXIT_SYNTAX

RETURN_TOLERANCE = 1e-9
_SIGKILL, _SIGXCPU = 9, 24
_EXIT_WAIT_S = 1.0
_TESTER_MEMORY_MB = 512
_MAX_REPLY = 4 << 20
_KEPT_STDERR = 1 << 16


@dataclass
class Run:
    """A program, the limits its tests run under, and the time they have used so far."""

    source: bytes
    limits: Limits
    isolation: Isolation = "full"
    test_s: float = 5.0
    """Processor seconds of one test."""
    tolerance: float | None = None
    """How far floats may differ; None: printed ones not at all, returned ones by RETURN_TOLERANCE."""
    namespaces: bool = True
    landlock: bool = True
    used_s: float = 0.0
    said: str = ""
    """The last lines a script wrote to its standard error, for people."""

    def time_left_s(self) -> float:
        """Processor seconds for the next test; 0 when the tests together have used what they may."""
        return max(0.0, min(self.test_s, self.limits.total_s - self.used_s))

    def start(self, role: Role, source: bytes, limits: Limits, **options: Any) -> Sandboxed:
        """Start a process of this run."""
        return Sandboxed(role, source, limits, self.isolation, namespaces=self.namespaces, landlock=self.landlock, **options)


def outcomes(run: Run, suite: Suite) -> Generator[str | None, None, None]:
    """The reason of each case of the suite, in the suite's order. Raises NoVerdict when nothing can be said."""
    start = 0
    while start < len(suite.cases):
        kind = type(suite.cases[start])
        end = start
        while end < len(suite.cases) and type(suite.cases[end]) is kind:
            end += 1
        block: Any = suite.cases[start:end]
        if kind is Script:
            yield from (_run_script(run, case) for case in block)
        elif kind is FunctionCall:
            yield from _run_calls(run, block)
        else:
            yield from _run_test_code(run, block, suite)
        start = end


def _run_script(run: Run, case: Script) -> str | None:
    left = run.time_left_s()
    if not left:
        return "time-limit"
    with ExitStack() as stack:
        stdin, stdout, stderr = (stack.enter_context(Pipe()) for _ in range(3))
        standard = (stdin.reader.fileno(), stdout.writer.fileno(), stderr.writer.fileno())
        program = stack.enter_context(run.start("script", run.source, run.limits, standard=standard))
        for end in (stdin.reader, stdout.writer, stderr.writer):
            end.close()
        clock = Clock([program], left)
        printed, said = bytearray(), bytearray()
        drain = {stdout.reader: printed, stderr.reader: said}
        feed = {stdin.writer: memoryview(case.stdin.encode("utf-8", "surrogatepass"))}
        fault = pump([program], clock, feed, drain, lambda: False, run.limits.output_bytes)
        run.used_s += clock.charge_s()
    run.said = said[-2000:].decode(errors="replace")
    if fault is None and program.ended != (0, 0):
        fault = _fate(program)
    if fault is None and not same_output(printed.decode("utf-8", "surrogateescape"), case.stdout, run.tolerance):
        fault = "wrong-output"
    return fault


def _fate(program: Sandboxed) -> str:
    """Why a program that has ended did so. Raises NoVerdict when the machine, short of memory, ended a modest one."""
    if program.ended is None:
        return "crashed"  # it closed its side and goes on
    status, signal = program.ended
    if signal == _SIGXCPU or (signal == _SIGKILL and program.cpu_s() >= program.limits.total_s):
        return "time-limit"
    if signal == _SIGKILL and program.peak_mb < program.limits.memory_mb / 4:
        raise NoVerdict("killed")
    if signal == _SIGKILL or status == EXIT_MEMORY:
        return "memory-limit"
    return "syntax-error" if status == EXIT_SYNTAX and not signal else "crashed"


def _wait(program: Sandboxed) -> None:
    """Give a program that went silent the time to be seen ending."""
    until = time.monotonic() + _EXIT_WAIT_S
    pump([program], Clock([program], _EXIT_WAIT_S), {}, {}, lambda: time.monotonic() > until, 0)


class _Functions:
    """A program loaded as a module; its functions can be called until it ends."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._stack = ExitStack()
        self._requests, self._replies = (self._stack.enter_context(Pipe()) for _ in range(2))
        ends = {"requests": self._requests.reader.fileno(), "replies": self._replies.writer.fileno()}
        try:
            self.program = self._stack.enter_context(run.start("functions", run.source, run.limits, pipes=ends))
        except BaseException:
            self._stack.close()
            raise
        self._requests.reader.close()
        self._replies.writer.close()
        self._buffer = bytearray()
        self.closed = False

    def close(self) -> None:
        """End the program."""
        self.closed = True
        self._stack.close()

    def _exchange(self, line: bytes, clock: Clock) -> tuple[dict[str, Any], str | None]:
        """Send a line (or nothing) and await one. Returns the answer, or why there is none: then the program is ended."""
        answer, fault = self._await_line(line, clock)
        if fault:
            self.close()
        return answer, fault

    def _await_line(self, line: bytes, clock: Clock) -> tuple[dict[str, Any], str | None]:
        drain = {self._replies.reader: self._buffer}
        feed = {self._requests.writer: memoryview(line)} if line else {}

        def answered() -> bool:
            return b"\n" in self._buffer or not drain

        fault = pump(
            [self.program], clock, feed, drain, answered, min(_MAX_REPLY, self.run.limits.output_bytes), close_fed=False
        )
        if fault:
            return {}, fault
        line, found, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        if not found:
            _wait(self.program)
            return {}, _fate(self.program)
        try:
            return wire.decode(line), None
        except wire.WireError:
            return {}, "crashed"

    def load(self, clock: Clock) -> str | None:
        """Wait until the module's own code has run. Returns why it has not."""
        return self._exchange(b"", clock)[1]

    def call(self, case: FunctionCall, clock: Clock) -> str | None:
        """Call the function of a case. Returns what was wrong, None if nothing."""
        kwargs = {key: wire.pack(value) for key, value in case.kwargs.items()}
        request = {"op": "call", "of": None, "name": case.entry, "args": [wire.pack(item) for item in case.args]}
        answer, fault = self._exchange(wire.encode({**request, "kwargs": kwargs}), clock)
        if fault:
            return fault
        if "value" not in answer:
            raised = answer.get("raised")
            return "memory-limit" if isinstance(raised, list) and "MemoryError" in raised else "crashed"
        tolerance = RETURN_TOLERANCE if self.run.tolerance is None else self.run.tolerance
        return None if same_value(answer["value"], case.returns, tolerance) else "wrong-output"


def _run_calls(run: Run, cases: Sequence[FunctionCall]) -> Generator[str | None, None, None]:
    functions: _Functions | None = None
    try:
        for case in cases:
            left = run.time_left_s()
            if not left:
                yield "time-limit"
                continue
            fault = None
            fresh = functions is None or functions.closed
            if functions is None or fresh:
                functions = _Functions(run)
            clock = Clock([functions.program], left)
            if fresh:
                fault = functions.load(clock)
            if fault is None:
                fault = functions.call(case, clock)
            run.used_s += clock.charge_s()
            yield fault
    finally:
        if functions is not None:
            functions.close()


def _run_test_code(run: Run, cases: Sequence[AssertCode], suite: Suite) -> Generator[str | None, None, None]:
    done = 0
    while done < len(cases):
        if not run.time_left_s():
            yield "time-limit"
            done += 1
            continue
        for fault in _run_tester(run, cases[done:], suite):
            yield fault
            done += 1


def _run_tester(run: Run, cases: Sequence[AssertCode], suite: Suite) -> Generator[str | None, None, None]:
    """Run test codes beside one program until one ends it: that one's reason is the last."""
    job = {
        **{"tests": [case.source for case in cases], "setup": suite.setup},
        **{"names": list(suite.names), "modules": suite.modules},
    }
    with ExitStack() as stack:
        requests, replies, report = (stack.enter_context(Pipe()) for _ in range(3))
        ends = {"requests": requests.reader.fileno(), "replies": replies.writer.fileno()}
        program = stack.enter_context(run.start("functions", run.source, run.limits, pipes=ends))
        ends = {"requests": requests.writer.fileno(), "replies": replies.reader.fileno(), "report": report.writer.fileno()}
        limits = Limits(total_s=run.limits.total_s, memory_mb=max(_TESTER_MEMORY_MB, run.limits.memory_mb))
        tester = stack.enter_context(run.start("tests", wire.encode(job), limits, pipes=ends))
        for end in (requests.reader, requests.writer, replies.reader, replies.writer, report.writer):
            end.close()
        buffer = bytearray()
        drain = {report.reader: buffer}
        for _ in cases:
            left = run.time_left_s()
            clock = Clock([program, tester], left)
            fault: str | None = "time-limit"
            if left:
                fault = pump([tester], clock, {}, drain, lambda: b"\n" in buffer or not drain, 1 << 20)
                run.used_s += clock.charge_s()
            if fault:
                yield fault
                return
            line, _, rest = bytes(buffer).partition(b"\n")
            buffer[:] = rest
            message = wire.decode(line) if line else {}
            if "cannot" in message:
                raise NoVerdict(str(message["cannot"]))
            if "passed" not in message:  # the program is gone; or its answers were too much for the tester
                _wait(program)
                yield _fate(program)
                return
            yield None if message["passed"] else "test-failed"
