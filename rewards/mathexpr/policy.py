"""How strictly answers are compared, and how a difference is reported."""

from __future__ import annotations

from dataclasses import dataclass, field

from rewards.mathexpr.equality import Tolerance


@dataclass(frozen=True, slots=True)
class Policy:
    """How strictly to compare; the fields are the `math` verifier's arguments."""

    tolerance: Tolerance = field(default_factory=Tolerance)
    percent: bool = False  # a bare number may stand for a percentage
    require_unit: bool = False
    ordered: bool = False
    variables: bool = True  # the names of values and variables must agree
    question_has_integral: bool = False


class Mismatch(Exception):
    """The answers differ; the message is a machine-readable reason."""
