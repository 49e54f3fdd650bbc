"""How long the longest prompt of a problem file is, for the plan of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from rlcs.problems import Problem
from rollout.chat import ChatRenderer
from rollout.messages import parts_of
from sft.checkpoint import resolve_model

ASSUMED = 1024
"""Tokens where there is nothing to measure."""
_CHARACTERS = 3  # a token of text, at least, in a language model's vocabulary
_CELL = 28 * 28  # pixels of a visual token: GLM-4V's patches of 14, two by two
_VIDEO = 4096
_RENDERED = 4


def longest_prompt(problems: Sequence[Problem] | None, model: str) -> tuple[int, str]:
    """(tokens, how they were found): measured by the processor of `model` on the problems that look longest, or estimated
    from characters and pixels where the model is not there yet.
    """
    if not problems:
        return ASSUMED, "assumed"
    looks = sorted(problems, key=lambda problem: -_looks(problem))[:_RENDERED]
    try:
        renderer = ChatRenderer.from_pretrained(resolve_model(model))
    except FileNotFoundError:
        return _looks(looks[0]), f"estimated; {looks[0].id}"
    lengths = {
        problem.id: len(renderer.prompt(problem.messages, root=problem.root, thinking=True, id=problem.id).encoded.input_ids)
        for problem in looks
    }
    longest = max(lengths, key=lengths.__getitem__)
    return lengths[longest], longest


def _looks(problem: Problem) -> int:
    return sum(_size(part, problem) for message in problem.messages for part in parts_of(message))


def _size(part: Mapping[str, Any], problem: Problem) -> int:
    if part["type"] == "text":
        return len(part["text"]) // _CHARACTERS + 1
    if part["type"] == "video":
        return _VIDEO
    try:
        with Image.open(problem.root / part["image"]) as image:
            return image.width * image.height // _CELL + 2
    except OSError:
        return ASSUMED
