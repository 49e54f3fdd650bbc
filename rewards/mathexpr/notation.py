"""Other spellings of the same notation, brought to the one the parser reads: text to text, before tokens.

Each rule is bounded and looks at signs that occur in few answers, so that the common ones pay a substring test only.
"""

from __future__ import annotations

import re

from rewards.mathexpr.spelled import digits_for_words

_DOTS = re.compile(r"\.{3,}")
_OVER = re.compile(r"\{?([^{}\\]{1,60}|\\pi)\\(over|choose)(?![A-Za-z])([^{}\\]{1,60}|\s?\\pi)\}?")
_DOTTED = re.compile(r"(\d{0,40}\.\d{0,40})\\dot\s*\{?(\d)\}?(?:(\d{0,40})\\dot\s*\{?(\d)\}?)?")
_BRACKETED_CYCLE = re.compile(r"(-?\d+\.\d*)\((\d{1,20})\)")
_RECURRING = re.compile(r"(-?\d+\.\d{0,20}?)(\d{1,6})\2{2,}\\dots")
_CUT_OFF = re.compile(r"(?<=\d)\s*\\dots\s*$")
_POWER_OF_TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)")
_LEADING_SIGNS = re.compile(r"(^|=)\s*(?:\+/-|\+-)\s*")
_UNION = re.compile(r"(?<=[)\]])\s*U\s*(?=[(\[])")
_MINUTES = re.compile(r"(\d+)\s*\^\s*\{?\s*\\circ\s*\}?\s*(\d{1,2})\s*(?:'(?!')|\^\{?\\prime\}?)(?:\s*(\d{1,2})\s*(?:''|\"))?")
_DEGREE_WORD = re.compile(r"(?<=[\d}])\s*度")
_OPEN_END = re.compile(r"([\[\](])([^\[\]()]{1,200}[,;][^\[\]()]{1,200})([\[\])])")
_ROWS = re.compile(
    r"^(?:\\left)?\\?\{?\s*\\begin\s*\{(cases|array|aligned|gathered)\}(?:\{[lcr]+\})?(.*)\\end\s*\{\1\}(?:\\right\.?)?$", re.S
)
_TRANSPOSED = re.compile(r"(?<=[)\]}])\s*\^\s*\{?\s*(?:\\(?:top|intercal|mathrm\{T\}|text\{T\})|T)\s*\}?")
_NUMBER_SET = re.compile(r"(?<=\\in)\s*([RQZN])(?=\s*(?:[,;.)]|$))")
_CHINESE_MINUS = re.compile(r"(?<![\u4e00-\u9fff])负(?=\s*[\d.\\])")
_COMPARED = {
    **{"大于或等于": ">=", "大于等于": ">=", "不小于": ">=", "小于或等于": "<=", "小于等于": "<=", "不大于": "<="},
    **{"不等于": "!=", "约等于": r"\approx ", "大于": ">", "小于": "<"},
}
_COMBINATIONS = [
    re.compile(r"(?<![A-Za-z\\_])([CAP])\s*_\s*\{?\s*(\d{1,4})\s*\}?\s*\^\s*\{?\s*(\d{1,4})\s*\}?"),
    re.compile(r"(?<![A-Za-z\\_])([CAP])\s*\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)"),
]


def respell(text: str) -> str:
    """The normalised text in the spelling the parser reads."""
    if ".." in text:
        text = _DOTS.sub(r"\\dots ", text)
    if "\\" in text:
        text = _commands(text)
    if "dots" in text:
        recurring = _RECURRING.fullmatch(text.strip()) if len(text) < 80 else None
        text = f"{recurring.group(1)}\\overline{{{recurring.group(2)}}}" if recurring else _CUT_OFF.sub("", text)
    if ")" in text:
        cycle = _BRACKETED_CYCLE.fullmatch(text.strip())
        text = f"{cycle.group(1)}\\overline{{{cycle.group(2)}}}" if cycle else _UNION.sub(r"\\cup ", text)
    if "10" in text:
        text = _POWER_OF_TEN.sub("*", text)
    if "+" in text:
        text = _LEADING_SIGNS.sub(r"\1\\pm ", text)
    if "[" in text or "]" in text:
        text = _french(text)
    if "^" in text:
        text = _TRANSPOSED.sub(r"^{T}", text)
    if not text.isascii():
        text = _CHINESE_MINUS.sub("-", _DEGREE_WORD.sub(r"^\\circ ", text))
        for word, sign in _COMPARED.items():
            text = text.replace(word, sign)
    return digits_for_words(text)


def _commands(text: str) -> str:
    if "\\over" in text or "\\choose" in text:
        text = _OVER.sub(lambda m: f"\\{'frac' if m.group(2) == 'over' else 'binom'}{{{m.group(1)}}}{{{m.group(3)}}}", text)
    if "\\dot" in text:
        text = _DOTTED.sub(_cycle, text)
    if "\\in" in text:
        text = _NUMBER_SET.sub(r"\\mathbb{\1}", text)
    if "\\degree" in text:
        text = text.replace("^\\degree", "^\\circ ").replace("^{\\degree}", "^\\circ ").replace("\\degree", "^\\circ ")
    if "\\circ" in text:
        text = _MINUTES.sub(_degrees, text)
    if "\\begin" in text and (rows := _ROWS.match(text.strip())) and "=" in rows.group(2) and "&" not in rows.group(2):
        text = ", ".join(part.strip(" ,.;") for part in rows.group(2).split("\\\\") if part.strip(" ,.;\n"))
    return text


def _cycle(match: re.Match[str]) -> str:
    head, first, middle, last = match.groups(default="")
    return f"{head}\\overline{{{first}{middle}{last}}}" + ("" if last else middle)


def _degrees(match: re.Match[str]) -> str:
    degrees, minutes, seconds = match.groups(default="0")
    return f"(({degrees})+({minutes})/60+({seconds})/3600)^\\circ "


def _french(text: str) -> str:
    """`[0, 1[` and `]0, 1]`, in which a bracket turned outwards leaves the end out, as `[0, 1)` and `(0, 1]`."""

    def turn(match: re.Match[str]) -> str:
        low, inside, high = match.groups()
        return ("(" if low == "]" else low) + inside + (")" if high == "[" else high)

    pieces = re.split(r"(\\cup)", text) if "\\cup" in text else [text]
    if any(piece != "\\cup" and not _OPEN_END.fullmatch(piece.strip()) for piece in pieces):
        return text
    return "".join(_OPEN_END.sub(turn, piece) for piece in pieces)


def combinations_written_out(text: str) -> str | None:
    """`C_5^2`, `C(5, 2)`, `A_5^2`, `P(5, 2)` as binomials and quotients of factorials; None when there are none."""
    found = False

    def spell(match: re.Match[str]) -> str:
        nonlocal found
        kind, n, k = match.groups()
        # Chinese textbooks write the larger number below: where it is the smaller one, this is a power of a variable.
        if int(k) > int(n):
            return match.group()
        found = True
        return f"\\binom{{{n}}}{{{k}}}" if kind == "C" else f"\\frac{{{n}!}}{{({n}-{k})!}}"

    for pattern in _COMBINATIONS:
        text = pattern.sub(spell, text)
    return text if found else None
