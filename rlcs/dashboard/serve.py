"""`rlcs dashboard`: the server process."""

import os
import socket
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from rlcs.dashboard.runs import named_runs
from rlcs.dashboard.server import build_app
from rlcs.dashboard.watch import Watch

HOST = "127.0.0.1"
_NICE = 10  # a run on the same machine goes first


def serve_dashboard(
    runs: Sequence[Path], *, port: int, open_browser: bool, ready: Callable[[str], None], media: Sequence[Path] = ()
) -> None:
    """Serves the page on 127.0.0.1 until a signal ends it; `ready` is told the address; `media`
    are folders, besides that of a problem file, that its images may lie in.

    Raises FileNotFoundError for what is no run directory, OSError for a port that is taken.
    """
    app = build_app(Watch(named_runs(runs), media=tuple(media)))
    listening = _listen(port)
    address = f"http://{HOST}:{listening.getsockname()[1]}/"
    os.nice(_NICE)
    # The event stream never ends by itself: after a second a signal ends it.
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, ws="none")
    ready(address)
    if open_browser and _has_display():
        webbrowser.open(address)
    with suppress(KeyboardInterrupt):  # uvicorn hands the signal on when it has ended
        uvicorn.Server(config).run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)  # who is told the address may come before uvicorn is up
    except OSError as error:
        listening.close()
        raise OSError(
            f"port {port} of {HOST} cannot be had ({error.strerror}); name another by --port, or 0 for a free one"
        ) from error
    return listening


def _has_display() -> bool:
    """Not over ssh, where a browser would open on the other side or in the terminal."""
    if os.name != "posix" or os.uname().sysname == "Darwin":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
