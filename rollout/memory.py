"""How much memory a run has held, and how threads share it."""

import ctypes
import resource
import sys
from pathlib import Path

import torch

_M_ARENA_MAX = -8  # malloc.h of glibc


def peak_memory_mb(device: str = "cpu") -> float:
    """Most memory held so far, in MiB: the GPU's where `device` is one, else the process's."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "linux":  # where getrusage would tell that of the process that started this one, if it held more
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def share_one_heap() -> None:
    """Makes the threads of this process allocate from one heap, where the C library is glibc.

    It gives a thread that finds the heap in use one of its own, whose freed memory no other thread is given: passes side by
    side (`sft.lanes`) then hold hundreds of MiB more (docs/speed.md). Heaps that are there stay, so this comes first.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_ARENA_MAX, 1)
