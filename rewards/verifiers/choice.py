"""Multiple choice: the set of chosen options must equal the reference's.

Options come from the question ("A. Paris  B. Rome") or from `args`. Source: GLM-4.5V report, arXiv 2507.01006, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from rewards.denials import denied
from rewards.plain_text import compose, fold, is_chinese, label, occurrences, only_adds_context, trim, unwrap
from rewards.registry import BadReference, Context, Outcome, verifier
from rewards.short_answers import same_exact_number

MAX_CHARS = 2_000
MAX_QUESTION_CHARS = 20_000
MAX_OPTIONS = 26
MAX_LIST_CHARS = 1_000

Options = Mapping[str, str]
"""Upper-case letter (or digit) of each option -> its text."""


@dataclass(frozen=True)
class ChoiceArgs:
    """Arguments of the `choice` verifier."""

    options: tuple[str, ...] = ()
    """The options' texts in the order of their letters; when empty they are looked for in the question."""
    partial: bool = False
    """Whether a subset of several right options, with none wrong, scores the fraction it names."""


class NoChoice(ValueError):
    """The text chooses no set of options; the message is a machine-readable reason."""


_MARK = re.compile(r"(?:(?<=[\s(\[（【,，;；。?？:：])|^)\(?([A-Za-z1-9])\s?[.):：、．）\]](?!\d)")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "123456789"


@lru_cache(maxsize=1024)
def read_options(question: str) -> Options:
    """The options a question lists: the last run of marks A, B, C, … (or 1, 2, 3, …) of at least two; empty without one."""
    question = compose(question[:MAX_QUESTION_CHARS])
    best: list[re.Match[str]] = []
    for names in (_LETTERS, _LETTERS.lower(), _DIGITS):
        run: list[re.Match[str]] = []
        for mark in _MARK.finditer(question):
            if len(run) < len(names) and mark[1] == names[len(run)]:
                run.append(mark)
            elif mark[1] == names[0]:
                best, run = (run if len(run) > 1 else best), [mark]
            elif mark[1] == names[len(run) - 1] and len(run) == 1:
                run = [mark]
        if len(run) > 1:
            best = run
        if best:
            break
    ends = [mark.start() for mark in best[1:]] + [len(question)] * bool(best)
    found = {}
    for mark, end in zip(best, ends, strict=True):
        lines = question[mark.end() : end].strip().splitlines()
        found[mark[1].upper()] = trim(lines[0]) if lines else ""
    return MappingProxyType(found)


def given_options(texts: tuple[str, ...]) -> Options:
    """The options of the arguments; their own marks ("A. Paris") are taken off."""
    texts = texts[:MAX_OPTIONS]
    bare = [re.sub(rf"^\s*\(?{letter}\s?[.):、]\s*", "", text) for letter, text in zip(_LETTERS, texts, strict=False)]
    return MappingProxyType(dict(zip(_LETTERS, bare, strict=False)))


_LEAD = re.compile(
    r"(?:i\s+(?:would\s+)?(?:choose|pick|select)|(?:it|this|that)(?:\s+is|'s)|(?:select(?:ed)?|choose|pick|both)|故?(?:应该|应当|应|我|可)?选择?"
    r"(?!项)|是|为)\s*[:：]?\s*",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:the\s+)?(?:options?|choices?|letters?|answers?|选项|选)\s*[:：]?\s*(?=[(\[]?[A-Za-z1-9](?![A-Za-z]{2}))", re.IGNORECASE
)
_TAIL = re.compile(
    r"\s*(?:(?:is|are)\s+(?:(?:the|all)\s+)?(?:correct|right|true|best)(?:\s+(?:answers?|options?|choices?))?"
    r"|选?项|(?:选项)?(?:是)?(?:正确|对)的?(?:选项|答案)?)$",
    re.IGNORECASE,
)
_ONE = re.compile(r"[(\[{<]?\s*([A-Za-z1-9])\s*[)\]}>]?\s*[.:、]?")
_BETWEEN = re.compile(r"[\s,，、;；&+()\[\]{}]+|\b(?:and|options?|choices?)\b|[和与及]", re.IGNORECASE)
_TOGETHER = re.compile(r"[A-Z]{2,26}|[a-z]{2,6}")
_WITH_TEXT = re.compile(
    r"(?:[(\[]\s*([A-Za-z1-9])\s*[)\]]|([A-Za-z1-9])\s*(?:[.):：、]|\s-)|([A-Z1-9])(?=\s))\s*[-:]?\s*(.+)", re.DOTALL
)
_SEPARATOR = re.compile(r"[,，;；、\n]|\band\b|和(?=\s*[A-Za-z])|(?<=\S)\s+(?=\(?[A-Z]\s?[.):、])")
_LOOSE_LETTER = re.compile(r"(?<![A-Za-z'0-9])(?:[B-HJ-Z]|A(?=\s*(?:[.):,;]|$|\bor\b|\band\b)))(?![A-Za-z'])")
_BECAUSE = re.compile(r"because\b|since\b|as\b|因为|由于")
_HEDGE = re.compile(
    r"\b(?:or|maybe|perhaps|not|isn't|wrong|incorrect|except|either|neither|unsure|possibly|all|none|any)\b|或|不|非|错|可能",
    re.IGNORECASE,
)


def read_choice(text: str, options: Options) -> frozenset[str]:
    """The letters of the options that `text` chooses. Raises NoChoice.

    A text equal to an option's text chooses it; "A, C", "A and C" and "AC" choose both; a letter with a text must not be
    contradicted by it.
    """
    text = trim(unwrap(compose(text)))
    for pattern in (_LEAD, _NAMED, _LEAD, _NAMED):
        match = pattern.match(text)
        if match and match.end() < len(text):
            text = unwrap(text[match.end() :])
    tail = _TAIL.search(text[-60:])
    if tail and len(text) > len(tail.group()):
        text = text[: len(text) - len(tail.group())]
    text = trim(text)
    if not text:
        raise NoChoice("empty-answer")
    if text[0] in "[({" and text[-1] in "])}":
        text = text.replace("'", "").replace('"', "")
    one = _ONE.fullmatch(text)
    if one and (not options or one[1].upper() in options):
        return frozenset(one[1].upper())
    named = _by_text(text, options)
    if named:
        return frozenset((named,))
    letters = [part for part in _BETWEEN.split(text) if part]
    if len(letters) > 1 and all(len(part) == 1 and part.isascii() and part.isalpha() for part in letters):
        return _known(set("".join(letters).upper()), options)
    together = text.upper()
    if _TOGETHER.fullmatch(text) and len(set(together)) == len(together) and (set(together) <= set(options or "ABCDEFGH")):
        if text.islower() and list(together) != sorted(together):
            raise NoChoice("not-an-option")  # a word: "bad", "cab"
        return frozenset(together)
    if one:
        raise NoChoice("not-an-option")
    try:
        return _letter_with_text(text, options)
    except NoChoice:
        return _each_of_many(text, options)


def _each_of_many(text: str, options: Options) -> frozenset[str]:
    """The options a list of marked or unmarked option texts chooses. Raises NoChoice."""
    parts = [part for part in _SEPARATOR.split(text) if part.strip()] if len(text) <= MAX_LIST_CHARS else []
    if 1 < len(parts) <= MAX_OPTIONS and not _HEDGE.search(text):
        return frozenset().union(*(_one_of_many(part, options) for part in parts))
    return _letter_with_text(text, options)  # raises with its own reason


def _one_of_many(text: str, options: Options) -> frozenset[str]:
    """The option one part of a list chooses: a letter, an option's text, or both."""
    text = trim(unwrap(text))
    one = _ONE.fullmatch(text)
    letter = one[1].upper() if one and (not options or one[1].upper() in options) else _by_text(text, options)
    return frozenset(letter) if letter else _letter_with_text(text, options)


def _known(letters: set[str], options: Options) -> frozenset[str]:
    if options and not letters <= set(options):
        raise NoChoice("not-an-option")
    return frozenset(letters)


def _by_text(text: str, options: Options) -> str | None:
    """The one option whose text this is, in words or as a number."""
    said = label(text)
    equal = [letter for letter, option in options.items() if option and label(option) == said]
    if not equal:
        equal = [letter for letter, option in options.items() if option and same_exact_number(option, text, None)]
    if not equal and not _WITH_TEXT.fullmatch(text):  # "It is Paris", but not "A. Paris"
        equal = [letter for letter, option in options.items() if only_adds_context(label(option), said, None)]
    return equal[0] if len(equal) == 1 else None


def _letter_with_text(text: str, options: Options) -> frozenset[str]:
    match = _WITH_TEXT.fullmatch(text)
    if match is None:
        raise NoChoice("many-answers" if _LOOSE_LETTER.search(text) or _HEDGE.search(text) else "not-an-option")
    if match[3] in ("A", "I") and not options:
        raise NoChoice("not-an-option")  # "A cat", "I see"
    letter = (match[1] or match[2] or match[3]).upper()
    chosen, rest = _known({letter}, options), match[4]
    said, own = fold(unwrap(rest)), fold(options.get(letter, ""))
    if own and (said == own or _by_text(rest, options) == letter):
        return chosen
    if _by_text(rest, options):
        raise NoChoice("letter-text-conflict")
    # What is left to compare is an option's text cut short or continued; whatever names another option is refused.
    remainder = said.replace(own, " ", 1) if own else said
    others = [fold(option) for name, option in options.items() if name != letter and option]
    foreign = is_chinese(said) != is_chinese(own)
    loose = {mark.group() for mark in _LOOSE_LETTER.finditer(rest)}
    if (loose if not own else foreign and not loose.isdisjoint(options)) or _HEDGE.search(remainder):
        raise NoChoice("many-answers")
    if any(occurrences(other, remainder) for other in others):
        raise NoChoice("letter-text-conflict")
    explained = _BECAUSE.match(said) or foreign
    cut_short = said in own and not (len(said) == 1 and said.isascii())  # "B - A" is no beginning of "B. Paris"
    if own and own not in said and not cut_short and not explained:
        raise NoChoice("letter-text-conflict")
    return chosen


@dataclass(frozen=True)
class Reference:
    """The reference as given: a text, or the texts of a list."""

    parts: tuple[str, ...]

    def own_options(self) -> Options:
        """The options a reference like "B. Paris" shows itself."""
        marked = [match for part in self.parts if (match := _WITH_TEXT.fullmatch(trim(compose(part)))) and not match[3]]
        return MappingProxyType({(match[1] or match[2]).upper(): match[4] for match in marked})

    def letters(self, options: Options) -> frozenset[str]:
        """The options the reference names. Raises NoChoice when it names none (it is then compared as text)."""
        return frozenset().union(*(read_choice(part, options) for part in self.parts))


def read_reference(raw: Any, args: ChoiceArgs) -> Reference:
    """The reference: letters, an option's text, or a list of either. Raises BadReference."""
    parts = raw if isinstance(raw, list) else [raw]
    if not parts or len(parts) > MAX_OPTIONS:
        raise BadReference("empty-reference" if not parts else "too-long")
    texts = []
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, (str, int, float)):
            raise BadReference("not-text")
        if len(str(part)) > MAX_CHARS:
            raise BadReference("too-long")
        if not fold(unwrap(str(part))):
            raise BadReference("empty-reference")
        texts.append(str(part))
    reference = Reference(tuple(texts))
    if args.options:
        try:
            reference.letters(given_options(args.options))
        except NoChoice as error:
            raise BadReference(str(error)) from error
    return reference


def _is_bounded(answer: str, reference: Any) -> bool:
    return len(answer) <= 100 and len(str(reference)) <= 200


@verifier("choice", domains=("choice", "mcq"), args=ChoiceArgs, reference=read_reference, bounded=_is_bounded)
def choice(answer: str, reference: Reference, context: Context) -> Outcome:
    """Score 1 when the chosen options are the reference's, all of them and no other."""
    args: ChoiceArgs = context.args
    if len(answer) > MAX_CHARS:
        return Outcome(0.0, False, "answer-too-long")
    if denied(answer, ", ".join(reference.parts)):
        return Outcome(0.0, False, "hedged")
    options = given_options(args.options) if args.options else read_options((context.question or "")[:MAX_QUESTION_CHARS])
    options = options or reference.own_options()
    try:
        wanted = reference.letters(options)
    except NoChoice:
        return _compare_text(answer, reference, options, context)
    context.note("reference", " ".join(sorted(wanted)))
    try:
        found = read_choice(answer, options)
    except NoChoice as error:
        return _compare_text(answer, reference, options, context, str(error))
    context.note("answer", " ".join(sorted(found)))
    context.note("rule", "letters")
    if found == wanted:
        return Outcome(1.0, True)
    if len(found) > 1 and len(wanted) == 1:
        return Outcome(0.0, False, "many-answers")
    share = len(found) / len(wanted) if args.partial and found < wanted else 0.0
    return Outcome(share, False, "missing-option" if found < wanted else "wrong-option")


def _compare_text(answer: str, reference: Reference, options: Options, context: Context, fault: str | None = None) -> Outcome:
    """Without letters on both sides: equal words. The answer may name the reference with a letter before it."""
    wanted = label(" , ".join(reference.parts))
    context.note("reference", wanted)
    context.note("answer", label(answer))
    context.note("rule", "text")
    marked = _WITH_TEXT.fullmatch(trim(unwrap(compose(answer))))  # the letter is unknown: its text decides
    if label(answer) == wanted or (marked and not marked[3] and not options and label(marked[4]) == wanted):
        return Outcome(1.0, True)
    return Outcome(0.0, False, fault or ("empty-answer" if not label(answer) else "text-differs"))
