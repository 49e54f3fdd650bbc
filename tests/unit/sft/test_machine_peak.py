"""What utilisation is a share of: the best rate measured so far."""

import math

import pytest
import torch

from sft import machine_peak
from sft.machine_peak import matmul_peak

CPU = torch.device("cpu")


class Machine:
    """A clock, and a machine that multiplies at the rates given, one for each time it is measured."""

    def __init__(self, *rates: float) -> None:
        self.now, self.rates, self.measured = 0.0, rates, 0

    def monotonic(self) -> float:
        return self.now

    def rate(self, device: torch.device, dtype: torch.dtype) -> float:
        self.measured += 1
        return self.rates[self.measured - 1]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(50.0, 80.0, 60.0)
    monkeypatch.setattr(machine_peak, "_peaks", {})
    monkeypatch.setattr(machine_peak, "_measured", found.rate)
    monkeypatch.setattr(machine_peak, "time", found)
    return found


def test_a_busy_first_moment_does_not_stay_the_peak(machine: Machine) -> None:
    seen = []
    for machine.now in (0.0, 59.0, 60.0, 119.0, 120.0, 121.0):
        seen.append((matmul_peak(CPU, torch.float32), machine.measured))
    assert seen == [(50.0, 1), (50.0, 1), (80.0, 2), (80.0, 2), (80.0, 3), (80.0, 3)]


def test_a_gpu_is_measured_once(machine: Machine) -> None:
    for machine.now in (0.0, 600.0):
        assert matmul_peak(torch.device("cuda", 0), torch.bfloat16) == 50.0


def test_each_dtype_has_its_own(machine: Machine) -> None:
    assert [matmul_peak(CPU, dtype) for dtype in (torch.float32, torch.float64, torch.float32)] == [50.0, 80.0, 50.0]


def test_the_machine_is_really_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_peak, "_peaks", {})
    single, double = matmul_peak(CPU, torch.float32), matmul_peak(CPU, torch.float64)
    assert math.isfinite(single) and single > 1e8  # a core of the slowest machine that runs PyTorch does more
    assert double > 1e8
