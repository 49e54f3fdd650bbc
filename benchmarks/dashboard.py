"""How fast the dashboard answers at any size, and what it costs a run to be watched.

    python benchmarks/dashboard.py sizes [--sizes 10000 100000 1000000] [--made RUN ...]
    python benchmarks/dashboard.py training --model MODEL --problems FILE [--steps 100] [--rounds 1]

Needs rlcs[dashboard], Playwright and a Chromium (`make setup-test`). `sizes`: made-up runs (benchmarks/dashboard_runs.py) of so
many problems, with ten times as many rollouts, served by `rlcs dashboard` in a process of its own. First paint by the browser's
own clock, from the beginning of the navigation: first-contentful-paint, when the overview has its figures in words, and when
its charts are drawn, both while the index is being made and after. Filters, each with another value every time: from the
request to the last byte of the answer, and in the page from the choice to the drawn table (with the first rollout beside it; a
search waits 150 ms for more to be typed). Memory: the server's peak (VmHWM). Processor time of the server stands beside; it
has a low priority, so on a machine with other work all of this should run at a high one.

`training`: the quickstart's run, twice with the same seed, watched in every other 25 steps, the second time in those that the
first was alone in; watched means a server and an open overview that is redrawn as the run writes, as it is for a page that
nobody is at: the first ten steps of each 25, in which it still takes its reader to be there, do not count. Seconds of each step
watched against the same step alone, and processor seconds of server and browser. Both write benchmarks/results/dashboard.json.
"""

import argparse
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any
from urllib.parse import urlencode

import psutil
from measured_on import measured_on
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "dashboard.json"
PACKAGES = ("duckdb", "starlette", "uvicorn", "playwright", "pyarrow")
GOALS = {"first paint, s": 1.0, "filter, ms": 300.0, "memory, MiB": 1024.0, "slowdown": 0.02}
BLOCK, SETTLING = 25, 10  # steps, and those of them, two seconds each, in which the page counts as attended (pace.js)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
PATIENCE_MS = 120_000
# Notes when the page has its figures and when it says that it has drawn, by the clock that its paints are noted by.
WATCH = """new MutationObserver(() => {
    if (document.querySelector('.facts dd')) window.figuresAt ??= performance.now();
    if (document.documentElement?.dataset.drawn) window.drawnAt ??= performance.now();
}).observe(document, {attributes: true, childList: true, subtree: true})"""
CHOOSE = """async ([name, value]) => {
    const field = document.querySelector(`.filters [name="${name}"]`);
    const root = document.documentElement;
    const began = performance.now();
    field.value = value;
    field.dispatchEvent(new Event(field.type === 'search' ? 'input' : 'change'));
    while (root.dataset.drawn) await new Promise(next => setTimeout(next, 1));
    while (!root.dataset.drawn) await new Promise(next => setTimeout(next, 1));
    return performance.now() - began;
}"""


class Server:
    """`rlcs dashboard` over runs, and what it has used."""

    def __init__(self, *runs: Path) -> None:
        command = [sys.executable, "-m", "rlcs.cli", "dashboard", *map(str, runs), "--port", "0", "--no-open"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/", said)):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the dashboard ended: {said}")
            said += line
        self.address = found[0]

    def get(self, path: str) -> tuple[bytes, float, float]:
        """(body, seconds until its last byte, processor seconds of the server meanwhile)."""
        before, began = self.cpu(), time.perf_counter()
        with urllib.request.urlopen(self.address.rstrip("/") + path, timeout=600) as answer:
            body = answer.read()
        return body, time.perf_counter() - began, self.cpu() - before

    def cpu(self) -> float:
        """Processor seconds of all its threads so far, to the microsecond (Linux: sched_exec of each thread)."""
        spent = 0
        for stat in Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"):
            spent += int(stat.read_text().split()[0])
        return spent / 1e9

    def memory(self) -> dict[str, float]:
        """MiB: most that was ever resident, and resident now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return {
            name: int(re.search(rf"{key}:\s+(\d+)", status)[1]) / 1024 for name, key in (("peak", "VmHWM"), ("now", "VmRSS"))
        }  # type: ignore[index]

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def opened(browser: Browser, address: str, place: str, drawn: str) -> tuple[Page, dict[str, float]]:
    """A page in a profile of its own once it has drawn `place` -> (page, seconds since the navigation began)."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(WATCH)
    page.goto(address + place)
    page.wait_for_selector(f"html[data-drawn^='{drawn}']", state="attached")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    noted = page.evaluate("({figures: window.figuresAt ?? NaN, drawn: window.drawnAt})")
    return page, {"first contentful paint": paint / 1e3} | {name: at / 1e3 for name, at in noted.items()}


def loads(browser: Browser, server: Server, times: int) -> dict[str, Any]:
    found = []
    for _ in range(times):
        page, seconds = opened(browser, server.address, "#/overview", "overview")
        found.append(seconds)
        page.context.close()
    return {name: summary([one[name] for one in found]) for name in found[0]}


def summary(values: list[float], scale: float = 1.0) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(median(ordered) * scale, 4),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] * scale, 4),
        "n": len(ordered),
    }


def filters(facts: dict[str, Any], draw: random.Random) -> dict[str, Callable[[], tuple[str, dict[str, Any]]]]:
    """Kinds of requests, each drawing its values anew."""
    domains, tiers, steps, problems = facts["domains"], facts["tiers"], facts["steps"], facts["problems"]

    def mean() -> dict[str, Any]:
        low = draw.uniform(0, 0.8)
        return {"mean_min": f"{low:.3f}", "mean_max": f"{low + 0.2:.3f}"}

    def span() -> dict[str, Any]:
        first = draw.randrange(steps)
        return {"step_from": first, "step_to": min(steps - 1, first + draw.randrange(1, max(2, steps)))}

    kinds: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
        "problems: a page": ("problems", lambda: {"offset": draw.randrange(problems // 50) * 50}),
        "problems: domain and tier": ("problems", lambda: {"domain": draw.choice(domains), "tier": draw.choice(tiers)}),
        "problems: pass rate": ("problems", mean),
        "problems: sorted": (
            "problems",
            lambda: mean() | {"sort": draw.choice(["mean", "width", "seen_at", "rollouts"]), "descending": 1},
        ),
        "problems: part of an id": ("problems", lambda: {"search": f"{draw.randrange(1000):03d}"}),
        "problems: one": ("problems/{}", lambda: {"": draw.randrange(problems)}),
        "rollouts: domain and tier": ("rollouts", lambda: {"domain": draw.choice(domains), "tier": draw.choice(tiers)}),
        "rollouts: right or wrong": (
            "rollouts",
            lambda: {"correct": draw.choice(["true", "false"]), "domain": draw.choice(domains)},
        ),
        "rollouts: reason": ("rollouts", lambda: {"reason": draw.choice(["no-box", "two-boxes"]), **span()}),
        "rollouts: reward": ("rollouts", lambda: {"reward_min": f"{draw.uniform(0, 0.9):.3f}", "domain": draw.choice(domains)}),
        "rollouts: steps": ("rollouts", span),
        "rollouts: of a problem": ("rollouts", lambda: {"index": draw.randrange(problems)}),
        "rollouts: longest": ("rollouts", lambda: {"order": "-tokens", "domain": draw.choice(domains), **span()}),
        "rollouts: one": ("rollouts/{}", lambda: {"": f"{draw.randrange(steps)}/{draw.randrange(200)}"}),
    }
    return {name: (lambda path=path, values=values: (path, values())) for name, (path, values) in kinds.items()}


def ask(server: Server, run: str, path: str, values: dict[str, Any]) -> tuple[bytes, float, float]:
    if "" in values:
        return server.get(f"/api/runs/{run}/{path.format(values[''])}")
    return server.get(f"/api/runs/{run}/{path}?{urlencode(values | {'limit': 50})}")


def in_page(browser: Browser, server: Server, times: int, draw: random.Random) -> dict[str, Any]:
    """Milliseconds from a choice in a page's filter bar until it has drawn."""
    found: dict[str, Any] = {}
    for place, names in (
        ("problems", ("domain", "tier", "state", "search")),
        ("rollouts", ("domain", "correct", "fate", "step from")),
    ):
        page, _ = opened(browser, server.address, f"#/{place}", place)
        for name in names:
            spent, before = [], ""
            for _ in range(times):
                options = page.evaluate(
                    f"[...document.querySelectorAll('.filters [name=\"{name}\"] option')].map(one => one.value)"
                )
                value = draw.choice([one for one in options if one != before]) if options else str(draw.randrange(100))
                value = f"{draw.randrange(1000):03d}" if name == "search" else value
                if value == before:
                    continue
                before = value
                spent.append(page.evaluate(CHOOSE, [name, value]))
            found[f"{place}: {name}"] = summary(spent)
            page.evaluate(CHOOSE, [name, ""]) if before else None
        page.context.close()
    return found


def size(problems: int, made: Path | None, times: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="dashboard-") as folder:
        run = made or Path(folder) / "run"
        if made is None:
            script = [sys.executable, str(HERE / "dashboard_runs.py"), str(run)]
            subprocess.run([*script, "--problems", str(problems), "--rollouts", str(10 * problems)], check=True)
        began = time.perf_counter()
        server = Server(run)
        try:
            found: dict[str, Any] = {
                "problems": problems,
                "rollouts": 10 * problems,
                "seconds until it listens": time.perf_counter() - began,
            }
            (summed,) = json.loads(server.get("/api/runs")[0])["runs"]
            name, draw = summed["name"], random.Random(0)
            with chromium() as browser, ThreadPoolExecutor(1) as beside:
                index = beside.submit(indexed, server, name, began)
                found["load, s, while it indexes"] = loads(browser, server, 5)
                found["seconds until indexed"] = index.result()
                found["load, s"] = loads(browser, server, 5)
                first = json.loads(server.get(f"/api/runs/{name}/problems?limit=1")[0])
                facts = {"domains": [*first["facets"]["domain"]], "tiers": [*first["facets"]["tier"]]}
                facts |= {"steps": summed["steps"], "problems": problems}
                found["filter, ms"], found["filter, processor ms"] = {}, {}
                for kind, drawn in filters(facts, draw).items():
                    asked = [ask(server, name, *drawn())[1:] for _ in range(times)]
                    found["filter, ms"][kind] = summary([seconds for seconds, _ in asked], 1e3)
                    found["filter, processor ms"][kind] = summary([cpu for _, cpu in asked], 1e3)
                found["filter in the page, ms"] = in_page(browser, server, max(3, times // 2), draw)
            found["memory, MiB"] = server.memory()
            found["load average"] = os.getloadavg()[1]
        finally:
            server.close()
    return found


def indexed(server: Server, name: str, began: float) -> float:
    """Seconds since `began` until every file has been read."""
    while True:
        rollouts = json.loads(server.get(f"/api/runs/{name}/rollouts?limit=1")[0])["indexed"]
        snapshots = json.loads(server.get(f"/api/runs/{name}/difficulty")[0])["snapshots"]
        if rollouts["files"] == rollouts["total"] and snapshots["ready"] == snapshots["total"]:
            return time.perf_counter() - began
        time.sleep(2)


def training(model: Path, problems: Path, steps: int, rounds: int) -> dict[str, Any]:
    ratios: list[float] = []
    seconds: dict[str, list[float]] = {"alone": [], "watched": []}
    watching = []
    for _ in range(rounds):
        runs = []
        for phase in (0, 1):
            spent, used = one_run(model, problems, steps, phase)
            runs.append(spent)
            watching.append(used)
        for step in (step for step in range(steps) if step % BLOCK >= SETTLING):
            phase = step // BLOCK % 2
            watched, alone = runs[phase][step], runs[1 - phase][step]
            ratios.append(math.log(watched / alone))
            seconds["watched"].append(watched)
            seconds["alone"].append(alone)
    error = stdev(ratios) / math.sqrt(len(ratios))
    return {
        "steps": steps,
        "rounds": rounds,
        "seconds a step": {how: summary(values) for how, values in seconds.items()},
        "slowdown": round(math.expm1(fmean(ratios)), 4),
        "slowdown, 95%": [round(math.expm1(fmean(ratios) + side * 1.96 * error), 4) for side in (-1, 1)],
        "slowdown, median of steps": round(math.expm1(median(ratios)), 4),
        "processor seconds a second": {part: round(fmean(one[part] for one in watching), 4) for part in ("server", "browser")},
        "load average": os.getloadavg()[1],
    }


def one_run(model: Path, problems: Path, steps: int, phase: int) -> tuple[list[float], dict[str, float]]:
    """Seconds of each step, and what server and browser used a second while they watched."""
    with tempfile.TemporaryDirectory(prefix="dashboard-training-") as folder:
        out = Path(folder) / "run"
        settings = [f"model={model}", f"problems={problems}", f"out={out}", f"steps={steps}", "table_every=0", "loggers=[]"]
        command = [sys.executable, "-m", "rlcs.cli", "rl", str(HERE.parent / "configs/rl/nano.yaml"), *settings]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            used = watch(run, out, phase)
            if run.wait():
                raise RuntimeError(f"{' '.join(command)} ended with status {run.returncode}")
        finally:
            run.kill()
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [row["seconds/step"] for row in rows], used


def watch(run: subprocess.Popen[bytes], out: Path, phase: int) -> dict[str, float]:
    """Until the run ends keeps the overview open in every other block of steps, server and page out of the way in the others
    -> processor seconds a second of server and browser while it was open.
    """
    while not (out / "metrics.jsonl").exists() and run.poll() is None:
        time.sleep(0.1)
    server = Server(out)
    page: Page | None = None
    watched, spent = 0.0, {"server": 0.0, "browser": 0.0}
    counting: tuple[float, dict[str, float]] | None = None
    try:
        with chromium() as browser:
            while run.poll() is None:
                step = sum(1 for _ in (out / "metrics.jsonl").open())
                if page is None and step // BLOCK % 2 == phase:
                    server.process.send_signal(signal.SIGCONT)
                    page, _ = opened(browser, server.address, "#/overview", "overview")
                elif page is not None and step // BLOCK % 2 != phase:
                    if counting is not None:
                        watched += time.perf_counter() - counting[0]
                        now = {"server": server.cpu(), "browser": browser_cpu()}
                        spent = {part: spent[part] + now[part] - counting[1][part] for part in spent}
                        counting = None
                    page.context.close()
                    page = None
                    server.process.send_signal(signal.SIGSTOP)
                if page is not None and counting is None and step % BLOCK >= SETTLING:
                    counting = time.perf_counter(), {"server": server.cpu(), "browser": browser_cpu()}
                if page is not None:
                    page.wait_for_timeout(200)
                else:
                    time.sleep(0.2)
    finally:
        server.process.send_signal(signal.SIGCONT)
        server.close()
    return {part: value / max(watched, 1e-9) for part, value in spent.items()}


def browser_cpu() -> float:
    """Processor seconds of the browser's processes, which are children of ours."""
    spent = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if "chrom" in process.name():
                times = process.cpu_times()
                spent += times.user + times.system
        except psutil.Error:
            continue
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="part", required=True)
    sizes = commands.add_parser("sizes")
    sizes.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    sizes.add_argument("--made", type=Path, nargs="+", help="runs that are there already, one a size")
    sizes.add_argument("--times", type=int, default=20, help="requests of each kind")
    trained = commands.add_parser("training")
    trained.add_argument("--model", type=Path, required=True)
    trained.add_argument("--problems", type=Path, required=True)
    trained.add_argument("--steps", type=int, default=100)
    trained.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    if options.part == "sizes":
        made = options.made or [None] * len(options.sizes)
        found: Any = {}
        for problems, run in zip(options.sizes, made, strict=True):
            found[str(problems)] = size(problems, run, options.times)
            print(json.dumps(found[str(problems)], indent=1), flush=True)
    else:
        found = training(options.model, options.problems, options.steps, options.rounds)
        print(json.dumps(found, indent=1))
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known |= {"goals": GOALS, options.part: known.get(options.part, {}) | found | measured_on(*PACKAGES)}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
