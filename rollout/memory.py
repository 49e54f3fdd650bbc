"""How much memory a run has held, how threads share it, and what goes back to the system."""

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # malloc.h of glibc
_BLOCK = 2**20
_SMALL = 64 * 2**20


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
    if (mallopt := _mallopt()) is not None:
        mallopt(_M_ARENA_MAX, 1)


def return_large_blocks(model: torch.nn.Module) -> None:
    """Makes blocks that are freed go back to the system from 1 MiB on, or 2 where the gradients of `model` are no more than
    64 MiB, where it is on the CPU and the C library is glibc.

    By itself glibc comes to keep blocks of up to 32 MiB for the next that fits. Passes need blocks of many sizes, and what is
    left between them came to a tenth of a run's memory; that they are made anew takes time (docs/speed.md). Whoever has set a
    threshold in the environment is left alone.
    """
    settings = os.environ.get("GLIBC_TUNABLES", "")
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "glibc.malloc.mmap_threshold" in settings:
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if all(parameter.is_cpu for parameter in trained) and (mallopt := _mallopt()) is not None:
        gradients = sum(parameter.numel() * parameter.element_size() for parameter in trained)
        mallopt(_M_MMAP_THRESHOLD, _BLOCK if gradients > _SMALL else 2 * _BLOCK)


def _mallopt() -> Any:
    return getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
