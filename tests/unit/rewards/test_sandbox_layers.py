"""How a sandbox is started, falls back and ends, layer by layer. Attacks on it: integration/test_sandbox.py."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewards.sandbox import kernel, landlock, process
from rewards.sandbox.cases import AssertCode, FunctionCall, Script, Suite
from rewards.sandbox.process import Limits, NoVerdict, Pipe, Sandboxed, capabilities
from rewards.sandbox.runs import Run, outcomes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

LAYERS = {
    "namespaces-and-landlock": {"namespaces": True, "landlock": True},
    "landlock": {"namespaces": False, "landlock": True},
    "namespaces": {"namespaces": True, "landlock": False},
}


def offered(**layers: bool) -> bool:
    try:
        return capabilities(**layers).full
    except NoVerdict:
        return False


@pytest.fixture(params=LAYERS)
def layers(request: pytest.FixtureRequest) -> dict[str, bool]:
    if not offered(**LAYERS[request.param]):
        pytest.skip("this machine does not offer these layers")
    return LAYERS[request.param]


@pytest.fixture(autouse=True)
def _namespaces_tried_anew() -> Iterator[None]:
    before = Sandboxed.namespaces_work
    Sandboxed.namespaces_work = True
    yield
    Sandboxed.namespaces_work = before


def run(source: str, case: Any, layers: dict[str, bool], names: tuple[str, ...] = (), **limits: int) -> str | None:
    [outcome] = outcomes(Run(source.encode(), Limits(**limits), **layers), Suite((case,), names=names))
    return outcome


# Each combination of layers


def test_files_and_sockets_are_out_of_reach_and_the_library_is_not(layers: dict[str, bool], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("4711")
    source = f"""
import json, socket
def tried(attempt):
    try:
        attempt()
        return "reached"
    except OSError:
        return "blocked"
print(tried(lambda: open({str(tmp_path / "secret")!r})), tried(lambda: open("/etc/created", "w")), tried(socket.socket))
"""
    assert run(source, Script("", "blocked blocked blocked"), layers) is None


def test_a_thread_is_allowed_and_a_process_is_not(layers: dict[str, bool]) -> None:
    source = """
import os, threading
thread = threading.Thread(target=print, args=("thread",))
thread.start(); thread.join()
try: os.fork()
except OSError: print("no process")
"""
    assert run(source, Script("", "thread\nno process"), layers) is None


@pytest.mark.skipif(not offered(namespaces=True, landlock=False), reason="this machine offers no namespaces")
def test_the_library_is_read_only_also_on_a_kernel_without_mount_setattr(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(kernel.__file__)
    old = path.read_text().replace('"mount_setattr": (442, 442)', '"mount_setattr": (9999, 9999)')
    code = process.marshal.dumps(compile(old, str(path), "exec", dont_inherit=True))
    original = process._compiled
    monkeypatch.setattr(process, "_compiled", lambda name: code if name == "kernel" else original(name))
    source = "import os\nprint(bool(os.statvfs(os.__file__).f_flag & os.ST_RDONLY))"
    assert run(source, Script("", "True"), LAYERS["namespaces"]) is None


# What cannot be had


@pytest.mark.skipif(not offered(**LAYERS["landlock"]), reason="this machine offers no Landlock")
def test_landlock_alone_is_used_once_a_file_tree_could_not_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    readable, hidden = process._libraries()
    monkeypatch.setattr(process, "_libraries", lambda: ([*readable, "/does/not/exist"], hidden))
    first = capabilities()
    assert (first.namespaces, first.full, Sandboxed.namespaces_work) == (False, True, False)
    starts: list[bool] = []
    start = Sandboxed._start

    def counted(self: Sandboxed, *arguments: Any) -> str | None:
        starts.append(arguments[4])
        return start(self, *arguments)

    monkeypatch.setattr(Sandboxed, "_start", counted)
    assert capabilities().full and starts == [False]  # namespaces are not tried again


def test_too_few_layers_are_no_full_isolation() -> None:
    with pytest.raises(NoVerdict, match=r"^no-sandbox$"):
        Sandboxed("script", b"print(1)", Limits(), "full", namespaces=False, landlock=False)


def test_less_memory_than_promised_gives_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.resource, "getrlimit", lambda kind: (256 << 20, 256 << 20))
    with pytest.raises(NoVerdict, match=r"^memory-not-available$"):
        Sandboxed("script", b"", Limits(memory_mb=257), "process")


def test_a_launcher_whose_parent_is_gone_does_not_run_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.os, "getpid", lambda: 1)  # whom it is told to expect; it finds another
    with Pipe() as output:
        standard = (subprocess.DEVNULL, output.writer.fileno(), subprocess.DEVNULL)
        with pytest.raises(NoVerdict, match=r"^sandbox-start$"):
            Sandboxed("script", b"print(1)", Limits(), "process", standard=standard)
        output.writer.close()
        assert output.reader.read() == b""


def test_no_pipe_is_left_open_by_a_start_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_interpreter", lambda: "/bin/false")
    layers = {"namespaces": False, "landlock": True}
    before = sorted(os.listdir("/proc/self/fd"))
    for case in (Script("", "4"), FunctionCall("f", (1,), {}, 4), AssertCode("assert f(1) == 4")):
        with pytest.raises(NoVerdict, match=r"^sandbox-start$"):
            run("print(4)", case, layers)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_system_calls_are_not_guessed_on_an_unknown_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "MACHINE", "riscv64")
    with pytest.raises(OSError, match="no system call numbers for riscv64"):
        kernel.drop_capabilities()
    assert landlock.abi() == 0 and landlock.restrict(["/"], [], []) == 0


def test_a_call_the_kernel_refuses_names_itself() -> None:
    with pytest.raises(OSError, match="mount /does/not/exist: ") as caught:
        kernel.mount("none", "/does/not/exist", "tmpfs", 0)
    assert caught.value.errno


# How it ends


def test_a_stopped_launcher_is_killed_and_its_program_with_it() -> None:
    sandbox = Sandboxed("script", b"while True: pass", Limits(), "process")
    assert sandbox.process is not None
    launcher, program = sandbox.process.pid, outer_pid(sandbox.process.pid)
    os.kill(launcher, signal.SIGSTOP)
    sandbox.close()
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{program}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{launcher}") and not os.path.exists(f"/proc/{program}")


def outer_pid(launcher: int) -> int:
    """The program's process id out here; its own is 1 where it has a process namespace."""
    return int(Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()[0])


def test_what_a_program_leaves_behind_is_ended_with_it() -> None:
    """Only where neither a process namespace nor the system call filter is to be had can it leave anything."""
    script = """
import os, subprocess
from rewards.sandbox import kernel, launcher
kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
pipe = subprocess.Popen(["sh", "-c", "sleep 600 >&- & echo $!; (sleep 600 >&- & echo $!)"], stdout=subprocess.PIPE)
left = [int(pipe.stdout.readline()) for _ in range(2)]
pipe.wait()
print([os.path.exists(f"/proc/{pid}") for pid in left])
launcher._end_orphans()
print([os.path.exists(f"/proc/{pid}") for pid in left])
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert found.stdout.split("\n")[:2] == ["[True, True]", "[False, False]"], found.stderr


# What goes in and out


def test_an_input_longer_than_a_pipe_holds_is_read_whole_or_not_at_all(layers: dict[str, bool]) -> None:
    text = "x" * 1_000_000
    assert run("import sys\nprint(len(sys.stdin.read()))", Script(text, str(len(text))), layers) is None
    assert run("print(4)", Script(text, "4"), layers) is None
    assert run("import os, time\nos.close(0)\ntime.sleep(0.5)\nprint(4)", Script(text, "4"), layers) is None


@pytest.mark.parametrize(
    ("source", "case", "reason"),
    [
        ("a = bytearray(10**12)", FunctionCall("f", (1,), {}, 4), "memory-limit"),
        ("a = bytearray(10**12)", Script("", "4"), "memory-limit"),
        ("class C:\n  def f(self, x): return x", FunctionCall("C.f", (4,), {}, 4), None),
        ("class C:\n  def f(self, x): return x", FunctionCall("C.f", (4,), {}, 5), "wrong-output"),
        ("class O:\n  def f(self, x): return x\nC = O()", FunctionCall("C.f", (4,), {}, 4), None),
    ],
)
def test_functions_are_found_and_loading_them_is_limited(
    layers: dict[str, bool], source: str, case: Any, reason: str | None
) -> None:
    assert run(source, case, layers) == reason


def test_test_code_works_with_the_program_s_objects(layers: dict[str, bool]) -> None:
    source = """
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x)
    def __len__(self): return len(self.items)
    def __getitem__(self, i): return self.items[i]
    def __iter__(self): return iter(self.items)
"""
    test = "s = Stack()\ns.push(1)\ns.items = s.items + [2]\nassert len(s) == 2 and s[0] == 1 and list(s) == [1, 2]"
    assert run(source, AssertCode(test), layers, names=("Stack",)) is None
    assert run(source, AssertCode(test.replace("[1, 2]", "[2, 1]")), layers, names=("Stack",)) == "test-failed"


def test_test_code_that_can_say_nothing_gives_no_verdict(layers: dict[str, bool]) -> None:
    with pytest.raises(NoVerdict, match=r"^test-reads-variable$"):
        run("f = 3", AssertCode("assert f.bit_length() == 2"), layers, names=("f",))
