"""What integration tests share: layers of the sandbox, and a policy whose groups are mixed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from coin_policy import write_policy, write_problems
from sandboxed_runs import LAYERS, SECRET

from rewards.sandbox.process import capabilities

if TYPE_CHECKING:
    from dashboard_browser import Reader
    from playwright.sync_api import Browser


@pytest.fixture(params=LAYERS)
def layers(request: pytest.FixtureRequest) -> dict[str, bool]:
    wanted = LAYERS[request.param]
    if not capabilities(**wanted).full:
        pytest.skip("this machine does not offer these layers")
    return wanted


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "tests.json"
    path.write_text(SECRET)
    os.chmod(tmp_path, 0o777)
    os.chmod(path, 0o666)
    for parent in tmp_path.parents[:3]:
        os.chmod(parent, 0o755)
    return path


@pytest.fixture(scope="session")
def coin_problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_problems(tmp_path_factory.mktemp("problems"))


@pytest.fixture(scope="session")
def coin_policy(tmp_path_factory: pytest.TempPathFactory, coin_problems: Path) -> Path:
    return write_policy(tmp_path_factory.mktemp("policy"), coin_problems)


@pytest.fixture(scope="module")
def chrome() -> Iterator["Browser"]:
    from dashboard_browser import browser

    with browser() as opened:
        yield opened


@pytest.fixture
def reader(chrome: "Browser", address: str) -> Iterator["Reader"]:
    """At the dashboard that the file's own fixture `address` serves. Fails the test that made the console complain or the page
    ask for anything from elsewhere.
    """
    from dashboard_browser import Reader

    opened = Reader(chrome, address)
    yield opened
    opened.close()
