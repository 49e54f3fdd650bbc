"""Whether an answer only repeats what the question asks to be worked out: "2x > 4" to "Solve 2x > 4"."""

from __future__ import annotations

import re
from functools import lru_cache

MAX_QUESTION_CHARS = 20_000
_ASKS = re.compile(
    r"(?:whatis|whatdoes|compute|evaluate|simplify|calculate|solve|solvefor[a-z]|determine|find|factor|factorise|factorize|expand|"
    r"workout|answer(?:to)?|resultof|求|计算|化简|解|求解|因式分解|解方程|解不等式)"
    r"(?:the|this|following|valueof|resultof|expression|equation|inequality|integral|sum|product|limit|derivativeof|arithmetic|"
    r"problem|question|task|for[a-z]|[:：,，]|不等式|方程|的值)*$",
    re.IGNORECASE,
)
# What is left to be filled in behind an expression: "8 - 5 =", "8 - 5 = ?", "8 - 5 等于多少".
_BLANK = re.compile(r"(?:=|等于|equals?)(?:[?？_…]|\\_|多少|几|$)", re.IGNORECASE)
_MARKS = re.compile(r"\\left|\\right|\\displaystyle|\\[()\[\],;!: ]|[\s${}]")
_OPERATOR = re.compile(r"[-+*/^=<>!|]|\\(?:frac|sqrt|times|cdot|div|int|sum|lim|prod|le|ge|log|ln|sin|cos|tan|binom)|[√×÷≤≥²³]")


@lru_cache(maxsize=4096)
def _compact_question(question: str) -> str:
    return _compact(question[:MAX_QUESTION_CHARS])


def _compact(text: str) -> str:
    return _MARKS.sub("", text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")).strip(".,;:?。，；？")


def restates(answer: str, reference: str, question: str | None) -> bool:
    """Whether `answer` holds an operation and stands in `question` right behind the request to work it out, or right before a
    blank that wants its value.

    Not where the reference is the same text: then nothing was to be worked out.
    """
    if not question or len(answer) > 400:
        return False
    given = _compact(answer)
    if len(given) < 2 or not _OPERATOR.search(given.lstrip("-+")) or given == _compact(reference):
        return False
    asked = _compact_question(question)
    at = asked.find(given)
    while at >= 0:
        before, end = asked[max(0, at - 60) : at], at + len(given)
        whole = not before or not (_OPERATOR.search(before[-1]) or before[-1].isdigit() or before[-1] == ".")
        if whole and _BLANK.match(asked, end):
            return True
        following = asked[end : end + 1]
        if _ASKS.search(before) and not _OPERATOR.match(following) and not following.isalnum():
            return True
        at = asked.find(given, at + 1)
    return False
