"""Times and time spans as people and models write them, in seconds.

A time is a number of seconds ("12.5", "12 s", "12秒"), a clock ("01:02", "1:02:03.5") or amounts with units ("1m20s",
"1 min 20 sec", "1分20秒"). A span is two times joined by a word ("10 to 20", "between 10 and 20", "10秒到20秒"), by a dash
where a unit or a clock says that these are times ("00:10 - 00:20"), or as a pair in brackets ("[10, 20]").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards import stream_safe
from rewards.literals import LiteralError, read_literal

Span = tuple[float, float]

MAX_CHARS = 2_000
MAX_SPANS = 64
MAX_SECONDS = 1e6  # eleven days

_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_TOKEN = re.compile(
    rf"""
    (?<! [a-z0-9_.] ) (?<! [0-9]: ) (?:
        (?P<clock> [0-9]{{1,3}} : [0-5][0-9] (?: : [0-5][0-9] )? (?: \.[0-9]{{1,9}} )? ) (?![0-9:])
        (?: \s? (?: seconds? | secs? | s | 秒 ) (?![a-z]) )?
      | (?= {_NUMBER} \s? (?: [hms] | 小时 | [分秒] ) ) (?P<amount>
        (?: (?P<hours> {_NUMBER}) \s? (?: hours? | hrs? | h | 小时 ) (?![a-z]) \s? )?
        (?: (?P<minutes> {_NUMBER}) \s? (?: minutes? | mins? | m | 分钟? ) (?![a-z]) \s? )?
        (?: (?P<seconds> {_NUMBER}) \s? (?: seconds? | secs? | s | 秒钟? ) (?![a-z]) )? )
        (?<! \s ) (?! \s? [0-9] )
      | (?P<plain> {_NUMBER}) (?! [a-z0-9:%_] | \.[0-9] )
    )
    | (?P<word> [a-z_']+ )
    | (?P<dash> -> | [-\u2010-\u2015\u2212~\u2192] )
    | (?P<other> \S )
    """,
    re.VERBOSE,
)
_JOIN = frozenset({"to", "until", "till", "through", "到", "至"})
_AND = frozenset({"and", "和"})
_END = frozenset({"end", "ends", "ending", "ended", "end_time", "stop", "stops", "束"})
_FILLER = frozenset({"at", "time", "the", "is", "on", ":", "=", "'", '"', "于", "为", "在", "结", "第"})
_START = frozenset({"from", "between", "start", "starts", "starting", "start_time", "从"})
_FRAME = _START | _END | _FILLER | _JOIN | _AND | frozenset("-[](),;.")
_HEDGES = (
    frozenset({"or", "not", "no", "isn't", "doesn't", "don't", "never", "neither", "either", "nor", "except"})
    | frozenset({"maybe", "perhaps", "possibly", "but", "wrong", "incorrect", "false", "unless"})
    | frozenset("或不没非否错%")
)


class TimeError(ValueError):
    """The text denotes no time and no spans; the message is a machine-readable reason."""


@dataclass(frozen=True, slots=True)
class _Time:
    """A time in the text: its seconds, the unit in seconds when it has a single one, and whether it looks like a time."""

    seconds: float
    unit: float | None
    marked: bool


def read_times(value: Any, *, bare_dash: bool = False, prose: bool = True) -> float | tuple[Span, ...]:
    """The one time that a text or a JSON value denotes, or its spans.

    `bare_dash`: whether "10-20" is a span, too (it may as well be a score or a date). `prose`: whether words may stand
    around the times. Raises TimeError for anything else: no time, unpaired times, an alternative ("or"), an empty or
    inverted span.
    """
    found: float | list[Span]
    if isinstance(value, str):
        if len(value) > MAX_CHARS:
            raise TimeError("answer-too-long")
        text = stream_safe.normalise("NFKC", value).strip().casefold()
        found = _literal_times(text)
        if found == []:
            found = _text_times(text, bare_dash, prose)
    else:
        found = _value_times(value)
    if isinstance(found, list):
        if len(found) > MAX_SPANS:
            raise TimeError("many-spans")
        for start, end in found:
            if start >= end:
                raise TimeError("inverted-span" if start > end else "empty-span")
        return tuple(found)
    return found


def merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The same times as disjoint spans in order; touching ones become one."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return tuple(out)


def union_iou(a: Sequence[Span], b: Sequence[Span]) -> float:
    """Length of the times in both sets of spans / length of the times in either; 0 when both are empty."""
    a, b = merged(a), merged(b)
    shared = sum(max(0.0, min(end, other_end) - max(start, other)) for start, end in a for other, other_end in b)
    either = sum(end - start for start, end in (*a, *b)) - shared
    return shared / either if either > 0 else 0.0


def _literal_times(text: str) -> float | list[Span]:
    """The times of a JSON or Python value, no spans when the text is none."""
    if text[:1] not in ("[", "(", "{"):
        return []
    try:
        value = read_literal(text)
    except LiteralError:
        return []
    return _value_times(value)


def _value_times(value: Any) -> float | list[Span]:
    if isinstance(value, dict):
        return [_object_span(value)]
    if not isinstance(value, list):
        return _scalar(value)
    if len(value) == 1 and not isinstance(value[0], (list, dict)):
        return _scalar(value[0])
    if len(value) == 2 and not any(isinstance(item, (list, dict)) for item in value):
        return [(_scalar(value[0]), _scalar(value[1]))]
    if not value or not all(isinstance(item, dict) or (isinstance(item, list) and len(item) == 2) for item in value):
        raise TimeError("not-a-span")
    return [_object_span(item) if isinstance(item, dict) else (_scalar(item[0]), _scalar(item[1])) for item in value]


def _object_span(value: dict[str, Any]) -> Span:
    for names in (("start", "end"), ("start_time", "end_time"), ("begin", "end")):
        if all(name in value for name in names):
            return _scalar(value[names[0]]), _scalar(value[names[1]])
    raise TimeError("not-a-span")


def _scalar(value: Any) -> float:
    """The seconds of one number, or of a text that is one time."""
    if isinstance(value, str):
        value = _text_times(stream_safe.normalise("NFKC", value[:64]).strip().casefold(), False, False)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TimeError("not-a-time")
    return _checked(value)


def _checked(seconds: float) -> float:
    if not 0 <= seconds <= MAX_SECONDS:
        raise TimeError("out-of-range")
    return float(seconds)


def _text_times(text: str, bare_dash: bool, prose: bool) -> float | list[Span]:
    """The times of a text. `gaps[n]` holds the words before the n-th time, the last one those after all."""
    times: list[_Time] = []
    gaps: list[list[str]] = [[]]
    for match in _TOKEN.finditer(text):
        if match["word"] or match["other"] or match["dash"]:
            word = "-" if match["dash"] else match.group()
            if word in _HEDGES:
                raise TimeError("hedged")
            if word.isnumeric() or (not prose and word not in _FRAME):
                raise TimeError("not-a-time")
            gaps[-1].append(word)
        else:
            times.append(_time(match))
            gaps.append([])
    if not times:
        raise TimeError("no-time")
    if gaps[0][-1:] == ["-"]:
        raise TimeError("negative-time")
    if len(times) == 1:
        return _checked(times[0].seconds)
    if len(times) % 2:
        raise TimeError("unpaired-time")
    spans = []
    for n in range(0, len(times), 2):
        if n and any(word in _JOIN or word == "-" for word in gaps[n]):
            raise TimeError("unpaired-time")
        _check_joined(gaps[n], gaps[n + 1], times[n], times[n + 1], bare_dash)
        start, end = times[n], times[n + 1]
        # "1 to 2 minutes": the unit is said once.
        first = start.seconds * end.unit if start.unit is None and not start.marked and end.unit else start.seconds
        spans.append((_checked(first), _checked(end.seconds)))
    return spans


def _time(match: re.Match[str]) -> _Time:
    if match["clock"]:
        seconds = 0.0
        for part in match["clock"].split(":"):
            seconds = 60 * seconds + float(part)
        return _Time(seconds, None, True)
    if match["plain"]:
        return _Time(float(match["plain"]), None, False)
    parts = [
        (float(match[name]), unit) for name, unit in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0)) if match[name]
    ]
    return _Time(sum(amount * unit for amount, unit in parts), parts[0][1] if len(parts) == 1 else None, True)


def _check_joined(before: list[str], gap: list[str], start: _Time, end: _Time, bare_dash: bool) -> None:
    """Raises TimeError unless the words between two times make them a span."""
    if [word in _JOIN or word in _AND for word in gap if word != "第"] == [True]:
        return
    if gap == ["-"]:
        if start.marked or end.marked or bare_dash:
            return
        raise TimeError("ambiguous-dash")
    if gap == [","] and before[-1:] and before[-1] in ("[", "("):
        return
    if any(word in _END for word in gap) and all(word in _END | _FILLER | _AND | {",", ";"} for word in gap):
        return
    raise TimeError("unpaired-time")
