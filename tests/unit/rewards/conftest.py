"""Property tests draw the same examples in every run, and are not timed: other jobs may share the machine."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from sandbox_coverage import lines_recorded

settings.register_profile("rewards", derandomize=True, deadline=None)
settings.load_profile("rewards")


@pytest.fixture(scope="session", autouse=True)
def _measure_sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with lines_recorded(tmp_path_factory.mktemp("sandboxes")):
        yield
