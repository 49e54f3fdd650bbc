"""`rlcs score IN.jsonl -o OUT.jsonl`: verdicts for a file of responses, in the file's order; `--explain ID`: one of them."""

from __future__ import annotations

import difflib
import itertools
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rewards.format import Style
from rewards.pool import ScorePool
from rewards.rows import RowError, read_row
from rewards.verdict import STATUSES, Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from rewards.explanation import Explanation

CHUNK = 4096
"""Rows scored at a time: memory does not grow with the file."""
MAX_SUGGESTED_FROM = 10_000
"""Ids among which the nearest to an unknown one is looked for."""


@dataclass(slots=True)
class Tally:
    """Counts of one domain."""

    rows: int = 0
    scored: int = 0
    score_sum: float = 0.0
    correct: int = 0
    statuses: dict[str, int] | None = None

    def add(self, verdict: Verdict) -> None:
        """Count one verdict. Mean score and accuracy are over the rows that have a score."""
        self.statuses = self.statuses or dict.fromkeys(STATUSES, 0)
        self.statuses[verdict.status] += 1
        self.rows += 1
        if verdict.score is not None:
            self.scored += 1
            self.score_sum += verdict.score
            self.correct += bool(verdict.correct)

    @property
    def mean_score(self) -> float | None:
        """Mean score, None when nothing could be scored."""
        return self.score_sum / self.scored if self.scored else None

    @property
    def accuracy(self) -> float | None:
        """Share of correct answers, None when nothing could be scored."""
        return self.correct / self.scored if self.scored else None


def score_file(
    in_path: str | Path,
    out_path: str | Path,
    *,
    workers: int | None = None,
    timeout_s: float = 5.0,
    memory_mb: int = 2048,
    style: Style = "box",
    plugins: Sequence[str] = (),
    checks: Sequence[str] = (),
    quiet: bool = False,
) -> dict[str, Tally]:
    """Score every row of `in_path` into `out_path` and return the tally of each domain.

    The whole file is checked before anything is scored. `out_path` appears complete or not at all. Progress and the
    summary table go to stderr unless `quiet`. `checks` are style checks every response must pass. Raises RowError naming
    line, id, field and mend for an unusable row, OSError when a file cannot be read or written.
    """
    source, target = Path(in_path), Path(out_path)
    pool = ScorePool(workers, timeout_s=timeout_s, memory_mb=memory_mb, style=style, plugins=plugins, checks=checks)
    total = 0
    for number, row in _rows(source):
        read_row(row, _where(source, number))
        total += 1
    tallies: dict[str, Tally] = defaultdict(Tally)
    with pool, _replacing(target) as out, _progress(total, quiet) as advance:
        for rows in _chunks(source):
            for row, verdict in zip(rows, pool.score_batch(rows, on_done=advance), strict=True):
                tallies[row["domain"]].add(verdict)
                out.write(json.dumps(output_line(row["id"], verdict), ensure_ascii=False) + "\n")
    if not quiet:
        print_summary(tallies)
    return dict(tallies)


def explain_rows(in_path: str | Path, row_id: str, *, console: Console | None = None, **pool_options: Any) -> list[Explanation]:
    """How each row with this id came to its verdict, printed to `console` (default: stdout) and returned.

    An id may stand on several rows, one for each response of a group. Raises ValueError when it stands on none, RowError
    as `score_file` does, but only for the rows asked for. `pool_options` are those of ScorePool, whose limits hold.
    """
    from rewards.explanation import print_explanation

    source = Path(in_path)
    if console is None:
        from rich.console import Console

        console = Console()
    wanted: list[tuple[int, Any]] = []
    others: dict[str, None] = {}  # in the file's order
    for number, row in _rows(source):
        found = str(row.get("id")) if isinstance(row, dict) else None
        if found == row_id:
            wanted.append((number, row))
        elif found is not None and len(others) < MAX_SUGGESTED_FROM:
            others[found] = None
    if not wanted:
        near = difflib.get_close_matches(row_id, others, n=1)
        first = ", ".join(map(repr, itertools.islice(others, 3)))
        hint = f"did you mean {near[0]!r}?" if near else f"its first ids are {first}" if others else "it has no rows with an id"
        raise ValueError(f"no row with the id {row_id!r} in {source}; {hint}")
    with ScorePool(**{"workers": 1, **pool_options}) as pool:
        for number, row in wanted:
            read_row(row, _where(source, number))
        explanations = []
        for turn, (number, row) in enumerate(wanted, 1):
            if len(wanted) > 1:
                console.rule(f"response {turn} of {len(wanted)}, line {number}")
            explanations.append(pool.explain(row))
            print_explanation(explanations[-1], console)
    return explanations


def output_line(row_id: Any, verdict: Verdict) -> dict[str, Any]:
    """The output object of one row."""
    return {
        "id": row_id,
        "score": verdict.score,
        "correct": verdict.correct,
        "status": verdict.status,
        "extracted": verdict.extracted,
        "reason": verdict.reason,
    }


def _where(path: Path, number: int) -> str:
    return f"{path}, line {number}"


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and object of each non-blank line. Raises RowError for a line that is not JSON."""
    with path.open(encoding="utf-8") as lines:
        number = 0
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise RowError(
                f"{_where(path, number)}: not JSON ({error.msg} at column {error.colno}); "
                "expected one JSON object a line; mend or remove the line"
            ) from error
        except UnicodeDecodeError as error:
            raise RowError(f"{_where(path, number + 1)}: not UTF-8 ({error.reason}); save the file as UTF-8") from error


def _chunks(path: Path) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for _, row in _rows(path):
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A file that takes the place of `path` once it is complete and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        # A lone surrogate in a policy's text has no UTF-8 form; its backslash escape is valid JSON.
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # mkstemp makes it private
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        "scoring",
        BarColumn(),
        MofNCompleteColumn(),
        "elapsed",
        TimeElapsedColumn(),
        "left",
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("scoring", total=total)
        yield lambda count: progress.advance(task, count)


def print_summary(tallies: dict[str, Tally]) -> None:
    """A table of the tallies, one row a domain, on stderr."""
    from rich.console import Console
    from rich.table import Table

    table = Table("domain", "n", *(status.replace("_", "\n") for status in STATUSES), "mean\nscore", "accuracy")
    for column in table.columns[1:]:
        column.justify = "right"
    for domain, tally in sorted(tallies.items()):
        counts = tally.statuses or {}
        shares = ["-" if share is None else f"{share:.3f}" for share in (tally.mean_score, tally.accuracy)]
        table.add_row(domain, str(tally.rows), *(str(counts.get(status, 0)) for status in STATUSES), *shares)
    Console(file=sys.stderr).print(table)
