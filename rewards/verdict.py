"""The result of scoring one response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Status = Literal["ok", "format_error", "abstained", "bad_reference"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of one response.

    `score` in [0, 1] and `correct` are None when nothing can be said of the response: the verifier abstained, or the
    reference is unusable. Such a sample is dropped from its group; it is never a zero. A format error is the policy's
    own fault: score 0.0, correct False. `extracted` is the boxed answer, `reason` a short machine-readable word
    (docs/rewards.md lists them); it is None only for a plain `ok`.

    Raises ValueError when the fields contradict each other.
    """

    score: float | None
    correct: bool | None
    status: Status
    extracted: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"Verdict.status is {self.status!r}; expected one of {', '.join(STATUSES)}")
        if self.status in ("abstained", "bad_reference"):
            if self.score is not None or self.correct is not None:
                raise ValueError(f"a verdict with status {self.status} has score None and correct None, not {self}")
        elif self.score is None or self.correct is None:
            raise ValueError(f"a verdict with status {self.status} needs a score and a correct flag, not {self}")
        elif not 0.0 <= self.score <= 1.0:
            raise ValueError(f"Verdict.score is {self.score!r}; expected a number in [0, 1]")
        if self.status == "format_error" and (self.score != 0.0 or self.correct is not False):
            raise ValueError(f"a format error scores 0.0 and is not correct, not {self}")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"a verdict with status {self.status} needs a reason")

    @classmethod
    def format_error(cls, reason: str, extracted: str | None = None) -> Verdict:
        """The response breaks the response format, or a style check."""
        return cls(0.0, False, "format_error", extracted, reason)

    @classmethod
    def abstained(cls, reason: str, extracted: str | None = None) -> Verdict:
        """The verifier could not tell (a time-out of our own making, a worker that died)."""
        return cls(None, None, "abstained", extracted, reason)

    @classmethod
    def bad_reference(cls, reason: str, extracted: str | None = None) -> Verdict:
        """The reference is one its own verifier cannot accept."""
        return cls(None, None, "bad_reference", extracted, reason)
