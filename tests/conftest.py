"""How tests are dealt to processes under pytest-xdist (`make test`); without it this changes nothing."""

from typing import Any

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file stay together, so that its fixtures are made once, and all files that start vLLM or verl, each of
    which takes all cores. (xdist 3.8's own groups are without effect under pytest 9.2.)
    """
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return "vllm" if "vllm" in file or "integration/test_verl" in file else file

    return ByFile(config, log)
