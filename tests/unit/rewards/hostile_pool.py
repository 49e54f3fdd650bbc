"""A pool of workers that load the hostile verifiers, its rows, and the processes of this one."""

import os
import sys
import time
from pathlib import Path

from rewards import ScorePool

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # workers inherit the path, and import the plug-in by name
PLUGIN = "hostile_verifiers"


def row(answer: str, domain: str = "test-hostile", reference: object = "right", **more: object) -> dict:
    return {
        "id": answer,
        "domain": domain,
        "answer": reference,
        "response": f"<think></think><|begin_of_box|>{answer}<|end_of_box|>",
        **more,
    }


def pool(**options: object) -> ScorePool:
    return ScorePool(**{"workers": 2, "timeout_s": 1.0, "plugins": (PLUGIN,), **options})


def children() -> set[int]:
    """Process ids of this process's children, zombies included."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found.add(int(entry.name))
    return found


def gone(pids: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False
