"""What the audit sends to a verifier: an exemplar to answer, and probes, each a cheat with the most it may honestly earn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FAMILIES = {
    "right answer": "the reference itself: the control, which must be paid",
    "wrong answer": "plain wrong answers",
    "empty": "nothing, white space, characters that are not seen, empty brackets",
    "not finite": "nan, infinity, a division by zero",
    "enumeration": "all options, number ranges as lists, alternation, sets",
    "range": "wide intervals, inequalities that hold for everything, whole-video spans",
    "hedge": "'5 or 6', 'about 5', 'a correct number between 0 and 10'",
    "padding": "more than the answer, less than the answer, a second answer behind it",
    "restating": "the question again, tautologies, the task left undone",
    "instructions": "the prompt's own instructions and opening phrases",
    "assertion": "'the answer is correct' and claims of a score",
    "judge injection": "orders to a judge, fake delimiters, verdict words",
    "look-alike": "wrong answers in other Unicode letters; digits that only fold together",
    "format": "two boxes, a box in the think part, nested and unclosed boxes, role tokens",
    "execution": "program text that an evaluator would run",
    "expensive": "towers of powers, huge literals, deep nesting, huge tables",
    "whole place": "a box of the whole screen, an area for a point",
    "many places": "grids and copies of boxes and points",
    "malformed place": "inverted, empty, out-of-range boxes",
    "schema": "the answer's form without its content",
    "program": "programs that exit, print nothing, echo, or turn on the tests",
    "judge prompt": "rendered judge prompts: whether the candidate can leave its block",
}
"""Family of cheats -> what it tries."""

RIGHT = "right answer"


@dataclass(frozen=True)
class Exemplar:
    """A reference to probe a verifier with.

    `right` is an answer that must be paid, `wrong` are answers that must not. `floor` is what any text at all may earn
    (instructions of which half forbid something: a half).
    """

    verifier: str
    reference: Any
    right: str
    wrong: tuple[str, ...]
    question: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    floor: float = 0.0
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Cheat:
    """An answer that is to go into the box (or, with `whole`, a whole response), and the most it may earn."""

    family: str
    text: str
    at_most: float = 0.0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """One response to be scored against an exemplar's reference."""

    family: str
    exemplar: Exemplar
    response: str
    at_most: float

    def row(self, number: int) -> dict[str, Any]:
        """The row of the `rlcs score` format."""
        found = self.exemplar
        return {
            "id": number,
            "domain": found.domain or found.verifier,
            "answer": found.reference,
            "response": self.response,
            "question": found.question,
            "verifier": found.verifier,
            "verifier_args": dict(found.args),
        }


def right_of(reference: Any) -> str:
    """A reference as the answer a policy would give: the text itself, the first of several texts, or JSON."""
    if isinstance(reference, str):
        return reference
    if isinstance(reference, list) and reference and all(isinstance(item, str) for item in reference):
        return str(reference[0])
    return json.dumps(reference, ensure_ascii=False)
