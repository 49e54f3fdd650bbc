"""Runs of one program in a sandbox, for the tests that attack it."""

import textwrap
import threading
from pathlib import Path

from rewards.sandbox.cases import AssertCode, FunctionCall, Script, Suite
from rewards.sandbox.process import Limits
from rewards.sandbox.runs import Run, outcomes

LAYERS = {
    "namespaces-and-landlock": {"namespaces": True, "landlock": True},
    "landlock": {"namespaces": False, "landlock": True},
    "namespaces": {"namespaces": True, "landlock": False},
}
SECRET = "expected-4711-secret"


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


def children() -> list[int]:
    path = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []
