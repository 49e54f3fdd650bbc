"""Real attacks on the sandbox's walls, under every combination of layers that counts as full isolation."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sandboxed_runs import SECRET, is_blocked, run

from rewards.sandbox import kernel
from rewards.sandbox.cases import Script

pytestmark = pytest.mark.integration


def test_an_honest_program_runs(layers: dict[str, bool]) -> None:
    source = """
        import asyncio, collections, decimal, fractions, functools, heapq, itertools, math, random, re, sys, threading
        import json, string, datetime, zoneinfo, statistics, bisect, copy, typing, dataclasses, hashlib, sqlite3, zlib, numbers
        sys.setrecursionlimit(10**6)
        @functools.cache
        def deep(n):
            return 0 if n == 0 else 1 + deep(n - 1)
        async def later():
            await asyncio.sleep(0.01)
            return deep(20_000)
        total = []
        worker = threading.Thread(target=lambda: total.append(sum(map(int, sys.stdin.read().split()))))
        worker.start(); worker.join()
        print(total[0], asyncio.run(later()))
    """
    assert run(source, Script("1 2 3", "6 20000"), layers) is None


def test_network_cannot_be_reached(layers: dict[str, bool], tmp_path: Path) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as path, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("127.0.0.1", 0))
        path.bind(str(tmp_path / "socket"))
        os.chmod(tmp_path / "socket", 0o777)
        abstract.bind(f"\0rlcs-{os.getpid()}")
        for server in (tcp, path, abstract):
            server.listen()
            server.settimeout(0)
        attack = """
            socket.create_connection(("127.0.0.1", int(given[0])))
            socket.socket(socket.AF_UNIX).connect(given[1])
            socket.socket(socket.AF_UNIX).connect(chr(0) + given[2])
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", int(given[0])))
            socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", chr(0) + given[2])
            socket.socketpair()[0].sendto(b"x", given[1])
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        """
        assert is_blocked(attack, layers, f"{tcp.getsockname()[1]} {tmp_path / 'socket'} rlcs-{os.getpid()}")
        for server in (tcp, path, abstract):
            with pytest.raises(BlockingIOError):
                server.accept()


def test_nothing_outside_the_scratch_folder_can_be_written(layers: dict[str, bool], secret: Path) -> None:
    attack = """
        open(given[0], "w")
        open(given[0], "a")
        os.open(given[0], os.O_RDONLY | os.O_TRUNC)
        os.truncate(given[0], 0)
        os.unlink(given[0])
        os.rename(given[0], given[0] + "2")
        os.link(given[0], "/tmp/link")
        os.chmod(given[0], 0)
        os.utime(given[0], (0, 0))
        os.mkdir(given[1] + "/folder")
        os.symlink("x", given[1] + "/symlink")
        os.mkfifo(given[1] + "/fifo")
        open("/created", "w")
        open("/etc/created", "w")
        open("/dev/shm/created", "w")
        open("/dev/sda", "rb")
        open("/proc/self/oom_score_adj", "w")
        open(os.__file__, "a")
        os.mknod("/tmp/device", 0o20666, os.makedev(1, 1))
        os.open("/tmp", os.O_TMPFILE | os.O_RDWR) if given[2] == "False" else os.open("/", os.O_TMPFILE | os.O_RDWR)
    """
    before = sorted(secret.parent.iterdir()), secret.stat()
    assert is_blocked(attack, layers, f"{secret} {secret.parent} {layers['namespaces']}")
    assert (sorted(secret.parent.iterdir()), secret.stat().st_mtime_ns) == (before[0], before[1].st_mtime_ns)
    assert secret.read_text() == SECRET


def test_scratch_folder_can_be_written_up_to_its_size_and_is_gone_afterwards(layers: dict[str, bool]) -> None:
    if not layers["namespaces"]:
        return  # only a mount namespace gives a scratch folder
    source = """
        import os, tempfile
        print(os.listdir("/tmp"))
        with tempfile.TemporaryFile() as file: file.write(b"x")
        try:
            for i in range(100):
                with open(f"/tmp/rlcs-scratch-{i}", "wb") as file: file.write(bytes(1 << 20))
        except OSError as error:
            print(10 < i < 17, error.strerror)
    """
    case = Script("", "[]\nTrue No space left on device")
    assert [run(source, case, layers) for _ in range(2)] == [None, None]
    assert not list(Path("/tmp").glob("rlcs-scratch-*"))


def test_tests_home_and_secrets_cannot_be_read(layers: dict[str, bool], secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", SECRET)
    attack = """
        open(given[0])
        os.listdir(given[1])
        os.listdir(os.path.dirname(given[1]))
        os.listdir(given[2])
        os.symlink(given[0], "/tmp/link"); open("/tmp/link")
        open("/tmp/../" + given[0])
        os.chroot("/tmp")
        open("/etc/passwd")
        open(f"/proc/{given[3]}/environ")
        open(f"/proc/{given[3]}/mem", "rb")
        open(f"/proc/{os.getppid()}/environ")
        open(f"/proc/{os.getppid()}/fd/0")
        open("/proc/self/environ")
        open("/proc/1/root/etc/passwd")
        os.listdir("/proc")
        os.listdir("/sys/kernel")
        open("/dev/mem", "rb")
        call(303, -100, given[0].encode(), 0, 0, 0)
        (_ for _ in ()).throw(OSError) if "API_TOKEN" not in os.environ else None
    """
    assert is_blocked(attack, layers, f"{secret} {secret.parent} {Path(__file__).parents[2]} {os.getpid()}")


def test_packages_of_the_machine_are_not_there(layers: dict[str, bool]) -> None:
    source = f"""
        import sys
        sys.path += {[path for path in sys.path if "packages" in path]!r}
        try:
            import numpy, pytest
            print("found")
        except ImportError:
            print("none")
    """
    assert run(source, Script("", "none"), layers) is None


def test_no_process_can_be_started(layers: dict[str, bool]) -> None:
    attack = """
        os.fork()
        os.forkpty()
        call(58 if os.uname().machine == "x86_64" else 220, 17, 0, 0, 0, 0)
        call(435, 0, 0)
        subprocess.run(["/bin/true"])
        os.posix_spawn("/bin/true", ["true"], {})
        os.execv(sys.executable, ["python", "-c", "print(1)"])
        os.system("true") == 0 or (_ for _ in ()).throw(OSError)
    """
    assert is_blocked(attack, layers)


def test_other_processes_cannot_be_signalled_or_traced(layers: dict[str, bool]) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    x86 = kernel.MACHINE == "x86_64"
    attack = f"""
        os.kill(int(given[0]), 9)
        os.kill(os.getppid(), 9)
        os.kill(0, 9)
        os.kill(-1, 9)
        os.killpg(int(given[0]), 9)
        call({101 if x86 else 117}, 16, int(given[0]), 0, 0)
        call({310 if x86 else 270}, int(given[0]), 0, 0, 0, 0, 0)
        call(434, int(given[0]), 0)
        call(424, 0, 9, 0, 0)
        call({129 if x86 else 138}, int(given[0]), 9, 0)
        __import__("fcntl").fcntl(0, 8, int(given[0]))
        resource.prlimit(int(given[0]), resource.RLIMIT_CPU, (1, 1))
        os.setpriority(os.PRIO_PROCESS, int(given[0]), 19)
        os.sched_setaffinity(int(given[0]), {{0}})
    """
    try:
        assert is_blocked(attack, layers, str(victim.pid))
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_rare_parts_of_the_kernel_are_out_of_reach(layers: dict[str, bool]) -> None:
    numbers = {  # x86-64, aarch64
        **{"unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41)},
        **{"bpf": (321, 280), "io_uring_setup": (425, 425), "keyctl": (250, 219), "add_key": (248, 217)},
        **{"perf_event_open": (298, 241), "userfaultfd": (323, 282), "memfd_create": (319, 279), "ptrace": (101, 117)},
        **{"init_module": (175, 105), "kexec_load": (246, 104), "reboot": (169, 142), "personality": (135, 92)},
        **{"shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "acct": (163, 89)},
        **{"setuid": (105, 146), "capset": (126, 91), "open_by_handle_at": (304, 265), "process_vm_writev": (311, 271)},
        **{"seccomp": (317, 277), "landlock_restrict_self": (446, 446), "setsid": (112, 157), "mount_setattr": (442, 442)},
    }
    column = 0 if kernel.MACHINE == "x86_64" else 1
    attack = "\n".join(f"call({pair[column]}, 0, 0, 0, 0, 0)" for pair in numbers.values())
    attack += "\nlibc.prctl(1, 0) and (_ for _ in ()).throw(OSError)"  # keep living when the launcher dies
    assert is_blocked(attack, layers)


def test_limits_cannot_be_raised(layers: dict[str, bool]) -> None:
    source = """
        import resource
        for kind in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
            try: resource.setrlimit(kind, (1 << 40, 1 << 40))
            except (ValueError, OSError): print("no")
        try: resource.setrlimit(resource.RLIMIT_CPU, (1, 1))  # would end it as the machine does
        except (ValueError, OSError): print("no")
    """
    assert run(source, Script("", "no\n" * 4), layers) is None


def test_no_descriptor_is_inherited_but_the_standard_ones(layers: dict[str, bool]) -> None:
    source = """
        import os
        found = []
        for n in range(64):
            try: os.fstat(n); found.append(n)
            except OSError: pass
        print(found)
    """
    assert run(source, Script("", "[0, 1, 2]"), layers) is None
