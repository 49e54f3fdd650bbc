"""Score one response in the calling process; `rewards.pool` scores many under hard limits."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards import registry
from rewards.format import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    BOX_CLOSE,
    BOX_OPEN,
    MAX_ANSWER_CHARS,
    THINK_CLOSE,
    THINK_OPEN,
    ParsedResponse,
    Style,
    parse_response,
)
from rewards.registry import Abstain, BadReference, Context, known_domains, known_verifiers
from rewards.verdict import Verdict

__all__ = ["check_reference", "known_domains", "known_verifiers", "score", "score_answer", "score_batch"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a response puts before a verifier: its `answer`, or None and the format `fault` why there is none."""

    parsed: ParsedResponse
    answer: str | None
    fault: str | None


def score(
    response: str,
    reference: Any,
    *,
    domain: str,
    question: str | None = None,
    args: Mapping[str, Any] | None = None,
    verifier: str | None = None,
    style: Style = "box",
    checks: Sequence[str] = (),
) -> Verdict:
    """Score `response` (prefill + generation, without the end-of-turn token) against `reference`.

    The verifier is the domain's default unless `verifier` names one; `args` are its arguments; `checks` are style
    checks (`rewards.style`) that the response must pass as well. Never raises for any response text or reference.
    Raises ValueError for an unknown domain, verifier, argument or check: those are the caller's.
    """
    known_checks(checks)
    entry = registry.find(domain, verifier)
    arguments = registry.build_args(entry, args)
    found = read_response(response, entry, style)
    fault = found.fault or style_fault(found.parsed, question, checks)
    return judge(found.answer, fault, reference, entry, arguments, question)


def read_response(response: str, entry: registry.Verifier, style: Style) -> Candidate:
    """The candidate in `response`: its boxed answer, or all of the answer part where the verifier takes no box.

    For the latter a box token is a fault of its own, "box-on-unverifiable": a policy that boxes everything has
    learnt the token, not its meaning (GLM-4.5V report, arXiv 2507.01006, section on reward systems).
    """
    parsed = parse_response(response, style)
    if entry.box == "required" or parsed.answer_text is None:
        return Candidate(parsed, parsed.boxed, parsed.reason)
    if BOX_OPEN in parsed.answer_text or BOX_CLOSE in parsed.answer_text:
        return Candidate(parsed, None, "box-on-unverifiable")
    if style == "answer" or parsed.reason not in (None, "no-box"):
        return Candidate(parsed, parsed.boxed, parsed.reason)
    if not parsed.answer_text.strip():
        return Candidate(parsed, None, "empty-answer")
    if len(parsed.answer_text) > MAX_ANSWER_CHARS:
        return Candidate(parsed, None, "answer-too-long")
    return Candidate(parsed, parsed.answer_text, None)


def response_with(answer: str, entry: registry.Verifier, style: Style = "box") -> str:
    """The well-formed response that gives `answer` and nothing else, in the form this verifier wants."""
    opening, closing = (BOX_OPEN, BOX_CLOSE) if style == "box" else (ANSWER_OPEN, ANSWER_CLOSE)
    if style == "box" and entry.box == "forbidden":
        opening = closing = ""
    return f"{THINK_OPEN}{THINK_CLOSE}{opening}{answer}{closing}"


def known_checks(checks: Sequence[str]) -> None:
    """Raises ValueError naming the nearest when one of `checks` is no style check."""
    if not checks:
        return
    from rewards.style import CHECKS

    if isinstance(checks, str):
        raise ValueError(f"checks is the text {checks!r}; expected a list of names, such as {[checks]}")
    for name in checks:
        if name not in CHECKS:
            near = difflib.get_close_matches(str(name), CHECKS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise registry.UnknownNameError(f"unknown style check {name!r}{hint} (known: {', '.join(CHECKS)})")


def style_fault(parsed: ParsedResponse, question: str | None, checks: Sequence[str]) -> str | None:
    """The fault that the style checks find in a response that has its parts, or None."""
    if not checks or parsed.think is None or parsed.answer_text is None:
        return None
    from rewards.style import find_fault

    return find_fault(parsed.think, parsed.answer_text, question, checks)


def judge(
    answer: str | None,
    fault: str | None,
    reference: Any,
    entry: registry.Verifier,
    args: Any,
    question: str | None,
    notes: list[tuple[str, str]] | None = None,
) -> Verdict:
    """The verdict on a response whose answer and format or style fault are known.

    A bad reference is reported first: whatever the policy wrote, the sample says nothing about it. `notes`, if given,
    receives how the verifier decided.
    """
    extracted = None if answer is None else answer.strip()
    try:
        expected = registry.read_reference(entry, reference, args)
    except BadReference as error:
        return Verdict.bad_reference(str(error), extracted)
    if answer is None or fault is not None:
        return Verdict.format_error(fault or "no-box", extracted)
    try:
        outcome = entry.compare(answer, expected, Context(args, question, notes))
    except Abstain as error:
        return Verdict.abstained(str(error), extracted)
    return Verdict(float(outcome.score), outcome.correct, "ok", extracted, outcome.reason)


def score_answer(
    answer: str, reference: Any, *, domain: str, verifier: str | None = None, style: Style = "box", **options: Any
) -> Verdict:
    """Score a bare answer, as `score` does for a response that gives it in the form its verifier wants."""
    response = response_with(answer, registry.find(domain, verifier), style)
    return score(response, reference, domain=domain, verifier=verifier, style=style, **options)


def check_reference(
    reference: Any, *, domain: str, verifier: str | None = None, args: Mapping[str, Any] | None = None
) -> str | None:
    """Why the verifier cannot accept `reference`, or None when it can.

    A reference given as text must also be a right answer to itself ("self-mismatch" otherwise): whatever else fails,
    a policy that gives the reference word for word is paid. A verifier that abstains on it gives its own reason.
    Raises ValueError as `score` does.
    """
    entry = registry.find(domain, verifier)
    arguments = registry.build_args(entry, args)
    verdict = judge(reference if isinstance(reference, str) else None, None, reference, entry, arguments, None)
    if verdict.status in ("bad_reference", "abstained"):
        return verdict.reason
    return "self-mismatch" if isinstance(reference, str) and not verdict.correct else None


def score_batch(rows: Sequence[Mapping[str, Any]], **pool_options: Any) -> list[Verdict]:
    """Score rows of the `rlcs score` format in a pool made for this call; keep a `ScorePool` for repeated calls."""
    from rewards.pool import ScorePool

    with ScorePool(**pool_options) as pool:
        return pool.score_batch(rows)
