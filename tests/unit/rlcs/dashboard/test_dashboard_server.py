import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from written_run import WrittenRun

from rlcs.dashboard.runs import named_runs
from rlcs.dashboard.server import build_app, finite
from rlcs.dashboard.watch import Watch


@pytest.fixture(scope="module")
def client(written: WrittenRun) -> Iterator[TestClient]:
    with TestClient(build_app(Watch(named_runs([written.path]))), base_url="http://127.0.0.1:8500") as client:
        yield client


def test_every_answer_forbids_foreign_scripts_and_caching(client: TestClient) -> None:
    for path in ("/api/runs", "/api/runs/rl/overview", "/api/runs/none/overview", "/nothing", "/static/none.js"):
        headers = client.get(path).headers
        assert (
            "script-src 'self';" in headers["content-security-policy"]
            and "unsafe-eval" not in headers["content-security-policy"]
        )
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin" and "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8500", "evil.example:127", "", "[::1", "localhost@evil"]
)
def test_a_name_that_was_made_to_point_here_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/runs", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8500", "localhost:9", "LOCALHOST", "[::1]:8500"])
def test_this_machine_is_served_whatever_the_port_of_a_tunnel(client: TestClient, host: str) -> None:
    assert client.get("/api/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        *(("cross-site", "no-cors", 403), ("same-site", "cors", 403), ("cross-site", "navigate", 200)),
        *(("same-origin", "cors", 200), ("none", "navigate", 200)),
    ],
)
def test_other_sites_may_link_here_and_nothing_else(client: TestClient, site: str, mode: str, status: int) -> None:
    assert client.get("/api/runs", headers={"sec-fetch-site": site, "sec-fetch-mode": mode}).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_reading_is_allowed(client: TestClient, method: str) -> None:
    assert client.request(method, "/api/runs").status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static//etc/passwd"),
        *("/static/..%5cserver.py", "/static/%00", "/static/server.py", "/api/runs/..%2f..%2fetc/overview"),
        *("/api/runs/%2e%2e/overview", "/api/runs//overview", "/plotly.min.js/../../plotly/__init__.py"),
    ],
)
def test_no_path_leads_out(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and "error" in answer.json()


def test_unknown_parameters_and_runs_are_explained(client: TestClient) -> None:
    assert client.get("/api/runs/rl/overview?x=1").json() == {"error": "unknown parameter 'x'; known: "}
    assert client.get("/api/runs/b/overview").json() == {"error": "no run 'b'; there are rl"}


def test_plotlys_script_comes_from_the_package(client: TestClient) -> None:
    answer = client.get("/plotly.min.js?v=1")
    assert answer.headers["content-type"].startswith("text/javascript") and b"plotly.js v" in answer.content[:200]


def test_numbers_that_are_not_finite_are_null() -> None:
    assert finite({"a": [float("nan"), 1.0, (float("inf"),)], "b": "x"}) == {"a": [None, 1.0, [None]], "b": "x"}


def test_the_server_process_serves_tells_of_a_new_step_and_ends_by_a_signal(growing: WrittenRun) -> None:
    command = [sys.executable, "-m", "rlcs.cli", "dashboard", str(growing.path), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().split()[2]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(f"{address}api/events", timeout=30) as events:
                while b'"step": 1' not in (line := events.readline()):
                    assert line
                growing.step(2)
                while b'"step": 2' not in (line := events.readline()):
                    assert line
                server.terminate()
            assert server.wait(timeout=30) in (0, -15)
        finally:
            server.kill()


def test_a_port_that_is_taken_is_said_so() -> None:
    from rlcs.dashboard.serve import _listen

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match=r"cannot be had .*--port"):
            _listen(taken.getsockname()[1])


def test_a_run_that_vanishes_is_served_on(growing: WrittenRun, tmp_path: Path) -> None:
    watch = Watch(named_runs([growing.path]), every_s=0.05)
    with TestClient(build_app(watch), base_url="http://localhost") as client:
        growing.path.rename(tmp_path / "away")
        deadline = time.monotonic() + 30
        while watch.summaries()[0]["status"] != "gone" and time.monotonic() < deadline:
            time.sleep(0.02)
        answer = client.get("/api/runs/rl/overview")
        assert answer.status_code == 200 and answer.json()["run"]["status"] == "gone" and answer.json()["rows"] == 2


@pytest.mark.parametrize("config", ["[1, 2]", "{{{", "a: &a [*a]", "", "\x00", "MANY"])
def test_a_configuration_of_any_kind_is_lived_with(growing: WrittenRun, config: str) -> None:
    if config == "MANY":
        names = (
            "steps",
            "max_rollouts",
            "sampler",
            "curriculum",
            "heldout",
            "problems",
            "out",
            "model",
            "style_checks",
            "seed",
        )
        config = "".join(
            f"{name}: {value}\n" for name, value in zip(names, ["x", [], {}, "rlcs", 3, {}, 5, [], 7, ".nan"], strict=True)
        )
    (growing.path / "config.yaml").write_text(config)
    (growing.path / "heldout.jsonl").write_text('{"updates": 0, "pass_rate": [1], "responses": null}\n{"updates": "x"}\n')
    (growing.path / "guard.jsonl").write_text('{"updates": 1, "domains": {"gui": 3}}\n')
    (growing.path / "alerts.jsonl").write_text('{"step": 1}\n{"step": "one", "kind": 2}\n')
    watch = Watch(named_runs([growing.path]))
    watch.read_all()
    with TestClient(build_app(watch), base_url="http://localhost") as client:
        for path in ("overview", "difficulty", "flow", "problems", "problems/0", "rollouts", "rollouts/0/0", "rollouts.jsonl"):
            assert client.get(f"/api/runs/rl/{path}").status_code == 200, path
        assert client.get("/api/compare").status_code == 200
