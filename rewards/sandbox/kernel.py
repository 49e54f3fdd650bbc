"""Linux calls the standard library of Python 3.11 lacks, through ctypes. Each raises OSError with the call's name."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38

MACHINE = os.uname().machine
_COLUMN = {"x86_64": 0, "aarch64": 1}
_NUMBERS = {  # x86-64, aarch64
    "pivot_root": (155, 41),
    "capset": (126, 91),
    "mount_setattr": (442, 442),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}
_libc = ctypes.CDLL(None, use_errno=True)


def _check(name: str, result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def system_call(name: str, *arguments: int | bytes | None) -> int:
    """Make the raw system call `name`. Raises OSError, also on a processor whose call numbers are not known here."""
    if MACHINE not in _COLUMN:
        raise OSError(f"{name}: no system call numbers for {MACHINE}")
    number = _NUMBERS[name][_COLUMN[MACHINE]]
    words = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return _check(name, _libc.syscall(ctypes.c_long(number), *words))


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for fresh ones."""
    _check("unshare", _libc.unshare(flags))


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    texts = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _check(f"mount {target}", _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]))


def make_read_only(target: str) -> None:
    """Set every mount at and below `target` read-only, without set-uid programs (the top one only before Linux 5.12)."""
    attributes = (MS_RDONLY | MS_NOSUID).to_bytes(8, "little") + bytes(24)  # struct mount_attr: attr_set first
    try:
        system_call("mount_setattr", -100, target.encode(), 0x8000, attributes, len(attributes))  # AT_RECURSIVE
    except OSError:
        kept = os.statvfs(target).f_flag & (MS_NODEV | MS_NOEXEC)  # a user namespace may not clear these
        mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def detach(target: str) -> None:
    """Unmount `target` and all below it, even while in use."""
    _check("umount2", _libc.umount2(target.encode(), MNT_DETACH))


def prctl(option: int, argument: int | ctypes.Array[ctypes.c_char] = 0, pointer: bytes | None = None) -> None:
    """prctl(2) with the arguments used here."""
    second = ctypes.c_ulong(argument) if isinstance(argument, int) else argument
    _check("prctl", _libc.prctl(option, second, pointer, ctypes.c_ulong(0), ctypes.c_ulong(0)))


def drop_capabilities() -> None:
    """Give up every capability, effective, permitted and inheritable."""
    header = (0x20080522).to_bytes(4, "little") + bytes(4)  # _LINUX_CAPABILITY_VERSION_3, this thread
    system_call("capset", header, bytes(24))


def install_filter(program: bytes) -> None:
    """Put a seccomp filter (an array of struct sock_filter) on this process, for good."""
    buffer = ctypes.create_string_buffer(program, len(program))
    address = ctypes.addressof(buffer)
    prctl(PR_SET_SECCOMP, 2, (len(program) // 8).to_bytes(8, "little") + address.to_bytes(8, "little"))
