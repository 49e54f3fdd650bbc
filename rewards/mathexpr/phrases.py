"""Fixed phrases that mean the same: yes and true, no solution and 无解. Each group has one canonical name."""

from __future__ import annotations

import re

_GROUPS = {
    "yes": "yes, true, correct, 是, 是的, 对, 对的, 正确, 真",
    "no": "no, false, incorrect, 否, 不是, 错, 错的, 不对, 不正确, 错误, 假",
    "no solution": (
        "no solution, no solutions, no real solution, no real solutions, none, empty set, the empty set, no roots, "
        "no real roots, no such numbers exist, there is no solution, there are no solutions, there are no real solutions, "
        "无解, 无实数解, 无实根, 没有解, 空集, 方程无解"
    ),
    "does not exist": "does not exist, dne, doesn't exist, do not exist, it does not exist, the limit does not exist, 不存在",
    "infinite": (
        "infinitely many, infinite, infinitely many solutions, infinite solutions, an infinite number, infinite number, "
        "infinite number of solutions, there are infinitely many, 无数, 无数个, 无穷多, 无穷多个, 无限多, 无限多个"
    ),
    "all real numbers": (
        "all real numbers, all reals, all real number, the set of all real numbers, any real number, "
        "全体实数, 一切实数, 任意实数, 实数集, 所有实数"
    ),
}
_CANONICAL = {phrase.strip(): name for name, group in _GROUPS.items() for phrase in group.split(",")}
_ECHO = re.compile(
    r"(yes|no)\s*,\s*(?:it|they|he|she|we|you|this|that|there)\s+"
    r"(?:(?:is|are|was|were|does|do|did|can|could|will|would|has|have)(\s+not|n't)?|(can)not)"
)


def canonical(text: str) -> str | None:
    """The name of the group `text` (folded by `plain_text`) belongs to, or None. "No, it is not" is no."""
    found = _CANONICAL.get(text)
    if found is None and text[:2] in ("ye", "no") and (echo := _ECHO.fullmatch(text)):
        negative = bool(echo.group(2) or echo.group(3))
        return echo.group(1) if negative == (echo.group(1) == "no") else None
    return found
