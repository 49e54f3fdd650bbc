"""Real attacks on the sandbox, under every combination of layers that counts as full isolation."""

import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards import ScorePool, score
from rewards.sandbox import kernel
from rewards.sandbox.cases import AssertCode, FunctionCall, Script, Suite
from rewards.sandbox.process import Limits, NoVerdict, capabilities
from rewards.sandbox.runs import Run, outcomes

pytestmark = pytest.mark.integration

LAYERS = {
    "namespaces-and-landlock": {"namespaces": True, "landlock": True},
    "landlock": {"namespaces": False, "landlock": True},
    "namespaces": {"namespaces": True, "landlock": False},
}
WRITE_EVERYWHERE = """
import os
for n in range(64):
    try: os.write(n, b'LINE\\n' * 100)
    except OSError: pass
def f(x): pass
"""
SECRET = "expected-4711-secret"


@pytest.fixture(params=LAYERS)
def layers(request: pytest.FixtureRequest) -> dict[str, bool]:
    wanted = LAYERS[request.param]
    if not capabilities(**wanted).full:
        pytest.skip("this machine does not offer these layers")
    return wanted


def run(source: str, case: Script | FunctionCall | AssertCode, layers: dict[str, bool], **options: object) -> str | None:
    """The outcome of one case: None when the program did what the case asks for."""
    limits = Limits(**{key: value for key, value in options.items() if key in Limits.__slots__})
    rest = {key: value for key, value in options.items() if key not in Limits.__slots__}
    names = ("f",) if isinstance(case, AssertCode) else ()
    found = Run(textwrap.dedent(source).encode(), limits, **{"test_s": 10.0, **layers, **rest})
    [outcome] = outcomes(found, Suite((case,), names=names))
    if outcome is not None:
        print(found.said)
    return outcome


def is_blocked(attack: str, layers: dict[str, bool], stdin: str = "", **options: object) -> bool:
    """Whether every line of `attack` fails with OSError, and nothing else goes wrong."""
    source = (
        "import ctypes, os, resource, signal, socket, subprocess, sys, threading\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    )
    source += "given = sys.stdin.read().split()\ndef call(*words):\n    r = libc.syscall(*words)\n"
    source += "    if r < 0: raise OSError(ctypes.get_errno(), 'x')\n    return r\n"
    for line in textwrap.dedent(attack).strip().splitlines():
        source += f"try:\n    {line}\n    sys.exit('REACHED ' + {line!r})\nexcept OSError: pass\n"
    return run(source + "print('all blocked')", Script(stdin, "all blocked"), layers, **options) is None


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "tests.json"
    path.write_text(SECRET)
    os.chmod(tmp_path, 0o777)
    os.chmod(path, 0o666)
    for parent in tmp_path.parents[:3]:
        os.chmod(parent, 0o755)
    return path


def test_an_honest_program_runs(layers: dict[str, bool]) -> None:
    source = """
        import asyncio, collections, decimal, fractions, functools, heapq, itertools, math, random, re, sys, threading
        import json, string, datetime, zoneinfo, statistics, bisect, copy, typing, dataclasses, hashlib, sqlite3, zlib, numbers
        sys.setrecursionlimit(10**6)
        @functools.cache
        def deep(n):
            return 0 if n == 0 else 1 + deep(n - 1)
        async def later():
            await asyncio.sleep(0.01)
            return deep(20_000)
        total = []
        worker = threading.Thread(target=lambda: total.append(sum(map(int, sys.stdin.read().split()))))
        worker.start(); worker.join()
        print(total[0], asyncio.run(later()))
    """
    assert run(source, Script("1 2 3", "6 20000"), layers) is None


def test_network_cannot_be_reached(layers: dict[str, bool], tmp_path: Path) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as path, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("127.0.0.1", 0))
        path.bind(str(tmp_path / "socket"))
        os.chmod(tmp_path / "socket", 0o777)
        abstract.bind(f"\0rlcs-{os.getpid()}")
        for server in (tcp, path, abstract):
            server.listen()
            server.settimeout(0)
        attack = """
            socket.create_connection(("127.0.0.1", int(given[0])))
            socket.socket(socket.AF_UNIX).connect(given[1])
            socket.socket(socket.AF_UNIX).connect(chr(0) + given[2])
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", int(given[0])))
            socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", chr(0) + given[2])
            socket.socketpair()[0].sendto(b"x", given[1])
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        """
        assert is_blocked(attack, layers, f"{tcp.getsockname()[1]} {tmp_path / 'socket'} rlcs-{os.getpid()}")
        for server in (tcp, path, abstract):
            with pytest.raises(BlockingIOError):
                server.accept()


def test_nothing_outside_the_scratch_folder_can_be_written(layers: dict[str, bool], secret: Path) -> None:
    attack = """
        open(given[0], "w")
        open(given[0], "a")
        os.open(given[0], os.O_RDONLY | os.O_TRUNC)
        os.truncate(given[0], 0)
        os.unlink(given[0])
        os.rename(given[0], given[0] + "2")
        os.link(given[0], "/tmp/link")
        os.chmod(given[0], 0)
        os.utime(given[0], (0, 0))
        os.mkdir(given[1] + "/folder")
        os.symlink("x", given[1] + "/symlink")
        os.mkfifo(given[1] + "/fifo")
        open("/created", "w")
        open("/etc/created", "w")
        open("/dev/shm/created", "w")
        open("/dev/sda", "rb")
        open("/proc/self/oom_score_adj", "w")
        open(os.__file__, "a")
        os.mknod("/tmp/device", 0o20666, os.makedev(1, 1))
        os.open("/tmp", os.O_TMPFILE | os.O_RDWR) if given[2] == "False" else os.open("/", os.O_TMPFILE | os.O_RDWR)
    """
    before = sorted(secret.parent.iterdir()), secret.stat()
    assert is_blocked(attack, layers, f"{secret} {secret.parent} {layers['namespaces']}")
    assert (sorted(secret.parent.iterdir()), secret.stat().st_mtime_ns) == (before[0], before[1].st_mtime_ns)
    assert secret.read_text() == SECRET


def test_scratch_folder_can_be_written_up_to_its_size_and_is_gone_afterwards(layers: dict[str, bool]) -> None:
    if not layers["namespaces"]:
        return  # only a mount namespace gives a scratch folder
    source = """
        import os, tempfile
        print(os.listdir("/tmp"))
        with tempfile.TemporaryFile() as file: file.write(b"x")
        try:
            for i in range(100):
                with open(f"/tmp/rlcs-scratch-{i}", "wb") as file: file.write(bytes(1 << 20))
        except OSError as error:
            print(10 < i < 17, error.strerror)
    """
    case = Script("", "[]\nTrue No space left on device")
    assert [run(source, case, layers) for _ in range(2)] == [None, None]
    assert not list(Path("/tmp").glob("rlcs-scratch-*"))


def test_tests_home_and_secrets_cannot_be_read(layers: dict[str, bool], secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", SECRET)
    attack = """
        open(given[0])
        os.listdir(given[1])
        os.listdir(os.path.dirname(given[1]))
        os.listdir(given[2])
        os.symlink(given[0], "/tmp/link"); open("/tmp/link")
        open("/tmp/../" + given[0])
        os.chroot("/tmp")
        open("/etc/passwd")
        open(f"/proc/{given[3]}/environ")
        open(f"/proc/{given[3]}/mem", "rb")
        open(f"/proc/{os.getppid()}/environ")
        open(f"/proc/{os.getppid()}/fd/0")
        open("/proc/self/environ")
        open("/proc/1/root/etc/passwd")
        os.listdir("/proc")
        os.listdir("/sys/kernel")
        open("/dev/mem", "rb")
        call(303, -100, given[0].encode(), 0, 0, 0)
        (_ for _ in ()).throw(OSError) if "API_TOKEN" not in os.environ else None
    """
    assert is_blocked(attack, layers, f"{secret} {secret.parent} {Path(__file__).parents[2]} {os.getpid()}")


def test_packages_of_the_machine_are_not_there(layers: dict[str, bool]) -> None:
    source = f"""
        import sys
        sys.path += {[path for path in sys.path if "packages" in path]!r}
        try:
            import numpy, pytest
            print("found")
        except ImportError:
            print("none")
    """
    assert run(source, Script("", "none"), layers) is None


def test_no_process_can_be_started(layers: dict[str, bool]) -> None:
    attack = """
        os.fork()
        os.forkpty()
        call(58 if os.uname().machine == "x86_64" else 220, 17, 0, 0, 0, 0)
        call(435, 0, 0)
        subprocess.run(["/bin/true"])
        os.posix_spawn("/bin/true", ["true"], {})
        os.execv(sys.executable, ["python", "-c", "print(1)"])
        os.system("true") == 0 or (_ for _ in ()).throw(OSError)
    """
    assert is_blocked(attack, layers)


def test_other_processes_cannot_be_signalled_or_traced(layers: dict[str, bool]) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    x86 = kernel.MACHINE == "x86_64"
    attack = f"""
        os.kill(int(given[0]), 9)
        os.kill(os.getppid(), 9)
        os.kill(0, 9)
        os.kill(-1, 9)
        os.killpg(int(given[0]), 9)
        call({101 if x86 else 117}, 16, int(given[0]), 0, 0)
        call({310 if x86 else 270}, int(given[0]), 0, 0, 0, 0, 0)
        call(434, int(given[0]), 0)
        call(424, 0, 9, 0, 0)
        call({129 if x86 else 138}, int(given[0]), 9, 0)
        __import__("fcntl").fcntl(0, 8, int(given[0]))
        resource.prlimit(int(given[0]), resource.RLIMIT_CPU, (1, 1))
        os.setpriority(os.PRIO_PROCESS, int(given[0]), 19)
        os.sched_setaffinity(int(given[0]), {{0}})
    """
    try:
        assert is_blocked(attack, layers, str(victim.pid))
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_rare_parts_of_the_kernel_are_out_of_reach(layers: dict[str, bool]) -> None:
    numbers = {  # x86-64, aarch64
        **{"unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41)},
        **{"bpf": (321, 280), "io_uring_setup": (425, 425), "keyctl": (250, 219), "add_key": (248, 217)},
        **{"perf_event_open": (298, 241), "userfaultfd": (323, 282), "memfd_create": (319, 279), "ptrace": (101, 117)},
        **{"init_module": (175, 105), "kexec_load": (246, 104), "reboot": (169, 142), "personality": (135, 92)},
        **{"shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "acct": (163, 89)},
        **{"setuid": (105, 146), "capset": (126, 91), "open_by_handle_at": (304, 265), "process_vm_writev": (311, 271)},
        **{"seccomp": (317, 277), "landlock_restrict_self": (446, 446), "setsid": (112, 157), "mount_setattr": (442, 442)},
    }
    column = 0 if kernel.MACHINE == "x86_64" else 1
    attack = "\n".join(f"call({pair[column]}, 0, 0, 0, 0, 0)" for pair in numbers.values())
    attack += "\nlibc.prctl(1, 0) and (_ for _ in ()).throw(OSError)"  # keep living when the launcher dies
    assert is_blocked(attack, layers)


def test_limits_cannot_be_raised(layers: dict[str, bool]) -> None:
    source = """
        import resource
        for kind in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
            try: resource.setrlimit(kind, (1 << 40, 1 << 40))
            except (ValueError, OSError): print("no")
        try: resource.setrlimit(resource.RLIMIT_CPU, (1, 1))  # would end it as the machine does
        except (ValueError, OSError): print("no")
    """
    assert run(source, Script("", "no\n" * 4), layers) is None


def test_no_descriptor_is_inherited_but_the_standard_ones(layers: dict[str, bool]) -> None:
    source = """
        import os
        found = []
        for n in range(64):
            try: os.fstat(n); found.append(n)
            except OSError: pass
        print(found)
    """
    assert run(source, Script("", "[0, 1, 2]"), layers) is None


@pytest.mark.parametrize(
    ("attack", "reasons"),
    [
        ("while True: pass", {"time-limit"}),
        ("import time\nwhile True:\n  try: time.sleep(1000)\n  except BaseException: pass", {"time-limit"}),
        ("while True:\n  try:\n    while True: pass\n  except BaseException: pass", {"time-limit"}),
        (
            "import signal, time\nfor n in range(1, 32):\n  try: signal.signal(n, signal.SIG_IGN)\n"
            "  except OSError: pass\nwhile True: time.sleep(1)",
            {"time-limit"},
        ),
        ("import os\nfor n in range(64):\n  try: os.close(n)\n  except OSError: pass\nwhile True: pass", {"time-limit"}),
        ("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass", {"time-limit"}),
        ("'x' * 10**12", {"memory-limit"}),
        ("a = []\nwhile True: a.append(bytearray(1 << 20))", {"memory-limit"}),
        (
            "a = []\nwhile True:\n  try: a.append(bytearray(1 << 20))\n  except MemoryError: pass",
            {"time-limit", "memory-limit"},
        ),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", {"output-limit"}),
        ("import sys\nwhile True: sys.stderr.write('x' * 65536)", {"output-limit"}),
        (
            "import threading, time\nwhile True:\n  try: threading.Thread(target=time.sleep, args=(1000,)).start()\n"
            "  except RuntimeError: pass",
            {"time-limit", "crashed", "memory-limit"},
        ),
        (
            "import threading, time\nthreading.stack_size(32768)\n"
            "while True: threading.Thread(target=time.sleep, args=(99,)).start()",
            {"time-limit", "crashed", "memory-limit"},
        ),
        ("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", {"time-limit"}),
        (
            "import os\na = []\nwhile True:\n  try: a.append(os.pipe())\n  except OSError: os.write(a[0][1], b'x' * 65536)",
            {"time-limit"},
        ),
        ("import ctypes\nctypes.string_at(0)", {"crashed"}),
        ("import os; os.abort()", {"crashed", "time-limit"}),
        ("import os, signal\nos.kill(os.getpid(), 9)", {"crashed"}),
        ("import os; os._exit(0)", {"wrong-output"}),
        ("import sys; sys.exit(3)", {"crashed"}),
        ("print(4); raise SystemExit(1)", {"crashed"}),
        ("x = " + "(" * 5000 + ")" * 5000, {"syntax-error"}),
        ("x = " + "-" * 60000 + "1", {"syntax-error", "crashed"}),
        ("def f(: pass", {"syntax-error"}),
        ("print(4)\0", {"syntax-error"}),
        ("print('\ud800')", {"syntax-error"}),
        (
            "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return sorted([1], key=lambda x: f())\nf()",
            {"crashed", "memory-limit"},
        ),
    ],
)
def test_a_bomb_ends_with_a_verdict_and_no_pay(attack: str, reasons: set[str], layers: dict[str, bool]) -> None:
    started, before = time.monotonic(), _children()
    limits = Limits(memory_mb=256, output_bytes=1 << 20)
    program = Run(attack.encode("utf-8", "surrogatepass"), limits, test_s=0.5, **layers)
    assert set(outcomes(program, Suite((Script("", "4"),)))) <= reasons
    assert time.monotonic() - started < 60
    assert _children() == before


def _children() -> list[int]:
    path = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize(
    "program",
    [
        "import os; os._exit(0)",
        "import sys; sys.exit(0)",
        "def f(x): import os; os._exit(0)",
        "def f(x):\n  while True: pass",
        "def f(x): return [[]] * 10**9",
        "def f(x):\n  a = []\n  for _ in range(10**5): a = [a]\n  return a",
        "import os\nos.write(4, b'{\"value\": 4711}\\n' * 100)",
        WRITE_EVERYWHERE.replace("LINE", '{"value": true}'),
        WRITE_EVERYWHERE.replace("LINE", '{"passed": true}'),
        "import os\nfor n in range(3, 64):\n  try: os.write(n, b'junk' * 9)\n  except OSError: pass",
        "import os\nfor n in range(64):\n  try: os.close(n)\n  except OSError: pass\ndef f(x): pass",
        "import builtins\nbuiltins.AssertionError = int\nbuiltins.len = lambda x: 0\ndef f(x): return x",
        "import sys, json\njson.dumps = lambda *a, **k: '{\"value\": true}'\ndef f(x): return x",
        "def f(x): return 'x' * 10**8",
        "def f(x): return 10**10**6",
        "def f(x): raise AssertionError",
        "def f(x): raise BaseException",
        "def f(x): raise KeyboardInterrupt",
        "import threading\ndef f(x): return threading.Thread(target=f, args=(x,)).start()",
    ],
)
def test_a_function_that_cheats_is_not_paid(program: str, layers: dict[str, bool]) -> None:
    call = FunctionCall("f", (1,), {}, 4711)
    code = AssertCode("assert f(1) == 4711")
    options = {"test_s": 1.0, "memory_mb": 256}
    assert [run(program, case, layers, **options) is None for case in (call, code)] == [False, False]


def test_expected_values_are_nowhere_in_the_program_s_process(layers: dict[str, bool]) -> None:
    """The program looks at every object and frame it can reach, at its input and its environment, and tells."""
    program = f"""
        import gc, sys, os
        def f(x):
            seen = repr([o for o in gc.get_objects() if isinstance(o, (str, bytes, list, dict, tuple))])
            frame = sys._getframe()
            while frame:
                seen += repr(frame.f_locals) + repr(frame.f_globals) + repr(frame.f_code.co_consts)
                frame = frame.f_back
            seen += sys.stdin.read() + repr(sys.argv) + repr(dict(os.environ))
            wanted = "".join(chr(code - 1) for code in {[ord(letter) + 1 for letter in SECRET]})
            return wanted if wanted in seen else "not found"
    """
    assert run(program, FunctionCall("f", (1,), {}, SECRET), layers) == "wrong-output"
    assert run(program, FunctionCall("f", (SECRET,), {}, SECRET), layers) is None  # it does find what it is given
    assert run(program, AssertCode(f"assert f(1) == {SECRET!r}"), layers) == "test-failed"
    assert run(program, AssertCode("assert f(1) == 'not found'"), layers) is None


def test_the_program_ends_when_the_scoring_process_is_killed(layers: dict[str, bool]) -> None:
    script = f"""
        import sys
        from rewards.sandbox.process import Limits, Sandboxed
        box = Sandboxed("script", b"import time\\nwhile True: time.sleep(1)", Limits(), "full", **{layers!r})
        print(box.pid, box.process.pid, flush=True)
        sys.stdin.read()
    """
    scorer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdin=-1, stdout=-1, text=True)
    assert scorer.stdout is not None and scorer.stdin is not None
    pids = [int(word) for word in scorer.stdout.readline().split()]
    assert len(pids) == 2 and all(Path(f"/proc/{pid}").exists() for pid in pids)
    scorer.send_signal(signal.SIGKILL)
    scorer.wait()
    deadline = time.monotonic() + 20
    while any(_lives(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_lives(pid) for pid in pids)
    scorer.stdin.close()
    scorer.stdout.close()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_process_isolation_ends_what_the_program_started() -> None:
    """Without layers a program may fork; the launcher adopts and ends its children. The filter is left out to show it."""
    script = """
        import sys
        from rewards.sandbox import seccomp
        from rewards.sandbox import process
        from rewards.sandbox.process import Limits, Sandboxed
        compiled = process._compiled("seccomp")
        source = "def build_filter(pid): raise OSError('no filter')"
        import marshal
        process._compiled = lambda name, real=process._compiled: (
            marshal.dumps(compile(source, "seccomp.py", "exec")) if name == "seccomp" else real(name))
        program = b"import os, time\\nif not os.fork():\\n  os.setsid()\\n  if not os.fork(): time.sleep(900)\\n"
        program += b"time.sleep(0.5)"
        with Sandboxed("script", program, Limits(), "process", namespaces=False, landlock=False) as box:
            import time
            assert not box.layers.full and not box.layers.seccomp
            time.sleep(1)
        print("closed")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "closed\n", done.stderr
    sleeping = [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"launcher.main" in _read(path)]
    assert not sleeping


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_without_a_file_layer_the_program_is_not_run_unless_asked_to() -> None:
    options = {"namespaces": False, "landlock": False}
    with pytest.raises(NoVerdict, match="no-sandbox"):
        run("print(4)", Script("", "4"), options)
    assert run("print(4)", Script("", "4"), options, isolation="process") is None


def test_memory_above_what_the_scorer_may_have_is_no_fault_of_the_program() -> None:
    script = """
        import resource
        from rewards import score
        resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))
        reference = {"tests": [{"stdin": "", "stdout": "4"}]}
        response = "<think></think><|begin_of_box|>print(4)<|end_of_box|>"
        print(score(response, reference, domain="code").reason)
        print(score(response, reference, domain="code", args={"memory_mb": 200}).score)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["memory-not-available", "1.0"], done.stderr


def _denying(names: tuple[tuple[int, int], ...]) -> str:
    """Code that makes some system calls fail in this process and its children, as a container's own filter does."""
    column = 0 if kernel.MACHINE == "x86_64" else 1
    return f"""
        import struct
        from rewards.sandbox import kernel
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        code = struct.pack("=HBBI", 0x20, 0, 0, 0)
        for number in {[pair[column] for pair in names]!r}:
            code += struct.pack("=HBBI", 0x15, 0, 1, number) + struct.pack("=HBBI", 6, 0, 0, 0x50001)
        kernel.install_filter(code + struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
    """


@pytest.mark.parametrize(
    ("denied", "expected"),
    [
        (((272, 97),), "False True True"),  # unshare: an unprivileged container
        (((165, 40),), "False True True"),  # mount: user namespaces without rights, as on Ubuntu 24.04
        (((272, 97), (444, 444)), "False False None"),  # and no Landlock either
        (((442, 442),), "True True True"),  # no mount_setattr: before Linux 5.12
        (((444, 444),), "True True True"),  # no Landlock: before Linux 5.13
    ],
)
def test_missing_layers_are_found_and_made_up_for_or_the_verifier_abstains(
    denied: tuple[tuple[int, int], ...], expected: str
) -> None:
    script = f"""
        {_denying(denied).strip()}
        from rewards import score
        from rewards.sandbox.process import capabilities
        found = capabilities()
        verdict = score("<think></think><|begin_of_box|>print(4)<|end_of_box|>",
                        {{"tests": [{{"stdin": "", "stdout": "4"}}]}}, domain="code")
        assert verdict.score == 1.0 or verdict.reason == "no-sandbox", verdict
        print(found.namespaces, found.full, verdict.correct)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == expected, done.stderr


def test_an_ordinary_user_gets_full_isolation() -> None:
    script = """
        import os
        from rewards.sandbox.process import capabilities
        from rewards import score
        assert os.getuid() == 1234, os.getuid()
        verdict = score("<think></think><|begin_of_box|>print(4)<|end_of_box|>",
                        {"tests": [{"stdin": "", "stdout": "4"}]}, domain="code")
        print(capabilities().namespaces, verdict.score)
    """
    command = ["unshare", "--user", "--map-user=1234", "--map-group=1234", sys.executable, "-c", textwrap.dedent(script)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("unshare(1) is not installed")
    if "unshare failed" in done.stderr:
        pytest.skip("this machine forbids user namespaces")
    assert done.stdout.split() == ["True", "1.0"], done.stderr


@pytest.fixture(scope="module")
def pool() -> Iterator[ScorePool]:
    with ScorePool(workers=2) as made:
        yield made


def test_a_pool_scores_honest_programs_beside_hostile_ones(pool: ScorePool) -> None:
    def row(name: str, program: str) -> dict[str, object]:
        response = f"<think></think><|begin_of_box|>{program}<|end_of_box|>"
        reference = {"tests": ["assert f(1) == 2", "assert f(5) == 6"]}
        args = {"time_limit_s": 0.5}
        return {"id": name, "domain": "code", "answer": reference, "response": response, "verifier_args": args}

    honest = "def f(x): return x + 1"
    hostile = [
        "while True: pass",
        "import os; os._exit(0)",
        "'x' * 10**12",
        "import os\nwhile 1:\n  try: os.fork()\n  except OSError: 0",
    ]
    rows = [row(str(n), program) for n, program in enumerate([honest, *hostile, honest])]
    verdicts = pool.score_batch(rows)
    assert [verdict.score for verdict in verdicts] == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert [verdict.reason for verdict in verdicts[1:4]] == ["time-limit", "crashed", "memory-limit"]


def test_scoring_leaves_no_descriptor_and_no_child_behind() -> None:
    def once() -> int:
        score(
            "<think></think><|begin_of_box|>def f(x): return x<|end_of_box|>",
            {"tests": ["assert f(1) == 1", {"args": [1], "returns": 1}, {"stdin": "", "stdout": "1"}], "entry": "f"},
            domain="code",
        )
        return len(os.listdir("/proc/self/fd"))

    before = _children()  # a pool of another test may be running
    assert once() == once() == once()
    assert _children() == before
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
