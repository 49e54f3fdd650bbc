"""What the `rlcs` command settles for its process, and for those it starts, before PyTorch and Arrow are loaded and read it."""

import logging
import os


def prepare_process() -> None:
    """Sets what is not set already; the measurements are in docs/speed.md."""
    wait_briefly()
    _allocate_alike()
    _quiet_torchao()


def wait_briefly() -> None:
    """Threads that have done their part of an operation look for the next one for some tenth of a millisecond and then sleep.
    By OpenMP's default they look a hundred times as long, and a process beside ours that wants the core then slows decoding
    several times. GNU OpenMP reads it when PyTorch is loaded; whoever has set it, or a policy, is left alone.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def _allocate_alike() -> None:
    """Arrow takes memory for tables from the heap that everything else takes it from, not from one of its own beside it. A
    step's tables are small. Arrow chooses when it is loaded.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def _quiet_torchao() -> None:
    """transformers imports torchao where it is installed, which names at every start the kernels of its wheel that are for
    other machines, and what it does that torch will not need any more.
    """
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
