"""Normal forms of short natural-language answers, shared by the verifiers that compare words."""

from __future__ import annotations

import re
from functools import lru_cache

from rewards.stream_safe import normalise

_QUOTES = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032`\u00b4"), "'") | dict.fromkeys(
    map(ord, "\u201c\u201d\u201e\u2033"), '"'
)
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-")
# Characters that are not seen: zero-width ones, direction marks, byte-order marks, soft hyphens.
_UNSEEN: dict[int, str] = dict.fromkeys(
    [0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF], ""
)
_TABLE = _QUOTES | _DASHES | _UNSEEN
# NFKC makes "5\u00b2" the number 52 and "1\u00bd" the text 11/2: these keep their meaning.
_RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_VULGAR = re.compile("(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215e])")
_OUTER = " .,;:!?\u3002\uff0c\uff01\uff1f\u3001"


def vocabulary(table: str) -> list[str]:
    """The words of a table that is written as one text."""
    return table.split()


def compose(text: str) -> str:
    """`text` in NFKC with quotes and dashes of one kind, unseen characters off and raised digits as `^2`; case kept."""
    if text.isascii():
        return text.replace("`", "'")
    text = _VULGAR.sub(" ", _RAISED.sub(lambda match: "^" + match.group(), text))
    return normalise("NFKC", normalise("NFKC", text).translate(_TABLE)).replace("\u2044", "/")


def trim(text: str) -> str:
    """White space collapsed and outer punctuation off; a decimal point before a digit stays."""
    text = " ".join(text.split()).rstrip(_OUTER)
    inner = text.lstrip(_OUTER)
    if inner[:1].isdigit() and text[: len(text) - len(inner)].endswith("."):
        return "." + inner
    return inner


def fold(text: str) -> str:
    """`text` in NFKC and case-folded, quotes and dashes of one kind, white space collapsed, outer punctuation off."""
    return trim(normalise("NFKC", compose(text).casefold()))


_WRAPPERS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\\boxed\s*\{([^{}]*)\}\.?",
        r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}",
        r"\$\$?([^$]*)\$\$?",
        r"\\\((.*)\\\)",
        r"\*\*([^*]*)\*\*[.。]?",
        r"__([^_]*)__",
        r"\*([^*]*)\*",
        r"`([^`]*)`",
        r'"([^"]*)"',
        r"'([^']*)'",
        r"“([^”]*)”",
        r"「([^」]*)」",
    )
)
_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence|finally|conclusion)\b\s*+[,:]?\s*+)?"
    r"(?:i\s+(?:think|believe)\s+(?:that\s+)?)?(?:(?:the|my|our)\s+)?(?:(?:final|correct|right|best|short)\s+)?"
    r"(?:answer|ans|result|solution|option(?=\s+is)|choice(?=\s+is)|it(?=\s+(?:should|would)\s+be\s))\b"
    r"(?:\s+to\s+(?:the|this)\s+question)?\s*+(?:(?:is|are|would\s+be|should\s+be)\b\s*:?|[:=])\s*+"
    r"|(?:所以|因此|故|综上)?\s*+[,，]?\s*+(?:最终|正确|本题)?的?(?:答案|结果|选项(?=[是为]))\s*+(?:应该是|应为|应是|是|为|选)?\s*+[:：]?\s*+",
    re.IGNORECASE,
)


def unwrap(text: str) -> str:
    """The text inside its outermost wrappers without meaning (`\\boxed{}`, `**…**`, `$…$`, quotes), and without
    a lead-in ("The answer is", "答案是")."""
    for _ in range(4):
        text = text.strip()
        for wrapper in _WRAPPERS:
            match = wrapper.fullmatch(text)
            if match:
                text = match.group(1)
                break
        else:
            lead = _LEAD.match(text)
            if not lead or lead.end() == len(text):
                return text
            text = text[lead.end() :]
    return text.strip()


# Before a single letter "a" is an option's letter or a name: "a b" is two answers.
_ARTICLE = re.compile(r"(?:^|(?<=\s))(?:a\s+(?=\S\S)|(?:an|the)\s+(?=\S))")


_JOIN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])|(?<=[^\W\d_]{2})(?:\s?(?:->|=>|[:→])|\s-)\s?(?=\w)")


def label(text: str) -> str:
    """A short answer's normal form: unwrapped, folded, English articles off, hyphens between letters and the sign between
    a name and its value ("France: Paris") as spaces."""
    return _JOIN.sub(" ", _ARTICLE.sub("", fold(unwrap(text))))


def unusable(answer: str, limit: int) -> str | None:
    """Why a short answer is not looked at: over `limit` characters, or without a word. None when it is."""
    if len(answer) > limit:
        return "answer-too-long"
    return None if label(answer) else "empty-answer"


_TRUE = frozenset(vocabulary("true t yes y yeah yep correct right 1 是 是的 对 对的 正确 真 有 √ ✓ ✔"))
_FALSE = frozenset(vocabulary("false f no n nope incorrect wrong 0 否 不 不是 不对 错 错误 假 没有 × ✗ ✘"))
TRUTH_REFERENCES = frozenset(vocabulary("true false yes no correct incorrect 是 是的 否 不是 对 不对 错 正确 错误 有 没有"))
"""The references that answer a yes-no question: "1", "t" and "right" alone are not taken for one."""
_SAID_FIRST = re.compile(r"(yes|no|true|false|是的|不是|是|否|对|没有)(?:\s*[,.;:。]\s*|\s+-\s+)(?=\S)")


_FUNCTION_WORDS = frozenset(
    vocabulary(
        "a an the is are was were be been it its it's this that these those there he she they his her their who which what"
        " of in on at for as to by with from named called s one"
    )
)
_REFUSED_WORDS = frozenset(
    vocabulary(
        "or and not no nor neither never isn't aren't wasn't weren't doesn't don't didn't can't cannot either maybe perhaps"
        " possibly probably but except"
        " unless versus vs rather than instead without unlike if wrong incorrect yes true false n't"
    )
)
_NEGATIONS = frozenset(vocabulary("not no isn't aren't wasn't weren't doesn't don't didn't can't cannot"))
_REFUSED_CHINESE = re.compile("或|和|与|及|不|没|非|无|可能|也许|大概|除")
_CHINESE_FUNCTION = re.compile("[的是了在有为它他她这那个位于答案叫做]")
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[^\W\d_a-z]+|\d+")
_CJK = re.compile("[\u3400-\u9fff]")


def is_chinese(text: str) -> bool:
    """Whether any character is a Chinese one."""
    return bool(_CJK.search(text))


_SPLITTERS = re.compile(r"[;/|\n&+<>=]")


@lru_cache(maxsize=1024)
def question_text(question: str | None) -> str:
    """The folded question, at most 20,000 characters of it."""
    return fold((question or "")[:20_000])


@lru_cache(maxsize=1024)
def _question_words(question: str | None) -> frozenset[str]:
    return frozenset(_WORD.findall(question_text(question)))


def occurrences(needle: str, text: str) -> list[tuple[int, int]]:
    """Where `needle` stands in `text` as whole words (Chinese has no gaps between words, so anywhere)."""
    spans: list[tuple[int, int]] = []
    at = 0
    while needle and len(spans) < 3 and (at := text.find(needle, at)) >= 0:
        end = at + len(needle)
        open_start = at == 0 or not text[at - 1].isalnum() or bool(_CJK.match(text[at - 1]))
        open_end = end == len(text) or not text[end].isalnum() or bool(_CJK.match(text[end]))
        if (open_start or _CJK.match(needle[0])) and (open_end or _CJK.match(needle[-1])):
            spans.append((at, end))
        at = end
    return spans


def is_context(text: str, question: str | None, allowed: frozenset[str] = frozenset()) -> bool:
    """Whether `text` has only function words, words of `question` and `allowed` ones; nothing that denies or offers more."""
    asked, known = _CHINESE_FUNCTION.sub("", question_text(question)), _question_words(question)
    for word in _WORD.findall(text):
        if word in allowed:
            continue
        if _CJK.search(word):
            rest = _CHINESE_FUNCTION.sub("", word)
            if _REFUSED_CHINESE.search(word) or rest not in asked:
                return False
        elif word in _REFUSED_WORDS or not (word in _FUNCTION_WORDS or word in known):
            return False
    return not _SPLITTERS.search(text)


def only_adds_context(reference: str, answer: str, question: str | None) -> bool:
    """Whether `answer` is `reference` once, and beside it nothing but words of the question and function words.

    "Paris, France" answers "The capital of France is ___" with Paris; "China, India" answers nothing with China: India is
    not in the question. Where the question itself names the reference, its other words may be the other candidates, so
    then only function words are allowed. Reference and answer are folded.
    """
    spans = occurrences(reference, answer)
    if len(spans) != 1 or len(reference) < 2 or not any(char.isalpha() for char in reference):
        return False
    (start, end) = spans[0]
    named = bool(occurrences(reference, question_text(question)))
    return is_context(answer[:start] + " " + answer[end:], None if named else question)


def truth(folded: str, question: str | None = None) -> bool | None:
    """What a folded text says as an answer to a yes-no question ("T", "1", "Yes, it is blue"), or None."""
    if folded in _TRUE or folded in _FALSE:
        return folded in _TRUE
    first = _SAID_FIRST.match(folded)
    if first is None:
        return None
    said = first.group(1) in _TRUE
    # "No, it is not" repeats the no; "yes, no" takes the yes back.
    allowed = frozenset() if said else _NEGATIONS
    return said if is_context(folded[first.end() :], question, allowed) else None
