"""The page as one file, and runs side by side."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from written_run import DOMAINS, WrittenRun, write_run

from rlcs.dashboard.export import address, export_page
from rlcs.dashboard.runs import named_runs
from rlcs.dashboard.server import build_app
from rlcs.dashboard.watch import Watch
from rlcs.estimates import wilson_interval

HOSTILE = "</script><script>alert(1)</script><!-- \u2028"


class Page(HTMLParser):
    """Elements of a page with their attributes, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[WrittenRun]:
    """Two runs; an id and a reason of the first are hostile."""
    runs = [write_run(tmp_path_factory.mktemp(name), steps=3, each=4) for name in ("a", "b")]
    for problem in runs[0].problems[:3]:
        problem["id"] += HOSTILE
    runs[0].step(3)
    return runs


@pytest.fixture(scope="module")
def exported(two: list[WrittenRun], tmp_path_factory: pytest.TempPathFactory) -> Path:
    watch = Watch(named_runs([run.path for run in two]))
    return export_page(watch, tmp_path_factory.mktemp("out") / "deep" / "page.html")


@pytest.fixture(scope="module")
def client(two: list[WrittenRun]) -> Iterator[TestClient]:
    watch = Watch(named_runs([run.path for run in two]))
    watch.read_all()
    with TestClient(build_app(watch), base_url="http://127.0.0.1") as client:
        yield client


def data_of(page: Page) -> dict[str, Any]:
    (found,) = [text for attributes, text in page.scripts if attributes.get("id") == "rlcs-export"]
    return json.loads(found)


def test_the_file_holds_what_the_server_answers(exported: Path, client: TestClient) -> None:
    data = data_of(Page(exported.read_text()))
    asked = list(data["responses"])
    names = list(data["samples"])
    assert len(names) == 2 and len(asked) > 100
    for path in asked:
        if path.startswith("/api/compare") or path == "/api/runs":
            continue
        answer = client.get(path).json()
        held = data["responses"][path]
        for body in (answer, held):  # what moves with the clock and with how much has been read
            for name in ("run", "snapshots"):
                body.pop(name, None)
        assert held == answer, path
    for name in names:
        for rest in ("overview", "difficulty", "flow", *(f"difficulty?domain={domain}" for domain in DOMAINS)):
            assert f"/api/runs/{name}/{rest}" in asked
        for row in data["samples"][name]["rollouts"]["rows"]:
            assert f"/api/runs/{name}/rollouts/{row['step']}/{row['row']}" in asked
        for row in data["samples"][name]["problems"]["rows"]:
            assert f"/api/runs/{name}/problems/{row['index']}" in asked
        assert {row["domain"] for row in data["samples"][name]["rollouts"]["rows"]} == set(DOMAINS)
        assert data["samples"][name]["problems"]["total"] == 12


def test_compared_curves_are_in_the_file_as_the_page_asks_for_them(exported: Path, client: TestClient) -> None:
    responses = data_of(Page(exported.read_text()))["responses"]
    for query in ({}, {"metric": "reward", "x": "tokens"}, {"metric": "pass_rate", "x": "step", "domain": "gui"}):
        held, answer = responses[address("/api/compare", query)], client.get("/api/compare", params=query).json()
        assert held["runs"] == answer["runs"] and held["metric"] == answer["metric"]
    assert address("/api/x", {"b": "1 ä~", "a": "*"}) == "/api/x?a=*&b=1+%C3%A4%7E"


def test_only_our_two_scripts_may_run_in_the_file(exported: Path) -> None:
    text = exported.read_text()
    page = Page(text)
    policy = next(attributes["content"] for tag, attributes in page.elements if attributes.get("http-equiv"))
    assert (
        policy is not None and policy.startswith("default-src 'none'") and "unsafe-inline" not in policy.split("style-src")[0]
    )
    running = [(attributes, script) for attributes, script in page.scripts if attributes.get("type") != "application/json"]
    assert [attributes.get("type") for attributes, _ in running] == [None, "module"]
    for _, script in running:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not any(attributes.get("src") or attributes.get("href", "data:,") != "data:,"
                   for tag, attributes in page.elements if tag in ("script", "link", "img"))  # fmt: skip
    assert not re.search(r"^import |^export ", running[1][1], re.MULTILINE)


def test_hostile_text_stays_text(exported: Path) -> None:
    text = exported.read_text()
    assert HOSTILE not in text and "alert(1)</script>" not in text
    held = json.dumps(data_of(Page(text)), ensure_ascii=False)
    assert json.dumps(HOSTILE, ensure_ascii=False)[1:-1] in held


def test_images_of_the_sample_are_in_the_file(exported: Path, client: TestClient) -> None:
    data = data_of(Page(exported.read_text()))
    assert data["media"]
    for path, source in list(data["media"].items())[:6]:
        assert source == "data:image/png;base64," + base64.b64encode(client.get(path).content).decode()


@pytest.mark.parametrize("axis", ["step", "rollouts", "tokens", "seconds"])
def test_a_curve_runs_against_what_it_cost(client: TestClient, two: list[WrittenRun], axis: str) -> None:
    found = client.get("/api/compare", params={"metric": "pass_rate", "x": axis, "domain": "gui"}).json()
    assert len(found["runs"]) == 2
    for curve, run in zip(found["runs"], two, strict=True):
        metrics = run.metrics
        cost = np.cumsum([row[{"seconds": "seconds/step"}.get(axis, axis)] for row in metrics]) if axis != "step" else range(9)
        known = [place for place, row in enumerate(metrics) if "gui/pass_rate" in row]
        assert curve["x"] == [cost[place] for place in known]
        assert curve["y"] == [metrics[place]["gui/pass_rate"] for place in known]
        rate, groups = curve["y"][0], metrics[known[0]]["gui/groups_generated"]
        assert curve["low"][0] == pytest.approx(wilson_interval(rate * groups, groups).low)


def test_what_a_run_does_not_have_is_said(client: TestClient) -> None:
    for metric, word in (("heldout", "answers no held-out problems"), ("nonsense", "has no metric nonsense")):
        for curve in client.get("/api/compare", params={"metric": metric}).json()["runs"]:
            assert curve["x"] == [] and word in curve["note"]
    assert client.get("/api/compare?run=none").status_code == 400
    assert client.get("/api/compare?x=hours").json()["error"].startswith("x is 'hours'; expected one of step, rollouts")


def test_held_out_curves_of_runs(growing: WrittenRun) -> None:
    row = {"updates": 2, "rollouts": 48, "tokens": 99, "seconds": 4.5, "pass_rate": {"gui": 0.25}, "responses": {"gui": 100}}
    (growing.path / "heldout.jsonl").write_text(json.dumps(row) + "\n")
    with TestClient(build_app(Watch(named_runs([growing.path]))), base_url="http://127.0.0.1") as client:
        for axis, x in (("step", 2), ("rollouts", 48), ("tokens", 99), ("seconds", 4.5)):
            found = client.get("/api/compare", params={"x": axis}).json()
            assert found["metric"] == "heldout" and found["runs"][0]["x"] == [x] and found["runs"][0]["y"] == [0.25]
        (curve,) = client.get("/api/compare", params={"domain": "gui"}).json()["runs"]
        assert curve["low"][0] == pytest.approx(wilson_interval(25, 100).low)
