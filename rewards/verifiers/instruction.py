"""Instructions that a rule can verify: length, keywords, format, JSON schema, language. The score is the fraction met.

The reference is a list of constraint objects, see `rewards.constraints`. Source: IFEval, arXiv 2311.07911.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rewards import prose
from rewards.constraints import Constraint
from rewards.count_constraints import Count
from rewards.instructions import InstructionError, read_constraints
from rewards.non_answers import restates
from rewards.plain_text import fold
from rewards.registry import BadReference, Context, Outcome, verifier

MAX_CHARS = 65_536


@dataclass(frozen=True)
class InstructionArgs:
    """Arguments of the `instruction` verifier."""

    mode: Literal["fraction", "all"] = "fraction"
    """The score: the fraction of the constraints that are met, or 1 for all and else 0."""


def read_reference(raw: Any, args: InstructionArgs) -> tuple[tuple[str, Constraint], ...]:
    """(type name, constraint) of each constraint. Raises BadReference that names the first one at fault."""
    try:
        return read_constraints(raw)
    except InstructionError as error:
        raise BadReference(str(error)) from error


def _bounded(answer: str, reference: Any) -> bool:
    shown = str(reference)
    return len(answer) <= 1024 and len(shown) <= 1024 and "json_schema" not in shown


@verifier(
    "instruction",
    domains=("instruction",),
    args=InstructionArgs,
    reference=read_reference,
    bounded=_bounded,
    libraries=("jsonschema", "re2"),
)
def instruction(answer: str, reference: tuple[tuple[str, Constraint], ...], context: Context) -> Outcome:
    """The fraction of the constraints that the answer meets."""
    if len(answer) > MAX_CHARS:
        return Outcome(0.0, False, "answer-too-long")
    text = prose.visible(answer)
    context.note("reference", ", ".join(str(constraint) for _, constraint in reference))
    context.note("answer", text)
    if not prose.has_content(text):
        return Outcome(0.0, False, "empty-answer")
    if context.question is not None and restates(fold(text), text.endswith(("?", "？")), fold(context.question)):
        return Outcome(0.0, False, "restates-question")
    fault, met = None, 0
    for kind, constraint in reference:
        holds = constraint.met(text)
        count = f" ({constraint.count(text)})" if context.notes is not None and isinstance(constraint, Count) else ""
        context.note("rule", f"{kind}: {'met' if holds else 'not met'}{count}")
        met += holds
        if not holds and fault is None:
            fault = f"{kind.replace('_', '-')}-not-met"
    score = float(fault is None) if context.args.mode == "all" else met / len(reference)
    return Outcome(score, fault is None, fault)
