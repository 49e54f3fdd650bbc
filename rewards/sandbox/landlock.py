"""Landlock: this process gives up all access to files but what is named. Linux 5.13, no privilege needed.

Source: the kernel's Documentation/userspace-api/landlock.rst. Landlock leaves looking (stat, chdir) alone; what changes a
file's attributes is left to the system call filter.
"""

from __future__ import annotations

import os

from rewards.sandbox import kernel

TYPE_CHECKING = False  # importing `typing` would take longer than the rest of a start
if TYPE_CHECKING:
    from collections.abc import Iterable

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_ALL_OF_ABI_1 = (1 << 13) - 1  # the above, removing and making files of every kind
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_READ = _READ_FILE | _READ_DIR
_MAKE = _WRITE_FILE | _READ | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8  # remove dir, remove file, make dir, make file
_NET_BIND_AND_CONNECT_TCP = 3
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 3
_PATH_BENEATH = 1


def abi() -> int:
    """The version of Landlock the kernel offers, 0 for none."""
    try:
        return kernel.system_call("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def restrict(readable: Iterable[str], writable: Iterable[str], devices: Iterable[str]) -> int:
    """Keep reading below `readable`, everything ordinary below `writable`, reading and writing of `devices`.

    Paths that do not exist are left out. Needs no_new_privs. Returns the version of Landlock in force; 0 if there is none.
    """
    version = abi()
    if version < 1:
        return 0
    later = (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    handled = _ALL_OF_ABI_1 | later
    words = [handled]
    if version >= 4:
        words.append(_NET_BIND_AND_CONNECT_TCP)
    if version >= 6:
        words.append(_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS)
    attributes = b"".join(word.to_bytes(8, "little") for word in words)
    rules = kernel.system_call("landlock_create_ruleset", attributes, len(attributes), 0)
    for paths, access in ((readable, _READ), (writable, _MAKE | later), (devices, _READ_FILE | _WRITE_FILE)):
        for path in paths:
            _allow(rules, path, access, later)
    kernel.system_call("landlock_restrict_self", rules, 0)
    os.close(rules)
    return version


def _allow(rules: int, path: str, access: int, later: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what does not exist or cannot be reached cannot be read either
    if not os.path.isdir(path):
        access &= _READ_FILE | _WRITE_FILE | (later & _TRUNCATE)  # the kernel refuses rights of directories on a file
    rule = access.to_bytes(8, "little") + place.to_bytes(4, "little")
    kernel.system_call("landlock_add_rule", rules, _PATH_BENEATH, rule, 0)
    os.close(place)
