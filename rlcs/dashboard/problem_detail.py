"""One problem: its question and media, how its posterior moved, and its rollouts. The body of /problems/{index}."""

from pathlib import Path
from typing import Any

import numpy as np

from rlcs.dashboard.difficulty import mean_of
from rlcs.dashboard.media import media_of
from rlcs.dashboard.problem_file import ProblemFile
from rlcs.dashboard.problem_table import ProblemTable, credible
from rlcs.dashboard.rollout_detail import missing_note, no_media, parsed_answer, problem_of
from rlcs.dashboard.rollout_index import RolloutIndex
from rlcs.dashboard.rollout_query import Filter, find_rollouts
from rlcs.dashboard.rollout_text import Unreadable, read_rows
from rlcs.dashboard.runs import Run
from rlcs.dashboard.snapshots import CLASSES, Snapshots
from rlcs.dashboard.verdicts import verifier_of

MOST_ROLLOUTS = 2000


def problem_detail(
    run: Run,
    snapshots: Snapshots,
    index: RolloutIndex,
    problem_file: ProblemFile,
    table: ProblemTable,
    number: int,
    allowed: tuple[Path, ...],
) -> dict[str, Any] | None:
    """None where the run has no such problem."""
    problems = snapshots.problems
    rows = table.rows(np.array([number])) if problems is not None and number < len(problems) else []
    found = find_rollouts(index, Filter(index=number), "newest", 0, MOST_ROLLOUTS)
    sample = _sample(run, found.rows)
    line = problem_file.line(number) if not rows else problem_of(problem_file, number, rows[0]["id"])
    if not rows and not found.matching and line is None:
        return None
    known = rows[0] if rows else None
    domain = known["domain"] if known else sample.get("domain") or (line or {}).get("domain") or ""
    verifier = verifier_of(domain, line)
    media = [] if line is None or problem_file.path is None else media_of(line, problem_file.path.parent, allowed)
    return {
        "problem": known or {"index": number, "id": sample.get("id") or (line or {}).get("id"), "domain": domain},
        "question": sample.get("question") if line is None else _question(line),
        "messages": None if line is None else _messages(line),
        "answer": parsed_answer(sample.get("answer")) if line is None else line.get("answer"),
        "verifier": None if verifier is None else verifier[0],
        "offline": None if line is None else {"pass_rate": line.get("pass_rate"), "grade": line.get("grade")},
        "source": None if line is None else line.get("source"),
        "media": [one.described(n) if not isinstance(one, str) else no_media(n, one) for n, one in enumerate(media)],
        "history": _history(snapshots, number),
        "observed": _observed(found.rows),
        "rollouts": found.rows,
        "rollouts_total": found.matching,
        "note": None if line is not None else missing_note(problem_file),
    }


def _sample(run: Run, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a rollout of the problem says of it, for when its file is gone."""
    for row in rows[:1]:
        file = run.files["rollouts"].get(row["step"])
        try:
            found = [] if file is None else read_rows(file, row["row"], row["row"], ["id", "domain", "question", "answer"])
        except Unreadable:
            found = []
        if found:
            return found[0]
    return {}


def _parts(message: Any) -> list[dict[str, Any]]:
    content = message.get("content") if isinstance(message, dict) else None
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _question(line: dict[str, Any]) -> str:
    users = [one for one in line.get("messages") or [] if isinstance(one, dict) and one.get("role") == "user"]
    return "".join(str(part.get("text", "")) for part in _parts(users[-1]) if part.get("type") == "text") if users else ""


def _messages(line: dict[str, Any]) -> list[dict[str, Any]]:
    """Roles and parts; a part of media is named by its place among all media of the problem."""
    found, media = [], 0
    for message in line.get("messages") or []:
        parts: list[dict[str, Any]] = []
        for part in _parts(message):
            if part.get("type") == "text":
                parts.append({"type": "text", "text": str(part.get("text", ""))})
            elif part.get("type") in ("image", "video"):
                parts.append({"type": part["type"], "media": media})
                media += 1
        found.append({"role": str(message.get("role", "")) if isinstance(message, dict) else "", "parts": parts})
    return found


def _history(snapshots: Snapshots, number: int) -> dict[str, list[Any]]:
    by_step = snapshots.history(number)
    rows = np.array(list(by_step.values())) if by_step else None
    if rows is None:
        return {name: [] for name in ("step", "mean", "low", "high", "mixed_probability", "state", "class", "seen")}
    low, high = credible(rows["alpha"].astype(np.float64), rows["beta"].astype(np.float64))
    names = [*snapshots.states.names, *[""] * (256 - len(snapshots.states.names))]
    seen_at = rows["seen_at"].tolist()
    return {
        "step": list(by_step),
        "mean": mean_of(rows).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "mixed_probability": rows["mixed"].astype(np.float64).tolist(),
        "state": [names[state] or None for state in rows["state"].tolist()],
        "class": [CLASSES[one] for one in rows["class"].tolist()],
        "seen": [at >= 0 and at != before for at, before in zip(seen_at, [-1, *seen_at[:-1]], strict=True)],
    }


def _observed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Right and known answers of each step that drew the problem, ascending."""
    by_step: dict[int, dict[str, Any]] = {}
    for row in rows:
        one = by_step.setdefault(row["step"], {"step": row["step"], "groups": 0, "right": 0, "known": 0, "fate": row["fate"]})
        one["right"] += row["correct"] is True
        one["known"] += row["correct"] is not None
        one["groups"] += row["sample"] == 0
    return [by_step[step] for step in sorted(by_step)]
