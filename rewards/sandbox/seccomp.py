"""The system calls a program may make, as a seccomp filter. What is not named here is refused with EPERM.

A program may compute, read and write what it has open, open files (which ones: filesystem.py, landlock.py), and start threads.
It may not start processes, run programs, make sockets, signal or trace another process, change its owner or its limits
upwards, mount, or reach any rarely used part of the kernel. Source: seccomp(2), and the kernel's tables of call numbers.
"""

from __future__ import annotations

import struct

from rewards.sandbox import kernel

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # x86-64 also takes calls of the x32 form, from this number on

# Call numbers, x86-64 and aarch64; -1 where the processor has no such call.
ALLOWED: dict[str, tuple[int, int]] = {
    # reading, writing, waiting
    **{"read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67), "pwrite64": (18, 68)},
    **{"close": (3, 57), "close_range": (436, 436), "lseek": (8, 62), "dup": (32, 23), "dup2": (33, -1), "dup3": (292, 24)},
    **{"pipe": (22, -1), "pipe2": (293, 59), "sendfile": (40, 71), "fsync": (74, 82), "fdatasync": (75, 83)},
    **{"poll": (7, -1), "ppoll": (271, 73), "select": (23, -1), "pselect6": (270, 72), "eventfd2": (290, 19)},
    **{"epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, -1), "epoll_pwait": (281, 22)},
    **{"recvfrom": (45, 207), "shutdown": (48, 210)},
    # files
    **{"open": (2, -1), "openat": (257, 56), "stat": (4, -1), "fstat": (5, 80), "lstat": (6, -1), "newfstatat": (262, 79)},
    **{"statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44), "access": (21, -1), "faccessat": (269, 48)},
    **{"faccessat2": (439, 439), "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50)},
    **{"readlink": (89, -1), "readlinkat": (267, 78), "mkdir": (83, -1), "mkdirat": (258, 34), "rmdir": (84, -1)},
    **{"unlink": (87, -1), "unlinkat": (263, 35), "rename": (82, -1), "renameat": (264, 38), "renameat2": (316, 276)},
    **{"ftruncate": (77, 46), "umask": (95, 166), "fadvise64": (221, 223), "flock": (73, 32)},
    # memory
    **{"brk": (12, 214), "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216)},
    **{"madvise": (28, 233), "msync": (26, 227), "membarrier": (324, 283)},
    # threads, signals to itself, time
    **{"futex": (202, 98), "set_robust_list": (273, 99), "set_tid_address": (218, 96), "rseq": (334, 293)},
    **{"sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getcpu": (309, 168), "gettid": (186, 178)},
    **{"rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136)},
    **{"rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137), "sigaltstack": (131, 132), "pause": (34, -1)},
    **{"alarm": (37, -1), "setitimer": (38, 103), "getitimer": (36, 102), "restart_syscall": (219, 128)},
    **{"nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114)},
    **{"gettimeofday": (96, 169), "time": (201, -1), "times": (100, 153), "getrandom": (318, 278)},
    **{"exit": (60, 93), "exit_group": (231, 94)},
    # who and where am I
    **{"getpid": (39, 172), "getppid": (110, 173), "getpgrp": (111, -1), "getpgid": (121, 155), "getsid": (124, 156)},
    **{"getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158)},
    **{"getresuid": (118, 148), "getresgid": (120, 150), "uname": (63, 160), "sysinfo": (99, 179)},
    **{"getrusage": (98, 165), "getrlimit": (97, 163)},
    **{"wait4": (61, 260), "waitid": (247, 95)},
}

MISSING: dict[str, tuple[int, int]] = {"clone3": (435, 435)}
"""Said not to exist (ENOSYS), so that the C library falls back to a call whose arguments can be judged."""

CONDITIONAL: dict[str, tuple[int, int]] = {
    **{"clone": (56, 220), "socketpair": (53, 199), "sendto": (44, 206), "kill": (62, 129), "tgkill": (234, 131)},
    **{"fcntl": (72, 25), "ioctl": (16, 29), "prlimit64": (302, 261), "prctl": (157, 167)},
}

_THREAD, _NEW_NAMESPACES = 0x00010000, 0x7E020000
_SIGKILL, _RLIMIT_CPU = 9, 0
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 1030)  # duplicate, flags, locks; never F_SETOWN, which sends signals
_IOCTL = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # is it a terminal, its size; bytes waiting; non-blocking, close-on-exec
_PRCTL = (15, 16, 0x53564D41)  # thread name, name of a memory area


class Check:
    """`argument & mask == value`, or its contrary, on the low (default) or the high 32 bits of a call's argument."""

    def __init__(self, argument: int, value: int, *, mask: int = 0xFFFFFFFF, high: bool = False, differs: bool = False) -> None:
        self.argument, self.value, self.mask, self.high, self.differs = argument, value, mask, high, differs


def conditions(pid: int) -> dict[str, list[list[Check]]]:
    """For each conditional call the alternatives under which process `pid` may make it, each a list of checks."""
    return {
        "clone": [[Check(0, _THREAD, mask=_THREAD | _NEW_NAMESPACES)]],
        "socketpair": [[Check(0, 1), Check(1, 1, mask=0xF)]],  # a stream between its own threads: asyncio needs one
        "sendto": [[Check(4, 0), Check(4, 0, high=True)]],  # without an address
        # A program that kills itself must not look like one the machine has killed.
        "kill": [[Check(0, pid), Check(1, _SIGKILL, differs=True)]],
        "tgkill": [[Check(0, pid), Check(2, _SIGKILL, differs=True)]],
        "fcntl": [[Check(1, command)] for command in _FCNTL],
        "ioctl": [[Check(1, request)] for request in _IOCTL],
        "prlimit64": [[Check(0, who), Check(1, _RLIMIT_CPU, differs=True)] for who in (0, pid)],
        "prctl": [[Check(0, option)] for option in _PRCTL],
    }


def _instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _answer(action: int) -> bytes:
    return _instruction(_RETURN, action)


def build_filter(pid: int, machine: str = kernel.MACHINE) -> bytes:
    """The filter for process `pid`, as an array of struct sock_filter. Raises OSError for an unknown processor."""
    if machine not in _ARCHITECTURES:
        raise OSError(f"no system call table for {machine}")
    column = list(_ARCHITECTURES).index(machine)
    parts = [
        _instruction(_LOAD, 4),  # struct seccomp_data: nr, arch, instruction pointer, arguments
        _instruction(_EQUAL, _ARCHITECTURES[machine], 1, 0),
        _answer(_KILL),
        _instruction(_LOAD, 0),
    ]
    if machine == "x86_64":
        parts += [_instruction(_AT_LEAST, _X32, 0, 1), _answer(_KILL)]
    for table, answer in ((ALLOWED, _ALLOW), (MISSING, _ERRNO | _ENOSYS)):
        for numbers in table.values():
            if numbers[column] >= 0:
                parts += [_instruction(_EQUAL, numbers[column], 0, 1), _answer(answer)]
    for name, alternatives in conditions(pid).items():
        block = b"".join(_alternative(checks) for checks in alternatives) + _answer(_ERRNO | _EPERM)
        parts += [_instruction(_EQUAL, CONDITIONAL[name][column], 0, len(block) // 8), block]
    return b"".join([*parts, _answer(_ERRNO | _EPERM)])


def _alternative(checks: list[Check]) -> bytes:
    """Allow when all checks hold, else go on behind this code."""
    code = _answer(_ALLOW)
    for check in reversed(checks):
        load = _instruction(_LOAD, 16 + 8 * check.argument + 4 * check.high)
        mask = _instruction(_AND, check.mask) if check.mask != 0xFFFFFFFF else b""
        past = len(code) // 8
        jumps = (past, 0) if check.differs else (0, past)
        code = load + mask + _instruction(_EQUAL, check.value, *jumps) + code
    return code
