"""Faults of style that make a response a bad one in any domain, whatever its answer: `find_fault` names the first.

Source: GLM-4.5V report, arXiv 2507.01006, reward section: mixed-language blocks and repetition get a low reward.
Rules, thresholds and limits: docs/style_checks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rewards.mixed_language import mixes_languages
from rewards.repetition import loops


def _repeats(think: str, answer_text: str, question: str | None) -> bool:
    return loops(think) or loops(answer_text)


_CHECKS: dict[str, Callable[[str, str, str | None], bool]] = {
    "repetition": _repeats,
    "mixed-language": mixes_languages,
}
CHECKS: tuple[str, ...] = tuple(_CHECKS)
"""The names of the checks; a check's name is also its reason."""


def find_fault(think: str, answer_text: str, question: str | None, checks: Sequence[str]) -> str | None:
    """The first of `checks` that the response fails, or None.

    `think` and `answer_text` are the parts before and after `</think>`, box tokens included. Cost is linear in their lengths,
    of which the first and last 150,000 characters are looked at. Raises ValueError for an unknown check, never for a text.
    """
    unknown = [check for check in checks if check not in _CHECKS]
    if unknown:
        raise ValueError(f"unknown style check {unknown[0]!r}; expected of {', '.join(CHECKS)}")
    return next((check for check in checks if _CHECKS[check](think, answer_text, question)), None)
