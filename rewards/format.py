"""The response format: a think part, then an answer part that holds the answer exactly once in a box.

    <think>THOUGHT</think> TEXT <|begin_of_box|>ANSWER<|end_of_box|> TEXT            style "box"    (GLM-4.5V)
    <think>THOUGHT</think> <answer>ANSWER, or TEXT with one box</answer>              style "answer" (GLM-4.1V)

The think part may be empty (non-thinking mode) but must be there. Only the box of the answer part counts; LaTeX
`\\boxed{}` is ordinary text. The style is the caller's setting and is never guessed from the text.
Source: GLM-4.5V report, arXiv 2507.01006, section on supervised fine-tuning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Style = Literal["box", "answer"]

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
BOX_OPEN, BOX_CLOSE = "<|begin_of_box|>", "<|end_of_box|>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|endoftext|>")

MAX_RESPONSE_CHARS = 1 << 20
"""Longer text is refused unread: 32,768 tokens of output stay below it at up to 32 characters a token."""
MAX_ANSWER_CHARS = 1 << 16
"""The longest boxed answer any verifier is handed."""


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """The parts of a response. `reason` is None when it is well-formed; otherwise `boxed` is None.

    `think` and `answer_text` (everything after `</think>`, box tokens included) are None when the text does not split.
    `boxed` is the raw text between the box tokens, white space kept.
    """

    think: str | None
    answer_text: str | None
    boxed: str | None
    reason: str | None


def parse_response(text: str, style: Style = "box") -> ParsedResponse:
    """Split `text` into its parts; never raises for any string.

    Raises ValueError for an unknown `style`. Cost is linear in the length, which is capped.
    """
    if style not in ("box", "answer"):
        raise ValueError(f"style is {style!r}; expected 'box' (GLM-4.5V) or 'answer' (GLM-4.1V)")
    if len(text) > MAX_RESPONSE_CHARS:
        return ParsedResponse(None, None, None, "too-long")
    if not text.strip():
        return ParsedResponse(None, None, None, "empty-response")
    if any(token in text for token in ROLE_TOKENS):
        return ParsedResponse(None, None, None, "role-token")
    reason = _think_fault(text)
    if reason is not None:
        return ParsedResponse(None, None, None, reason)
    head, _, answer_text = text.partition(THINK_CLOSE)
    think = head.partition(THINK_OPEN)[2]
    if BOX_OPEN in think or BOX_CLOSE in think:
        # Its own reason when the only box is there: the policy has the format nearly right and needs telling apart.
        reason = "box-in-think" if BOX_OPEN in answer_text else "box-only-in-think"
        return ParsedResponse(think, answer_text, None, reason)
    boxed, reason = _box(answer_text) if style == "box" else _answer_element(answer_text)
    if boxed is not None and len(boxed) > MAX_ANSWER_CHARS:
        boxed, reason = None, "answer-too-long"
    return ParsedResponse(think, answer_text, boxed, reason)


def _think_fault(text: str) -> str | None:
    opened, closed = text.count(THINK_OPEN), text.count(THINK_CLOSE)
    if opened == 0:
        return "no-think" if closed == 0 else "unopened-think"
    if opened > 1 or closed > 1:
        return "two-thinks"
    if closed == 0 or text.index(THINK_CLOSE) < text.index(THINK_OPEN):
        return "unclosed-think"
    if text[: text.index(THINK_OPEN)].strip():
        return "text-before-think"
    return None


def _element(text: str, opening: str, closing: str, name: str) -> tuple[str | None, str | None]:
    """The inside of the one `opening ... closing` element of `text`, or the reason why there is not exactly one."""
    marks = [m.group() for m in re.finditer(f"{re.escape(opening)}|{re.escape(closing)}", text)]
    if not marks:
        return None, f"no-{name}"
    depth = 0
    for mark in marks:
        depth += 1 if mark == opening else -1
        if depth < 0:
            return None, f"unopened-{name}"
        if depth > 1:
            return None, f"nested-{name}"
    if depth:
        return None, f"unclosed-{name}"
    if len(marks) > 2:
        return None, "two-boxes" if name == "box" else f"two-{name}s"
    inner = text.partition(opening)[2].partition(closing)[0]
    return (inner, None) if inner.strip() else (None, f"empty-{name}")


def _box(answer_text: str) -> tuple[str | None, str | None]:
    return _element(answer_text, BOX_OPEN, BOX_CLOSE, "box")


def _answer_element(answer_text: str) -> tuple[str | None, str | None]:
    inner, reason = _element(answer_text, ANSWER_OPEN, ANSWER_CLOSE, "answer")
    if inner is None:
        return None, reason
    before, _, rest = answer_text.partition(ANSWER_OPEN)
    after = rest.partition(ANSWER_CLOSE)[2]
    if before.strip() or after.strip():
        return None, "text-outside-answer"
    if BOX_OPEN in inner or BOX_CLOSE in inner:
        return _box(inner)
    return inner, None
