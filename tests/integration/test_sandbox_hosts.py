"""The sandbox on hosts that offer less, for ordinary users, in a pool, and when its parent dies."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandboxed_runs import children, run

from rewards import ScorePool, score
from rewards.sandbox import kernel
from rewards.sandbox.cases import Script
from rewards.sandbox.process import NoVerdict

pytestmark = pytest.mark.integration


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

    before = children()  # a pool of another test may be running
    assert once() == once() == once()
    assert children() == before
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
