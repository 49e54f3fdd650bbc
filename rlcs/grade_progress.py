"""The file beside its output from which a killed grading goes on. No torch.

    {"settings": {...}, "checkpoint": ..., "weights": ..., "problems": ...}       the first line: what was graded, and how
    {"mode": "thinking", "batch": 0, "tokens": 5120, "counts": {"id": [right, k, abstained], ...}}        a line each batch

A line is on the disk before the next batch begins. One without its newline was torn by a kill and is dropped.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcs.grade_batches import Batch
from rlcs.grade_config import GradeConfig
from sft.rundir import RunDir

Counts = dict[str, tuple[int, int, int]]
"""id -> (right, k, abstained)."""

_HARMLESS = {"out", "threads", "verifier_workers", "tiers", "keep_tiers"}  # settings that change no response and no verdict
_CHECKPOINT_SUFFIXES = {".safetensors", ".bin", ".json", ".jinja", ".model"}
_SAMPLED = 1 << 20  # bytes at either end of a checkpoint's file that are looked at


class ProgressFile:
    """Results of a grading batch by batch. `begin` opens or resumes it, `append` adds to it, `remove` ends it."""

    def __init__(self, config: GradeConfig, checkpoint: Path, weights: str) -> None:
        self._out, self.path = config.out, config.out.with_name(f"{config.out.name}.progress")
        settings = config.model_dump(mode="json", exclude=_HARMLESS | {"model", "problems"})
        self._header: dict[str, Any] = {
            "settings": settings,
            "checkpoint": str(checkpoint),
            "weights": weights,
            "problems": hashlib.sha256(config.problems.read_bytes()).hexdigest(),
        }

    def begin(self, batches: Sequence[Batch], *, resume: bool) -> dict[int, Counts]:
        """What earlier runs did: place of a batch in `batches` -> its results; nothing for a new grading.

        Raises FileExistsError where something is already there that `resume` does not ask for, ValueError where the file
        is that of another grading.
        """
        if self._out.exists() and not (resume and self.path.exists()):
            raise FileExistsError(f"{self._out} exists already; delete it to grade anew, or name another file as `out`")
        if not self.path.exists():
            RunDir(self.path.parent).atomic_write(self.path.name, json.dumps(self._header) + "\n")
            return {}
        if not resume:
            raise FileExistsError(
                f"{self.path} holds a grading that was not finished; go on with it by --resume, or delete it to begin anew"
            )
        return self._restore(batches)

    def append(self, batch: Batch, counts: Counts, tokens: int) -> None:
        """Adds the results of a batch; on the disk when this returns."""
        line = {"mode": batch.mode, "batch": batch.number, "tokens": tokens, "counts": counts}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        self.path.unlink()

    def _restore(self, batches: Sequence[Batch]) -> dict[int, Counts]:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            RunDir(self.path.parent).atomic_write(self.path.name, whole)
        header, *lines = whole.splitlines() or [b""]
        self._compare(header)
        place = {(batch.mode, batch.number): index for index, batch in enumerate(batches)}
        done: dict[int, Counts] = {}
        for number, text in enumerate(lines, 2):
            try:
                line = json.loads(text)
                index = place[line["mode"], line["batch"]]
                counts = {id: (int(right), int(k), int(out)) for id, (right, k, out) in line["counts"].items()}
                if counts.keys() != {problem.id for problem in batches[index].problems}:
                    raise ValueError("counts of other problems")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{self.path}, line {number}: found {text[:80]!r}; expected the results of a batch; delete the line and"
                    " resume: its batch is generated again"
                ) from error
            done[index] = counts
        return done

    def _compare(self, header: bytes) -> None:
        """Raises ValueError naming what differs between the grading that the file belongs to and this one."""
        try:
            found = json.loads(header)
            old, new = ({**one["settings"], **one, "settings": None} for one in (found, self._header))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path}, line 1: found {header[:80]!r}; expected the settings of a grading; delete the file to begin anew"
            ) from error
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if "checkpoint" in names and "weights" in names:
            names.remove("weights")
        says = {"problems": "the problem file has changed", "weights": f"the files in {new['checkpoint']} have changed"}
        differences = [says.get(name) or f"{name} was {old.get(name)}, is {new.get(name)}" for name in names]
        if differences:
            raise ValueError(
                f"{self.path} is of another grading: {'; '.join(differences)}. Resume with what it was begun with, or delete"
                " it to begin anew"
            )


def weights_digest(checkpoint: Path) -> str:
    """SHA-256 over names, sizes, first and last bytes of the files that make the policy: enough to tell checkpoints apart."""
    digest = hashlib.sha256()
    for path in sorted(path for path in checkpoint.iterdir() if path.suffix in _CHECKPOINT_SUFFIXES):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLED))
            file.seek(max(0, size - _SAMPLED))
            digest.update(file.read(_SAMPLED))
    return digest.hexdigest()
