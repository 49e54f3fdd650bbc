"""How much memory a run has held."""

import resource
import sys

import torch


def peak_memory_mb(device: str = "cpu") -> float:
    """Most memory held so far, in MiB: the GPU's where `device` is one, else the process's."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
