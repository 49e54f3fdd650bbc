"""The rate at which this machine multiplies matrices, of which utilisation is a share."""

import time
from functools import cache

import torch

_CPU_SIZE, _GPU_SIZE = 1024, 8192
_SECONDS = 0.25


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest of many products of two square matrices of `dtype` on `device`, with as many threads
    as PyTorch now has. Takes a quarter of a second, once a process; what else runs on the machine makes it lower.
    """
    return _measured(str(device), dtype, torch.get_num_threads())


@cache
def _measured(device: str, dtype: torch.dtype, threads: int) -> float:
    on_gpu = device.startswith("cuda")
    size = _GPU_SIZE if on_gpu else _CPU_SIZE
    a, b = (torch.full((size, size), 0.5, dtype=dtype, device=device) for _ in range(2))
    out = a @ b  # starts threads and picks kernels
    best, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        if on_gpu:
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        if on_gpu:
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best
