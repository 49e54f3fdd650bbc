"""The files a program may see: the interpreter's library and the system's shared libraries, read-only, and a scratch folder.

Packages (site-packages, dist-packages) are left out, so that the same program gives the same result wherever it runs.
"""

from __future__ import annotations

import os

from rewards.sandbox import kernel

TYPE_CHECKING = False  # importing `typing` would take longer than the rest of a start
if TYPE_CHECKING:
    from collections.abc import Sequence

DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
SCRATCH = "/tmp"
_STAGES = ("/mnt", "/media", "/srv", "/opt", "/tmp")


def library_paths() -> tuple[list[str], list[str]]:
    """Paths a Python program needs to read, and those within them that it shall not see. For this interpreter."""
    import sys
    import sysconfig

    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    prefixes = {sys.base_prefix, sys.base_exec_prefix}
    libraries = {f"{prefix}/{name}" for prefix in prefixes for name in ("lib", "lib64")}
    libraries |= {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"}
    libraries.add(sysconfig.get_path("stdlib"))  # not platstdlib: that is within the virtual environment
    hidden = {f"{prefix}/lib/{name}" for prefix in prefixes for name in (f"{version}/site-packages", "python3/dist-packages")}
    hidden |= {f"{path}/{name}" for path in list(libraries) for name in ("site-packages", "dist-packages")}
    hidden |= {"/usr/lib/python3/dist-packages", sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    found = sorted(path for path in libraries if os.path.exists(path))
    outer = [path for path in found if not any(path.startswith(other + "/") for other in found)]
    return outer, sorted({os.path.realpath(path) for path in hidden if os.path.isdir(path)})


def without(paths: Sequence[str], hidden: Sequence[str]) -> list[str]:
    """The largest trees that together hold all of `paths` (directories or files) but nothing of `hidden`."""
    kept = []
    for path in paths:
        real = os.path.realpath(path)
        if real in hidden:
            continue
        if any(other.startswith(real + "/") for other in hidden):
            kept += without(sorted(entry.path for entry in os.scandir(real)), hidden)
        else:
            kept.append(path)
    return kept


def enter_new_root(readable: Sequence[str], hidden: Sequence[str], scratch_mb: int) -> None:
    """Make a root of `readable` (read-only), devices and an empty scratch folder, and move this mount namespace into it.

    To be called in a fresh mount namespace with its capabilities. Raises OSError.
    """
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    root = next(path for path in _STAGES if os.path.isdir(path) and not any(item.startswith(path) for item in readable))
    kernel.mount("sandbox", root, "tmpfs", kernel.MS_NOSUID, "size=1m,nr_inodes=4096,mode=755")
    for path in readable:
        _bind(path, root + path)
        kernel.make_read_only(root + path)
        real = os.path.realpath(path)
        for other in hidden:
            if other.startswith(real + "/"):
                kernel.mount("none", root + path + other[len(real) :], "tmpfs", kernel.MS_RDONLY, "size=4k,mode=555")
    for path in DEVICES:
        if os.path.exists(path):
            _bind(path, root + path)
    os.makedirs(root + SCRATCH, exist_ok=True)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("scratch", root + SCRATCH, "tmpfs", flags, f"size={scratch_mb}m,nr_inodes=1024,mode=1777")
    os.chdir(root)
    kernel.system_call("pivot_root", b".", b".")  # the old root now lies over the new one
    kernel.detach(".")
    kernel.mount("none", "/", None, kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_BIND)
    os.chdir(SCRATCH)


def _bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o444))
    kernel.mount(os.path.realpath(source), target, None, kernel.MS_BIND | kernel.MS_REC)
