"""The dashboard's web server: routes to answers, and what keeps them to this machine and this page.

Policy text is hostile. It leaves as JSON only, the page shows it as text, and the headers forbid scripts that are not ours.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlcs.dashboard.answers import ANSWERS, Answer, Missing
from rlcs.dashboard.compare import AXES, compare, default_metric
from rlcs.dashboard.parameters import BadParameter, Parameters
from rlcs.dashboard.watch import Watch

STATIC = Path(__file__).parent / "static"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}
_BEAT = 15.0  # seconds between signs of life of the event stream
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Json(JSONResponse):
    """JSON in which a number that is not finite is null."""

    def render(self, content: Any) -> bytes:
        try:
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            text = json.dumps(finite(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")  # half a surrogate pair has no UTF-8


def finite(value: Any) -> Any:
    """The same value with null for numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return value


def response_body(body: Any) -> Any:
    """What a client would find in the JSON of a body."""
    return json.loads(bytes(Json(body).body))


class LocalOnly:
    """Answers GET requests that name this machine as their host, and sets the headers of every answer.

    A page elsewhere that makes its own name resolve to 127.0.0.1 (DNS rebinding) sends that name, and is refused. So is one
    that asks for our answers without being able to read them, where the browser tells of it; a link to the page is followed.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...] = LOCAL_HOSTS) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    own.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *own]
            await send(message)

        headers = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
        host = headers.get(b"host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        refused: Response | None = None
        if name.lower() not in self._hosts:
            refused = Json({"error": f"host {host[:80]!r} is not this machine; open the page at 127.0.0.1"}, 403)
        elif headers.get(b"sec-fetch-site") in ("cross-site", "same-site") and headers.get(b"sec-fetch-mode") != "navigate":
            refused = Json({"error": "another site's page asked for this; open it from its own"}, 403)
        elif scope["method"] not in ("GET", "HEAD"):
            refused = Json({"error": "this page only reads; the method is GET"}, 405, {"allow": "GET, HEAD"})
        await (refused or self._app)(scope, receive, guarded)
        return None


def build_app(watch: Watch, *, hosts: tuple[str, ...] = LOCAL_HOSTS, lifespan: bool = True) -> Starlette:
    """The application over the runs that `watch` watches, which it starts and ends."""

    @asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        with watch:
            yield

    async def runs(request: Request) -> Response:
        return Json({"version": 1, "export": False, "runs": await to_thread.run_sync(watch.summaries)})

    async def compared(request: Request) -> Response:
        return Json(await to_thread.run_sync(_compare, watch, Parameters(request.query_params)))

    async def events(request: Request) -> Response:
        return StreamingResponse(_events(watch, request), media_type="text/event-stream")

    routes = [
        Route("/", _index),
        Route("/plotly.min.js", _plotly),
        Route("/static/{name}", _static),
        Route("/api/runs", runs),
        Route("/api/events", events),
        Route("/api/compare", compared),
        *(Route(f"/api/runs/{{run}}{path}", partial(_answer, watch, answer)) for path, answer in ANSWERS.items()),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(LocalOnly, hosts=hosts)],
        exception_handlers={404: _not_found, Missing: _missing, BadParameter: _bad, Exception: _failed},
        lifespan=living if lifespan else None,
    )


async def _answer(watch: Watch, answer: Answer, request: Request) -> Response:
    name = request.path_params["run"]
    watched = watch.runs.get(name)
    if watched is None:
        return Json({"error": f"no run {name[:80]!r}; there are {', '.join(watch.runs)}"}, 404)
    body = await to_thread.run_sync(answer, watched, Parameters(request.query_params), request.path_params)
    return body if isinstance(body, Response) else Json(body)


def _compare(watch: Watch, query: Parameters) -> dict[str, Any]:
    query.known(("run", "metric", "x", "domain"))
    names = query.texts("run") or list(watch.runs)
    unknown = [name for name in names if name not in watch.runs]
    if unknown:
        raise BadParameter(f"no run {unknown[0][:80]!r}; there are {', '.join(watch.runs)}")
    runs = {name: watch.runs[name].run for name in names}
    axis = query.one_of("x", tuple(AXES), "step")
    with ExitStack() as locks:
        for name in runs:
            locks.enter_context(watch.runs[name].lock)
        return compare(runs, query.text("metric") or default_metric(runs), axis, query.text("domain") or "")


async def _events(watch: Watch, request: Request) -> AsyncIterator[str]:
    """Tells of every change, and by a comment that it still lives."""
    seen, waited = -1, 0.0
    yield "retry: 2000\n\n"
    while not watch.closed and not await request.is_disconnected():
        if seen != watch.version:
            seen, waited = watch.version, 0.0
            runs = await to_thread.run_sync(watch.summaries)
            yield f"event: runs\ndata: {json.dumps(finite({'runs': runs}))}\n\n"
        elif waited >= _BEAT:
            waited = 0.0
            yield ": here\n\n"
        await asyncio.sleep(0.25)
        waited += 0.25


async def _index(request: Request) -> Response:
    if not (STATIC / "index.html").is_file():
        raise Missing(f"{STATIC / 'index.html'} is missing; install the package again")
    return FileResponse(STATIC / "index.html", media_type="text/html", headers={"cache-control": "no-cache"})


async def _static(request: Request) -> Response:
    name: str = request.path_params["name"]
    known = {path.name: path for path in STATIC.glob("*") if path.suffix in _TYPES and path.is_file()}
    if name not in known:
        raise Missing(f"no file {name[:80]!r}")
    path = known[name]
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={"cache-control": "no-cache"})


def plotly_script() -> Path:
    """Plotly's script as the package brings it, which need not be imported for that."""
    found = find_spec("plotly")
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"


async def _plotly(request: Request) -> Response:
    return FileResponse(plotly_script(), media_type="text/javascript", headers={"cache-control": "max-age=86400"})


async def _not_found(request: Request, error: Exception) -> Response:
    return Json({"error": f"nothing at {request.url.path[:200]!r}"}, 404)


async def _missing(request: Request, error: Exception) -> Response:
    return Json({"error": str(error)}, 404)


async def _bad(request: Request, error: Exception) -> Response:
    return Json({"error": str(error)}, 400)


async def _failed(request: Request, error: Exception) -> Response:
    return Json({"error": f"{type(error).__name__}: {error}"}, 500)
