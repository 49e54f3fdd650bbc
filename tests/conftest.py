"""How tests are dealt to processes under pytest-xdist (`make test`); without it this changes nothing."""

import pytest


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file is a group, so that its fixtures are made once. Files that start vLLM are one: each takes all cores."""
    for item in items:
        group = "vllm" if "vllm" in item.path.name else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
