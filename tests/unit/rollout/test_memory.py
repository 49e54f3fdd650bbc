"""How much memory is said to be held; one heap for all threads and what goes back to the system, by glibc's own account."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PEAK = """
from rollout.memory import peak_memory_mb

before = peak_memory_mb()
held = bytearray(b"1") * (300 << 20)
print(before, peak_memory_mb())
"""

COUNT = """
import ctypes, sys, threading
from rollout.memory import share_one_heap

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]

def heaps():
    file = libc.fopen(sys.argv[2].encode(), b"w")
    libc.malloc_info(0, file)
    libc.fclose(file)
    return open(sys.argv[2]).read().count("<heap nr=")

before = heaps()
if sys.argv[1] == "shared":
    share_one_heap()
ready = threading.Barrier(9)

def allocate():
    libc.malloc(100_000)
    ready.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
ready.wait()
print(heaps() - before)
"""

MAPPED = """
import ctypes, sys, torch
from rollout.memory import return_large_blocks

class Counts(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Counts
gradients, block = int(sys.argv[1]), int(sys.argv[2])
if gradients:
    return_large_blocks(torch.nn.Linear(1, gradients // 4, bias=False))
del (freed := [torch.empty(31 << 20, dtype=torch.uint8)])[:]  # glibc now keeps blocks up to this
before = libc.mallinfo2().hblkhd
held = [torch.empty(block, dtype=torch.uint8) for _ in range(4)]
print((libc.mallinfo2().hblkhd - before) // block)
"""


def test_the_peak_is_that_of_the_process_and_not_of_the_one_that_started_it() -> None:
    held = bytearray(b"1") * (1 << 30)
    said = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout
    before, after = map(float, said.split())
    assert before < len(held) / 2**20
    assert after >= before + 290


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heaps")
def test_threads_get_no_heaps_of_their_own(tmp_path: Path) -> None:
    def new_heaps(how: str) -> int:
        command = [sys.executable, "-c", COUNT, how, str(tmp_path / "heaps.xml")]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert new_heaps("apart") > 0
    assert new_heaps("shared") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heaps")
@pytest.mark.parametrize(
    ("gradients", "block", "settings", "mapped"),
    [
        (0, 3 << 20, {}, 0),
        (65 << 20, 3 << 19, {}, 4),
        (65 << 20, 1 << 19, {}, 0),
        (1 << 20, 3 << 20, {}, 4),
        (1 << 20, 3 << 19, {}, 0),
        (65 << 20, 3 << 19, {"MALLOC_MMAP_THRESHOLD_": str(32 << 20)}, 0),
        (65 << 20, 3 << 19, {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={32 << 20}"}, 0),
    ],
)
def test_large_blocks_are_the_systems_own(gradients: int, block: int, settings: dict[str, str], mapped: int) -> None:
    """A block that glibc has mapped for itself goes back when it is freed; it counts these."""
    command = [sys.executable, "-c", MAPPED, str(gradients), str(block)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **settings}).stdout
    assert int(said) == mapped
