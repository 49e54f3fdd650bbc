"""How long something takes, whatever else the machine does."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def takes_less_than(seconds: float) -> Iterator[None]:
    """Fails where the block takes this much of its own thread's processor time or more.

    Garbage, which may be that of all tests before, is not collected meanwhile: a heap with torch in it takes a second.
    """
    gc.disable()
    try:
        began = time.thread_time()
        yield
        spent = time.thread_time() - began
    finally:
        gc.enable()
    assert spent < seconds, f"{spent:.2f} s of processor time"
