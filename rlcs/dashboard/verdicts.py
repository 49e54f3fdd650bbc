"""A rollout's verdict explained: which verifier with which arguments, what it made of the answer, and the parts of the text."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from rewards import registry
from rewards.api import read_response
from rewards.explanation import explain
from rewards.format import ANSWER_CLOSE, ANSWER_OPEN, BOX_CLOSE, BOX_OPEN, THINK_CLOSE, THINK_OPEN, parse_response

_MARKS = (THINK_OPEN, THINK_CLOSE, BOX_OPEN, BOX_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)


def spans(response: str) -> list[dict[str, str]]:
    """The response in pieces that joined make it up again: "think", "answer", "box" (inside of the answer's box), "mark" (the
    tags themselves); one "plain" piece where it does not split into a think and an answer part.
    """
    parsed = parse_response(response)
    if parsed.think is None or parsed.answer_text is None:
        return [{"kind": "plain", "text": response}] if response else []
    head, tail = response[: len(response) - len(parsed.answer_text)], parsed.answer_text
    before = head.index(THINK_OPEN)
    pieces = [("plain", head[:before]), ("mark", THINK_OPEN), ("think", parsed.think), ("mark", THINK_CLOSE)]
    boxed = parsed.boxed if parsed.boxed is not None and f"{BOX_OPEN}{parsed.boxed}{BOX_CLOSE}" in tail else None
    if boxed is None:
        pieces.append(("answer", tail))
    else:
        left, _, right = tail.partition(f"{BOX_OPEN}{boxed}{BOX_CLOSE}")
        pieces += [("answer", left), ("mark", BOX_OPEN), ("box", boxed), ("mark", BOX_CLOSE), ("answer", right)]
    return [{"kind": kind, "text": text} for kind, text in pieces if text]


def verifier_of(domain: str, problem: Mapping[str, Any] | None) -> tuple[dict[str, Any], registry.Verifier, Any] | None:
    """(description, verifier, arguments) that a problem is judged by; None for one that this installation does not know."""
    problem = problem or {}
    name, given = problem.get("verifier"), problem.get("verifier_args")
    try:
        entry = registry.find(domain, name if isinstance(name, str) else None)
        args = registry.build_args(entry, given if isinstance(given, dict) else None)
    except ValueError:
        return None
    default = entry.args()
    values = {field.name: getattr(args, field.name) for field in dataclasses.fields(args)}
    changed = {key: value for key, value in values.items() if value != getattr(default, key)}
    described = {"name": entry.name, "default": name is None, "args": _plain(values), "changed": _plain(changed)}
    return described, entry, args


def _plain(values: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(values, default=str))


def explained(
    row: Mapping[str, Any], reference: Any, problem: Mapping[str, Any] | None, checks: list[str], known: Any
) -> dict[str, Any]:
    """What the verdict rests on. The verifier is run again only where its own rule says that it needs no limits."""
    response, steps = row.get("response") or "", []
    parsed = parse_response(response)
    if known is not None:
        _, entry, _ = known
        candidate = read_response(response, entry, "box")
        steps.append(("extraction", _extraction(candidate.answer, candidate.fault, entry.box)))
        steps.append(
            ("rule", f"verifier {entry.name}" + (f" with {json.dumps(known[0]['changed'])}" if known[0]["changed"] else ""))
        )
        if candidate.answer is not None and row.get("status") != "abstained":
            steps += _again(row, reference, problem, candidate.answer, entry)
    else:
        steps.append(("extraction", _extraction(parsed.boxed, parsed.reason, "required")))
        steps.append(
            ("rule", f"the verifier of domain {row.get('domain')} is not known here; name its module as a plug-in of the run")
        )
    if row.get("finish_reason") == "repetition":
        steps.append(("ended", "the engine ended the response because it repeated itself: a format error whatever it answered"))
    steps.append(("reason", row.get("reason") or "none: " + ("right" if row.get("correct") else "as the score says")))
    return {
        **{
            name: row.get(key)
            for name, key in (("score", "reward"), ("correct", "correct"), ("status", "status"), ("reason", "reason"))
        },
        "reason_text": _REASONS.get(row.get("reason") or ""),
        "extracted": row.get("extracted"),
        "verifier": None if known is None else known[0],
        "checks": checks,
        "steps": [{"name": name, "text": text} for name, text in steps],
    }


def _extraction(answer: str | None, fault: str | None, box: str) -> str:
    if answer is None:
        return f"no answer: {fault}"
    return (
        "the one box of the answer part"
        if box == "required"
        else "the whole answer part, which this verifier wants without a box"
    )


def _again(
    row: Mapping[str, Any], reference: Any, problem: Mapping[str, Any] | None, answer: str, entry: registry.Verifier
) -> list[tuple[str, str]]:
    try:
        if not entry.bounded(answer, reference):
            return [("note", "how it decided in detail: rlcs score --explain, which runs the verifier with its limits")]
        found = explain(
            row["response"],
            reference,
            domain=row["domain"],
            question=row.get("question"),
            args=(problem or {}).get("verifier_args"),
            verifier=(problem or {}).get("verifier"),
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return [("note", f"could not be judged again ({type(error).__name__})")]
    notes = [({"reference": "reference is", "answer": "answer is"}.get(name, name), value) for name, value in found.notes]
    if (found.verdict.score, found.verdict.correct) != (row.get("reward"), row.get("correct")):
        notes.append(
            ("note", f"judged again now it scores {found.verdict.score}: the verifier or the reference has changed since")
        )
    return notes


_REASONS = {
    "too-long": "The response is longer than any verifier reads.",
    "empty-response": "The response is empty.",
    "role-token": "The response holds a token that marks a speaker, as if it had gone on for the user.",
    "no-think": "The response has no think part.",
    "unopened-think": "The think part is closed but was never opened.",
    "two-thinks": "There is more than one think part.",
    "unclosed-think": "The think part is never closed: the response ended in it, or it was cut off.",
    "text-before-think": "Text stands before the think part.",
    "box-in-think": "A box stands in the think part as well as in the answer.",
    "box-only-in-think": "The only box stands in the think part, where it does not count.",
    "no-box": "The answer part has no box.",
    "two-boxes": "The answer part has more than one box.",
    "unclosed-box": "The box is never closed.",
    "unopened-box": "A box is closed that was never opened.",
    "nested-box": "A box stands inside a box.",
    "empty-box": "The box is empty.",
    "answer-too-long": "The boxed answer is longer than any verifier takes.",
    "box-on-unverifiable": "A box stands in an answer that is judged as a whole: boxes are for what can be verified.",
    "repetition": "The response repeats itself.",
    "mixed-language": "The response changes language in the middle.",
    "timeout": "The verifier did not end in time; the sample does not count.",
}
