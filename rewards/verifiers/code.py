"""Programs: the answer is Python source, the reference its tests; the program runs in a sandbox.

Expected values and test code never enter the program's process (rewards/sandbox). Unlike the other verifiers this one is no
pure function: it starts processes, and the time they get is real. Where the isolation asked for cannot be had it abstains.
"""

from __future__ import annotations

import textwrap
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rewards.registry import Abstain, Context, Outcome, verifier

if TYPE_CHECKING:
    from rewards.sandbox.cases import Suite

MAX_CHARS = 1 << 16
TIMEOUT_S = 300.0
MAX_TOTAL_S = 60.0
_PYTHON = ("", "python", "python3", "py", "py3")


@dataclass(frozen=True)
class CodeArgs:
    """Arguments of the `code` verifier. Raises ValueError for a limit outside its range."""

    score: Literal["all", "fraction"] = "all"
    """1 only if every test passes, or the fraction of tests that pass."""
    float_tolerance: float | None = None
    """How far floats may differ, relatively or absolutely; None: printed ones not at all, returned ones by 1e-9."""
    time_limit_s: float = 5.0
    """Processor seconds one test may take."""
    total_limit_s: float = 30.0
    """Processor seconds all tests together may take, at most 60; a test that is not reached has failed."""
    memory_mb: int = 512
    """Address space of the program, at least 64."""
    output_mb: int = 16
    """What one test may print or return."""
    isolation: Literal["full", "process"] = "full"
    """`process` also runs where the machine offers no full isolation: for programs you trust."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("time_limit_s", 0.01, MAX_TOTAL_S),
            ("total_limit_s", 0.01, MAX_TOTAL_S),
            ("memory_mb", 64, 1 << 16),
            ("output_mb", 1, 256),
            ("float_tolerance", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"verifier 'code': argument {name!r} is {value!r}; expected {low} to {high}")


def read_reference(raw: Any, args: CodeArgs) -> Suite:
    """The tests. Raises BadReference with the reason."""
    from rewards.sandbox.cases import read_suite

    return read_suite(raw)


def read_program(answer: str) -> tuple[str, str | None]:
    """The source in an answer, taken out of its fence if it is one fenced block, and what is wrong with the answer."""
    if len(answer) > MAX_CHARS:
        return "", "answer-too-long"
    text = textwrap.dedent(answer).strip()
    if text.startswith("```"):
        first, _, rest = text.partition("\n")
        body = rest.removesuffix("```")
        if any(line.lstrip().startswith("```") for line in body.splitlines()):
            return "", "many-answers"
        if body == rest:
            return "", "unclosed-fence"
        if first[3:].strip().lower() not in _PYTHON:
            return "", "not-python"
        text = textwrap.dedent(body).strip()
    return text, None if text else "empty-answer"


@verifier("code", domains=("code",), args=CodeArgs, reference=read_reference, timeout_s=TIMEOUT_S)
def code(answer: str, reference: Suite, context: Context) -> Outcome:
    """Run the tests; in mode "all" up to the first that fails."""
    from rewards.sandbox.process import Limits, NoVerdict
    from rewards.sandbox.runs import Run, outcomes

    args: CodeArgs = context.args
    source, fault = read_program(answer)
    if fault is not None:
        return Outcome(0.0, False, fault)
    limits = Limits(total_s=args.total_limit_s, memory_mb=args.memory_mb, output_bytes=args.output_mb << 20)
    program = source.encode("utf-8", "surrogatepass")
    run = Run(program, limits, args.isolation, test_s=args.time_limit_s, tolerance=args.float_tolerance)
    found: list[str | None] = []
    try:
        with closing(outcomes(run, reference)) as results:
            for reason in results:
                found.append(reason)
                if reason is not None and args.score == "all":
                    break
    except NoVerdict as error:
        raise Abstain(str(error)) from error
    total, passed = len(reference.cases), found.count(None)
    first = next((reason for reason in found if reason is not None), None)
    context.note("reference", f"{total} tests")
    context.note("answer", f"{len(source)} characters; {passed} of {len(found)} tests run passed")
    context.note("rule", f"{args.score} tests pass" if first is None else f"test {found.index(first) + 1}: {first}")
    if run.said:
        context.note("stderr", run.said)
    return Outcome(passed / total if args.score == "fraction" else float(passed == total), passed == total, first)
