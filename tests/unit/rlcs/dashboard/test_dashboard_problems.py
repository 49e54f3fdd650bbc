"""Difficulty and problems against the arrays that were written."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta as beta_distribution
from starlette.testclient import TestClient
from written_run import DOMAINS, WrittenRun

from rlcs.dashboard.runs import named_runs
from rlcs.dashboard.server import build_app
from rlcs.dashboard.watch import Watch
from sft.rundir import RunDir

BASE = "/api/runs/rl"


@pytest.fixture(scope="module")
def client(written: WrittenRun) -> Iterator[TestClient]:
    watch = Watch(named_runs([written.path]))
    watch.read_all()
    with TestClient(build_app(watch), base_url="http://127.0.0.1:8500") as client:
        yield client


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(BASE + path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def class_of(state: str, mean: float) -> str:
    return state if state in ("deferred", "retired") else "too hard" if mean < 0.2 else "mastered" if mean > 0.8 else "moderate"


def test_the_heat_map_counts_every_problem_once(client: TestClient, written: WrittenRun) -> None:
    for domain in ("", *DOMAINS):
        found = get(client, "/difficulty", **({"domain": domain} if domain else {}))
        assert found["step"] == list(written.snapshots) and found["snapshots"] == {"ready": 6, "total": 6}
        assert found["window"] == [0.2, 0.8] and found["state_column"] == "state"
        for place, (step, columns) in enumerate(written.snapshots.items()):
            mine = (columns["domain"] == domain) | (domain == "")
            mean, seen = columns["mean"][mine], columns["seen_at"][mine]
            assert found["count"][place] == np.histogram(mean, 20, (0, 1))[0].tolist()
            assert found["problems"][place] == mine.sum()
            assert found["mean"][place] == pytest.approx(mean.mean(), abs=1e-6)
            assert found["coverage"][place] == pytest.approx((seen >= 0).mean())
            if (seen >= 0).any():
                assert found["age"][place] == pytest.approx((step - seen[seen >= 0]).mean())
            states = Counter(columns["state"][mine].tolist())
            assert {state: counts[place] for state, counts in found["state_counts"].items() if counts[place]} == states
            classes = Counter(map(class_of, columns["state"][mine], mean))
            assert {name: counts[place] for name, counts in found["class_counts"].items() if counts[place]} == classes


def test_the_overview_tells_what_the_sampler_believes_of_all_its_problems(client: TestClient, written: WrittenRun) -> None:
    verdict = get(client, "/overview")["verdict"]["domains"]
    for domain in DOMAINS:
        ends = [columns["mean"][columns["domain"] == domain].mean() for columns in (written.snapshots[0], written.snapshots[5])]
        assert verdict[domain]["belief"] == pytest.approx(ends, abs=1e-6)


def test_cells_are_those_of_the_last_snapshot(client: TestClient, written: WrittenRun) -> None:
    last, first = written.snapshots[5], written.snapshots[0]
    for cell in get(client, "/difficulty")["cells"]:
        tier = np.array([one or "" for one in last["tier"]])
        mine = (last["domain"] == cell["domain"]) & (tier == cell["tier"])
        assert cell["problems"] == mine.sum()
        assert cell["last_mean"] == pytest.approx(last["mean"][mine].mean(), abs=1e-6)
        assert cell["first_mean"] == pytest.approx(first["mean"][mine].mean(), abs=1e-6)
        known = [
            one["pass_rate"] for one, is_mine in zip(written.problems, mine, strict=True) if is_mine and "pass_rate" in one
        ]
        assert cell["offline_mean"] == pytest.approx(np.mean(known), abs=1e-6)


def test_the_offline_grades_are_set_against_the_posteriors_now(client: TestClient, written: WrittenRun) -> None:
    offline = get(client, "/difficulty")["offline"]
    pairs = [
        (one["pass_rate"], written.snapshots[5]["mean"][i]) for i, one in enumerate(written.problems) if "pass_rate" in one
    ]
    before, now = np.array(pairs).T
    assert offline["known"] == len(pairs)
    assert offline["correlation"] == pytest.approx(np.corrcoef(before, now)[0, 1], abs=1e-5)
    for i, row in enumerate(offline["count"]):
        for j, count in enumerate(row):
            inside = [10 * b + 1e-6 >= i and (10 * b + 1e-6 < i + 1 or i == 9) and j / 10 <= n < (j + 1) / 10 for b, n in pairs]
            assert count == sum(inside)


def test_flows_count_who_went_from_where_to_where(client: TestClient, written: WrittenRun) -> None:
    found = get(client, "/flow", **{"from": 1, "to": 4, "domain": "math"})
    mine = written.snapshots[1]["domain"] == "math"
    for table, names, label in (
        (found["count"], found["classes"], lambda columns: list(map(class_of, columns["state"][mine], columns["mean"][mine]))),
        (found["states"]["count"], found["states"]["names"], lambda columns: columns["state"][mine].tolist()),
    ):
        pairs = Counter(zip(label(written.snapshots[1]), label(written.snapshots[4]), strict=True))
        counted = {(a, b): table[i][j] for i, a in enumerate(names) for j, b in enumerate(names) if table[i][j]}
        assert counted == pairs and found["from"] == 1 and found["to"] == 4
    assert get(client, "/flow")["from"] == 0 and get(client, "/flow")["to"] == 5


@pytest.mark.parametrize(
    "sort", ["mean", "id", "state", "mixed_probability", "seen_at", "rollouts", "pass_rate", "offline", "change"]
)
@pytest.mark.parametrize("descending", [0, 1])
def test_problems_are_sorted_with_the_unknown_last(client: TestClient, sort: str, descending: int) -> None:
    rows = get(client, "/problems", sort=sort, descending=descending, limit=500)["rows"]
    assert sorted(row["index"] for row in rows) == list(range(24))
    order = ["window", "outside", "retired", "deferred", "due", "resting"]
    values = [order.index(row["state"]) if sort == "state" else row[sort] for row in rows]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=bool(descending)) and values[: len(known)] == known
    pages = [get(client, "/problems", sort=sort, descending=descending, limit=7, offset=at)["rows"] for at in (0, 7, 14, 21)]
    assert [row["index"] for page in pages for row in page] == [row["index"] for row in rows]


def test_a_problems_row_is_what_the_snapshot_and_the_rollouts_say(client: TestClient, written: WrittenRun) -> None:
    last, first = written.snapshots[5], written.snapshots[0]
    for row in get(client, "/problems", limit=500)["rows"]:
        i = row["index"]
        low, high = beta_distribution.ppf([0.025, 0.975], last["alpha"][i], last["beta"][i])
        assert (row["mean"], row["low"], row["high"]) == pytest.approx((last["mean"][i], low, high), abs=1e-5)
        assert row["change"] == pytest.approx(last["mean"][i] - first["mean"][i], abs=1e-5)
        assert (row["id"], row["state"], row["seen_at"]) == (last["id"][i], last["state"][i], last["seen_at"][i])
        assert row["offline"] == written.problems[i].get("pass_rate")
        mine = [one for one in written.rollouts if one["index"] == i]
        known = [one["correct"] for one in mine if one["correct"] is not None]
        assert (row["rollouts"], row["correct"]) == (len(mine), sum(known))
        assert row["pass_rate"] == (pytest.approx(sum(known) / len(known)) if known else None)


def test_filters_and_their_counts_under_all_other_filters(client: TestClient, written: WrittenRun) -> None:
    last = written.snapshots[5]
    found = get(client, "/problems", domain="gui", state="window", search="UI-00", limit=500)
    holds = np.array(["ui-00" in id for id in last["id"]])
    wanted = np.flatnonzero(holds & (last["domain"] == "gui") & (last["state"] == "window"))
    assert [row["index"] for row in found["rows"]] == wanted.tolist() and found["matching"] == len(wanted)
    assert found["facets"]["state"] == Counter(last["state"][holds & (last["domain"] == "gui")].tolist())
    assert found["facets"]["domain"] == Counter(last["domain"][holds & (last["state"] == "window")].tolist())
    found = get(client, "/problems", mean_min=0.3, mean_max=0.6, seen=0, limit=500)
    wanted = np.flatnonzero((last["mean"] >= 0.3) & (last["mean"] <= 0.6) & (last["seen_at"] < 0))
    assert [row["index"] for row in found["rows"]] == wanted.tolist()
    assert get(client, "/problems", tier="")["matching"] == sum(tier is None for tier in last["tier"])


def test_a_problems_history_question_and_rollouts(client: TestClient, written: WrittenRun) -> None:
    index = written.rollouts[0]["index"]
    found = get(client, f"/problems/{index}")
    alpha, beta = (np.array([columns[name][index] for columns in written.snapshots.values()]) for name in ("alpha", "beta"))
    history = found["history"]
    assert history["step"] == list(range(6)) and history["mean"] == pytest.approx(alpha / (alpha + beta), abs=1e-6)
    assert history["high"] == pytest.approx(beta_distribution.ppf(0.975, alpha, beta), abs=1e-5)
    assert history["state"] == [columns["state"][index] for columns in written.snapshots.values()]
    mine = [row for row in written.reread() if row["index"] == index]
    assert {(row["step"], row["row"]) for row in found["rollouts"]} == {(row["step"], row["row"]) for row in mine}
    assert found["rollouts_total"] == len(mine)
    for one in found["observed"]:
        known = [row["correct"] for row in mine if row["step"] == one["step"] and row["correct"] is not None]
        assert (one["right"], one["known"], one["groups"]) == (sum(known), len(known), 1)
    problem = written.problems[index]
    assert found["answer"] == problem["answer"] and found["verifier"]["name"] == problem["domain"]
    assert found["offline"]["pass_rate"] == problem.get("pass_rate") and "<b>&amp;</b>" in found["question"]


def test_a_run_whose_files_are_taken_back_or_changed_is_read_again(growing: WrittenRun) -> None:
    watch = Watch(named_runs([growing.path]))
    watch.read_all()
    with TestClient(build_app(watch), base_url="http://localhost") as client:
        growing.step(2)
        watch.read_all()
        assert get(client, "/difficulty")["step"] == [0, 1, 2]
        assert get(client, "/rollouts")["matching"] == len(growing.rollouts)
        run = RunDir(growing.path, resume=True, loggers=())
        run.rewind(1)
        growing.rollouts = [row for row in growing.rollouts if row["step"] < 1]
        growing.step(1, seed=99)
        watch.read_all()
        assert get(client, "/difficulty")["step"] == [0, 1]
        found = get(client, "/problems", limit=500, sort="index")
        assert [row["mean"] for row in found["rows"]] == pytest.approx(growing.snapshots[1]["mean"], abs=1e-6)
        for row in found["rows"]:
            assert row["rollouts"] == sum(one["index"] == row["index"] for one in growing.rollouts)
        assert get(client, "/rollouts")["matching"] == len(growing.rollouts)


def test_files_that_are_none_are_passed_over_and_named(growing: WrittenRun) -> None:
    (growing.path / "difficulty" / "step=000001.parquet").write_bytes(b"PAR1 not really")
    (growing.path / "rollouts" / "step=000001.parquet").write_bytes(b"")
    (growing.path / "rollouts" / "step=000000.parquet.partial").write_bytes(b"half")
    watch = Watch(named_runs([growing.path]))
    watch.read_all()
    with TestClient(build_app(watch), base_url="http://localhost") as client:
        found = get(client, "/difficulty")
        assert found["step"] == [0] and "step=000001.parquet of difficulty/ cannot be read" in found["note"]
        found = get(client, "/rollouts")
        assert found["matching"] == 24 and found["indexed"] == {"files": 1, "total": 1}
        assert "step=000001.parquet of rollouts/ cannot be read" in found["run"]["note"]


def test_without_its_problem_file_a_run_is_shown_by_what_it_wrote(growing: WrittenRun) -> None:
    (growing.path.parents[1] / "data" / "problems.jsonl").unlink()
    watch = Watch(named_runs([growing.path]))
    watch.read_all()
    with TestClient(build_app(watch), base_url="http://localhost") as client:
        row = growing.rollouts[0]
        found = get(client, f"/problems/{row['index']}")
        assert found["question"] == row["question"] and found["answer"] == json.loads(row["answer"])
        assert "is not there" in found["note"] and found["media"] == []


def test_the_same_problems_in_another_order_in_the_file_are_put_in_order(growing: WrittenRun) -> None:
    import pyarrow.parquet as pq

    path = growing.path / "difficulty" / "step=000001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(len(table)))[::-1]), path)
    watch = Watch(named_runs([growing.path]))
    watch.read_all()
    with TestClient(build_app(watch), base_url="http://localhost") as client:
        rows = get(client, "/problems", limit=500)["rows"]
        assert [row["mean"] for row in rows] == pytest.approx(growing.snapshots[1]["mean"], abs=1e-6)
        assert [row["id"] for row in rows] == growing.snapshots[1]["id"].tolist()


def test_other_samplers_words_for_a_problem_are_its_state(growing: WrittenRun) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = growing.path / "difficulty" / "step=000001.parquet"
    table = pq.read_table(path).drop_columns(["state"])
    words = ["very easy", "hard", "medium"] * 4
    pq.write_table(table.append_column("difficulty_tier", pa.array(words)), path)
    (growing.path / "difficulty" / "step=000000.parquet").unlink()
    watch = Watch(named_runs([growing.path]))
    watch.read_all()
    with TestClient(build_app(watch), base_url="http://localhost") as client:
        found = get(client, "/difficulty")
        assert (found["state_column"], found["states"]) == ("difficulty_tier", ["hard", "medium", "very easy"])
        rows = get(client, "/problems", sort="state", descending=1, limit=500)["rows"]
        assert [row["state"] for row in rows] == ["very easy"] * 4 + ["medium"] * 4 + ["hard"] * 4
        assert get(client, "/problems", state="medium")["matching"] == 4
