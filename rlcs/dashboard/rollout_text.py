"""Texts of rollouts, read from the run's files when they are shown: by step and place, a few rows at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlcs.dashboard.runs import StepFile

_ROWS = 128  # rows decoded at once: a row may be a response of 30,000 tokens with as many log-probabilities
_LONG_COLUMN = 32 << 20  # bytes of a file's responses from which a list does without them


class Unreadable(Exception):
    """A rollout cannot be read; the text says why."""


def read_rows(file: StepFile, first: int, last: int, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Rows `first` to `last` of a file, those `columns` that it has, all if absent. Raises Unreadable."""
    found: list[dict[str, Any]] = []
    try:
        with pq.ParquetFile(file.path) as parquet:
            have = parquet.schema_arrow.names
            wanted = have if columns is None else [name for name in columns if name in have]
            place = 0
            for batch in parquet.iter_batches(_ROWS, columns=wanted, use_threads=False):
                low, high = max(first - place, 0), min(last + 1 - place, len(batch))
                if low < high:
                    found += batch.slice(low, high - low).to_pylist()
                place += len(batch)
                if place > last:
                    break
    except (OSError, pa.ArrowException) as error:
        raise Unreadable(f"{file.path.name} of rollouts/ cannot be read: {error}") from error
    return found


def short_texts(file: StepFile, places: Sequence[int], characters: int) -> dict[int, dict[str, str | None]]:
    """The beginning of the question and the end of the response of some rows; nothing where the file's responses are so long
    that a list would wait for them.
    """
    with pq.ParquetFile(file.path) as parquet:
        names = parquet.schema_arrow.names
        column = parquet.metadata.schema.names.index("response") if "response" in names else -1
        size = sum(
            parquet.metadata.row_group(group).column(column).total_uncompressed_size
            for group in range(parquet.metadata.num_row_groups)
        )
        if column < 0 or size > _LONG_COLUMN:
            return {}
        table = parquet.read(columns=["question", "response"], use_threads=False).take(pa.array(places, pa.int64()))
    questions = pc.utf8_slice_codeunits(table["question"], 0, characters).to_pylist()
    responses = pc.utf8_slice_codeunits(table["response"], -characters).to_pylist()
    return {
        place: {"question": question, "response": response}
        for place, question, response in zip(places, questions, responses, strict=True)
    }


def matching_places(file: StepFile, text: str) -> tuple[list[int], int]:
    """(rows whose id, question or response holds `text`, whatever its case; rows looked at)."""
    found: list[int] = []
    place = 0
    with pq.ParquetFile(file.path) as parquet:
        for batch in parquet.iter_batches(1024, columns=["id", "question", "response"], use_threads=False):
            hit = pa.array([False] * len(batch))
            for column in batch.columns:
                hit = pc.or_(hit, pc.fill_null(pc.match_substring(column, text, ignore_case=True), False))
            found += [place + one for one in pc.indices_nonzero(hit).to_pylist()]
            place += len(batch)
    return found, place


def stream_rows(file: StepFile, places: set[int], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows at `places` in order, few in memory at once."""
    place = 0
    with pq.ParquetFile(file.path) as parquet:
        have = [name for name in columns if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(_ROWS, columns=have, use_threads=False):
            wanted = [one - place for one in range(place, place + len(batch)) if one in places]
            if wanted:
                for one, row in zip(wanted, batch.take(pa.array(wanted)).to_pylist(), strict=True):
                    yield row | {"row": place + one}
            place += len(batch)


def tokenizer_file(run: Path, model: Path | None) -> Path | None:
    """tokenizer.json of the run's last checkpoint, or else of the model it began from."""
    checkpoints = sorted((run / "checkpoints").glob("step-*/tokenizer.json"))
    found = [path for path in checkpoints if path.parent.name.removeprefix("step-").isdigit()]
    if found:
        return found[-1]
    return model if model is not None and model.is_file() else None
