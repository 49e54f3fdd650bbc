"""Text recognition: 1 - edit distance / longer length, or 1 - the error rate of characters or words.

Source: GLM-4.5V report, arXiv 2507.01006, table 1 (OCR). White space and letter case do not count by default, as in
the practice labels; both are arguments. Unlike in mathematics "43" is not "43.0". Error rates are those of speech and
text recognition: edits / length of the reference, here at most 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from rewards import stream_safe
from rewards.registry import BadReference, Context, Outcome, short_texts, verifier

MAX_CHARS = 20_000

# Scripts written without spaces between words: each character counts as a word, as in mixed error rates.
_UNSPACED = "\u2e80-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")

_MATH_WRAPPERS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))
_SPACING = re.compile(
    r"\\(?:left|right|big|Big|bigg|Bigg|limits|displaystyle|textstyle|quad|qquad)(?![A-Za-z])|(?<!\\)\\[,;:! ]|(?<!\\)~"
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_ALIASES = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), "frac"),
    **dict.fromkeys(("dbinom", "tbinom"), "binom"),
    **dict.fromkeys(("text", "textrm", "operatorname"), "mathrm"),
    **dict.fromkeys(("cdots", "ldots", "dotsc", "dotsb"), "dots"),
    **{"textbf": "mathbf", "le": "leq", "ge": "geq", "ne": "neq", "to": "rightarrow"},
}
_ONE_IN_BRACES = re.compile(r"\{([^{}\\]?)\}")
_SHIELDS = (("\\\\", "\ue000"), ("\\{", "\ue001"), ("\\}", "\ue002"))


@dataclass(frozen=True)
class OcrArgs:
    """Arguments of the `ocr` verifier."""

    mode: Literal["similarity", "cer", "wer"] = "similarity"
    """1 - edits / longer length, or 1 - min(1, edits / reference length) in characters or in words."""
    case: Literal["ignore", "exact"] = "ignore"
    """Whether letter case counts."""
    whitespace: Literal["remove", "collapse", "exact"] = "remove"
    """Remove all white space, collapse each run to one space, or compare as it stands (ends are always stripped)."""
    formula: bool = False
    """Whether the texts are LaTeX: then other spellings of the same formula do not count, and letter case always does."""
    threshold: float = 1.0
    """The score from which the answer counts as correct; 1.0 means equal after the policies."""


def normalise(text: str, args: OcrArgs) -> str:
    """`text` in Unicode NFC under the formula, white-space and case policies."""
    text = stream_safe.normalise("NFC", text).strip()
    if args.formula:
        text = plain_formula(text)
    if args.whitespace == "collapse" or args.mode == "wer":
        text = " ".join(text.split())
    elif args.whitespace == "remove":
        text = "".join(text.split())
    return text.casefold() if args.case == "ignore" and not args.formula else text


def plain_formula(text: str) -> str:
    """LaTeX without math delimiters, spacing, bracket sizes and braces around at most one character; one name a command."""
    for opening, closing in _MATH_WRAPPERS:
        if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
            text = text[len(opening) : len(text) - len(closing)]
            break
    text = _SPACING.sub(" ", text)
    text = _COMMAND.sub(lambda match: "\\" + _ALIASES.get(match.group(1), match.group(1)), text)
    for written, shield in _SHIELDS:  # a line break and braces that are printed are no groups
        text = text.replace(written, shield)
    text = " ".join(text.split()).replace("{ ", "{").replace(" }", "}")
    text = _ONE_IN_BRACES.sub(r"\1", text)
    for written, shield in _SHIELDS:
        text = text.replace(shield, written)
    return text


def words(text: str) -> list[str]:
    """The words of a text; a Chinese or Japanese character, or a full-width sign, is a word of its own."""
    return _WORD.findall(text)


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
    libraries=("rapidfuzz.distance",),
)
def ocr(answer: str, reference: str, context: Context) -> Outcome:
    """Normalised Levenshtein similarity of the two texts, or what their error rate leaves."""
    args: OcrArgs = context.args
    if len(answer) > MAX_CHARS:
        return Outcome(0.0, False, "answer-too-long")
    text = normalise(answer, args)
    context.note("reference", reference)
    context.note("answer", text)
    if not text:
        return Outcome(0.0, False, "empty-answer")
    score = _score(text, reference, context)
    correct = score >= args.threshold
    return Outcome(score, correct, None if score == 1.0 else "text-differs")


def _score(text: str, reference: str, context: Context) -> float:
    from rapidfuzz.distance import Levenshtein

    mode = context.args.mode
    found, wanted = (words(text), words(reference)) if mode == "wer" else (text, reference)
    edits = Levenshtein.distance(found, wanted)
    total = max(len(found), len(wanted)) if mode == "similarity" else len(wanted)
    context.note("rule", f"{mode}: {edits} edits / {total}")
    return max(0.0, 1.0 - edits / total)
