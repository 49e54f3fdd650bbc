"""Where a picture was taken: the deepest level of country, region and city that the answer names rightly earns its weight.

A wrong name above a right one scores 0 ("Paris, Texas"), a wrong name below it keeps what is above ("Lyon, France" names the
country). Source: GLM-4.5V report, arXiv 2507.01006, table 1 (geo-guess); the levels follow GeoGuessr-style benchmarks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewards.country_names import countries
from rewards.denials import denied
from rewards.literals import LiteralError, read_literal
from rewards.plain_text import compose, label, unusable, unwrap
from rewards.registry import BadReference, Context, Outcome, verifier

MAX_CHARS = 500
MAX_ALIASES = 64
LEVELS = ("country", "region", "city", "place")
_KEYS = {
    **{level: level for level in LEVELS},
    **dict.fromkeys(("state", "province", "prefecture", "county"), "region"),
    **dict.fromkeys(("town", "municipality", "village"), "city"),
    **dict.fromkeys(("landmark", "location", "district"), "place"),
}
_MANY = re.compile(
    r"[;/|；]|\b(?:or|and|maybe|perhaps|possibly|not|either|probably)\b|或|可能|不是|(?<=[\u4e00-\u9fff])[和、](?=[\u4e00-\u9fff])"
)
_LEAD = re.compile(
    r"(?:(?:it|this|that|the\s+(?:photo|image|picture|place|location))\s*(?:is|was|'s)?\s*(?:taken|located|shot)?\s*(?:in|at|near)?|in|at|位于|在)"
    r"\s*[:：]?\s+(?=\S)|(?:这是|位于|在)",
    re.IGNORECASE,
)
_KIND = re.compile(
    r"^(?:city|state|province|region|county|prefecture|municipality|republic|kingdom)\s+of\s+|"
    r"\s+(?:city|state|province|region|county|prefecture|municipality)$"
)
_CHINESE_KIND = re.compile(r"(?<=[\u4e00-\u9fff]{2})(?:特别行政区|自治区|自治州|省|市|县|州|区)$")


@dataclass(frozen=True)
class GeoArgs:
    """Arguments of the `geo` verifier."""

    country: float = 0.3
    """Score of a right country when the reference names something below it."""
    region: float = 0.6
    """Score of a right region when the reference names something below it."""
    city: float = 0.9
    """Score of a right city when the reference names a place in it."""
    aliases: tuple[str, ...] = ()
    """Further names, each a text "Munich|München|慕尼黑"."""
    correct: float = 1.0
    """The score from which the answer counts as correct."""


@dataclass(frozen=True)
class Reference:
    """The levels the reference names, from country downwards, each with all its accepted names (as labels), and its text."""

    levels: tuple[tuple[str, frozenset[str]], ...]
    text: str = ""


def name_of(text: str) -> str:
    """A place's label, without the word for its kind ("Texas State", "北京市")."""
    name = label(text)
    short = _CHINESE_KIND.sub("", _KIND.sub("", name))
    return short or name


def read_reference(raw: Any, args: GeoArgs) -> Reference:
    """`{"country", "region", "city", "place", "aliases": {name: [names]}}`, or a text "city, region, country".

    A level may be a list of accepted names. A text is read from its end: a known country, then what is in it.
    Raises BadReference.
    """
    groups = [frozenset(map(name_of, entry.split("|"))) for entry in args.aliases]
    if isinstance(raw, str):
        if len(raw) > MAX_CHARS:
            raise BadReference("too-long")
        named = _levels_of_text([part for part in re.split("[,，]", raw) if part.strip()])
    elif isinstance(raw, Mapping):
        given = dict(raw)
        aliases = given.pop("aliases", {})
        if not isinstance(aliases, Mapping):
            raise BadReference("bad-aliases")
        for name, others in aliases.items():
            groups.append(frozenset(map(name_of, [str(name), *_names(others)])))
        named = {}
        for key, value in given.items():
            level = _KEYS.get(str(key).strip().casefold())
            if level is None or level in named:
                raise BadReference("unknown-level" if level is None else "duplicate-key")
            if value is not None:
                named[level] = _names(value)
    else:
        raise BadReference("not-a-place")
    levels = []
    for level in LEVELS:
        if level in named:
            names = frozenset(map(name_of, named[level]))
            for group in [*groups, *(countries().get(name, frozenset()) for name in names if level == "country")]:
                names = names | group if names & group else names
            levels.append((level, names))
    if not levels:
        raise BadReference("empty-reference")
    return Reference(tuple(levels), label(raw) if isinstance(raw, str) else "")


def _names(value: Any) -> list[str]:
    names = value if isinstance(value, list) else [value]
    if not 0 < len(names) <= MAX_ALIASES or not all(isinstance(name, str) and name_of(name[:MAX_CHARS]) for name in names):
        raise BadReference("empty-reference")
    if any(len(name) > MAX_CHARS for name in names):
        raise BadReference("too-long")
    return names


def _levels_of_text(parts: list[str]) -> dict[str, list[str]]:
    """Levels of "Paris, Île-de-France, France": a known country last is the country; one name alone that is none is a city."""
    if not 0 < len(parts) <= len(LEVELS):
        raise BadReference("too-many-parts" if parts else "empty-reference")
    if not all(name_of(part) for part in parts):
        raise BadReference("empty-reference")
    known = name_of(parts[-1]) in countries()
    if known:
        *rest, country = parts
        slots = {0: (), 1: ("city",), 2: ("region", "city"), 3: ("region", "city", "place")}[len(rest)]
        return {"country": [country]} | {level: [part] for level, part in zip(slots, reversed(rest), strict=True)}
    slots = {1: ("city",), 2: ("region", "city"), 3: ("country", "region", "city"), 4: LEVELS}[len(parts)]
    return {level: [part] for level, part in zip(slots, reversed(parts), strict=True)}


def read_places(answer: str) -> list[tuple[str | None, str]] | str:
    """The answer's names, most specific first, each with its level where it is told; or the reason why it is no place."""
    text = unwrap(compose(answer))
    if text.startswith("{"):
        try:
            value = read_literal(text)
        except LiteralError as error:
            return str(error)
        places = []
        for key, name in value.items() if isinstance(value, dict) else ():
            level = _KEYS.get(key.strip().casefold())
            if level is None or not isinstance(name, str):
                return "not-a-place"
            places.append((level, name))
        if len({level for level, _ in places}) < len(places) or any(
            _MANY.search(label(name)) or "," in name for _, name in places
        ):
            return "many-answers"
        return [(level, name_of(name)) for level, name in sorted(places, key=lambda place: -LEVELS.index(place[0]))]
    text = " ".join(text.replace("\n", ",").split())
    lead = _LEAD.match(text)
    text = text[lead.end() :] if lead and lead.end() < len(text) else text
    return [(None, part) for part in map(name_of, re.split("[,，]", text)) if part]


def _split_known(name: str, reference: Reference) -> list[str]:
    """ "法国巴黎" as 巴黎, 法国: Chinese addresses run from the country down without a sign between the names."""
    parts: list[str] = []
    for _, names in reference.levels:
        known = max((other for other in names if len(other) > 1 and name.startswith(other)), key=len, default=None)
        if known is None or not re.search("[\u4e00-\u9fff]", known):
            continue
        parts.insert(0, known)
        name = re.sub("^(?:特别行政区|自治区|省|市|县|州|区)", "", name[len(known) :]).strip()
        if not name:
            return parts
    if not parts:
        return [name]
    # "法国德国": what is left must not name another country.
    others = [other for other in countries() if other in name and re.search("[\u4e00-\u9fff]", other)]
    return [*others, name, *parts]


def credit(places: list[tuple[str | None, str]], reference: Reference, args: GeoArgs) -> tuple[float, str | None]:
    """The score of an answer's names, and the reason when it is less than 1."""
    levels = dict(reference.levels)
    order = [level for level in LEVELS if level in levels]
    weights = {"country": args.country, "region": args.region, "city": args.city, "place": 1.0, order[-1]: 1.0}
    if "country" not in levels and len(places) > 1 and places[-1][0] is None and places[-1][1] in countries():
        places = places[:-1]  # nothing is known of the country
    matched: dict[int, str] = {}
    for at, (told, name) in enumerate(places):
        open_levels = [level for level in ([told] if told else order[::-1]) if level not in matched.values()]
        level = next((level for level in open_levels if name in levels.get(level, ())), None)
        if level is not None:
            matched[at] = level
        elif told is None and name in countries():
            return 0.0, "wrong-country"
    wrong = [at for at in range(len(places)) if at not in matched]
    if any(told for told, _ in places):
        # Each name tells its level: what stands above the first wrong one counts.
        faults = [order.index(told) for told, name in places if told in levels and name not in levels[told]]
        right = [level for level in matched.values() if order.index(level) < min(faults, default=len(order))]
        if not right:
            return 0.0, "contradiction" if matched else "wrong-place"
        best = max(right, key=order.index)
        return weights[best], None if weights[best] == 1.0 else "too-coarse"
    if not matched:
        return 0.0, "wrong-place"
    best = max(matched.values(), key=order.index)
    depth = order.index(best)
    if not wrong:
        return weights[best], None if weights[best] == 1.0 else "too-coarse"
    if max(wrong) > min(matched):
        return 0.0, "contradiction"  # an unknown name above a right one
    if best == "country" or (len(places) == len(order) and depth + len(wrong) < len(order)):
        # A wrong country is known to be one; and in a full address each name stands in its own level's place.
        return (weights[best], "wrong-place") if depth + len(wrong) < len(order) else (0.0, "many-answers")
    # Else the unknown name may be a second guess at the same level: only the country, if it is named, counts.
    return (weights["country"], "wrong-place") if "country" in matched.values() else (0.0, "many-answers")


def _is_bounded(answer: str, reference: Any) -> bool:
    return len(answer) <= MAX_CHARS and len(str(reference)) <= 2_000


@verifier("geo", domains=("geo",), args=GeoArgs, reference=read_reference, bounded=_is_bounded)
def geo(answer: str, reference: Reference, context: Context) -> Outcome:
    """The weight of the deepest level named rightly, with nothing wrong above it."""
    args: GeoArgs = context.args
    if (fault := unusable(answer, MAX_CHARS)) is not None:
        return Outcome(0.0, False, fault)
    if denied(answer):
        return Outcome(0.0, False, "hedged")
    context.note("reference", ", ".join(min(names) for _, names in reversed(reference.levels)))
    if label(answer) == reference.text:
        context.note("rule", "text")
        return Outcome(1.0, True)
    whole = name_of(answer)
    if any(whole in names for _, names in reference.levels):
        places: list[tuple[str | None, str]] | str = [(None, whole)]
    elif not unwrap(compose(answer)).startswith("{") and _MANY.search(label(answer)):
        places = "many-answers"
    else:
        places = read_places(answer)
    if isinstance(places, str):
        return Outcome(0.0, False, places)
    if len(places) == 1 and places[0][0] is None:
        places = [(None, part) for part in _split_known(places[0][1], reference)]
    context.note("answer", ", ".join(name for _, name in places))
    if not 0 < len(places) <= len(LEVELS) + 1:
        return Outcome(0.0, False, "many-answers" if places else "not-a-place")
    score, reason = credit(places, reference, args)
    context.note("rule", reason or "deepest-level")
    return Outcome(score, score >= args.correct, reason)
