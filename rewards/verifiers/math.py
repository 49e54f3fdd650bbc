"""Mathematical answers, equal exactly, numerically or symbolically; the rules are in docs/verifiers/math.md.

Source: GLM-4.5V report, arXiv 2507.01006, table 1 (mathematics: SymPy with tolerance).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from rewards.denials import denied
from rewards.mathexpr.answer import Answer, read_answer
from rewards.mathexpr.equality import Tolerance
from rewards.mathexpr.match import compare
from rewards.mathexpr.nodes import MathError
from rewards.mathexpr.policy import Policy
from rewards.mathexpr.restating import restates
from rewards.mathexpr.show import shown
from rewards.registry import BadReference, Context, Outcome, verifier

MAX_REFERENCE_CHARS = 4096
_PERCENT_ASKED = re.compile(r"per\s?cent|percentage|\bwhat\s+%|\\%|百分", re.IGNORECASE)
_FUNCTION_ASKED = re.compile(r"(?<![A-Za-z\\])([fghFGHPQ])\s*(?:\(\s*[a-z]\s*\)|:\s*\\mathbb|:\s*[RNZQ])")


@dataclass(frozen=True)
class MathArgs:
    """Arguments of the `math` verifier."""

    rtol: float | None = None
    """Relative tolerance in place of the rounding rules' own; 0.01 accepts one per cent."""
    atol: float | None = None
    """Absolute tolerance, in addition."""
    rounding: bool = True
    """Whether a correctly rounded decimal equals the exact value it rounds."""
    percent: Literal["auto", "fraction", "either"] = "auto"
    """Whether a bare number may stand for a percentage: when the question asks for one, never, or always."""
    ordered: bool = False
    """Whether the order of an unbracketed list counts."""
    require_unit: bool = False
    """Whether an answer without the reference's unit is wrong."""
    variables: Literal["strict", "any"] = "strict"
    """Whether names must agree, or `y = 3` is also `x = 3` and `t + 1` also `x + 1`."""
    integers: tuple[str, ...] = ()
    """Letters that take integer values only, so that cos(n pi) equals (-1)^n."""


@dataclass(frozen=True)
class Reference:
    """The reference as written, and its readings."""

    source: str
    readings: tuple[Answer, ...]


def read_reference(raw: Any, args: MathArgs) -> Reference:
    """The parsed reference. Raises BadReference when it is empty, too long, too complex or not equal to itself."""
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise BadReference("not-text")
    text = str(raw)
    if not text.strip():
        raise BadReference("empty-reference")
    if len(text) > MAX_REFERENCE_CHARS:
        raise BadReference("too-long")
    readings = read_answer(text)
    for reading in readings:
        if not reading.items and reading.fault in ("too-complex", "too-long"):
            raise BadReference(reading.fault)
    if not any(reading.items or reading.word for reading in readings) and readings[0].fault in _CUT_SHORT:
        raise BadReference("incomplete-expression")
    reason = _match(readings, readings[:1], _policy(args, None))
    if reason is not None:
        raise BadReference(reason if reason in ("too-complex", "undefined") else "self-mismatch")
    return Reference(text, readings)


_USUAL = frozenset("f")
_CUT_SHORT = ("incomplete-expression", "empty-group")


@lru_cache(maxsize=4096)
def _functions(question: str | None) -> frozenset[str]:
    return _USUAL | frozenset(_FUNCTION_ASKED.findall((question or "")[:20_000]))


def _policy(args: MathArgs, question: str | None, trace: list[str] | None = None) -> Policy:
    asked = question is not None and bool(_PERCENT_ASKED.search(question[:20_000]))
    return Policy(
        tolerance=Tolerance(args.rtol, args.atol, args.rounding, args.integers, trace),
        percent=args.percent == "either" or (args.percent == "auto" and asked),
        require_unit=args.require_unit,
        ordered=args.ordered,
        variables=args.variables == "strict",
        question_has_integral=question is not None and "\\int" in question,
    )


def _match(references: tuple[Answer, ...], answers: tuple[Answer, ...], policy: Policy) -> str | None:
    """None when any reading of the answer matches any of the reference, else the reason of the first pair."""
    first = None
    for reference in references:
        for answer in answers:
            try:
                reason = compare(reference, answer, policy)
            except MathError as error:
                reason = str(error)
            if reason is None:
                return None
            first = first or reason
    return first


_NUMERAL = re.compile(r"\s*-?\d{1,12}(\.\d{1,12})?\s*")


def _is_short_number(answer: str, reference: Any) -> bool:
    return bool(_NUMERAL.fullmatch(answer)) and bool(_NUMERAL.fullmatch(str(reference)[:40]))


@verifier(
    "math", domains=("math",), args=MathArgs, reference=read_reference, bounded=_is_short_number, libraries=("sympy", "mpmath")
)
def math(answer: str, reference: Reference, context: Context) -> Outcome:
    """Score 1 when the answer equals the reference, else 0 with the reason."""
    functions = _functions(context.question)
    readings = reference.readings if functions == _USUAL else read_answer(reference.source, functions)
    found = read_answer(answer, functions, loose=True)
    trace: list[str] | None = None if context.notes is None else []
    if restates(answer, reference.source, context.question):
        reason: str | None = "restates-question"
    elif denied(answer, reference.source):
        reason = "hedged"
    else:
        reason = _match(readings, found, _policy(context.args, context.question, trace))
    if trace is not None:
        context.note("reference", shown(readings))
        context.note("answer", shown(found))
        context.note("rule", reason or (trace[-1] if trace else "equal"))
    return Outcome(1.0, True) if reason is None else Outcome(0.0, False, reason)
