"""The newest rollout of each domain, read from a run that may be writing."""

import logging
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlcs.dashboard.runs import StepFile

_COLUMNS = (
    *("step", "domain", "tier", "thinking", "question", "answer", "response", "reward", "correct", "status", "reason"),
    *("fate", "tokens", "finish_reason"),
)
_BACK = 5  # files looked into for a domain that the last step did not draw
_ROWS = 64  # read at once: texts can be long


def last_rollouts(files: Mapping[int, StepFile], domains: Sequence[str]) -> list[dict[str, Any]]:
    """A row each of `domains`, where one is found, in their order; a column that the file lacks is absent.

    A file that vanishes or is not whole is passed over.
    """
    found: dict[str, dict[str, Any]] = {}
    for _, file in islice(sorted(files.items(), reverse=True), _BACK):
        try:
            _take(file, set(domains), found)
        except (OSError, pa.ArrowException) as error:
            logging.getLogger(__name__).debug("%s: %s", file.path, error)
        if len(found) == len(domains):
            break
    return [found[domain] for domain in domains if domain in found]


def _take(file: StepFile, domains: set[str], found: dict[str, dict[str, Any]]) -> None:
    """Adds the first row of each domain that is still wanting; batches after the last of them are not read."""
    with pq.ParquetFile(file.path) as parquet:
        wanted = domains & set(parquet.read(columns=["domain"]).column("domain").unique().to_pylist()) - found.keys()
        columns = [name for name in _COLUMNS if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(batch_size=_ROWS, columns=columns):
            if not wanted:
                break
            for place, domain in enumerate(batch.column("domain").to_pylist()):
                if domain in wanted:
                    wanted.remove(domain)
                    found[domain] = {name: batch.column(name)[place].as_py() for name in columns}
