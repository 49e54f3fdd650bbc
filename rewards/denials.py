"""Answers that take back what they name: "wrong: 5", "≠5", "anything but Paris", "x=3 is incorrect", "除了5", "5是错的".

Readers that take the prose off an answer would be left with the value it denies. Only the first and the last words are
looked at, so the cost does not grow with the answer.
"""

from __future__ import annotations

import re

from rewards.plain_text import TRUTH_REFERENCES, fold, truth
from rewards.stream_safe import normalise

_REACH = 80
_MARKS = r"[\s*_$\"'(\[{.,:]*"
_THING = r"(?:answers?|values?|results?|solutions?|options?|choices?|numbers?|responses?|ones?)"
_BAD = r"(?:wrong|incorrect|false|untrue|invalid)"
_POINTING = r"(?:(?:it|this|that|which|is|are|the|an?|my)\s+){0,3}"
_ALL = r"(?:any(?:thing|one|where)?|every(?:thing|one|where)?|all)"
_HEADS = (
    r"≠|¬|!=?(?=\s*[\w\\$])|\\(?:neq?|neg|lnot)(?![a-z])|\\not\s*=",
    rf"{_POINTING}{_BAD}\s*{_THING}\s*(?:is|are|was|were|[:=])",
    r"(?:(?:it|this|that|answer|value|result|is|are|the|an?|my)\s+){0,4}not\s*[:=]",
    rf"{_ALL}\s+(?:but|except(?:ing)?|other\s+than|besides|apart\s+from)\b",
    r"(?:except(?:ing)?|excluding|other\s+than|instead\s+of|rather\s+than|never)\b(?=.)|(?:the\s+)?opposite\s+of\b",
    r"(?:(?:正确)?的?(?:答案|结果|选项)|应该|应|并|绝|肯定|它|这)?(?:不是(?!\s*[,，.。;；!！])|不为|不等于|不可能是|不应该?是)(?=.)",
    r"(?:别|不要?|勿)选(?=.)|并非(?=.)|除了|除去|排除|除(?=.{1,40}[以之]外)|没有(?=\s*[\da-z\\$])",
    r"(?:错误?|假)的?(?:答案|结果|选项|值|解)(?:是|为|[:：])(?=.)",
)
# These answer a yes-no question, too: "False: it is red", "The statement is wrong".
_VERDICT_HEADS = (rf"{_POINTING}{_BAD}\s*(?:[:=]|,\s*not\b)", r"(?:错误?|假)的?(?:是|为|[:：])(?=.)")
_VERDICT_TAILS = (
    rf"(?:(?<=\s)|(?<=[\d)}}\]$]))(?:is|are|was|were|would\s+be)\s+(?:not\s+(?:the\s+)?(?:correct|right|true|valid|{_THING})|{_BAD})(?:\s+{_THING})?",
    rf"(?<=[\s\d)}}\]$])(?:is|are|was|were)n't\s+(?:the\s+)?(?:correct|right|true|answer)(?:\s+{_THING})?",
    rf"[(\[,;:-]\s*(?:not\s+(?:correct|right|true)|{_BAD})\s*[)\]]?",
    r"[?？]\s*(?:no|not|wrong|不|否|错)",
    r"(?:是|为|就是)?(?:错误?的|不对的?|不正确的?|假的)",
    r"(?<=[\da-z)}\]$\s])(?:错误?|不(?:是|为)(?:正确)?(?:的|答案){1,2})",
)
# Few answers hold any of these; the others are let through at the cost of looking for them.
_HINTS = (
    "wrong",
    "incorrect",
    "false",
    "untrue",
    "invalid",
    "not",
    "n't",
    "but",
    "except",
    "excluding",
    "than",
    "besides",
    "apart",
)
_HINTS += ("instead", "never", "opposite", "\\ne", "\\lnot", *"≠¬!?不别勿非除错假没")
_FLAGS = re.IGNORECASE | re.DOTALL
_HEAD = re.compile(_MARKS + "(?:" + "|".join(_HEADS) + ")", _FLAGS)
_VERDICT_HEAD = re.compile(_MARKS + "(?:" + "|".join(_VERDICT_HEADS) + ")", _FLAGS)
_VERDICT_TAIL = re.compile(r"\S.*?(?:" + "|".join(_VERDICT_TAILS) + r")[\s*_$\"')\]}.,!。！]*", _FLAGS)


def denied(answer: str, reference: str = "") -> bool:
    """Whether `answer` takes back what it names: "wrong answer: 5", "除5以外", "5 is not correct", "5不对".

    Not where `reference` does so itself, and not "False: it is red" or "That is wrong" where it answers a question with no.
    """
    head, tail = _ends(answer)
    if _HEAD.match(head):
        return not _denies(reference)
    if not (_VERDICT_HEAD.match(head) or _VERDICT_TAIL.fullmatch(tail)):
        return False
    known = fold(reference[:_REACH])
    return not (known in TRUTH_REFERENCES and truth(known) is False) and not _denies(reference)


def _denies(text: str) -> bool:
    head, tail = _ends(text)
    return bool(_HEAD.match(head) or _VERDICT_HEAD.match(head) or _VERDICT_TAIL.fullmatch(tail))


def _ends(text: str) -> tuple[str, str]:
    """The first and the last characters; nothing where they hold no word of denial."""
    text = text.strip()
    head, tail = text[:_REACH], text[-_REACH:]
    if not text.isascii():
        head, tail = normalise("NFKC", head)[:_REACH], normalise("NFKC", tail)[-_REACH:]
    both = f"{head} {tail}".casefold()
    return (head, tail) if any(hint in both for hint in _HINTS) else ("", "")
