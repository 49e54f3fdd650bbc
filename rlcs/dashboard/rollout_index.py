"""What rollouts are filtered by, of all files of a run, in a temporary DuckDB database; their texts stay in the files.

One row a rollout in `rollouts_K`, and in `cube_K` how many rollouts of a step share all their labels, for counts that must not
look at ten million rows. K is the run's number: all runs share one database and its memory.
"""

import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlcs.dashboard.runs import StepFile
from rlcs.dashboard.snapshots import Codes

LABELS = ("domain", "tier", "status", "reason", "fate", "finish", "correct", "thinking")
"""What rollouts are counted by; kept as codes."""
REWARD_BINS = 20
EXTRACTED = 80
"""Characters kept of an extracted answer."""
_COLUMN_OF = {"finish": "finish_reason"}
_BATCH_ROWS, _BATCH_FILES = 100_000, 64
_MEMORY, _THREADS = "400MB", 2


class Database:
    """A DuckDB database in a folder of its own, gone when it is closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rlcs-dashboard-")
        self._connection = duckdb.connect(
            str(Path(self._folder.name) / "index.duckdb"),
            config={"memory_limit": _MEMORY, "threads": _THREADS, "temp_directory": self._folder.name},
        )

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for one thread's use."""
        return self._connection.cursor()

    def close(self) -> None:
        self._connection.close()
        self._folder.cleanup()


class RolloutIndex:
    """The rollouts of one run. `expect` is told which files there are, `read_some` takes in the next of those not read yet."""

    def __init__(self, database: Database, number: int) -> None:
        self.database = database
        self.rows, self.cube = f"rollouts_{number}", f"cube_{number}"
        self.codes = {label: Codes() for label in LABELS}
        for name in ("null", "false", "true"):
            self.codes["correct"].code(name)
            self.codes["thinking"].code(name)
        self.lock = threading.RLock()
        self.files: dict[int, StepFile] = {}
        """Files read, by step."""
        self.version = 0
        self.note: str | None = None
        self._waiting: list[StepFile] = []
        self._total = 0
        self._expected: dict[int, StepFile] = {}
        self._known_N, self._right_N, self._seen_N = (np.zeros(0, np.int32) for _ in range(3))
        cursor = database.cursor()
        cursor.execute(
            f"CREATE TABLE {self.rows} (step INTEGER, place INTEGER, problem INTEGER, sample USMALLINT, "
            + ", ".join(f"{label} USMALLINT" for label in LABELS)
            + ", reward FLOAT, bin UTINYINT, tokens INTEGER, forced INTEGER, logprob FLOAT, advantage FLOAT, extracted VARCHAR)"
        )
        cursor.execute(
            f"CREATE TABLE {self.cube} (step INTEGER, "
            + ", ".join(f"{label} USMALLINT" for label in LABELS)
            + ", bin UTINYINT, n INTEGER)"
        )

    @property
    def progress(self) -> dict[str, int]:
        """{"files": read, "total": there}."""
        return {"files": len(self.files), "total": max(self._total, len(self.files))}

    @property
    def total_rows(self) -> int:
        """Rollouts read so far."""
        return int(self._seen_N.sum(dtype=np.int64))

    def places(self, where: str, step: int) -> list[int]:
        """Rows of a step that a condition in SQL holds for, ascending."""
        query = f"SELECT place FROM {self.rows} WHERE step = {int(step)} AND {where} ORDER BY place"
        return [place for (place,) in self.database.cursor().execute(query).fetchall()]

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def expect(self, files: Mapping[int, StepFile]) -> bool:
        """The files that are there now; what was read of one that is no longer is taken out -> whether anything was."""
        with self.lock:
            gone = [step for step, file in self.files.items() if files.get(step) != file]
            if gone:
                self._take_out(gone)
            self._total, self._expected = len(files), dict(files)
            self._waiting = [file for step, file in sorted(files.items(), reverse=True) if step not in self.files]
            return bool(gone)

    def read_some(self) -> bool:
        """Takes in a batch of files, the newest first -> whether there were any. Those that cannot be read are passed over."""
        with self.lock:
            waiting = self._waiting
        batch: list[tuple[StepFile, pa.Table, np.ndarray]] = []
        rows = 0
        while waiting and rows < _BATCH_ROWS and len(batch) < _BATCH_FILES:
            file = waiting.pop(0)
            try:
                batch.append((file, *self._read(file)))
                rows += len(batch[-1][1])
            except FileNotFoundError:
                pass  # taken back since it was listed: the next look says so
            except (OSError, pa.ArrowException, KeyError, ValueError) as error:
                self._total -= 1
                self.note = f"{file.path.name} of rollouts/ cannot be read ({type(error).__name__}: {error})"
        if not batch:
            return False
        with self.lock:
            # While these were read, the run may have been looked at again: they were listed once more, or taken back.
            batch = [one for one in batch if self._expected.get(one[0].step) == one[0] and one[0].step not in self.files]
            if not batch:
                return True
            cursor = self.database.cursor()
            cursor.register("incoming", pa.concat_tables([table for _, table, _ in batch]))
            cursor.execute("BEGIN")
            cursor.execute(f"INSERT INTO {self.rows} SELECT * FROM incoming")
            cursor.execute(
                f"INSERT INTO {self.cube} SELECT step, {', '.join(LABELS)}, bin, count(*) FROM incoming "
                "GROUP BY ALL ORDER BY step"
            )
            cursor.execute("COMMIT")
            cursor.unregister("incoming")
            for file, table, correct in batch:
                self.files[file.step] = file
                self._count(table["problem"].to_numpy(), correct, 1)
            self.version += 1
        return True

    def _take_out(self, steps: Sequence[int]) -> None:
        cursor = self.database.cursor()
        chosen = ", ".join(str(int(step)) for step in steps)
        found = cursor.execute(f"SELECT problem, correct FROM {self.rows} WHERE step IN ({chosen})").fetchnumpy()
        self._count(np.asarray(found["problem"]), np.asarray(found["correct"]), -1)
        cursor.execute("BEGIN")
        cursor.execute(f"DELETE FROM {self.rows} WHERE step IN ({chosen})")
        cursor.execute(f"DELETE FROM {self.cube} WHERE step IN ({chosen})")
        cursor.execute("COMMIT")
        for step in steps:
            del self.files[step]
        self.version += 1

    def _count(self, problem: np.ndarray, correct: np.ndarray, sign: int) -> None:
        """`correct`: codes, of which 0 is unknown and 2 right."""
        size = int(problem.max(initial=-1)) + 1
        if size > len(self._seen_N):
            grown = max(size, len(self._seen_N) * 3 // 2)
            self._known_N, self._right_N, self._seen_N = (
                np.pad(one, (0, grown - len(one))) for one in (self._known_N, self._right_N, self._seen_N)
            )
        np.add.at(self._seen_N, problem, sign)
        np.add.at(self._known_N, problem[correct > 0], sign)
        np.add.at(self._right_N, problem[correct == 2], sign)

    def counts(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rollouts, with a verdict, right) int32 [N] of the first `n` problems, of the files read so far."""
        with self.lock:
            found = [np.zeros(n, np.int32) for _ in range(3)]
            for one, counted in zip(found, (self._seen_N, self._known_N, self._right_N), strict=True):
                have = min(n, len(counted))
                one[:have] = counted[:have]
        return found[0], found[1], found[2]

    def _read(self, file: StepFile) -> tuple[pa.Table, np.ndarray]:
        """The rows of a file as the table has them, and their codes of `correct`."""
        texts = ["domain", "tier", "status", "reason", "fate", "finish_reason"]
        plain = [
            "index",
            "sample",
            "thinking",
            "correct",
            "reward",
            "tokens",
            "forced_tokens",
            "mean_logprob",
            "advantage",
            "extracted",
        ]
        with pq.ParquetFile(file.path, read_dictionary=texts) as parquet:
            table = parquet.read(columns=texts + plain, use_threads=False)
        count = len(table)
        with self.lock:
            labels = {
                label: _truths(table[label])
                if label in ("correct", "thinking")
                else self.codes[label].of(table[_COLUMN_OF.get(label, label)])
                for label in LABELS
            }
        reward = table["reward"].to_numpy()
        extracted = [None if text is None else text[:EXTRACTED] for text in table["extracted"].to_pylist()]
        columns: dict[str, Any] = {
            "step": np.full(count, file.step, np.int32),
            "place": np.arange(count, dtype=np.int32),
            "problem": table["index"].to_numpy().astype(np.int32),
            "sample": table["sample"].to_numpy().astype(np.uint16),
            **{label: codes.astype(np.uint16) for label, codes in labels.items()},
            "reward": pa.array(reward.astype(np.float32), from_pandas=True),
            "bin": reward_bin(reward),
            "tokens": table["tokens"].to_numpy().astype(np.int32),
            "forced": table["forced_tokens"].to_numpy().astype(np.int32),
            "logprob": pa.array(table["mean_logprob"].to_numpy().astype(np.float32), from_pandas=True),
            "advantage": pa.array(table["advantage"].to_numpy().astype(np.float32), from_pandas=True),
            "extracted": pa.array(extracted, pa.string()),
        }
        return pa.table(columns), labels["correct"]


def reward_bin(reward: np.ndarray) -> np.ndarray:
    """uint8: 0 for 0, 1 to 20 for the twentieths between, 21 for 1, 255 for none."""
    inner = np.clip(np.floor(np.nan_to_num(reward) * REWARD_BINS + 1e-9) + 1, 1, REWARD_BINS)
    found = np.where(reward <= 0, 0, np.where(reward >= 1, REWARD_BINS + 1, inner))
    return np.where(np.isnan(reward), 255, found).astype(np.uint8)


def _truths(column: pa.ChunkedArray) -> np.ndarray:
    """Codes int32: 0 null, 1 false, 2 true."""
    return column.cast(pa.int32()).fill_null(-1).to_numpy() + 1
