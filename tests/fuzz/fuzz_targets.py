"""What is fuzzed: one function a parser, and one for all verifiers. Each takes a text and raises when a promise is broken.

A parser may refuse a text with its own error, whose message is a machine-readable reason; it may do nothing else. Used by
the coverage-guided fuzzer (fuzz_parsers.py, fuzz_score.py), by the property tests and by benchmarks/fuzz_rewards.py.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rewards import registry
from rewards.api import response_with, score
from rewards.audit.exemplars import EXEMPLARS
from rewards.audit.judge_isolation import breach
from rewards.audit.probes import Exemplar
from rewards.boxes import read_places
from rewards.chemical_formula import read_formula, same_formula
from rewards.chemistry import read_equation, same_equation
from rewards.format import parse_response
from rewards.gui_actions import read_action
from rewards.instructions import InstructionError, read_constraints
from rewards.json_schemas import JsonError, read_json
from rewards.literals import LiteralError, read_literal
from rewards.mathexpr.answer import read_answer
from rewards.mathexpr.show import shown
from rewards.number_words import chinese_number, english_number
from rewards.plain_lists import read_list, read_pairs
from rewards.plain_numbers import read_number
from rewards.plain_text import fold, label, unwrap
from rewards.quantity import read_quantities
from rewards.style import CHECKS, find_fault
from rewards.table_tree import TableError
from rewards.time_spans import TimeError, read_times
from rewards.units import read_unit
from rewards.verdict import Verdict
from rewards.verifiers.choice import NoChoice, read_choice, read_options
from rewards.verifiers.code import read_program
from rewards.verifiers.counting import NoCount, read_count
from rewards.verifiers.geo import read_places as read_place_names
from rewards.verifiers.table import TableArgs, read_table


def mathexpr(text: str) -> None:
    """Readings are found, shown, and the same the second time."""
    found = read_answer(text, loose=True)
    assert found and found == read_answer(text, loose=True)
    shown(found)
    for answer in found:
        assert answer.items or answer.word or answer.fault or answer.text is not None


def literals(text: str) -> None:
    """A value of JSON's kinds without NaN."""
    try:
        value = read_literal(text)
    except LiteralError as error:
        assert _is_reason(error)
        return
    assert not isinstance(value, float) or math.isfinite(value)


def gui_actions(text: str) -> None:
    """An action whose places are 2 or 4 finite numbers."""
    try:
        action = read_action(text)
    except LiteralError as error:
        assert _is_reason(error)
        return
    for slot in ("start", "end"):
        place = action.parameters.get(slot)
        assert place is None or (len(place) in (2, 4) and all(map(math.isfinite, place)))


def quantity(text: str) -> None:
    """Quantities and units are the same the second time."""
    assert read_quantities(text) == read_quantities(text)
    read_unit(text[:100])


def chemistry(text: str) -> None:
    """A formula and an equation equal themselves."""
    formula, equation = read_formula(text), read_equation(text)
    assert formula is None or same_formula(formula, formula) is None
    assert equation is None or same_equation(equation, equation) is None


def table(text: str) -> None:
    """A table of bounded size."""
    args = TableArgs(max_nodes=300)
    try:
        found = read_table(text, args, 4)
    except TableError as error:
        assert _is_reason(error)
        return
    assert 0 < len(found.kinds) <= args.max_nodes


def boxes(text: str) -> None:
    """Boxes and points of finite numbers."""
    for count in (2, 4):
        try:
            places = read_places(text, count)
        except LiteralError as error:
            assert _is_reason(error)
            continue
        assert len(places) <= 256
        assert all(place.numbers is None or all(map(math.isfinite, place.numbers)) for place in places)


def time_spans(text: str) -> None:
    """A finite time, or spans that begin before they end."""
    for bare_dash in (False, True):
        try:
            found = read_times(text, bare_dash=bare_dash)
        except TimeError as error:
            assert _is_reason(error)
            continue
        if isinstance(found, tuple):
            assert found and all(math.isfinite(start) and start < end < math.inf for start, end in found)
        else:
            assert math.isfinite(found)


def plain_numbers(text: str) -> None:
    """Numbers in digits and words, lists and pairs, and their normal forms."""
    read_number(text)
    english_number(text.casefold())
    chinese_number(text)
    _, parts = read_list(text)
    assert sum(map(len, parts)) <= 18 * len(text)  # no character is longer in NFKC
    read_pairs(text)
    once = fold(text)
    assert fold(once) == once
    unwrap(text)
    label(text)


def response_format(text: str) -> None:
    """Either a boxed answer or a reason; the box is a part of the text."""
    for style in ("box", "answer"):
        parsed = parse_response(text, style)  # type: ignore[arg-type]
        assert (parsed.boxed is None) == (parsed.reason is not None)
        assert parsed.boxed is None or (parsed.boxed.strip() and parsed.boxed in text)


def constraints(text: str) -> None:
    """The first line as a reference in JSON, the rest as an answer: constraints are met or not."""
    first, _, rest = text.partition("\n")
    try:
        read_json(rest)
    except JsonError as error:
        assert _is_reason(error)
    try:
        raw = json.loads(first)
    except (ValueError, RecursionError):
        return
    try:
        found = read_constraints(raw)
    except InstructionError as error:
        assert _is_reason(error)
        return
    for _, constraint in found:
        assert constraint.met(rest) == constraint.met(rest)


def short_answers(text: str) -> None:
    """Options, counts, names of places, programs."""
    options = read_options(text)
    for known in ({}, options, {"A": "red", "B": "blue"}):
        try:
            assert read_choice(text, known)
        except NoChoice as error:
            assert _is_reason(error)
    try:
        read_count(text)
    except NoCount as error:
        assert _is_reason(error)
    read_place_names(text)
    _, fault = read_program(text)
    assert fault is None or fault


def style(text: str) -> None:
    """Style checks name themselves or nothing, wherever the think part ends."""
    half = len(text) // 2
    assert find_fault(text[:half], text[half:], None, CHECKS) in (None, *CHECKS)


def judge_prompt(text: str) -> None:
    """No candidate leaves its block of a judge's prompt."""
    assert breach("How many?", ["42"], text) is None


PARSERS: dict[str, Callable[[str], None]] = {
    function.__name__: function
    for function in (
        *(mathexpr, literals, gui_actions, quantity, chemistry, table, boxes, time_spans, plain_numbers, response_format),
        *(constraints, short_answers, style, judge_prompt),
    )
}
"""Target -> its function; the corpus of a target is in the folder of its name."""


def _is_reason(error: Exception) -> bool:
    """Whether the message is a short machine-readable reason that holds nothing of the policy's text but a name's start."""
    return 0 < len(str(error)) <= 400


SKIPPED = frozenset(("code",))
"""Verifiers that start processes: fuzzed in benchmarks/fuzz_rewards.py only."""
CASES: dict[str, tuple[Exemplar, ...]] = {
    name: tuple(item for item in EXEMPLARS if item.verifier == name) for name in sorted({item.verifier for item in EXEMPLARS})
}


@dataclass(frozen=True, slots=True)
class Case:
    """An exemplar and an answer to it."""

    exemplar: Exemplar
    answer: str


def read_case(text: str) -> Case:
    """A first line "VERIFIER NUMBER" and an answer behind it; any other first line chooses one of all exemplars by its hash."""
    first, _, answer = text.partition("\n")
    name, _, number = first.partition(" ")
    known = CASES.get(name, ()) if name not in SKIPPED else ()
    if known and number.isascii() and number.isdigit() and len(number) < 4:
        return Case(known[int(number) % len(known)], answer)
    every = [item for kind, items in CASES.items() if kind not in SKIPPED for item in items]
    return Case(every[zlib.crc32(first.encode("utf-8", "surrogatepass")) % len(every)], answer)


def score_case(case: Case) -> Verdict:
    """Score an answer in the process. Raises when the verdict is no verdict on a response."""
    found = case.exemplar
    entry = registry.find(found.verifier)
    options: dict[str, Any] = {"domain": found.verifier, "question": found.question, "args": found.args}
    verdict = score(response_with(case.answer, entry), found.reference, **options)
    assert verdict.status in ("ok", "format_error", "abstained"), verdict
    assert verdict.status != "abstained" or (verdict.reason or "").startswith(("no-judge", "judge-")), verdict
    assert verdict.score is None or 0.0 <= verdict.score <= 1.0
    return verdict


def score_text(text: str) -> None:
    """`score` never raises, and says the same of the same answer."""
    case = read_case(text)
    assert score_case(case) == score_case(case)


def decode(data: bytes) -> str:
    """Any bytes as text: what is no UTF-8 becomes lone surrogates, which policies' texts can hold as well."""
    return data.decode("utf-8", "surrogateescape")
