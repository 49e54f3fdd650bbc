"""Training runs in forked children of one process that has everything imported; each child can kill itself at a chosen moment.

`python kill_driver.py` reads jobs from its input, one JSON object a line, and answers each with one:

    {"verb": "rl", "config": {...}, "folder": "/run's/working/directory", "resume": false, "kill": MOMENT or null}
    {"status": 0, "calls": {"log": 5, ...}}      # exit status, -9 when killed; calls of each seam, when it ended by itself

MOMENT is {"seam": one of SEAMS, "call": 3, "when": "before" | "during" | "after"} or {"after_s": 0.7}. "During" a write half
of the bytes are on the disk. Nothing of the run's code knows of this; what is wrapped is wrapped in the child only.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Seam = tuple[str, str]
SEAMS: dict[str, list[Seam]] = {
    "write": [("sft.rundir:RunDir", "atomic_write")],
    "log": [("sft.rundir:RunDir", "log")],
    "rewind": [("sft.rundir:RunDir", "rewind")],
    "prune": [("sft.rundir:RunDir", "prune_checkpoints")],
    "fsync": [("os", "fsync")],
    "rename": [("pathlib:Path", "rename"), ("pathlib:Path", "replace")],
    "delete": [("shutil", "rmtree")],
    "save model": [("transformers:PreTrainedModel", "save_pretrained")],
    "save state": [("torch", "save")],
    "events": [("torch.utils.tensorboard:SummaryWriter", "add_scalar")],
    "draw token": [("rollout.transformers_engine", "sample_tokens")],
    "score": [("rewards:ScorePool", "score_batch")],
    "held out": [("rlcs.heldout:HeldoutCurve", "_answer")],
    "backward": [("torch:Tensor", "backward")],
    "optimiser": [("torch.optim:AdamW", "step")],
    "evaluate": [("sft.train", "evaluate_examples")],
}
HALVES = {"write", "log"}
"""Seams that can be killed with half of their bytes written."""


def main() -> None:
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401

    import sft.train  # noqa: F401

    warm: set[str] = set()
    for line in sys.stdin:
        job = json.loads(line)
        if job["verb"] not in warm:
            warm.add(job["verb"])
            _warm(job["config"])
        print(json.dumps(_fork(job)), flush=True)


def _warm(config: dict[str, Any]) -> None:
    """Imports what libraries import only when first used, half of a short run's time; nothing that autograd has a part in."""
    import torch

    from rlcs.problems import load_problems
    from rollout.forward import load_policy

    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    load_policy(config["model"])
    if "problems" in config:
        load_problems(config["problems"])


def _fork(job: dict[str, Any]) -> dict[str, Any]:
    counts = Path(job["folder"], "calls.json")
    counts.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        try:
            _train(job, counts)
        except BaseException:  # noqa: BLE001
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    kill = job["kill"] or {}
    if "after_s" in kill:
        time.sleep(kill["after_s"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    calls = json.loads(counts.read_text()) if counts.exists() else {}
    counts.unlink(missing_ok=True)
    return {"status": os.waitstatus_to_exitcode(status), "calls": calls}


def _train(job: dict[str, Any], counts: Path) -> None:
    from rich.console import Console

    os.chdir(job["folder"])
    calls = _wrap(job["kill"] or {})
    quiet = Console(quiet=True)
    if job["verb"] == "rl":
        from rlcs.rl import run_rl
        from rlcs.rl_config import RlConfig

        run_rl(RlConfig(**job["config"]), resume=job["resume"], console=quiet)
    else:
        from sft.config import SftConfig
        from sft.train import run_sft

        run_sft(SftConfig(**job["config"]), resume=job["resume"], console=quiet)
    counts.write_text(json.dumps(calls))


def _wrap(kill: dict[str, Any]) -> dict[str, int]:
    """Puts a counter around every seam -> the counts, which go on growing; the child dies at the moment `kill`."""
    calls = dict.fromkeys(SEAMS, 0)
    lock = threading.Lock()

    def wrapped(seam: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            with lock:
                calls[seam] += 1
                now = kill.get("seam") == seam and calls[seam] == kill["call"]
            if now and kill["when"] == "before":
                _die()
            if now and kill["when"] == "during":
                _half(seam, arguments)
                _die()
            found = function(*arguments, **options)
            if now:
                _die()
            return found

        return counted

    for seam, places in SEAMS.items():
        for place, name in places:
            owner = _owner(place)
            setattr(owner, name, wrapped(seam, getattr(owner, name)))
    return calls


def _owner(place: str) -> Any:
    import importlib

    module, _, attribute = place.partition(":")
    owner = importlib.import_module(module)
    return getattr(owner, attribute) if attribute else owner


def _half(seam: str, arguments: tuple[Any, ...]) -> None:
    """What is on the disk when a write is cut off: half a partial file, half a row of metrics."""
    run = arguments[0]
    if seam == "log":
        row = json.dumps({"step": arguments[1], **arguments[2]}).encode()
        with run.metrics_path.open("ab") as file:
            file.write(row[: len(row) // 2])
        return
    content = arguments[2].encode() if isinstance(arguments[2], str) else arguments[2]
    path = run.path / f"{arguments[1]}.partial"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content[: len(content) // 2])


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # in another thread than the main one, the kernel may take a moment


if __name__ == "__main__":
    main()
