"""The CPU as a platform of verl's: gloo for NCCL, processes for devices."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import CPUOffloadPolicy
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

from rlcs.verl.cpu import device


class _Cpu(str):
    """The only device. `tensor.to` takes it for the name "cpu"; in f"{device_name}:{index}" it stands for index 0."""

    def __new__(cls) -> "_Cpu":
        return super().__new__(cls, "cpu")

    def __format__(self, spec: str) -> str:
        return "0"


class CpuPlatform(PlatformBase):
    """One device, always there. Ray counts it as a GPU (`num_gpus` of its start-up), so that verl's placement is the usual."""

    device_name = property(lambda self: "cpu")
    vendor_name = property(lambda self: "cpu")

    @property
    def device_module(self) -> ModuleType:
        return device

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # by VERL_PLATFORM alone, never found by itself

    def current_device(self) -> Any:
        return _Cpu()

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"  # what Ray sets of the resource "GPU"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False  # weights go to vLLM through shared memory

    def cudart(self) -> None:
        return None


def install() -> None:
    """Registers the platform and mends two calls that presume an accelerator."""
    if PlatformRegistry.get("cpu") is None:
        PlatformRegistry.register(platform="cpu")(CpuPlatform)
        _one_backend_for_cpu()
        CPUOffloadPolicy.__init__ = _unpinned  # type: ignore[method-assign]


def _one_backend_for_cpu() -> None:
    """verl asks for "cpu:gloo,<device>:<backend>", which PyTorch refuses where the device is the CPU again."""
    original = dist.init_process_group

    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> Any:
        return original("cpu:gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)

    dist.init_process_group = init_process_group


def _unpinned(self: CPUOffloadPolicy, pin_memory: bool = True) -> None:
    """verl pins the reference policy's weights, which takes an accelerator."""
    object.__setattr__(self, "pin_memory", False)
