"""How much memory a run has held, how threads share it, and what goes back to the system."""

import ctypes
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # malloc.h of glibc
_BLOCK = 2 * 2**20
_RETURNS = 3
LARGE = 64 * 2**20
"""Bytes of weights, or of gradients, from which a model is large."""


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
    if (mallopt := _of_glibc("mallopt")) is not None:
        mallopt(_M_ARENA_MAX, 1)


def gradient_bytes(model: torch.nn.Module) -> int:
    """Of all gradients of the model, which are of its parameters' types."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters() if parameter.requires_grad)


def is_large(model: torch.nn.Module) -> bool:
    """Whether its weights are more than 64 MiB: its operations then take much longer than Python does between two."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) > LARGE


def return_large_blocks(model: torch.nn.Module) -> None:
    """Makes blocks of 2 MiB and more go back to the system when they are freed, where `model` is on the CPU, its gradients
    are at most 64 MiB and the C library is glibc.

    By itself glibc comes to keep blocks of up to 32 MiB for the next that fits. Passes need blocks of many sizes, and what is
    left between them came to a tenth of a run's memory. With larger gradients the pages, made anew at every operation, took a
    tenth to a fifth of an update; `returned_meanwhile` is for these (docs/speed.md). Whoever has set a threshold in the
    environment is left alone.
    """
    settings = os.environ.get("GLIBC_TUNABLES", "")
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "glibc.malloc.mmap_threshold" in settings:
        return
    if _on_cpu(model) and gradient_bytes(model) <= LARGE and (mallopt := _of_glibc("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, _BLOCK)


@contextmanager
def returned_meanwhile(model: torch.nn.Module) -> Iterator[Callable[[], None]]:
    """Within it memory that was freed goes back to the system whenever what it yields is called and `_RETURNS` times in each
    backward pass, where the gradients of `model` are more than 64 MiB, on the CPU, and the C library is glibc.

    A backward pass frees activations and makes gradients. Those do not fit where these were, and what is left between them
    would stay with the process, some hundred MiB that the next pass finds as little use for.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trim = _of_glibc("malloc_trim") if _on_cpu(model) and gradient_bytes(model) > LARGE else None
    if trim is None:
        yield lambda: None
        return

    def give_back(_: object = None) -> None:
        trim(0)

    every = -(-len(trained) // _RETURNS)
    handles = [one.register_post_accumulate_grad_hook(give_back) for one in trained[every // 2 :: every]]
    try:
        yield give_back
    finally:
        for handle in handles:
            handle.remove()


def _on_cpu(model: torch.nn.Module) -> bool:
    return all(parameter.is_cpu for parameter in model.parameters() if parameter.requires_grad)


def _of_glibc(function: str) -> Any:
    """None where another C library has none of that name."""
    return getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None
