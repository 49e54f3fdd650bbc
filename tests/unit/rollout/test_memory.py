"""How much memory is said to be held; one heap for all threads, counted by glibc's own account of its heaps."""

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
