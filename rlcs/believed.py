"""What a run's sampler believes of all its problems, read from its difficulty files without the dashboard's libraries."""

from collections.abc import Mapping
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from rlcs.dashboard.runs import StepFile


def believed(files: Mapping[int, StepFile]) -> dict[str, tuple[float, float]]:
    """Mean of the posterior means of each domain's problems, in the first file and in the last; nothing where either of them
    cannot be read.
    """
    if not files:
        return {}
    try:
        first, last = _means(files[min(files)]), _means(files[max(files)])
    except (OSError, KeyError, pa.ArrowException):
        return {}
    return {domain: (first[domain], last[domain]) for domain in last if domain in first}


@lru_cache(maxsize=4)
def _means(file: StepFile) -> dict[str, float]:
    table = pq.read_table(file.path, columns=["domain", "mean"], partitioning=None)
    means = table.group_by("domain").aggregate([("mean", "mean")])
    return dict(zip(means.column("domain").to_pylist(), means.column("mean_mean").to_pylist(), strict=True))
