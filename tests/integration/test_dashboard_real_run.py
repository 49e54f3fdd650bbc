"""What the dashboard's server says of a run that really trained: its numbers against the run's files, and a resume seen."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from starlette.testclient import TestClient

from rlcs.dashboard.runs import named_runs
from rlcs.dashboard.server import build_app
from rlcs.dashboard.watch import Watch
from rlcs.problems import load_problems
from rlcs.rl import run_rl
from rlcs.rl_config import HeldoutConfig, RlConfig

pytestmark = pytest.mark.integration
QUIET = Console(quiet=True)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def settings(coin_policy: Path, coin_problems: Path, tmp_path_factory: pytest.TempPathFactory) -> RlConfig:
    """Of a run that has done four steps of six: it was stopped by max_rollouts."""
    config = RlConfig(
        model=str(coin_policy),
        problems=coin_problems,
        out=tmp_path_factory.mktemp("run") / "rl",
        threads=1,
        steps=6,
        max_rollouts=96,
        save_every=2,
        groups_per_step=6,
        group_size=4,
        difficulty_every=2,
        think_tokens=4,
        answer_tokens=8,
        token_budget=512,
        nothink_ratio=0.5,
        verifier_workers=1,
        table_every=0,
        loggers=[],
        heldout=HeldoutConfig(problems=coin_problems, every_rollouts=40, samples=2, max_per_domain=4),
    )
    run_rl(config, console=QUIET)
    return config


@pytest.fixture(scope="module")
def watch(settings: RlConfig) -> Watch:
    return Watch(named_runs([settings.out]))


@pytest.fixture(scope="module")
def client(watch: Watch) -> Iterator[TestClient]:
    watch.read_all()
    with TestClient(build_app(watch), base_url="http://127.0.0.1") as client:
        yield client


def get(client: TestClient, path: str) -> Any:
    answer = client.get(f"/api/runs/rl{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def written(settings: RlConfig) -> list[Row]:
    files = sorted((settings.out / "rollouts").glob("*.parquet"))
    return [row | {"row": place} for file in files for place, row in enumerate(pq.read_table(file).to_pylist())]


def test_every_rollout_is_counted_and_its_tokens_make_up_its_text(client: TestClient, settings: RlConfig) -> None:
    rows = written(settings)
    assert len(rows) == 96 and get(client, "/rollouts")["matching"] == 96
    for row in rows[::5]:
        found = get(client, f"/rollouts/{row['step']}/{row['row']}")
        assert found["tokens_note"] is None
        shown = [token for token in found["tokens"] if token["kind"] is not None]
        assert "".join(token["text"] for token in shown) == row["response"]
        own = [token["logprob"] for token in found["tokens"] if token["logprob"] is not None and not token["forced"]]
        assert sum(own) / len(own) == pytest.approx(row["mean_logprob"], abs=1e-4)
        assert (
            sum(token["forced"] for token in found["tokens"]) - (found["tokens"][0]["text"] == "<think></think>\n")
            == (row["forced_tokens"])
        )
        assert len(found["group"]) == 4 and found["rollout"]["reward"] == row["reward"]
        # Judged again, it is what training paid.
        assert not any("judged again" in step["text"] for step in found["verdict"]["steps"])


def test_problems_are_those_of_the_file_with_the_runs_beliefs(client: TestClient, settings: RlConfig) -> None:
    problems = load_problems(settings.problems)
    last = pq.read_table(sorted((settings.out / "difficulty").glob("*.parquet"))[-1]).to_pylist()
    rows = get(client, "/problems?limit=500")["rows"]
    assert [row["id"] for row in rows] == [problem.id for problem in problems][:500]
    for row, belief in zip(rows, last, strict=False):
        assert row["mean"] == pytest.approx(belief["mean"], abs=1e-6) and row["state"] == belief["state"]
    found = get(client, f"/problems/{rows[0]['index']}")
    assert found["question"] in json.dumps(problems[0].messages, ensure_ascii=False) and found["answer"] == problems[0].answer


def test_held_out_curves_are_the_runs(client: TestClient, settings: RlConfig) -> None:
    rows = [json.loads(line) for line in (settings.out / "heldout.jsonl").read_text().splitlines()]
    found = get(client, "/overview")
    assert found["heldout"]["updates"] == [row["updates"] for row in rows]
    for domain, curve in found["heldout"]["domains"].items():
        assert curve["pass_rate"] == [row["pass_rate"][domain] for row in rows]
        assert curve["problems"] == [
            min(4, sum(one.domain == domain for one in load_problems(settings.heldout.problems)))
        ] * len(rows)  # type: ignore[union-attr]
        assert found["verdict"]["domains"][domain]["basis"] == "heldout"
    assert found["run"]["status"] == "finished" and found["totals"]["rollouts"] == 96


def test_a_resumed_run_is_followed(client: TestClient, watch: Watch, settings: RlConfig) -> None:
    run_rl(settings.model_copy(update={"max_rollouts": None}), resume=True, console=QUIET)
    watch.read_all()
    assert get(client, "/overview")["run"]["step"] == 5
    rows = written(settings)
    assert len(rows) == 144 == get(client, "/rollouts")["matching"]
    newest = get(client, "/rollouts?limit=500")["rows"]
    assert [(row["step"], row["row"], row["tokens"]) for row in newest] == sorted(
        ((row["step"], row["row"], row["tokens"]) for row in rows), key=lambda key: (-key[0], key[1])
    )
    assert get(client, "/difficulty")["step"][-1] == 5
