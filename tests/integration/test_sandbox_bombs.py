"""Programs that exhaust something or cheat, under every combination of layers that counts as full isolation."""

import time

import pytest
from sandboxed_runs import SECRET, children, run

from rewards.sandbox.cases import AssertCode, FunctionCall, Script, Suite
from rewards.sandbox.process import Limits
from rewards.sandbox.runs import Run, outcomes

pytestmark = pytest.mark.integration

WRITE_EVERYWHERE = """
import os
for n in range(64):
    try: os.write(n, b'LINE\\n' * 100)
    except OSError: pass
def f(x): pass
"""


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
    started, before = time.monotonic(), children()
    limits = Limits(memory_mb=256, output_bytes=1 << 20)
    # What ends by itself has time to, on a machine that is busy with much else.
    program = Run(attack.encode("utf-8", "surrogatepass"), limits, test_s=0.5 if "time-limit" in reasons else 20.0, **layers)
    assert set(outcomes(program, Suite((Script("", "4"),)))) <= reasons
    assert time.monotonic() - started < 60
    assert children() == before


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
