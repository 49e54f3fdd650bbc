"""What a sandboxed program is kept from: the system call filter and the file tree. Attacks: integration/test_sandbox.py."""

import os
import re
import struct
from pathlib import Path

import pytest

from rewards.sandbox import seccomp
from rewards.sandbox.filesystem import library_paths, without

# The system call filter, run by a small interpreter of its own


def _filtered(code: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = 0xC000003E) -> int:
    """What the filter answers to a call: the classic BPF machine of the kernel, as far as the filter uses it."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("=HBBI", code))
    place = accumulator = 0
    while True:
        kind, then, otherwise, value = instructions[place]
        place += 1
        if kind == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif kind == 0x54:
            accumulator &= value
        elif kind == 0x15:
            place += then if accumulator == value else otherwise
        elif kind == 0x35:
            place += then if accumulator >= value else otherwise
        else:
            assert kind == 0x06
            return int(value)


ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
THREAD = 0x3D0F00  # the flags glibc starts a thread with


@pytest.mark.parametrize(
    ("call", "arguments", "answer"),
    [
        ("read", (0,), ALLOW),
        ("socket", (1, 1), EPERM),
        ("execve", (), EPERM),
        ("ptrace", (), EPERM),
        ("clone3", (), ENOSYS),
        ("clone", (THREAD,), ALLOW),
        ("clone", (17,), EPERM),
        ("clone", (THREAD | 0x10000000,), EPERM),
        ("clone", (THREAD | 0x40000000,), EPERM),
        ("kill", (7, 15), ALLOW),
        ("kill", (7, 9), EPERM),
        ("kill", (8, 15), EPERM),
        ("kill", (0xFFFFFFFF, 15), EPERM),
        ("kill", (0, 15), EPERM),
        ("tgkill", (7, 9, 6), ALLOW),
        ("tgkill", (7, 7, 9), EPERM),
        ("tgkill", (8, 8, 6), EPERM),
        ("fcntl", (0, 3), ALLOW),
        ("fcntl", (0, 8, 1), EPERM),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), EPERM),
        ("ioctl", (0, 0x8901), EPERM),
        ("prlimit64", (0, 3), ALLOW),
        ("prlimit64", (7, 3), ALLOW),
        ("prlimit64", (0, 0), EPERM),
        ("prlimit64", (8, 3), EPERM),
        ("prctl", (15,), ALLOW),
        ("prctl", (1,), EPERM),
        ("socketpair", (1, 1 | 0x80800), ALLOW),
        ("socketpair", (1, 2), EPERM),
        ("socketpair", (2, 1), EPERM),
        ("sendto", (3, 1 << 40, 5, 0, 0, 0), ALLOW),
        ("sendto", (3, 0, 0, 0, 1 << 33, 0), EPERM),
        ("sendto", (3, 0, 0, 0, 64, 0), EPERM),
    ],
)
@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_filter_answers_each_call(
    call: str, arguments: tuple[int, ...], answer: int, machine: str, architecture: int
) -> None:
    column = ["x86_64", "aarch64"].index(machine)
    extra = {"socket": (41, 198), "execve": (59, 221), "ptrace": (101, 117)}
    numbers = {**seccomp.ALLOWED, **seccomp.MISSING, **seccomp.CONDITIONAL, **extra}
    assert _filtered(seccomp.build_filter(7, machine), numbers[call][column], arguments, architecture) == answer


def test_calls_of_another_architecture_end_the_program() -> None:
    code = seccomp.build_filter(7, "x86_64")
    assert _filtered(code, 1, architecture=0x40000003) == KILL  # 32-bit x86, where 1 is exit
    assert _filtered(code, 0x40000000 | 1) == KILL  # x32
    with pytest.raises(OSError, match="riscv64"):
        seccomp.build_filter(7, "riscv64")


@pytest.mark.parametrize(
    ("column", "header"), [(0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), (1, "/usr/include/asm-generic/unistd.h")]
)
def test_call_numbers_are_those_of_the_kernel_headers(column: int, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    text = Path(header).read_text()
    found = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", text, re.MULTILINE)}
    found.setdefault("newfstatat", found.get("fstatat", -1))
    ours = {**seccomp.ALLOWED, **seccomp.MISSING, **seccomp.CONDITIONAL}
    assert {name: pair[column] for name, pair in ours.items()} == {name: found.get(name, -1) for name in ours}


# The file tree


def test_hidden_folders_are_left_out_and_nothing_else(tmp_path: Path) -> None:
    for name in ("lib/python/os.py", "lib/python/site-packages/secret.py", "lib/libz.so", "lib/python/json/decoder.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = without([str(tmp_path / "lib")], [str(tmp_path / "lib/python/site-packages")])
    assert sorted(found) == [str(tmp_path / name) for name in ("lib/libz.so", "lib/python/json", "lib/python/os.py")]
    assert without([str(tmp_path / "lib")], []) == [str(tmp_path / "lib")]
    assert without([str(tmp_path / "lib")], [str(tmp_path / "lib")]) == []


def test_the_interpreter_s_library_is_readable_and_packages_are_not() -> None:
    readable, hidden = library_paths()
    assert any(os.__file__.startswith(path + "/") for path in readable)
    packages = os.path.dirname(os.path.dirname(pytest.__file__))
    assert os.path.realpath(packages) in hidden
