"""Lines of `rewards/sandbox` that run in sandboxed processes, for `make coverage`.

coverage cannot start there: the interpreter has neither this package's files nor site-packages, and once it is locked in no
place to write to. A tracer put before the launcher's code opens its file while that is still allowed.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

from rewards.sandbox import process

# The launcher's outer process closes every descriptor below 4096. A line that was met is written at once: these processes end
# by os._exit or are killed.
_TRACER = """
def _record(folder):
    import os, resource, sys
    number = 5000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    file = os.open(folder + "/" + str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, number)
    os.close(file)
    seen = set()
    def line(frame, event, _):
        place = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and place not in seen:
            seen.add(place)
            try:
                os.write(number, f"{place[0]}\\t{place[1]}\\n".encode())
            except OSError:
                pass
        return line
    def call(frame, event, _):
        return line if "/rewards/sandbox/" in frame.f_code.co_filename else None
    sys.settrace(call)
"""


@contextlib.contextmanager
def lines_recorded(folder: Path) -> Iterator[None]:
    """While coverage measures this process, sandboxes started from it are measured too; `folder` takes what they report."""
    measuring = coverage.Coverage.current()
    if measuring is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_BOOT", f"{_TRACER}\n_record({str(folder)!r})\n{process._BOOT}")
        yield
    lines: dict[str, set[int]] = {}
    for report in folder.iterdir():
        for place in report.read_text().splitlines():
            name, _, number = place.partition("\t")
            lines.setdefault(name, set()).add(int(number))
    data = coverage.CoverageData(measuring.get_data().base_filename(), suffix=True)
    data.add_lines(lines)
    data.write()
