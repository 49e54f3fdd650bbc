"""What a problem family is: a seeded generator of problems by difficulty level."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from PIL import Image


class Working(StrEnum):
    """Where a response writes its working: in the thought, in the answer part (without a thought), or nowhere."""

    THOUGHT = "thought"
    ANSWER = "answer"
    NONE = "none"


@dataclass(frozen=True)
class Sample:
    """One problem and its right answers.

    question, image: what is asked. answer: the reference. boxed: the text SFT writes into the box. working: the reasoning to
    teach, as a thought has it. quick: a thought that names the matter and works nothing out. content: what the problem is
    about, however it is drawn (problems of one content never fall on both sides of a split). shown: the working as an answer
    part shows it, empty where an answer shows none (a transcription, an action).

    `working`, `quick` and `shown` should differ in every step: a model this small forgets on the way whether it is thinking or
    answering, and ends the part with the wrong token.
    """

    question: str
    answer: Any
    working: str
    boxed: str
    quick: str
    content: str
    shown: str = ""
    image: Image.Image | None = None
    verifier_args: dict[str, Any] = field(default_factory=dict)

    def response(self, working: Working = Working.THOUGHT) -> str:
        """A right response in GLM-4.5V's format. Where an answer shows no working, the thought has it instead."""
        box = f"<|begin_of_box|>{self.boxed}<|end_of_box|>"
        if working is Working.ANSWER and self.shown:
            return f"<think></think>\n{self.shown}{box}"
        return f"<think>{self.quick if working is Working.NONE else self.working}</think>\n{box}"


class Family(Protocol):
    """A procedural problem family. `generate` draws everything from `rng`; levels run from 1 (easy) to `levels` (hard)."""

    domain: str
    levels: int

    def generate(self, rng: np.random.Generator, level: int) -> Sample: ...


def check_level(family: Family, level: int) -> None:
    """Raises ValueError unless the family has that level."""
    if not 1 <= level <= family.levels:
        raise ValueError(f"{family.domain} has levels 1 to {family.levels}, found {level}")
