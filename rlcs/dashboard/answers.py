"""What the server answers about a run, by the path after /api/runs/{run} (docs/dashboard.md). Each answer runs in a thread."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse

from rlcs.dashboard import problem_table, rollout_list, rollout_query
from rlcs.dashboard.difficulty import difficulty, flow
from rlcs.dashboard.media import BadMedia, media_of
from rlcs.dashboard.overview import overview
from rlcs.dashboard.parameters import Parameters
from rlcs.dashboard.problem_detail import problem_detail
from rlcs.dashboard.rollout_detail import rollout_detail
from rlcs.dashboard.rollout_text import Unreadable
from rlcs.dashboard.watch import Watched

PAGE = 50
_MOST_EXPORTED = 10_000_000


class Missing(Exception):
    """What was asked for is not there; the text says what."""


Answer = Callable[[Watched, Parameters, Mapping[str, Any]], Any]
"""What computes a body, or a whole response, from a run, the query and the path's parameters."""


def _overview(watched: Watched, query: Parameters, path: Mapping[str, Any]) -> Any:
    query.known(())
    with watched.lock:
        return overview(watched.run, watched.snapshots.beliefs()) | {"run": watched.summary()}


def _difficulty(watched: Watched, query: Parameters, path: Mapping[str, Any]) -> Any:
    query.known(("domain", "tier"))
    found = difficulty(watched.run, watched.snapshots, watched.problem_file, query.texts("domain"), query.texts("tier"))
    return found | {"run": watched.summary()}


def _flow(watched: Watched, query: Parameters, path: Mapping[str, Any]) -> Any:
    query.known(("from", "to", "domain", "tier"))
    start, end = query.integer("from"), query.integer("to")
    return flow(watched.snapshots, start, end, query.texts("domain"), query.texts("tier"))


def _problems(watched: Watched, query: Parameters, path: Mapping[str, Any]) -> Any:
    query.known((*problem_table.FILTERS, "sort", "descending", "offset", "limit"))
    sort, descending = query.one_of("sort", problem_table.SORTS, "index"), bool(query.flag("descending"))
    offset = query.integer("offset", 0, low=0) or 0
    limit = query.integer("limit", PAGE, low=0, high=problem_table.MOST_ROWS) or 0
    found = watched.problems.page(problem_table.Chosen.of(query), sort, descending, offset, limit)
    found |= {"run": watched.summary(), "offset": offset, "limit": limit, "sort": sort, "descending": descending}
    return found | {"indexed": watched.rollouts.progress}


def _problem(watched: Watched, query: Parameters, path: Mapping[str, Any]) -> Any:
    query.known(())
    parts = (watched.run, watched.snapshots, watched.rollouts, watched.problem_file, watched.problems)
    found = problem_detail(*parts, path["index"], watched.allowed)
    if found is None:
        raise Missing(f"no problem {path['index']} in run {watched.run.name}")
    return found


def _medium(watched: Watched, query: Parameters, path: Mapping[str, Any]) -> Any:
    query.known(("width",))
    problem, file = watched.problem_file.line(path["index"]), watched.problem_file.path
    media = [] if problem is None or file is None else media_of(problem, file.parent, watched.allowed)
    if path["n"] >= len(media):
        raise Missing(f"no image or video {path['n']} of problem {path['index']}")
    medium = media[path["n"]]
    if isinstance(medium, str):
        raise Missing(medium)
    try:
        content = medium.frame(path.get("frame", 0), query.integer("width", low=1, high=10_000))
    except BadMedia as error:
        raise Missing(str(error)) from error
    return Response(content, media_type="image/png")


def _rollouts(watched: Watched, query: Parameters, path: Mapping[str, Any]) -> Any:
    query.known((*rollout_query.FILTERS, "offset", "limit", "order"))
    order = query.one_of("order", rollout_query.ORDERS, "newest")
    offset = query.integer("offset", 0, low=0) or 0
    limit = query.integer("limit", PAGE, low=0, high=rollout_list.MOST_ROWS) or 0
    chosen = rollout_query.Filter.of(query)
    found = rollout_list.rollout_list(watched.run, watched.rollouts, watched.snapshots, chosen, order, offset, limit)
    return found | {"run": watched.summary()}


def _rollout(watched: Watched, query: Parameters, path: Mapping[str, Any]) -> Any:
    query.known(())
    file = watched.run.files["rollouts"].get(path["step"])
    try:
        found = None if file is None else rollout_detail(watched.run, watched.problem_file, file, path["row"], watched.allowed)
    except Unreadable as error:
        raise Missing(str(error)) from error
    if found is None:
        raise Missing(f"no rollout {path['row']} of step {path['step']} in run {watched.run.name}")
    return found


def _lines(watched: Watched, query: Parameters, path: Mapping[str, Any]) -> Any:
    query.known((*rollout_query.FILTERS, "limit", "order"))
    order = query.one_of("order", ("newest", "oldest"), "newest")
    limit = query.integer("limit", 100_000, low=0, high=_MOST_EXPORTED) or 0
    chosen = rollout_query.Filter.of(query)
    lines = rollout_list.exported(watched.run, watched.rollouts, watched.problem_file, chosen, order, limit)
    name = f"rollouts-{watched.run.name}.jsonl".encode("ascii", "replace").decode().replace("?", "-")
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


ANSWERS: dict[str, Answer] = {
    "/overview": _overview,
    "/difficulty": _difficulty,
    "/flow": _flow,
    "/problems": _problems,
    "/problems/{index:int}": _problem,
    "/problems/{index:int}/media/{n:int}": _medium,
    "/problems/{index:int}/media/{n:int}/{frame:int}": _medium,
    "/rollouts": _rollouts,
    "/rollouts.jsonl": _lines,
    "/rollouts/{step:int}/{row:int}": _rollout,
}
