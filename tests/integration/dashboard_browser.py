"""The dashboard as its readers have it: `rlcs dashboard` in a process of its own, its page in a headless Chromium."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, Page, Request, sync_playwright
from rich.console import Console

from rlcs.rl import run_rl
from rlcs.rl_config import HeldoutConfig, RlConfig

QUIET = Console(quiet=True)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),  # root in a container, without a screen
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_MS = 60_000  # machines that run the tests are busy


def chromium() -> str:
    """The browser's path; raises FileNotFoundError where there is none."""
    for name in filter(None, (os.environ.get("CHROMIUM"), *BROWSERS)):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(f"no {' or '.join(BROWSERS)}; `make setup-test` installs Chromium, or name one in CHROMIUM")


def finished_run(policy: Path, problems: Path, out: Path) -> RlConfig:
    """A real run of four steps, held-out problems included."""
    settings = RlConfig(
        model=str(policy),
        problems=problems,
        out=out,
        threads=1,
        steps=4,
        save_every=2,
        groups_per_step=6,
        group_size=4,
        think_tokens=4,
        answer_tokens=8,
        token_budget=512,
        nothink_ratio=0.5,
        verifier_workers=1,
        table_every=0,
        loggers=[],
        heldout=HeldoutConfig(problems=problems, every_rollouts=40, samples=2, max_per_domain=4),
    )
    run_rl(settings, console=QUIET)
    return settings


def export(run: Path, file: Path) -> Path:
    """`rlcs dashboard RUN --export FILE`."""
    subprocess.run([sys.executable, "-m", "rlcs.cli", "dashboard", str(run), "--export", str(file)], check=True, timeout=300)
    return file


@contextmanager
def served(*runs: Path) -> Iterator[str]:
    """`rlcs dashboard RUNS` at a free port -> its address, once it has read all that the runs have written: on a busy machine
    the server, which lets others go first, takes longer for that than a browser for its first page.
    """
    command = [sys.executable, "-m", "rlcs.cli", "dashboard", *map(str, runs), "--port", "0", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", "".join(said)):
                _wait_until_read(f"{found[0]}/api/runs")
                yield f"{found[0]}/"
                break
        else:
            raise AssertionError(f"the dashboard ended: {''.join(said)}")
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _wait_until_read(address: str) -> None:
    until = time.monotonic() + PATIENCE_MS / 1000
    while True:
        runs = httpx.get(address, timeout=PATIENCE_MS / 1000).json()["runs"]
        if all(
            run["indexed"]["files"] == run["indexed"]["total"] > 0
            and run["snapshots"]["ready"] == run["snapshots"]["total"]
            and run["has"]["media"]
            for run in runs
        ):
            return
        assert time.monotonic() < until, f"not read in a minute: {runs}"
        time.sleep(0.1)


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as library:
        opened = library.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield opened
        opened.close()


class Reader:
    """A page that a test reads, and what must not happen on it: `complaints` of the console, requests `elsewhere`."""

    def __init__(self, browser: Browser, address: str, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        self.address = address
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.page: Page = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            accept_downloads=True,
        ).new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        asked = urlsplit(request.url)
        own = urlsplit(self.address)
        if asked.scheme not in ("data", "blob", "about") and (asked.scheme, asked.netloc) != (own.scheme, own.netloc):
            self.elsewhere.append(request.url)

    def go(self, place: str) -> Page:
        """Opens a place of the page ("#/problems/3?domain=math") from nothing and waits until it is drawn."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}{place}")
        return self._shown(place)

    def turn(self, place: str) -> Page:
        """Goes there from where the page is, without loading it again."""
        if not self.page.url.endswith(place):
            self.page.evaluate("(place) => { delete document.documentElement.dataset.drawn; location.hash = place; }", place)
        return self._shown(place)

    def _shown(self, place: str) -> Page:
        self.wait(place.removeprefix("#/").split("?")[0].replace("/", " ", 1))
        return self.page

    def wait(self, drawn: str) -> None:
        """Until the page says of itself that `drawn` is what it shows."""
        self.page.locator(f'html[data-drawn^="{drawn}"]').wait_for(state="attached")

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def close(self) -> None:
        self.page.context.close()
        assert self.complaints == []
        assert self.elsewhere == []
