"""Electron configurations: what is one, and how many electrons a noble-gas core stands for."""

import pytest

from rewards.electron_configuration import read_configuration


@pytest.mark.parametrize(("core", "atomic_number"), [("He", 2), ("Ne", 10), ("Ar", 18), ("Kr", 36), ("Xe", 54), ("Rn", 86)])
def test_a_core_has_the_electrons_of_its_noble_gas(core: str, atomic_number: int) -> None:
    found = read_configuration(f"[{core}]")
    assert found is not None and sum(electrons for _, electrons in found) == atomic_number


@pytest.mark.parametrize(
    "text", ["[Ar] 3d6 4s2", "1s2 2s2 2p6 3s2 3p6 3d6 4s2", "[Ne]3s²3p⁶3d⁶4s²", "[Ar] 4s^{2} 3d^{6}", "[Ar] 4s2 3d^6"]
)
def test_writings_of_one_configuration_are_equal(text: str) -> None:
    assert read_configuration(text) == read_configuration("[Ar] 3d6 4s2") is not None


@pytest.mark.parametrize(
    "text", ["", "1s3", "2p7", "3d11", "1s0", "1s2 1s2", "[Ne] 2p6", "[Ne] 2s1", "[Og] 8s1", "1s2, 2s2", "water", "1s2 " * 60]
)
def test_a_shell_that_is_too_full_or_written_twice_makes_no_configuration(text: str) -> None:
    assert read_configuration(text) is None
