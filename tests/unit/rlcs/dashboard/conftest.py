"""Run directories for the dashboard's tests (written_run.py)."""

from pathlib import Path

import pytest
from written_run import WrittenRun, write_run


@pytest.fixture(scope="package")
def written(tmp_path_factory: pytest.TempPathFactory) -> WrittenRun:
    """A finished run that tests only read."""
    return write_run(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture
def growing(tmp_path: Path) -> WrittenRun:
    """A run of two steps that tests may go on with."""
    return write_run(tmp_path, steps=2, each=4)
