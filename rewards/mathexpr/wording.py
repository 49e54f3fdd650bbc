"""The prose around an answer: statements, headings, units of speech in English and Chinese, and mark-up."""

from __future__ import annotations

import re

from rewards.mathexpr.notation import respell

WORD = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"
PROSE = re.compile(rf"^{WORD}(?:[\s,]+{WORD})*$")
_STATEMENT = re.compile(rf"^(?:{WORD}[,\s]\s*){{0,7}}?(?:is|are|be|equals|equal to|est|es|ist)\s*:?\s+(?=\S)", re.IGNORECASE)
_HEADING = re.compile(rf"^(?:{WORD}\s+){{0,5}}(?:[^\W\d_]{{2,}})\s*[:：]\s*(?=\S)")
_CONNECTIVE = re.compile(
    r"^(?:therefore|thus|hence|so|then|finally|consequently|we (?:get|have|find|obtain)|it (?:follows that|equals)|or simply)"
    r"(?:\s*,\s*|\s+)(?=\S)",
    re.IGNORECASE,
)
_EVERY = re.compile(
    r"^(?:all|any|every)\s+(?:real|positive|negative|natural|odd|even|integers?|numbers?|values?|of|\s)*"
    r"(?=[a-z]\b\s*(?:\\[gl]e|[<>=]|\\ne))"
)
_COUNTED = re.compile(r"(?<=\d)\s+\(([A-Za-z]{3,20}|[\u4e00-\u9fff]{1,3})\)$|(?<=\d)\(([\u4e00-\u9fff]{1,3})\)$")
_BOTH = re.compile(r"^(?:either|both)\s+(?=[-\d$\\({])", re.IGNORECASE)
_CHINESE_CONNECTIVE = re.compile(
    r"^(?:(?:所以|因此|因而|综上|于是|可得|解得|最终)?(?:答案|结果)(?:是|为)?|所以|因此|因而|综上|于是|可得|解得"
    r"|(?:故|则|即|得|答|选|应选|故选|一?共有?|大约是?|约为?|等于)(?![\u4e00-\u9fff]))[,:\s]*"
)
# "答案是" announces and says nothing; "是否" and "有无" ask.
_CHINESE = re.compile(
    r"^(?:[A-Za-z]|[\u4e00-\u9fff]){0,24}?(?:是(?!否)|(?<=[案果论答])是|为|等于|(?:答案|结果)(?!\s*是\W*$)|有(?!无))\s*:?\s*"
    r"(?=[^\u4e00-\u9fff\s]|[零〇一二两三四五六七八九十无是否])"
)
# 不等式 (inequality), 非负 (not negative) and 未知数 (unknown) deny nothing; "两数的和为" announces a sum.
_CHINESE_NEGATED = re.compile(
    r"不(?!等式|定积分|定方程|等实|同的?|重复|变)|非(?!负|零|空)|没|未(?!知)|或|和(?!\s*(?:是|为|等于))"
)
_PROSE_LABEL = re.compile(
    rf"^(?:\\text\s*\{{\s*)?(?:(?:{WORD}\s+){{0,3}}[^\W\d_]{{4,}}|\\?(?:max|min|ans|sum|avg|gcd|lcm))\s*\}}?\s*=\s*(?=\S)",
    re.IGNORECASE,
)
_UNEVALUATED_HEAD = re.compile(r"^\\(?:lim|int|iint|sum|prod)(?![A-Za-z])")
_NEGATED = re.compile(r"\b(?:not|never|no|isn't|aren't|cannot)\b", re.IGNORECASE)
_REMARK = re.compile(
    r"(?:\\text\s*\{\s*)?\((?:in any order|in either order|approximately|approx\.?|rounded[^()]{0,60}|by symmetry)\)\s*\}?$",
    re.IGNORECASE,
)
_MARKDOWN = re.compile(r"^(\*\*|__|`)(.+)\1$", re.S)
_CURRENCY_CODE = re.compile(r"^(?:US\s?)\\?\$")
_DOLLARS = re.compile(r"^\s*[-+]?\$\s*[-+]?[\d.]")
_OPTION = re.compile(r"^(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?\s*\(?\s*([A-Z])\s*\)?\s*\.?\s*\}?\s*\.?$|^([A-J])\s*[).]$")
_OPTION_PREFIX = re.compile(r"^(?:option|choice)\s+(?=\(?[A-J]\)?\.?$)", re.IGNORECASE)
_OPTION_WITH_TEXT = re.compile(
    r"^(?:\\(?:text|textbf|mathrm|mathbf)\s*\{\s*\(([A-J])\)\s*\}|\(([A-J])\)|([A-J])[.):](?=\s))"
    r"(?:\\[ ,;:!]|\\quad|~|\s)*(?=\S)(.+)$",
    re.S,
)
_OTHER_OPTION = re.compile(r"(?<![A-Za-z])[A-J]\s*[.):]|\([A-J]\)|\b(?:or|and|not)\b|或|和")
_ORDINAL = re.compile(
    r"(?<![\w.])(\d+)\s*(?:\^\s*\{?\s*)?(?:\\(?:text|mathrm)\s*\{\s*(?:st|nd|rd|th)\s*\}|(?:st|nd|rd|th)(?![a-z]))\}?"
)
_DEGREE_LETTER = re.compile(r"\^\s*\{?\s*\\(?:text|mathrm)\s*\{\s*o\s*\}\s*\}?")
_SPACING = ("\\qquad", "\\quad", "\\,", "\\;", "\\:", "\\ ", "\\!", "\\")
_SURE_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!,?|,\\!)(?=\d{3}(?!\d))")
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d,]| ?[/\d])")
_PLAIN_SET = re.compile(r"^\{([^{}]*,[^{}]*|-?[\d./]+)\}$")
_SET_BUILDER = re.compile(
    r"^(?:\\left)?\\?\{\s*[a-z]\s*(?:\\in\s*(?:\\mathbb\s*\{?R\}?|R)\s*)?(?:\\middle\||\\mid(?![a-z])|\\vert|\||:|,(?=.*[<>]))"
    r"(.*?)(?:\\right)?\\?\}$"
)


def plain_text(text: str) -> str:
    """The answer as text to compare with text: mark-up, case, spacing and closing punctuation removed."""
    if "\\" in text:
        text = re.sub(r"\\(?:text|mathrm|textbf|textit|mathbf|operatorname|mbox|boxed)\s*\{([^{}]*)\}", r"\1", text)
        text = re.sub(r"\\(?:angle|triangle|overline|vec|overrightarrow)\b", " ", text)
        text = re.sub(r"\\[()\[\],;! ]", " ", text)
    text = re.sub(r"[{}$~]", " ", text)
    text = " ".join(text.split()).strip(" .,;:\"'`*").casefold()
    # After a word an exclamation mark is punctuation; after a number it is a factorial.
    return text.rstrip(" !") if text.endswith("!") and PROSE.match(text.rstrip(" !")) else text


def option(text: str) -> tuple[str, str] | None:
    """("B", "12") of "(B) 12" or "B. 12": a lettered option with its text, and no second one."""
    match = _OPTION_WITH_TEXT.match(text.strip().strip("$").strip())
    if match is None or _OTHER_OPTION.search(match.group(4)):
        return None
    return match.group(1) or match.group(2) or match.group(3), match.group(4)


def bare(text: str) -> str:
    """The mathematics of normalised text: prose, labels in words, mark-up and closing punctuation taken off."""
    text = _MARKDOWN.sub(r"\2", text.strip())
    if _DOLLARS.match(text) and text.count("$") - text.count(r"\$") == 1:
        text = text.replace("$", r"\$", 1)
    if "$" in text:
        text = re.sub(r"(?<!\\)\$", " ", _CURRENCY_CODE.sub(r"\\$", text))
    if "\\" in text:
        text = re.sub(r"\\[()\[\]]", " ", text).strip()
        text = re.sub(r"^\s*(?:\\(?:quad|qquad|displaystyle|[,;!: ])\s*)+", "", text)
    text = text.strip()
    letter = _OPTION.match(_OPTION_PREFIX.sub("", text))
    if letter:
        return letter.group(1) or letter.group(2)
    text = respell(_without_prose(text))
    text = re.sub(r"^\s*(?:=|\\approx|\\therefore)\s*", "", text)
    text = _without_closing(text)
    if "^" in text:
        text = re.sub(r"\^\s*$", r"^\\circ", text)  # "90^": a degree mark lost in conversion
        text = _DEGREE_LETTER.sub(r"^\\circ ", text)
    text = _SPACED_THOUSANDS.sub(lambda m: m.group().replace(" ", ""), _SURE_THOUSANDS.sub("", text))
    text = _ORDINAL.sub(r"\1", text)
    text = _PLAIN_SET.sub(r"\\{\1\\}", text.strip())
    builder = _SET_BUILDER.match(text)
    return builder.group(1).strip() if builder else text


def _without_closing(text: str) -> str:
    """`text` without the punctuation and spacing commands at its end. A factorial stays, and so does what stands before it."""
    before = None
    while text != before:
        before = text
        text = text.rstrip(" \t\r\n.,;:")
        for mark in _SPACING:
            text = text.removesuffix(mark)
    return text


def _without_prose(text: str) -> str:
    for _ in range(3):
        before = text
        unwrapped = re.sub(r"^\\text\s*\{([^{}]*)\}", r"\1", text) if text.startswith("\\text") else text
        for pattern in (_CONNECTIVE, _STATEMENT, _HEADING):
            match = pattern.match(unwrapped)
            if match and not _NEGATED.search(match.group()):
                text = unwrapped[match.end() :].strip()
                break
        if not text.isascii():
            text = _without_chinese(text)
        if text == before:
            break
    match = _PROSE_LABEL.match(text)
    if match and not _NEGATED.search(match.group()):
        text = text[match.end() :]
    if text.startswith("\\") and _UNEVALUATED_HEAD.match(text):
        text = _after_equals(text)
    if text.endswith((")", ")}")):
        text = _COUNTED.sub(lambda m: " " + (m.group(1) or m.group(2)), _REMARK.sub("", text).rstrip())
    return _EVERY.sub("", _BOTH.sub("", text))


def _without_chinese(text: str) -> str:
    for pattern in (_CHINESE_CONNECTIVE, _CHINESE):
        match = pattern.match(text)
        if match and not _CHINESE_NEGATED.search(match.group()) and text[match.end() :].strip():
            text = text[match.end() :].strip()
    return text


def _after_equals(text: str) -> str:
    """What a limit, sum or integral is said to equal; the text itself where nothing is said."""
    depth, last = 0, -1
    for index, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if char == "=" and not depth and text[index - 1] not in "<>!":
            last = index
    return text[last + 1 :] if last >= 0 and text[last + 1 :].strip() else text
