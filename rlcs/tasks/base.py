"""What a problem family is: a seeded generator of problems by difficulty level."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Sample:
    """One problem: the question's text, its image if it has one, the reference answer, the reasoning to teach, the text of the
    boxed answer (what SFT writes into the box), and a quick thought, which names the matter and works nothing out.
    """

    question: str
    answer: Any
    think: str
    boxed: str
    quick: str
    image: Image.Image | None = None
    verifier_args: dict[str, Any] = field(default_factory=dict)

    @property
    def response(self) -> str:
        """The reference response in GLM-4.5V's format."""
        return self._respond(self.think)

    @property
    def quick_response(self) -> str:
        """The right answer after the quick thought."""
        return self._respond(self.quick)

    def _respond(self, thought: str) -> str:
        return f"<think>{thought}</think>\n<|begin_of_box|>{self.boxed}<|end_of_box|>"


class Family(Protocol):
    """A procedural problem family. `generate` draws everything from `rng`; levels run from 1 (easy) to `levels` (hard)."""

    domain: str
    levels: int

    def generate(self, rng: np.random.Generator, level: int) -> Sample: ...


def check_level(family: Family, level: int) -> None:
    """Raises ValueError unless the family has that level."""
    if not 1 <= level <= family.levels:
        raise ValueError(f"{family.domain} has levels 1 to {family.levels}, found {level}")
