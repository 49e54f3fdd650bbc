"""Bodies of /rollouts and of its export as JSON Lines: filtered rollouts with the texts that a list shows."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from rlcs.dashboard.problem_file import ProblemFile
from rlcs.dashboard.rollout_detail import parsed_answer, problem_of
from rlcs.dashboard.rollout_index import REWARD_BINS, RolloutIndex
from rlcs.dashboard.rollout_query import Filter, Found, find_rollouts, rows_at
from rlcs.dashboard.rollout_text import matching_places, short_texts, stream_rows
from rlcs.dashboard.runs import Run, StepFile
from rlcs.dashboard.snapshots import Snapshots

MOST_ROWS = 500
TEXT = 200
"""Characters of question and response in a list."""
MOST_SEARCHED = 200_000
_SEARCH_SECONDS = 2.0
_MOST_FILES = 8  # files that texts of one page are read from; a page over more is shown without them
_EXPORTED = (
    "id",
    "domain",
    "tier",
    "step",
    "sample",
    "question",
    "answer",
    "response",
    "reward",
    "correct",
    "status",
    "reason",
)


def rollout_list(
    run: Run, index: RolloutIndex, snapshots: Snapshots, chosen: Filter, order: str, offset: int, limit: int
) -> dict[str, Any]:
    """The body of /api/runs/{run}/rollouts."""
    searched = None
    if chosen.search is None:
        found = find_rollouts(index, chosen, order, offset, limit)
    else:
        found, searched = _searched(run, index, chosen, order, offset, limit)
    _add_texts(run.files["rollouts"], snapshots, found.rows)
    steps = list(index.files)
    return {
        "run": run.summary(),
        "matching": found.matching,
        "total": index.total_rows,
        "offset": offset,
        "limit": limit,
        "order": order,
        "rows": found.rows,
        "facets": found.facets,
        "reward_histogram": {"edges": [place / REWARD_BINS for place in range(REWARD_BINS + 1)], "count": found.histogram},
        "steps": {"first": min(steps, default=None), "last": max(steps, default=None)},
        "indexed": index.progress,
        "search": searched,
    }


def _add_texts(files: dict[int, StepFile], snapshots: Snapshots, rows: list[dict[str, Any]]) -> None:
    problems = snapshots.problems
    known = [row["index"] for row in rows if problems is not None and row["index"] < len(problems)]
    ids = {} if problems is None else dict(zip(known, problems.ids.take(pa.array(known, pa.int64())).to_pylist(), strict=True))
    by_step: dict[int, list[int]] = {}
    for row in rows:
        by_step.setdefault(row["step"], []).append(row["row"])
    texts: dict[tuple[int, int], dict[str, str | None]] = {}
    if len(by_step) <= _MOST_FILES:
        for step, places in by_step.items():
            try:
                found = short_texts(files[step], places, TEXT) if step in files else {}
            except (OSError, pa.ArrowException, ValueError, IndexError):
                found = {}  # the file was taken back by a run that was resumed: its rows go at the next look
            texts |= {(step, place): text for place, text in found.items()}
    for row in rows:
        row["id"] = ids.get(row["index"])
        row |= texts.get((row["step"], row["row"]), {"question": None, "response": None})


def _searched(
    run: Run, index: RolloutIndex, chosen: Filter, order: str, offset: int, limit: int
) -> tuple[Found, dict[str, Any]]:
    """Those of the chosen whose texts hold the words. Files are looked through from the newest, within bounds."""
    within = replace(chosen, search=None)
    base = find_rollouts(index, within, "newest", 0, 0)
    places: dict[int, list[int]] = {}
    scanned, complete, until = 0, True, time.monotonic() + _SEARCH_SECONDS
    for step in sorted(base.by_step, reverse=True):
        file = run.files["rollouts"].get(step)
        if file is None:
            continue
        if scanned >= MOST_SEARCHED or time.monotonic() > until:
            complete = False
            break
        try:
            hits, looked = matching_places(file, chosen.search or "")
        except (OSError, pa.ArrowException):
            continue
        scanned += looked
        if hits:
            places[step] = hits
    found = rows_at(index, within, places, order, offset, limit)
    return found, {"scanned": scanned, "limit": MOST_SEARCHED, "complete": complete}


def exported(
    run: Run, index: RolloutIndex, problem_file: ProblemFile, chosen: Filter, order: str, limit: int
) -> Iterator[bytes]:
    """Lines of JSON, file by file from the newest (or oldest): the problem's messages with the response, and its verdict."""
    files, left = dict(run.files["rollouts"]), limit
    steps = find_rollouts(index, replace(chosen, search=None), order, 0, 0).by_step
    for step in sorted(steps, reverse=order != "oldest"):
        file = files.get(step)
        if file is None or left <= 0:
            continue
        try:
            places = set(index.places(chosen.where(index), step))
            if chosen.search:
                places &= set(matching_places(file, chosen.search)[0])
            for row in stream_rows(file, places, ("index", *_EXPORTED)):
                if left <= 0:
                    break
                left -= 1
                yield json.dumps(_example(row, problem_file), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        except (OSError, pa.ArrowException):
            continue


def _example(row: dict[str, Any], problem_file: ProblemFile) -> dict[str, Any]:
    problem = problem_of(problem_file, row["index"], row["id"])
    asked = problem["messages"] if problem else [{"role": "user", "content": row["question"]}]
    line = {name: row.get(name) for name in _EXPORTED if name != "question"}
    line["answer"] = parsed_answer(line["answer"])
    return {**line, "messages": [*asked, {"role": "assistant", "content": row["response"]}]}
