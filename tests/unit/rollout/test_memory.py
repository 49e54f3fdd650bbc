"""How much memory is said to be held; one heap for all threads and what goes back to the system, by glibc's own account."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rollout import memory

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

HOLES = """
import sys, torch
from pathlib import Path
from rollout import memory

def resident():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) >> 10

memory.LARGE = int(sys.argv[1])
blocks = [torch.ones(16 << 10) for _ in range(8000)]  # 500 MiB of 64 KiB each, too small for glibc to map by themselves
model = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(20)])
with memory.returned_meanwhile(model) as give_back:
    del blocks[::2]
    before = resident()
    give_back()
    print(before - resident())
    loss = model(torch.ones(1, 64)).sum()
    del blocks[::2]
    before = resident()
    loss.backward()
    print(before - resident())
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
        (1 << 20, 3 << 20, {}, 4),
        (1 << 20, 3 << 19, {}, 0),
        (65 << 20, 3 << 20, {}, 0),
        (1 << 20, 3 << 20, {"MALLOC_MMAP_THRESHOLD_": str(32 << 20)}, 0),
        (1 << 20, 3 << 20, {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={32 << 20}"}, 0),
    ],
)
def test_large_blocks_are_the_systems_own(gradients: int, block: int, settings: dict[str, str], mapped: int) -> None:
    """A block that glibc has mapped for itself goes back when it is freed; it counts these."""
    command = [sys.executable, "-c", MAPPED, str(gradients), str(block)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **settings}).stdout
    assert int(said) == mapped


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heaps")
def test_what_is_freed_goes_back_before_and_in_a_large_models_backward_pass() -> None:
    def returned(large: int) -> list[int]:
        command = [sys.executable, "-c", HOLES, str(large)]
        return [int(line) for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]

    at_call, in_backward = returned(1)
    assert at_call > 200 and in_backward > 90
    assert all(-20 < kept < 20 for kept in returned(64 << 20))


@pytest.mark.parametrize("layers", [1, 3, 40])
def test_a_backward_pass_gives_back_some_times_and_none_after_the_last(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(memory, "_of_glibc", lambda name: calls.append if name == "malloc_trim" else None)
    monkeypatch.setattr(memory, "LARGE", 0)
    model = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(layers)])
    plain = [torch.autograd.grad(model(torch.ones(1, 4)).sum(), list(model.parameters()))]
    with memory.returned_meanwhile(model) as give_back:
        assert not calls
        give_back()
        assert calls == [0]
        model(torch.ones(1, 4)).sum().backward()
        assert len(calls) == 1 + min(2 * layers, 3)
    assert all(map(torch.equal, plain[0], [parameter.grad for parameter in model.parameters() if parameter.grad is not None]))
    model(torch.ones(1, 4)).sum().backward()
    assert len(calls) == 1 + min(2 * layers, 3)
