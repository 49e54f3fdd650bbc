"""The process that locks itself in and then runs a program. Started by `process.py` as a bare interpreter.

Two processes: the outer one makes the namespaces, forks, waits, and ends whatever is left; the inner one (process 1 of its
own process namespace) takes away its own rights, says which are gone, receives the program and runs it. The program's code
arrives only after the parent has seen that report. Lines on the status pipe: `pid N`, `ready NAMESPACES LANDLOCK SECCOMP`,
`exit STATUS SIGNAL CPU_S PEAK_KB`; or `failed REASON`.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` would take as long as all the rest
import os
import resource
import sys

from rewards.sandbox import filesystem, kernel, landlock, seccomp

TYPE_CHECKING = False  # importing `typing` would take longer than the rest of a start
if TYPE_CHECKING:
    from typing import Any

NOBODY = 65534
_NEW = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID
_NEW |= kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
_WATCHED = {signal.SIGTERM, signal.SIGCHLD}


def main(config: dict[str, Any]) -> None:
    """Never returns in the outer process; the inner one returns when the program has run."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != config["parent"]:
        os._exit(1)
    try:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        _offer_to_oom_killer()
        if config["namespaces"]:
            _enter_namespaces()
        child = os.fork()
        if child:
            _supervise(child, config)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        layers = _lock_in(config)
        _say(config, "ready {} {} {}".format(*layers))
        os.close(config["status"])
    except OSError as error:
        _say(config, f"failed {error}")
        os._exit(1)
    with open(config["code"], "rb") as pipe:
        source = pipe.read()
    if not source:  # only the layers were asked for
        os._exit(0)
    sys.argv.clear()
    _run(config, source)


def _run(config: dict[str, Any], source: bytes) -> None:
    if config["role"] == "script":
        from rewards.sandbox.program import run_script

        run_script(source)
    elif config["role"] == "functions":
        from rewards.sandbox.program import serve

        serve(source, config["requests"], config["replies"])
    else:
        from rewards.sandbox.tester import main as test

        test(source, config["requests"], config["replies"], config["report"])


def _say(config: dict[str, Any], text: str) -> None:
    os.write(config["status"], text.replace("\n", " ")[:500].encode() + b"\n")


def _offer_to_oom_killer() -> None:
    """When the machine runs out of memory, the kernel shall end this program and not the trainer."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        return  # a kindness to the machine, no part of the isolation


def _enter_namespaces() -> None:
    """Fresh namespaces of users, mounts, processes, network, IPC and host name for this process's children.

    Root appears inside as root, to build the file tree, and as nobody, to run the program: root is exempt from the limit on
    processes. Mapping two users needs a process outside, hence the helper. An ordinary user appears as nobody.
    """
    user, group = os.getuid(), os.getgid()
    if user != 0:
        kernel.unshare(_NEW)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{NOBODY} {user} 1")
        _write("/proc/self/gid_map", f"{NOBODY} {group} 1")
        return
    target = os.getpid()
    gate, opener = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(opener)
        os.read(gate, 1)
        try:
            for name in ("uid_map", "gid_map"):
                _write(f"/proc/{target}/{name}", f"0 0 1\n{NOBODY} {NOBODY} 1\n")
        except OSError:
            os._exit(1)
        os._exit(0)
    os.close(gate)
    try:
        kernel.unshare(_NEW)
    finally:
        os.close(opener)
        status = os.waitpid(helper, 0)[1]
    if status:
        raise OSError("the user map could not be written")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _supervise(child: int, config: dict[str, Any]) -> None:
    """Wait for the child; on SIGTERM end it. Then end what it left behind, and this process."""
    keep = config["status"]
    _say(config, f"pid {child}")
    os.closerange(0, keep)
    os.closerange(keep + 1, 4096)
    status, cpu_s, peak_kb = None, 0.0, 0
    while status is None:
        if signal.sigwait(_WATCHED) == signal.SIGTERM:
            os.kill(child, signal.SIGKILL)
        while True:
            found, state, usage = os.wait4(-1, os.WNOHANG)
            if found == child:
                status, cpu_s, peak_kb = state, usage.ru_utime + usage.ru_stime, usage.ru_maxrss
            if found in (0, child):
                break
    _end_orphans()
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    _say(config, f"exit {os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0} {number} {cpu_s} {peak_kb}")
    os._exit(0)


def _end_orphans() -> None:
    """End processes the program left behind. A process namespace or the system call filter leaves none."""
    own = os.getpid()
    while True:
        try:
            found, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if found:
            continue
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                if parent == own:
                    os.kill(int(name), signal.SIGKILL)
            except (OSError, ValueError, IndexError):
                continue  # ended meanwhile


def _lock_in(config: dict[str, Any]) -> tuple[int, int, int]:
    """Give up rights, step by step. Returns which layers stand: namespaces, version of Landlock, system call filter."""
    limits = config["limits"]
    os.setsid()
    readable, writable = ["/"], [filesystem.SCRATCH]
    if config["namespaces"]:
        filesystem.enter_new_root(config["readable"], config["hidden"], limits["scratch_mb"])
    else:
        readable, writable = filesystem.without(config["readable"], config["hidden"]), []
        os.chdir("/")
    _limit(limits, config["namespaces"])
    if config["namespaces"] and os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.drop_capabilities()
    version = landlock.restrict(readable, writable, filesystem.DEVICES) if config["landlock"] else 0
    try:
        kernel.install_filter(seccomp.build_filter(os.getpid()))
    except OSError:
        return int(config["namespaces"]), version, 0
    return int(config["namespaces"]), version, 1


def _limit(limits: dict[str, int], own_users: bool) -> None:
    """Resource limits, none above what this process may have."""
    wanted = {
        resource.RLIMIT_CPU: limits["cpu_s"],
        resource.RLIMIT_AS: limits["memory_mb"] << 20,
        resource.RLIMIT_FSIZE: limits["scratch_mb"] << 20,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_STACK: 128 << 20,
    }
    if own_users:  # elsewhere the limit counts every process of the user
        wanted[resource.RLIMIT_NPROC] = limits["threads"]
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
