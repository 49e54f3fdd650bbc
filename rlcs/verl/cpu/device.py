"""What verl expects of a device's module such as `torch.cuda`, for the CPU; the rest is `torch.cpu`'s."""

import torch

_TOTAL_BYTES = 16 << 30  # a number to divide by: main memory is not rationed


def empty_cache() -> None: ...


def ipc_collect() -> None: ...


def set_device(device: object) -> None: ...


def reset_peak_memory_stats(device: object = None) -> None: ...


def set_per_process_memory_fraction(fraction: float, device: object = None) -> None: ...


def memory_allocated(device: object = None) -> int:
    return 0


memory_reserved = max_memory_allocated = max_memory_reserved = memory_allocated


def mem_get_info(device: object = None) -> tuple[int, int]:
    """Free and total bytes."""
    return _TOTAL_BYTES, _TOTAL_BYTES


def get_device_name(device: object = None) -> str:
    return "CPU"


def get_rng_state(device: object = None) -> torch.Tensor:
    return torch.get_rng_state()


def set_rng_state(state: torch.Tensor, device: object = None) -> None:
    torch.set_rng_state(state)


def manual_seed(seed: int) -> None:
    torch.manual_seed(seed)


manual_seed_all = manual_seed


def __getattr__(name: str) -> object:
    return getattr(torch.cpu, name)
