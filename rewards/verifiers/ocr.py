"""Text recognition: 1 - edit distance / longer length.

Source: GLM-4.5V report, arXiv 2507.01006, table 1 (OCR). White space and letter case do not count by default, as in
the practice labels; both are arguments. Unlike in mathematics "43" is not "43.0".
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from rewards.registry import BadReference, Context, Outcome, short_texts, verifier

MAX_CHARS = 20_000


@dataclass(frozen=True)
class OcrArgs:
    """Arguments of the `ocr` verifier."""

    case: Literal["ignore", "exact"] = "ignore"
    """Whether letter case counts."""
    whitespace: Literal["remove", "collapse", "exact"] = "remove"
    """Remove all white space, collapse each run to one space, or compare as it stands (ends are always stripped)."""
    threshold: float = 1.0
    """The similarity from which the answer counts as correct; 1.0 means equal after the two policies."""


def normalise(text: str, args: OcrArgs) -> str:
    """`text` in Unicode NFC under the white-space and case policies."""
    text = unicodedata.normalize("NFC", text).strip()
    if args.whitespace == "remove":
        text = "".join(text.split())
    elif args.whitespace == "collapse":
        text = " ".join(text.split())
    return text.casefold() if args.case == "ignore" else text


def read_reference(raw: Any, args: OcrArgs) -> str:
    """The normalised reference text. Raises BadReference when it is not text, empty or too long."""
    if not isinstance(raw, str):
        raise BadReference("not-text")
    if len(raw) > MAX_CHARS:
        raise BadReference("too-long")
    text = normalise(raw, args)
    if not text:
        raise BadReference("empty-reference")
    return text


@verifier(
    "ocr",
    domains=("ocr",),
    args=OcrArgs,
    reference=read_reference,
    bounded=short_texts(1 << 10),
)
def ocr(answer: str, reference: str, context: Context) -> Outcome:
    """Normalised Levenshtein similarity of the two texts."""
    from rapidfuzz.distance import Levenshtein

    args: OcrArgs = context.args
    if len(answer) > MAX_CHARS:
        return Outcome(0.0, False, "answer-too-long")
    text = normalise(answer, args)
    if not text:
        return Outcome(0.0, False, "empty-answer")
    similarity = Levenshtein.normalized_similarity(text, reference)
    correct = similarity >= args.threshold
    return Outcome(similarity, correct, None if similarity == 1.0 else "text-differs")
