"""Verifiers that misbehave in the ways a pool must survive; loaded into workers as a plug-in by test_score_pool.py."""

import os
import sys
import time

from rewards.registry import Context, Outcome, verifier


@verifier("test-hostile", domains=("test-hostile",), reference=lambda raw, args: raw)
def hostile(answer: str, reference: object, context: Context) -> Outcome:
    """Do what the answer says."""
    if answer == "hang":
        while True:
            pass
    if answer == "sleep":
        time.sleep(3600)
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
    if answer == "print":
        print('{"n": 0, "verdict": [1.0, true, "ok", null]}', flush=True)
    if answer == "torch":
        return Outcome(0.0, "torch" in sys.modules)
    return Outcome(1.0, answer == reference, None)
