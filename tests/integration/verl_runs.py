"""Runs of `rlcs rl engine=verl` as a user starts them, and Ray clusters on this machine."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

EVENTS = "events.json"
"""Beside a run directory: what is to happen to it, see `verl_recording.py`."""
START_S = 600  # what a start may take on two busy cores
TOKEN = secrets.token_hex(32)  # with which a cluster of ours knows its own


@dataclass
class Command:
    """`rlcs rl` in a process group of its own; `log` is what it has printed."""

    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def until(self, happened: Callable[[], Any], what: str) -> Any:
        """Waits for it, and gives up when the command ends first."""
        deadline = time.monotonic() + START_S
        while not (found := happened()):
            assert self.process.poll() is None, f"it ended before {what}:\n{self.log[-6000:]}"
            assert time.monotonic() < deadline, f"no {what} in {START_S} s:\n{self.log[-6000:]}"
            time.sleep(0.5)
        return found

    def finish(self) -> int:
        return self.process.wait(timeout=START_S)


@contextmanager
def command(
    config: Path, *arguments: str, before: Sequence[str] = (), program: Sequence[str] = ("-m", "rlcs.cli", "rl")
) -> Iterator[Command]:
    log = config.with_name(f"{time.monotonic_ns()}.log")
    # Names of sockets may be 107 characters long; pytest's directories alone take most of them.
    environment = {**os.environ, "RAY_TMPDIR": os.environ.get("RAY_TMPDIR", "/tmp"), "RAY_AUTH_TOKEN": TOKEN}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*before, sys.executable, *program, str(config), *arguments],
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment,
        )  # fmt: skip
    try:
        yield Command(process, log)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def steps_of(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def processes(title: str) -> list[int]:
    """Processes whose title begins so, of runs and clusters that this process of tests has started."""
    found = []
    for process in psutil.process_iter():
        try:
            named = process.cmdline()[:1] and process.cmdline()[0].startswith(title)
            if named and process.environ().get("RAY_AUTH_TOKEN") == TOKEN:
                found.append(process.pid)
        except psutil.Error:
            continue  # it has ended
    return found


@contextmanager
def apart() -> Iterator[list[str]]:
    """What a command is started with to run in a PID namespace of its own, together with others started so.

    `ray stop --force` kills every process of Ray's that it can see: of other tests, and of whoever uses the machine. In a
    namespace it sees those of this test alone. Empty where this user may not make one (it takes root). The first process of
    a namespace inherits the orphans of the others; with SIGCHLD ignored, those that end are gone and leave no zombies behind.
    """
    first_process = (
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nprint(flush=True)\nwhile True: signal.pause()"
    )
    keeper = subprocess.Popen(
        ["unshare", "--fork", "--pid", "--mount-proc", sys.executable, "-c", first_process], stdout=subprocess.PIPE
    )
    try:
        assert keeper.stdout is not None
        if not keeper.stdout.readline():
            yield []
            return
        (first,) = psutil.Process(keeper.pid).children()
        yield ["nsenter", "--target", str(first.pid), "--pid", "--mount", f"--wd={Path.cwd()}"]
    finally:
        for process in psutil.Process(keeper.pid).children():
            process.kill()  # the first of a namespace takes all others with it
        keeper.wait()


@dataclass
class Cluster:
    """A Ray of two raylets with one GPU's worth of work each. `before`: what its commands are started with."""

    before: list[str]
    address: str
    nodes: list[subprocess.Popen[bytes]]
    environment: dict[str, str]

    def stop(self) -> None:
        """As a user stops it."""
        if self.before:
            stopped = subprocess.run(
                [*self.before, *RAY, "stop", "--force"], env=self.environment, capture_output=True, text=True, timeout=120
            )
            # It says "Stopped all", or "Stopped only" where a busy machine takes longer over it than Ray's patience.
            assert stopped.returncode == 0 and "Stopped" in stopped.stdout, stopped.stdout + stopped.stderr
        else:
            self.kill()
        for node in self.nodes:
            node.wait(timeout=60)

    def kill(self) -> None:
        for node in self.nodes:
            with suppress(psutil.NoSuchProcess):
                for process in [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
            node.wait()


RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@contextmanager
def cluster(before: list[str]) -> Iterator[Cluster]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = os.environ.get("RAY_TMPDIR", "/tmp")
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_prestart_worker_first_driver": "0"}
    common = ["--num-gpus=1", "--num-cpus=16", "--object-store-memory=200000000", "--disable-usage-stats", "--block"]
    head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}/rlcs-{port}"]
    found = Cluster(before, f"127.0.0.1:{port}", [], environment)
    try:
        for own in (head, [f"--address=127.0.0.1:{port}"]):
            start = [*before, *RAY, "start", *own, *common]
            found.nodes.append(subprocess.Popen(start, start_new_session=True, env=environment, stdout=subprocess.DEVNULL))
            _until_listening(port)
        code = f"import ray, time; ray.init('127.0.0.1:{port}')\nwhile len(ray.nodes()) < 2: time.sleep(0.5)"
        subprocess.run([*before, sys.executable, "-W", "ignore", "-c", code], env=environment, timeout=120, check=True)
        yield found
    finally:
        found.kill()
        shutil.rmtree(f"{folder}/rlcs-{port}", ignore_errors=True)


def _until_listening(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError(f"no Ray on port {port}")
