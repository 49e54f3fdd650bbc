"""Blocks in another script than the language of the question and the answer, and words with look-alike letters.

What a text may hold of another script without mixing languages is cut out first: code, formulas, quotations, words of the
question, the text that was read off an image (it stands in the box), short glosses in brackets. The thresholds stand in
docs/style_checks.md. Source: GLM-4.5V report, arXiv 2507.01006 (mixed-language blocks get a low reward).
"""

from __future__ import annotations

import re

from rewards.format import BOX_CLOSE, BOX_OPEN
from rewards.scripts import LATIN_TWINS, LOOK_ALIKES, RUNS, WIDE, languages
from rewards.stream_safe import normalise

MAX_CHARS = 300_000
"""Of a longer text the head and the tail are looked at, half of this each."""

_WIDE_BLOCK, _WIDE_PROSE, _WIDE_TOTAL = 12, 4, 16
"""Characters of Chinese, Japanese or Korean in one block (names are shorter), in one with a word of grammar, in all."""
_WORDS_BLOCK, _WORDS_TOTAL, _ENGLISH_BLOCK = 12, 40, 6
"""Words of an alphabet in one block, in all, and in one block with two English words of grammar."""
_OTHER_LETTERS, _OTHER_WORDS, _OTHER_TOTAL = 16, 4, 40
"""Letters, words of one block, and letters in all, of an alphabet other than Latin."""

_CHINESE_GRAMMAR = re.compile("[的了是在就也都这那们吗呢吧把被我]|所以|因为|如果|然后|需要|可以|应该|但是|因此|首先")
_SYLLABLES = re.compile("[\u3041-\u3096]{2}|[\uac00-\ud7a3]{4}")
"""Pieces of Japanese and Korean that are hardly a name: hiragana, longer words of hangul."""
_ENGLISH_GRAMMAR = re.compile(
    "the|a|an|is|are|was|were|be|of|and|or|to|in|on|at|for|with|that|this|it|we|i|you|he|she|they|so|because|if|then|not|no|but|as|"
    "by|from|have|has|do|does|can|will|would|should|need|let|now|which|there|here|its|our"
)
_PAIRS = (
    ("```", "```", 1 << 20),
    ("$$", "$$", 4000),
    ("\\[", "\\]", 4000),
    ("\\(", "\\)", 2000),
    ("$", "$", 600),
    ("`", "`", 400),
    ("“", "”", 300),
    ("‘", "’", 100),
    ("「", "」", 300),
    ("『", "』", 300),
    ("《", "》", 100),
    ("«", "»", 300),
    ("„", "“", 300),
    ('"', '"', 300),
)
_QUOTE = re.compile(r"(?<!\w)'[^'\n]{1,100}'(?!\w)")
_GLOSS = re.compile(r"[(（\[【][^()（）\[\]【】\n]{1,24}[)）\]】]")
_IDENTIFIER = re.compile(
    r"https?://\S{1,300}|\\[A-Za-z]{1,40}|</?[A-Za-z][^<>\n]{0,200}>|<\|[a-z_]{1,40}\|>|"
    r"\b[A-Za-z]*\d[A-Za-z\d]*\b|\b[A-Za-z0-9]{1,60}(?:[_.@/=^][A-Za-z0-9]{1,60}){1,20}\b|\b[A-Z]{2,}s?\b"
)
_MIXED_WORD = re.compile(r"[A-Za-z\u0370-\u03ff\u0400-\u052f]{2,}")
_APART = re.compile(r"[\n.!?;。！？；]")


def mixes_languages(think: str, answer_text: str, question: str | None) -> bool:
    """Whether the think part or the answer has blocks in a script that neither the question nor the answer is written in.

    Without a question and an answer in words, the main script of the think part is the one.
    """
    boxed = _boxed(answer_text)
    prose = answer_text.replace(boxed, " ", 1) if boxed else answer_text
    asked = question or ""
    allowed = languages(asked[:MAX_CHARS])
    said = _cut(_ends(prose))
    # An answer wholly in another language than the question's is a translation, not a mixture.
    allowed |= languages(said, second=1.0, least=0.8 if allowed else 0.0)
    allowed = allowed or languages(_cut(_ends(think)), second=1.0)
    if not allowed:
        return False
    known = _key(asked[:MAX_CHARS] + "\n" + boxed[:MAX_CHARS])
    return any(_foreign(_ends(part), allowed, known) for part in (think, prose))


def _ends(text: str) -> str:
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS // 2] + "\n" + text[-(MAX_CHARS // 2) :]


def _boxed(answer_text: str) -> str:
    return answer_text.partition(BOX_OPEN)[2].partition(BOX_CLOSE)[0]


def _key(text: str) -> str:
    """Letters and digits of `text`, in lower case: what a quotation is looked up in."""
    return "".join(char for char in normalise("NFKC", text).casefold() if char.isalnum())


def _cut(text: str) -> str:
    """`text` without code, formulas, quotations, identifiers and glosses."""
    for opening, closing, longest in _PAIRS:
        text = _cut_pairs(text, opening, closing, longest)
    for pattern in (_QUOTE, _GLOSS, _IDENTIFIER):
        text = pattern.sub(" ", text)
    return text


def _cut_pairs(text: str, opening: str, closing: str, longest: int) -> str:
    """`text` without what stands between `opening` and `closing`, when that is at most `longest` characters. Linear."""
    at = text.find(opening)
    if at < 0:
        return text
    kept: list[str] = []
    done, end = 0, -1
    while at >= 0:
        inside = at + len(opening)
        if end < inside:
            end = text.find(closing, inside)
            if end < 0:
                break
        if end - inside <= longest and (longest > 600 or "\n\n" not in text[inside:end]):
            kept += [text[done:at], " ‖ "]
            done = end + len(closing)
            at = text.find(opening, done)
        else:
            at = text.find(opening, inside)
    return "".join([*kept, text[done:]])


def _foreign(text: str, allowed: frozenset[str], known: str) -> bool:
    """Whether `text` has blocks, or scattered pieces enough, of scripts other than `allowed`, apart from `known` text."""
    text = _cut(text)
    if _look_alike(text, allowed, known):
        return True
    block: list[str] = []
    kind, end = "", 0
    totals = {"wide": 0, "latin": 0, "other": 0}
    for run in RUNS.finditer(text):
        script = run.lastgroup or ""
        if script in allowed:
            block = []
            continue
        word = run.group()
        here = "wide" if script in WIDE else "latin" if script == "latin" else "other"
        if len(word) == 1 and script == "greek":
            continue  # a symbol of mathematics
        if here != kind or (block and _APART.search(text, end, run.start()) and here != "wide"):
            block = []
        kind, end = here, run.end()
        if len(word) > 1 and _key(word) in known:
            continue
        block.append(word)
        totals[here] += len(word) if here != "latin" else len(word) > 1
        if _is_block(here, block):
            return True
    return totals["wide"] >= _WIDE_TOTAL or totals["latin"] >= _WORDS_TOTAL or totals["other"] >= _OTHER_TOTAL


def _is_block(kind: str, block: list[str]) -> bool:
    letters = sum(map(len, block))
    if kind == "wide":
        text = "".join(block)
        grammar = 2 * len(_CHINESE_GRAMMAR.findall(text)) + len(_SYLLABLES.findall(text))
        return letters >= _WIDE_BLOCK or (letters >= _WIDE_PROSE and grammar >= 2)
    if kind == "other":
        return letters >= _OTHER_LETTERS or len(block) >= _OTHER_WORDS
    known = sum(_ENGLISH_GRAMMAR.fullmatch(word.lower()) is not None for word in block)
    return len(block) >= _WORDS_BLOCK or (len(block) >= _ENGLISH_BLOCK and known >= 2)


def _look_alike(text: str, allowed: frozenset[str], known: str) -> bool:
    """Whether a word hides letters of another script among its own: a Cyrillic "а" in a Latin word, or the reverse."""
    for found in _MIXED_WORD.finditer(text):
        word = found.group()
        if word.isascii() or _key(word) in known:
            continue
        latin = sum(char.isascii() for char in word)
        others = [char for char in word if not char.isascii()]
        if "latin" in allowed and all(ord(char) in LOOK_ALIKES for char in others):
            # A Greek letter before an x is a symbol; in a word of four it is not.
            greek = all("\u0370" <= char <= "\u03ff" for char in others)
            if (latin and len(word) >= (4 if greek else 2)) or (not latin and "cyrillic" not in allowed and not greek):
                return True
        elif latin and "cyrillic" in allowed and len(others) > latin:
            hidden = [char for char in word if char.isascii()]
            if all(char in LATIN_TWINS for char in hidden):
                return True
    return False
