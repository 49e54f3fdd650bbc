"""One sandboxed process, seen from outside: started, fed, watched and ended."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import marshal
import os
import resource
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rewards.sandbox import filesystem

Isolation = Literal["full", "process"]
Role = Literal["script", "functions", "tests"]

START_LIMIT_S = 30.0
_TICK_S = 0.1
_MODULES: dict[Role, tuple[str, ...]] = {
    "script": ("kernel", "landlock", "filesystem", "seccomp", "launcher", "program"),
    "functions": ("kernel", "landlock", "filesystem", "seccomp", "launcher", "wire", "program"),
    "tests": ("kernel", "landlock", "filesystem", "seccomp", "launcher", "wire", "tester"),
}
# The launcher's modules are handed over compiled: it needs no path to this package, and the rest of `rewards` is not imported.
_BOOT = """import marshal, sys
with open(int(sys.argv[1]), "rb") as pipe:
    modules, config = marshal.loads(pipe.read())
sandbox = sys.modules["rewards"] = sys.modules["rewards.sandbox"] = type(sys)("rewards.sandbox")
for name, code in modules:
    module = sys.modules["rewards.sandbox." + name] = type(sys)(name)
    setattr(sandbox, name, module)
    exec(marshal.loads(code), module.__dict__)
sandbox.launcher.main(config)
"""


@cache
def _compiled(name: str) -> bytes:
    """The code of module `name` of this package."""
    full = f"rewards.sandbox.{name}"
    spec = importlib.util.find_spec(full)
    loader: Any = spec.loader if spec else None
    return marshal.dumps(loader.get_code(full))


class NoVerdict(Exception):
    """Nothing can be said of the program, through no fault of its own; the text is the machine-readable reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use. Processor and clock time are watched from outside, per test (`Clock`)."""

    total_s: float = 30.0
    """Processor seconds of the process as a whole; the kernel's own limit lies a little above."""
    memory_mb: int = 512
    """Address space, interpreter included."""
    output_bytes: int = 16 << 20
    """What it may write to its standard output or to the verifier."""
    threads: int = 32
    """Threads and processes, where user namespaces are available."""
    scratch_mb: int = 16
    """Size of the scratch folder, and of one file."""


@dataclass(frozen=True, slots=True)
class Layers:
    """What isolates a program on this machine."""

    namespaces: bool
    """Own user, mount, process, network, IPC and host name namespaces: an own file tree, no other process in sight."""
    landlock: int
    """Version of Landlock in force (files; network from 4; signals from 6), 0 for none."""
    seccomp: bool
    """The system call filter is in force: no processes, no sockets, no signals to others."""

    @property
    def full(self) -> bool:
        """No network, no writing but to the scratch folder, tests and secrets unreadable, no hold on other processes."""
        return self.seccomp and (self.namespaces or self.landlock > 0)


class Pipe:
    """Both ends of a pipe; a context manager that closes what is still open. Our ends never block."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader, self.writer = io.FileIO(reader, "rb"), io.FileIO(writer, "wb")

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *exception: object) -> None:
        self.reader.close()
        self.writer.close()


@cache
def _libraries() -> tuple[list[str], list[str]]:
    return filesystem.library_paths()


def _interpreter() -> str:
    """The interpreter itself rather than the one of a virtual environment: its folder need not be readable inside."""
    return str(getattr(sys, "_base_executable", None) or os.path.realpath(sys.executable))


class Sandboxed:
    """A program in its sandbox; a context manager that ends it.

    `standard` are its standard input, output and error, `pipes` further descriptors by name ("requests", "replies",
    "report"). The caller keeps them open until this returns. Raises NoVerdict when the isolation asked for cannot be had.
    """

    namespaces_work = True
    """Cleared for all once a start with namespaces has failed and one without has not."""

    def __init__(
        self,
        role: Role,
        source: bytes,
        limits: Limits,
        isolation: Isolation,
        *,
        standard: tuple[int, int, int] = (subprocess.DEVNULL,) * 3,
        pipes: Mapping[str, int] | None = None,
        namespaces: bool = True,
        landlock: bool = True,
    ) -> None:
        self.limits = limits
        self.process: subprocess.Popen[bytes] | None = None
        self.layers = Layers(False, 0, False)
        self.status = self._code = -1
        self._status = bytearray()
        self.ended: tuple[int, int] | None = None
        """Exit status and signal, once known."""
        self.peak_mb = 0.0
        """The most memory it held, once it has ended."""
        self._cpu_s = self._starved_s = 0.0
        attempts = (True, False) if namespaces and Sandboxed.namespaces_work else (False,)
        try:
            for attempt in attempts:
                fault = self._start(role, limits, standard, pipes or {}, attempt, landlock)
                if fault is None:
                    break
                self.close()
            else:
                raise NoVerdict("sandbox-start")
            if isolation == "full" and not self.layers.full:
                raise NoVerdict("no-sandbox")
        except BaseException:
            self.close()
            raise
        if namespaces and not self.layers.namespaces:
            Sandboxed.namespaces_work = False
        with contextlib.suppress(BrokenPipeError), open(self._code, "wb") as pipe:  # it may have been killed meanwhile
            self._code = -1
            pipe.write(source)

    def _start(
        self,
        role: Role,
        limits: Limits,
        standard: tuple[int, int, int],
        pipes: Mapping[str, int],
        namespaces: bool,
        landlock: bool,
    ) -> str | None:
        """Start a launcher and wait until it has locked itself in. Returns why it could not."""
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard != resource.RLIM_INFINITY and hard < limits.memory_mb << 20:
            raise NoVerdict("memory-not-available")  # a smaller limit than promised would fail honest programs
        readable, hidden = _libraries()
        self._status.clear()
        self.ended = None
        self.status, status = os.pipe()
        code, self._code = os.pipe()
        numbers = {
            "cpu_s": int(limits.total_s) + 2,
            "memory_mb": limits.memory_mb,
            "threads": limits.threads,
            "scratch_mb": limits.scratch_mb,
        }
        config = {
            **{"role": role, "parent": os.getpid(), "limits": numbers, "readable": readable, "hidden": hidden},
            **{"namespaces": namespaces, "landlock": landlock, "status": status, "code": code, **pipes},
        }
        modules = [(name, _compiled(name)) for name in _MODULES[role]]
        boot, boot_out = os.pipe()
        command = [_interpreter(), "-s", "-S", "-P", "-B", "-X", "utf8", "-c", _BOOT, str(boot)]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=standard[0],
                stdout=standard[1],
                stderr=standard[2],
                pass_fds=(boot, status, code, *pipes.values()),
                env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "TZ": "UTC"},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            os.close(boot_out)
            raise NoVerdict("sandbox-start") from error
        finally:
            for descriptor in (boot, status, code):
                os.close(descriptor)
        with contextlib.suppress(BrokenPipeError), open(boot_out, "wb") as pipe:
            pipe.write(marshal.dumps((modules, config)))
        os.set_blocking(self.status, False)
        deadline = time.monotonic() + START_LIMIT_S
        with selectors.DefaultSelector() as selector:
            selector.register(self.status, selectors.EVENT_READ)
            while True:
                selector.select(max(0.0, deadline - time.monotonic()))
                over = self.read_status() or time.monotonic() > deadline
                ready, pid, failed = self._words("ready"), self._words("pid"), self._words("failed")
                if ready and pid:
                    self.layers = Layers(ready[0] == "1", int(ready[1]), ready[2] == "1")
                    self.pid = int(pid[0])
                    return None
                if failed or over:
                    return " ".join(failed or ["no answer"])

    def _words(self, kind: str) -> list[str] | None:
        for line in self._status.decode(errors="replace").split("\n")[:-1]:
            first, *rest = line.split()
            if first == kind:
                return rest
        return None

    def read_status(self) -> bool:
        """Read what the launcher says without waiting. True when it has ended."""
        while True:
            try:
                data = os.read(self.status, 4096)
            except BlockingIOError:
                return False
            self._status += data
            if not data:
                words = self._words("exit")
                self.ended = (int(words[0]), int(words[1])) if words else (0, 9)
                if words:
                    self._cpu_s, self.peak_mb = max(self._cpu_s, float(words[2])), int(words[3]) / 1024
                return True

    def cpu_s(self) -> float:
        """Processor seconds the program has used, all its threads together."""
        if self.ended is None:
            with contextlib.suppress(OSError):  # it ended just now: the last figure stands until the launcher's comes
                self._cpu_s = time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3) of the process
        return self._cpu_s

    def starved_s(self) -> float:
        """Seconds its main thread was ready to run and the machine had no processor for it; 0 where the kernel does not say."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            self._starved_s = int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        return self._starved_s

    def close(self) -> None:
        """End the program and all it started."""
        if self._code >= 0:
            os.close(self._code)
            self._code = -1
        if self.process is not None:
            self.process.terminate()  # the launcher ends the program and what it left, then itself
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()  # the program dies with it (PR_SET_PDEATHSIG)
                self.process.wait()
            self.process = None
        if self.status >= 0:
            os.close(self.status)
            self.status = -1

    def __enter__(self) -> Sandboxed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


class Clock:
    """The time one test may take: processor seconds of the programs, and a longer stretch of real time for one that sleeps.

    Time in which the machine had no processor to give does not count.
    """

    def __init__(self, programs: Iterable[Sandboxed], cpu_s: float) -> None:
        self.programs = list(programs)
        self.cpu_limit_s, self.awake_limit_s = cpu_s, 2 * cpu_s + 5
        self.start = time.monotonic()
        self.cpu_start, self.starved_start = self._cpu(), self._starved()

    def _cpu(self) -> float:
        return sum(program.cpu_s() for program in self.programs)

    def _starved(self) -> float:
        return sum(program.starved_s() for program in self.programs)

    def _awake(self) -> float:
        return time.monotonic() - self.start - (self._starved() - self.starved_start)

    def charge_s(self) -> float:
        """What the test counts for in the total: its processor time, or a third of the time in which it could have run."""
        return max(self._cpu() - self.cpu_start, self._awake() / 3)

    def is_over(self) -> bool:
        """Whether the test has had its time. Raises NoVerdict when the machine was too busy to give it any."""
        if self._cpu() - self.cpu_start >= self.cpu_limit_s:
            return True
        wall = time.monotonic() - self.start
        if wall < self.awake_limit_s:
            return False
        if self._awake() >= self.awake_limit_s:
            return True
        if wall >= 4 * self.awake_limit_s:
            raise NoVerdict("machine-overloaded")
        return False


def pump(
    programs: Iterable[Sandboxed],
    clock: Clock,
    feed: dict[io.FileIO, memoryview],
    drain: dict[io.FileIO, bytearray],
    done: Callable[[], bool],
    limit_bytes: int,
    *,
    close_fed: bool = True,
) -> str | None:
    """Write `feed` and read `drain` until `done()`; what has been written or has come to its end leaves its mapping.

    Returns "time-limit" or "output-limit" when one is passed, else None. Ends also when every program has ended and nothing
    is left to read. `close_fed` closes a pipe once all is written, so that its reader sees the end.
    """
    alive = {program.status: program for program in programs if program.ended is None}
    with selectors.DefaultSelector() as selector:
        for status in alive:
            selector.register(status, selectors.EVENT_READ)
        for pipe in drain:
            selector.register(pipe, selectors.EVENT_READ)
        for pipe in feed:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_WRITE)
        while not done() and (alive or drain):
            if clock.is_over():
                return "time-limit"
            for key, _ in selector.select(_TICK_S):
                source: Any = key.fileobj
                if source in alive:
                    if not alive[source].read_status():
                        continue
                    del alive[source]
                elif source in drain:
                    data = os.read(key.fd, 1 << 16)
                    drain[source] += data
                    if len(drain[source]) > limit_bytes:
                        return "output-limit"
                    if data:
                        continue
                    del drain[source]
                elif not _write_some(source, feed):
                    continue
                selector.unregister(source)
                if close_fed and key.events == selectors.EVENT_WRITE:
                    source.close()
    return None


def _write_some(pipe: io.FileIO, feed: dict[io.FileIO, memoryview]) -> bool:
    """Write what the pipe takes. True when all is written or nobody reads it any more."""
    try:
        feed[pipe] = feed[pipe][os.write(pipe.fileno(), feed[pipe][: 1 << 16]) :]
    except BlockingIOError:
        return False
    except BrokenPipeError:
        feed[pipe] = memoryview(b"")
    if feed[pipe]:
        return False
    del feed[pipe]
    return True


def capabilities(*, namespaces: bool = True, landlock: bool = True) -> Layers:
    """The layers this machine offers, found by starting an empty program. Raises NoVerdict when none can be started."""
    with Sandboxed("script", b"", Limits(), "process", namespaces=namespaces, landlock=landlock) as empty:
        return empty.layers
