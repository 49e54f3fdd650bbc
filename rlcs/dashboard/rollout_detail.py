"""One rollout with everything that explains it: the body of /rollouts/{step}/{row}."""

import json
from pathlib import Path
from typing import Any

from rewards.format import parse_response
from rlcs.dashboard import geometry
from rlcs.dashboard.media import media_of
from rlcs.dashboard.problem_file import ProblemFile
from rlcs.dashboard.rollout_text import Unreadable, read_rows, tokenizer_file
from rlcs.dashboard.runs import Run, StepFile
from rlcs.dashboard.tokens import token_rows
from rlcs.dashboard.verdicts import explained, spans, verifier_of

_TOKENS = ("token_ids", "token_logprobs", "token_forced")
_NEAR = 256  # rows on either side in which the other samples of a group lie
_GROUP = ("step", "row", "sample", "reward", "correct", "status", "reason", "advantage", "tokens", "fate", "response")


def rollout_detail(
    run: Run, problem_file: ProblemFile, file: StepFile, place: int, allowed: tuple[Path, ...]
) -> dict[str, Any] | None:
    """None where the file has no such row. Raises Unreadable."""
    found = read_rows(file, place, place)
    if not found:
        return None
    row = found[0] | {"row": place}
    tokens = {name: row.pop(name, None) for name in _TOKENS}
    problem = problem_of(problem_file, row["index"], row["id"])
    known = verifier_of(row["domain"], problem)
    reference = parsed_answer(row["answer"])
    named = run.config.get("style_checks")
    checks = [one for one in named if isinstance(one, str)] if isinstance(named, list) else []
    pieces = spans(row["response"] or "")
    group, has_next = _group(file, row)
    media = [] if problem is None else media_of(problem, _root(problem_file), allowed)
    described = [one.described(n) if not isinstance(one, str) else no_media(n, one) for n, one in enumerate(media)]
    model = run.config.get("model")
    shown, note = token_rows(
        tokens,
        pieces,
        tokenizer_file(run.path, run.setting_path(f"{model}/tokenizer.json") if isinstance(model, str) else None),
    )
    return {
        "rollout": {**row, "answer": reference},
        "spans": pieces,
        "format": {"reason": parse_response(row["response"] or "").reason, "style": "box"},
        "tokens": shown,
        "tokens_note": note,
        "verdict": explained(row, reference, problem, checks, known),
        "geometry": _geometry(row, reference, known, described),
        "group": group,
        "media": described,
        "media_note": None if problem is not None else missing_note(problem_file),
        "previous": {"step": row["step"], "row": place - 1} if place else None,
        "next": {"step": row["step"], "row": place + 1} if has_next else None,
    }


def problem_of(problem_file: ProblemFile, index: int, id: str) -> dict[str, Any] | None:
    """The problem of the file at `index`, if it is still the one of that id."""
    problem = problem_file.line(index)
    return problem if problem is not None and problem.get("id") == id else None


def missing_note(problem_file: ProblemFile) -> str:
    """Why a problem's line is not to be had."""
    return problem_file.note or f"{problem_file.path} no longer holds this problem at its place"


def _root(problem_file: ProblemFile) -> Path:
    assert problem_file.path is not None
    return problem_file.path.parent


def no_media(n: int, why: str) -> dict[str, Any]:
    """MEDIA of one that cannot be shown."""
    return {"n": n, "kind": "image", "name": "", "frames": 0, "width": None, "height": None, "seconds": None, "error": why}


def parsed_answer(text: Any) -> Any:
    """The reference as a value; as it stands where it is no JSON."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text


def _group(file: StepFile, row: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """All samples of the row's group in order, and whether a row follows. Those of a group stand together, one problem may have
    several.
    """
    first = max(0, row["row"] - _NEAR)
    columns = ["index", *(name for name in _GROUP if name != "row")]
    near = [one | {"row": first + place} for place, one in enumerate(read_rows(file, first, row["row"] + _NEAR, columns))]
    here = next(place for place, one in enumerate(near) if one["row"] == row["row"])
    low = high = here
    while low > 0 and near[low - 1]["index"] == row["index"] and near[low - 1]["sample"] < near[low]["sample"]:
        low -= 1
    while high + 1 < len(near) and near[high + 1]["index"] == row["index"] and near[high + 1]["sample"] > near[high]["sample"]:
        high += 1
    return [{name: one[name] for name in _GROUP} for one in near[low : high + 1]], here + 1 < len(near)


def _geometry(row: dict[str, Any], reference: Any, known: Any, described: list[dict[str, Any]]) -> dict[str, Any] | None:
    image = next((one for one in described if one["kind"] == "image" and one["width"]), None)
    if known is None or image is None:
        return None
    _, entry, args = known
    found = geometry.shapes(entry, args, reference, row["extracted"], image["width"], image["height"])
    if found is None:
        return None
    images = sum(one["kind"] == "image" for one in described)
    note = f"drawn on the first of {images} images" if images > 1 else None
    return {"media": image["n"], "width": image["width"], "height": image["height"], **found, "note": note}


__all__ = ["Unreadable", "missing_note", "no_media", "parsed_answer", "problem_of", "rollout_detail"]
