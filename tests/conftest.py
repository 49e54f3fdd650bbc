"""How tests are dealt to processes under pytest-xdist (`make test`), and how long their threads wait for each other."""

from typing import Any

import pytest

from rlcs.process import wait_briefly

wait_briefly()  # two processes of tests share the machine's cores


def _starts_an_engine(file: str) -> bool:
    """Whether a file's tests start vLLM, or Ray for verl: each takes all cores and much memory. verl's SFT starts neither."""
    name = file.rpartition("integration/")[2]
    return name != file and ("vllm" in name or name.startswith("test_verl")) and name != "test_verl_sft.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts engines comes first: it is half of all the time, and one process has it to itself (below)."""
    items.sort(key=lambda item: not _starts_an_engine(item.nodeid.split("::", 1)[0]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file stay together, so that its fixtures are made once, and all files that start engines, so that no two
    of them run at once. (xdist 3.8's own groups are without effect under pytest 9.2.)
    """
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return "engines" if _starts_an_engine(file) else file

    return ByFile(config, log)
