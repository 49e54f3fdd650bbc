"""Score one response in the calling process; `rewards.pool` scores many under hard limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards import registry
from rewards.format import Style, parse_response
from rewards.registry import Abstain, BadReference, Context, known_domains, known_verifiers
from rewards.verdict import Verdict

__all__ = ["check_reference", "known_domains", "known_verifiers", "score", "score_answer", "score_batch"]


def score(
    response: str,
    reference: Any,
    *,
    domain: str,
    question: str | None = None,
    args: Mapping[str, Any] | None = None,
    verifier: str | None = None,
    style: Style = "box",
) -> Verdict:
    """Score `response` (prefill + generation, without the end-of-turn token) against `reference`.

    The verifier is the domain's default unless `verifier` names one; `args` are its arguments. Never raises for any
    response text or reference. Raises ValueError for an unknown domain, verifier or argument: those are the caller's.
    """
    parsed = parse_response(response, style)
    entry = registry.find(domain, verifier)
    return judge(parsed.boxed, parsed.reason, reference, entry, registry.build_args(entry, args), question)


def judge(
    boxed: str | None,
    fault: str | None,
    reference: Any,
    entry: registry.Verifier,
    args: Any,
    question: str | None,
    notes: list[tuple[str, str]] | None = None,
) -> Verdict:
    """The verdict on a parsed response: its boxed answer, or the reason `fault` why it has none.

    A bad reference is reported first: whatever the policy wrote, the sample says nothing about it. `notes`, if given,
    receives how the verifier decided.
    """
    extracted = None if boxed is None else boxed.strip()
    try:
        expected = registry.read_reference(entry, reference, args)
    except BadReference as error:
        return Verdict.bad_reference(str(error), extracted)
    if boxed is None:
        return Verdict.format_error(fault or "no-box")
    try:
        outcome = entry.compare(boxed, expected, Context(args, question, notes))
    except Abstain as error:
        return Verdict.abstained(str(error), extracted)
    return Verdict(float(outcome.score), outcome.correct, "ok", extracted, outcome.reason)


def score_answer(answer: str, reference: Any, *, domain: str, **options: Any) -> Verdict:
    """Score a bare answer, as `score` does for a response that boxes it."""
    return score(f"<think></think><|begin_of_box|>{answer}<|end_of_box|>", reference, domain=domain, **options)


def check_reference(
    reference: Any, *, domain: str, verifier: str | None = None, args: Mapping[str, Any] | None = None
) -> str | None:
    """Why the verifier cannot accept `reference`, or None when it can.

    A reference given as text must also be a right answer to itself ("self-mismatch" otherwise): whatever else fails,
    a policy that gives the reference word for word is paid. Raises ValueError as `score` does.
    """
    entry = registry.find(domain, verifier)
    arguments = registry.build_args(entry, args)
    try:
        expected = registry.read_reference(entry, reference, arguments)
    except BadReference as error:
        return str(error)
    if isinstance(reference, str) and not entry.compare(reference, expected, Context(arguments)).correct:
        return "self-mismatch"
    return None


def score_batch(rows: Sequence[Mapping[str, Any]], **pool_options: Any) -> list[Verdict]:
    """Score rows of the `rlcs score` format in a pool made for this call; keep a `ScorePool` for repeated calls."""
    from rewards.pool import ScorePool

    with ScorePool(**pool_options) as pool:
        return pool.score_batch(rows)
