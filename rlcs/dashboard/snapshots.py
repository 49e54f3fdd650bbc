"""Difficulty files, each read once: counts in memory for the charts, a row a problem on disk for histories and flows.

Axis suffixes: N problems, Q cells (domain x tier), B bins of the posterior mean, S states, C classes.
"""

import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlcs.dashboard.runs import StepFile

BINS = 20
STATE_COLUMNS = ("state", "difficulty_tier", "pool")
"""Where the samplers say what they make of a problem."""
CLASSES = ("too hard", "moderate", "mastered", "deferred", "due", "resting", "retired")
"""A state that sets a problem aside, or else where its posterior mean lies to the window."""
DEFAULT_WINDOW = (0.2, 0.8)
ROW = np.dtype([("alpha", "f4"), ("beta", "f4"), ("mixed", "f4"), ("seen_at", "i4"), ("state", "u1"), ("class", "u1")])
"""What is kept of a problem in one snapshot."""
_MOST_DISK = 4 << 30  # bytes of rows kept of one run; snapshots beyond are counted and not kept
_NO_STATE = 255


class Codes:
    """Small integers for the texts of a column, in the order they were first met; null is the empty text."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._code: dict[str, int] = {}

    def code(self, name: str) -> int:
        if name not in self._code:
            self._code[name] = len(self.names)
            self.names.append(name)
        return self._code[name]

    def find(self, name: str) -> int | None:
        """Its code, None where it was never met."""
        return self._code.get(name)

    def of(self, column: pa.ChunkedArray) -> np.ndarray:
        """int32 of a column of texts."""
        parts = []
        for chunk in column.chunks:
            encoded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            codes = np.array([self.code(str(name or "")) for name in encoded.dictionary.to_pylist()] + [-1], np.int32)
            places = encoded.indices.fill_null(len(codes) - 1).to_numpy(zero_copy_only=False)
            found = codes[places]
            if encoded.null_count:
                found[found < 0] = self.code("")
            parts.append(found)
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What the charts need of one difficulty file, by cell."""

    file: StepFile
    bins_QB: np.ndarray
    states_QS: np.ndarray
    classes_QC: np.ndarray
    sums_Q4: np.ndarray
    """Posterior means, problems ever seen, steps since they were, mixed probabilities."""

    @property
    def problems_Q(self) -> np.ndarray:
        return self.bins_QB.sum(1)


@dataclass(frozen=True, eq=False)
class Problems:
    """What does not change of the problems: of the last snapshot read whole."""

    ids: pa.ChunkedArray
    domain_N: np.ndarray
    tier_N: np.ndarray
    thinking_N: np.ndarray | None

    def __len__(self) -> int:
        return len(self.domain_N)


class Snapshots:
    """The difficulty files of a run. `expect` is told which there are, `read_one` reads one of those not read yet."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.domains, self.tiers, self.states = Codes(), Codes(), Codes()
        self.state_column: str | None = None
        self.by_step: dict[int, Snapshot] = {}
        self.problems: Problems | None = None
        self.total = 0
        self.version = 0
        self.note: str | None = None
        self._cells: dict[tuple[int, int], int] = {}
        self._waiting: list[StepFile] = []
        self._expected: dict[int, StepFile] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="rlcs-dashboard-")
        self._rows: dict[int, tuple[Path, int]] = {}
        self._problems_step = -1

    def close(self) -> None:
        self._folder.cleanup()

    @property
    def cells(self) -> list[tuple[str, str]]:
        """(domain, tier) of each cell."""
        return [(self.domains.names[domain], self.tiers.names[tier]) for domain, tier in self._cells]

    def expect(self, files: Mapping[int, StepFile]) -> bool:
        """The files that are there now -> whether some were read that are no longer."""
        with self.lock:
            gone = [step for step, snapshot in self.by_step.items() if files.get(step) != snapshot.file]
            for step in gone:
                del self.by_step[step]
                self._forget(step)
            self.total, self._expected = len(files), dict(files)
            self._waiting = _bisected([file for step, file in files.items() if step not in self.by_step])
            self.version += bool(gone)
            return bool(gone)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def read_one(self, window: tuple[float, float] | None) -> bool:
        """Reads the next file -> whether there was one. A file that cannot be read is passed over and named in `note`."""
        with self.lock:
            if not self._waiting:
                return False
            file = self._waiting.pop(0)
        try:
            table = _read(file.path)
            problems, columns = self._columns(file, table, window or DEFAULT_WINDOW)
        except FileNotFoundError:
            return True  # taken back since it was listed: the next look says so
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            with self.lock:
                self.note = f"{file.path.name} of difficulty/ cannot be read ({type(error).__name__}: {error})"
                self.total -= 1
                self.version += 1
            return True
        with self.lock:
            if self._expected.get(file.step) != file:
                return True  # changed or taken back while it was read
            cell_N = self._cell_N(problems)
            snapshot = self._counted(file, cell_N, columns)
            self._keep(file.step, columns)
            self.by_step[file.step] = snapshot
            self.by_step = dict(sorted(self.by_step.items()))
            if file.step >= self._problems_step or self.problems is None:
                self.problems, self._problems_step = problems, file.step
            self.version += 1
        return True

    def _columns(self, file: StepFile, table: pa.Table, window: tuple[float, float]) -> tuple[Problems, np.ndarray]:
        """Problems, and ROW [N] in the order of their index."""
        index_N = table["index"].to_numpy()
        order = None if np.array_equal(index_N, np.arange(len(index_N))) else np.argsort(index_N, kind="stable")
        if order is not None:
            if not np.array_equal(index_N[order], np.arange(len(index_N))):
                raise ValueError(f"expected each index from 0 to {len(index_N) - 1} once")
            table = table.take(pa.array(order))
        name = next((name for name in STATE_COLUMNS if name in table.column_names), None)
        rows = np.zeros(len(table), ROW)
        for field, column in (("alpha", "alpha"), ("beta", "beta"), ("mixed", "mixed_probability"), ("seen_at", "seen_at")):
            if column in table.column_names:
                rows[field] = table[column].to_numpy()
            else:
                rows[field] = -1 if field == "seen_at" else np.nan
        with self.lock:
            self.state_column = self.state_column or name
            rows["state"] = _NO_STATE if name is None else self.states.of(table[name])
            domain_N = self.domains.of(table["domain"]).astype(np.uint16)
            tier_N = self.tiers.of(table["tier"]).astype(np.uint16)
            names = list(self.states.names)
        mean_N = rows["alpha"] / (rows["alpha"] + rows["beta"])
        aside = np.array([CLASSES.index(one) if one in CLASSES[3:] else -1 for one in names] + [-1] * (256 - len(names)))
        place_N = np.where(mean_N < window[0], 0, np.where(mean_N > window[1], 2, 1))
        set_aside_N = aside[rows["state"]]
        rows["class"] = np.where(set_aside_N >= 0, set_aside_N, place_N)
        thinking_N = table["thinking"].to_numpy() if "thinking" in table.column_names else None
        return Problems(table["id"], domain_N, tier_N, thinking_N), rows

    def _cell_N(self, problems: Problems) -> np.ndarray:
        pair_N = problems.domain_N.astype(np.int64) << 16 | problems.tier_N
        pairs, inverse = np.unique(pair_N, return_inverse=True)
        places = [self._cells.setdefault((int(pair) >> 16, int(pair) & 0xFFFF), len(self._cells)) for pair in pairs]
        return np.array(places, np.int64)[inverse]

    def _counted(self, file: StepFile, cell_N: np.ndarray, rows: np.ndarray) -> Snapshot:
        cells = len(self._cells)
        mean_N = rows["alpha"].astype(np.float64) / (rows["alpha"].astype(np.float64) + rows["beta"])
        bin_N = np.clip((mean_N * BINS).astype(np.int64), 0, BINS - 1)

        def table(code_N: np.ndarray, width: int) -> np.ndarray:
            return np.bincount(cell_N * width + code_N, minlength=cells * width).reshape(cells, width)

        seen_N = rows["seen_at"] >= 0
        # A problem of the step's own groups was seen by the policy of that step's number.
        age_N = np.where(seen_N, np.maximum(file.step - rows["seen_at"], 0), 0)
        sums = [np.bincount(cell_N, values, cells) for values in (mean_N, seen_N, age_N, np.nan_to_num(rows["mixed"]))]
        return Snapshot(
            file,
            table(bin_N, BINS),
            table(np.minimum(rows["state"], len(self.states.names)), len(self.states.names) + 1),
            table(rows["class"].astype(np.int64), len(CLASSES)),
            np.stack(sums, axis=1),
        )

    def _keep(self, step: int, rows: np.ndarray) -> None:
        self._forget(step)
        if sum(len_ for _, len_ in self._rows.values()) * ROW.itemsize + rows.nbytes > _MOST_DISK:
            self.note = f"the histories of problems leave out some snapshots: more than {_MOST_DISK >> 30} GiB of them"
            return
        path = Path(self._folder.name) / f"{step}.rows"
        rows.tofile(path)
        self._rows[step] = path, len(rows)

    def _forget(self, step: int) -> None:
        path, _ = self._rows.pop(step, (None, 0))
        if path is not None:
            path.unlink(missing_ok=True)
        if step == self._problems_step:
            self._problems_step = -1

    @property
    def kept(self) -> list[int]:
        """Steps whose rows are kept, ascending."""
        return sorted(self._rows)

    def rows(self, step: int) -> np.ndarray:
        """ROW [N] of a kept snapshot, mapped from the file."""
        path, count = self._rows[step]
        return np.memmap(path, ROW, mode="r", shape=(count,)) if count else np.zeros(0, ROW)

    def history(self, index: int) -> dict[int, Any]:
        """One problem's row in each kept snapshot by step."""
        found = {}
        with self.lock:
            for step in self.kept:
                path, count = self._rows[step]
                if index < count:
                    with path.open("rb") as file:
                        content = os.pread(file.fileno(), ROW.itemsize, index * ROW.itemsize)
                    found[step] = np.frombuffer(content, ROW)[0]
        return found

    def beliefs(self) -> dict[str, tuple[float, float]]:
        """By domain: mean of the posterior means over its problems in the first snapshot read and in the last."""
        with self.lock:
            if len(self.by_step) < 2:
                return {}
            ends = [self.by_step[step] for step in (min(self.by_step), max(self.by_step))]
            found = {}
            for domain in {domain for domain, _ in self.cells}:
                of_domain = np.flatnonzero(self.chosen_Q([domain], []))
                parts = [(one, of_domain[of_domain < len(one.bins_QB)]) for one in ends]
                counts = [int(one.problems_Q[places].sum()) for one, places in parts]
                if all(counts):
                    first, last = (float(one.sums_Q4[places, 0].sum()) for one, places in parts)
                    found[domain] = (first / counts[0], last / counts[1])
        return found

    def chosen_Q(self, domains: Sequence[str], tiers: Sequence[str]) -> np.ndarray:
        """bool: the cells of these domains and tiers; none named is all."""
        return np.array(
            [(not domains or domain in domains) and (not tiers or tier in tiers) for domain, tier in self.cells], bool
        )


def _read(path: Path) -> pa.Table:
    wanted = ("index", "id", "domain", "tier", "thinking", "alpha", "beta", "mixed_probability", "seen_at", *STATE_COLUMNS)
    have = pq.read_schema(path).names
    labels = [name for name in ("domain", "tier", *STATE_COLUMNS) if name in have]
    with pq.ParquetFile(path, read_dictionary=labels) as file:
        return file.read(columns=[name for name in wanted if name in have], use_threads=False)


def _bisected(files: list[StepFile]) -> list[StepFile]:
    """The last, the first, then halfway between what was read: a few files already show the course of the run."""
    if len(files) < 3:
        return files[::-1]
    order, spans = [len(files) - 1, 0], [(0, len(files) - 1)]
    while spans:
        low, high = spans.pop(0)
        middle = (low + high) // 2
        if low < middle < high:
            order.append(middle)
            spans += [(low, middle), (middle, high)]
    return [files[place] for place in order]
