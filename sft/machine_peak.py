"""The rate at which this machine multiplies matrices, of which utilisation is a share."""

import time
from dataclasses import dataclass

import torch

_CPU_SIZE, _GPU_SIZE = 1024, 8192
_SECONDS = 0.25
_AGAIN_AFTER_S = 60.0


@dataclass
class _Peak:
    rate: float
    measured_at: float


_peaks: dict[tuple[str, torch.dtype, int], _Peak] = {}


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest of many products of two square matrices of `dtype` on `device`, with as many threads
    as PyTorch now has. Takes a quarter of a second, at the first call and, as other work on the machine makes it lower, on a
    CPU again once a minute: the best of all counts. A GPU is measured once: it is the run's own, and full later on.
    """
    key, now = (str(device), dtype, torch.get_num_threads()), time.monotonic()
    known = _peaks.get(key)
    if known is None or (device.type == "cpu" and now - known.measured_at >= _AGAIN_AFTER_S):
        found = _measured(device, dtype)
        _peaks[key] = known = _Peak(max(found, known.rate) if known else found, now)
    return known.rate


def _measured(device: torch.device, dtype: torch.dtype) -> float:
    on_gpu = device.type == "cuda"
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
