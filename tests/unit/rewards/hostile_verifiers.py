"""Verifiers that misbehave in the ways a pool must survive; loaded into workers as a plug-in by test_score_pool.py."""

import importlib.util
import os
import subprocess
import sys
import time

from rewards.registry import Abstain, Context, Outcome, verifier

if "HOSTILE_GRACE_S" in os.environ:  # how long a worker outlives its parent, for the one test that waits for it
    sys.modules["__main__"].ORPHAN_GRACE_S = float(os.environ["HOSTILE_GRACE_S"])


@verifier("test-hostile", domains=("test-hostile",), reference=lambda raw, args: raw)
def hostile(answer: str, reference: object, context: Context) -> Outcome:
    """Do what the answer says."""
    context.note("answer", answer)
    if answer == "hang":
        while True:
            pass
    if answer == "sleep":
        time.sleep(3600)
    if answer == "nap":
        time.sleep(0.02)
    if answer == "hold-the-interpreter":
        pow(7, 10**9)  # one long C call: no Python signal handler can run
    if answer == "allocate":
        blocks = []
        while True:
            blocks.append(bytearray(1 << 26))
    if answer == "die":
        os._exit(0)
    if answer == "exit":
        sys.exit(0)
    if answer == "raise":
        raise TypeError("a fault of ours")
    if answer == "recurse":
        return hostile(answer, reference, context)
    if answer == "abstain":
        raise Abstain("server-down")
    if answer == "print":
        print('{"n": 0, "verdict": [1.0, true, "ok", null]}', flush=True)
    if answer == "torch":
        return Outcome(0.0, "torch" in sys.modules)
    if answer.startswith("start "):
        child = subprocess.Popen(["sleep", "600"])
        with open(answer.removeprefix("start "), "w") as out:
            out.write(str(child.pid))
        time.sleep(3600)
    return Outcome(1.0, answer == reference, None)


def _sleep(answer: str, reference: object, context: Context) -> Outcome:
    """Sleep for as many seconds as the answer says."""
    time.sleep(float(answer))
    return Outcome(1.0, True)


for _name, _limit in (("test-patient", 30.0), ("test-hasty", 0.3)):
    verifier(_name, domains=(_name,), reference=lambda raw, args: raw, timeout_s=_limit)(_sleep)
# As hostile, in less time than what takes its time before it fails of something else may need.
verifier("test-hurried", domains=("test-hurried",), reference=lambda raw, args: raw, timeout_s=2.0)(hostile)


@verifier("test-open", domains=("test-open",), reference=lambda raw, args: raw, box="forbidden")
def unboxed(answer: str, reference: object, context: Context) -> Outcome:
    """Right when the whole answer part is the reference."""
    return Outcome(1.0, True) if answer.strip() == reference else Outcome(0.0, False, "text-differs")


HEAVY = ("numpy", "scipy.optimize", "scipy.stats", "sympy", "pint", "lxml.etree", "rapidfuzz")


@verifier(
    "test-heavy",
    domains=("test-heavy",),
    reference=lambda raw, args: raw,
    libraries=[name for name in HEAVY if importlib.util.find_spec(name.partition(".")[0])],
)
def heavy(answer: str, reference: object, context: Context) -> Outcome:
    """Right when the libraries are there."""
    return Outcome(1.0, "scipy.stats" in sys.modules and "sympy" in sys.modules)


@verifier("test-slow-library", domains=("test-slow-library",), reference=lambda raw, args: raw, libraries=("slow_library",))
def slow_library(answer: str, reference: object, context: Context) -> Outcome:
    """Right when its library was imported before it ran."""
    return Outcome(1.0, "slow_library" in sys.modules)


@verifier("test-no-library", domains=("test-no-library",), reference=lambda raw, args: raw, libraries=("no_such_library",))
def no_library(answer: str, reference: object, context: Context) -> Outcome:
    """Never runs."""
    return Outcome(1.0, True)


@verifier(
    "test-inline",
    domains=("test-inline",),
    reference=lambda raw, args: raw,
    bounded=lambda answer, reference: 1 // len(answer) <= 1,
)
def inline(answer: str, reference: object, context: Context) -> Outcome:
    """Run in the calling process; fails for one answer, and its `bounded` for a response without a box."""
    if answer == "raise":
        raise TypeError("a fault of ours")
    return Outcome(1.0, True)
