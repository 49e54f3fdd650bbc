"""Rollouts against a plain reading of the files."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from written_run import GROUP, WrittenRun

from rlcs.dashboard.rollout_index import Database, RolloutIndex, reward_bin
from rlcs.dashboard.rollout_query import Filter, find_rollouts
from rlcs.dashboard.runs import Run, StepFile, named_runs
from rlcs.dashboard.server import build_app
from rlcs.dashboard.watch import Watch

BASE = "/api/runs/rl"
Row = dict[str, Any]


@pytest.fixture(scope="module")
def client(written: WrittenRun) -> Iterator[TestClient]:
    watch = Watch(named_runs([written.path]))
    watch.read_all()
    with TestClient(build_app(watch), base_url="http://127.0.0.1:8500") as client:
        yield client


@pytest.fixture(scope="module")
def rows(written: WrittenRun) -> list[Row]:
    return written.reread()


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(BASE + path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def text(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}.get(value, "")


CASES: list[tuple[dict[str, Any], Callable[[Row], bool]]] = [
    ({}, lambda row: True),
    ({"domain": "gui"}, lambda row: row["domain"] == "gui"),
    ({"domain": ["gui", "video"], "status": "ok"}, lambda row: row["domain"] in ("gui", "video") and row["status"] == "ok"),
    ({"reason": ""}, lambda row: row["reason"] is None),
    ({"reason": "<img src=x>", "fate": "trained"}, lambda row: row["reason"] == "<img src=x>" and row["fate"] == "trained"),
    ({"correct": "null"}, lambda row: row["correct"] is None),
    ({"correct": ["true", "null"], "thinking": "false"}, lambda row: row["correct"] is not False and not row["thinking"]),
    ({"tier": ""}, lambda row: row["tier"] is None),
    (
        {"finish": "length", "step_from": 2, "step_to": 3},
        lambda row: row["finish_reason"] == "length" and 2 <= row["step"] <= 3,
    ),
    ({"reward_min": 0.35}, lambda row: row["reward"] is not None and row["reward"] >= 0.35),
    ({"reward_max": 0}, lambda row: row["reward"] == 0),
    ({"reward_min": 1}, lambda row: row["reward"] == 1),
    ({"reward_min": 0.613, "reward_max": 0.827}, lambda row: row["reward"] is not None and 0.613 <= row["reward"] <= 0.827),
    (
        {"reward_min": 0.6, "reward_max": 0.7, "domain": "math"},
        lambda row: row["domain"] == "math" and 0.6 <= (row["reward"] or 0) <= 0.7,
    ),
    ({"reward_min": 0.61, "reward_max": 0.64}, lambda row: row["reward"] is not None and 0.61 <= row["reward"] <= 0.64),
    (
        {"reward_max": 0.65, "status": "ok"},
        lambda row: row["status"] == "ok" and row["reward"] is not None and row["reward"] <= 0.65,
    ),
    ({"reward_min": -1, "reward_max": 2}, lambda row: row["reward"] is not None),
    ({"reward_min": 1.5}, lambda row: False),
    ({"reward_max": -0.5}, lambda row: False),
    ({"index": 3, "reward_min": 0.5}, lambda row: row["index"] == 3 and row["reward"] is not None and row["reward"] >= 0.5),
    ({"index": 3}, lambda row: row["index"] == 3),
    ({"domain": "none such"}, lambda row: False),
]


@pytest.mark.parametrize(("query", "holds"), CASES)
def test_filters_find_what_a_plain_reading_finds(
    client: TestClient, rows: list[Row], query: dict[str, Any], holds: Any
) -> None:
    wanted = sorted(((row["step"], row["row"]) for row in rows if holds(row)), key=lambda key: (-key[0], key[1]))
    found = get(client, "/rollouts", **query, limit=500)
    assert [(row["step"], row["row"]) for row in found["rows"]] == wanted and found["matching"] == len(wanted)
    paged = [get(client, "/rollouts", **query, limit=17, offset=at)["rows"] for at in range(0, len(wanted), 17)]
    assert [(row["step"], row["row"]) for page in paged for row in page] == wanted
    oldest = get(client, "/rollouts", **query, limit=5, order="oldest")["rows"]
    assert [(row["step"], row["row"]) for row in oldest] == sorted(wanted)[:5]


@pytest.mark.parametrize(("query", "holds"), CASES[:20])
def test_labels_are_counted_under_all_other_filters(
    client: TestClient, rows: list[Row], query: dict[str, Any], holds: Any
) -> None:
    found = get(client, "/rollouts", **query)
    for label in ("domain", "tier", "status", "reason", "fate", "finish", "correct", "thinking"):
        column = "finish_reason" if label == "finish" else label
        chosen = {key: value for key, value in query.items() if key != label}
        others = next((other for known, other in CASES if known == chosen), None)
        if others is None:
            others = _without(query, label)
        counted = Counter(
            text(row[column]) if label in ("correct", "thinking") else row[column] or "" for row in rows if others(row)
        )
        assert found["facets"][label] == counted, label


def _without(query: dict[str, Any], label: str) -> Callable[[Row], bool]:
    """The conjunction of the parts of a query, its `label` left out."""
    parts = []
    for key, value in query.items():
        values = value if isinstance(value, list) else [value]
        column = "finish_reason" if key == "finish" else key
        if key == label:
            continue
        if key == "step_from":
            parts.append(lambda row, value=value: row["step"] >= value)
        elif key == "step_to":
            parts.append(lambda row, value=value: row["step"] <= value)
        elif key == "reward_min":
            parts.append(lambda row, value=value: row["reward"] is not None and row["reward"] >= value)
        elif key == "reward_max":
            parts.append(lambda row, value=value: row["reward"] is not None and row["reward"] <= value)
        elif key in ("correct", "thinking"):
            parts.append(lambda row, key=key, values=values: text(row[key]) in values)
        else:
            parts.append(lambda row, column=column, values=values: (row[column] or "") in values)
    return lambda row: all(part(row) for part in parts)


def test_orders_by_reward_and_length(client: TestClient, rows: list[Row]) -> None:
    for order, key in (("reward", "reward"), ("-reward", "reward"), ("tokens", "tokens"), ("-tokens", "tokens")):
        values = [row[key] for row in get(client, "/rollouts", order=order, limit=500)["rows"]]
        known = [value for value in values if value is not None]
        wanted = sorted((row[key] for row in rows if row[key] is not None), reverse=order.startswith("-"))
        assert known == pytest.approx(wanted) and values[: len(known)] == known


def test_the_histogram_of_rewards(client: TestClient, rows: list[Row]) -> None:
    found = get(client, "/rollouts", domain="gui", reward_min=0.5)["reward_histogram"]
    rewards = np.array([row["reward"] for row in rows if row["domain"] == "gui" and row["reward"] is not None])
    assert sum(found["count"]) == len(rewards)
    assert found["count"] == np.histogram(rewards + 1e-9, np.array(found["edges"]) + np.r_[np.zeros(20), 1e-6])[0].tolist()


def test_reward_bins_end_where_filters_do() -> None:
    twentieths = np.arange(21) / 20
    assert reward_bin(twentieths).tolist() == [0, *range(2, 21), 21]
    assert reward_bin(np.array([np.nan, -1.0, 0.01, 0.999, 2.0])).tolist() == [255, 0, 1, 20, 21]


def test_words_are_found_in_texts_whatever_their_case(client: TestClient, rows: list[Row]) -> None:
    for query, needle in (({"search": "SO 3 1<"}, "so 3 1<"), ({"search": "GUI-00", "correct": "true"}, "gui-00")):
        wanted = [
            (row["step"], row["row"])
            for row in rows
            if any(needle in row[name].lower() for name in ("id", "question", "response"))
            and (len(query) < 2 or row["correct"])
        ]
        found = get(client, "/rollouts", **query, limit=500)
        assert sorted((row["step"], row["row"]) for row in found["rows"]) == sorted(wanted)
        assert found["matching"] == len(wanted) and found["search"]["complete"]
        assert sum(found["facets"]["domain"].values()) == len(wanted)


def test_a_list_shows_the_ends_of_the_texts(client: TestClient, rows: list[Row]) -> None:
    by_key = {(row["step"], row["row"]): row for row in rows}
    for row in get(client, "/rollouts", limit=30)["rows"]:
        written = by_key[row["step"], row["row"]]
        assert row["response"] == written["response"][-200:] and row["question"] == written["question"][:200]
        for name in ("id", "index", "domain", "tier", "sample", "status", "reason", "fate", "tokens", "extracted", "correct"):
            assert row[name] == written[name], name
        assert row["reward"] == pytest.approx(written["reward"]) and row["advantage"] == pytest.approx(written["advantage"])


def test_one_rollout_whole_with_its_group(client: TestClient, rows: list[Row]) -> None:
    for written in rows[:: len(rows) // 7]:
        found = get(client, f"/rollouts/{written['step']}/{written['row']}")
        assert found["rollout"] == {**written, "answer": json.loads(written["answer"])}
        assert "".join(span["text"] for span in found["spans"]) == written["response"]
        kinds = {span["kind"]: span["text"] for span in found["spans"]}
        assert kinds["think"] == f"so {written['step']} {written['sample']}" and kinds["box"] in written["response"]
        group = [row for row in rows if row["step"] == written["step"] and row["index"] == written["index"]]
        assert len(group) == GROUP and [one["row"] for one in found["group"]] == [row["row"] for row in group]
        assert found["verdict"]["verifier"]["name"] == written["domain"] and found["tokens"] is None and found["tokens_note"]
        assert (found["previous"] is None) == (written["row"] == 0)
    last = max(row["row"] for row in rows if row["step"] == 0)
    assert get(client, f"/rollouts/0/{last}")["next"] is None
    assert (
        client.get(f"{BASE}/rollouts/0/{last + 1}").status_code == 404
        and client.get(f"{BASE}/rollouts/77/0").status_code == 404
    )


def test_a_click_is_drawn_in_pixels_of_its_image(client: TestClient, rows: list[Row]) -> None:
    written = next(row for row in rows if row["domain"] == "gui" and row["extracted"])
    geometry = get(client, f"/rollouts/{written['step']}/{written['row']}")["geometry"]
    assert (geometry["width"], geometry["height"], geometry["media"]) == (80, 60, 0)
    assert geometry["reference"][0] | {"label": None} == {
        "kind": "box",
        "points": [[8.0, 12.0], [24.0, 24.0]],
        "label": None,
        "iou": None,
        "hit": None,
    }
    assert geometry["predicted"][0]["points"] == [[16.0, 18.0]] and geometry["predicted"][0]["hit"] is True


def test_images_and_frames_are_sent_as_png(client: TestClient, written: WrittenRun) -> None:
    folder = written.path.parents[1] / "data"
    for index, path in ((0, "/media/0"), (2, "/media/0/1")):
        answer = client.get(f"{BASE}/problems/{index}{path}")
        assert answer.headers["content-type"] == "image/png"
        part = written.problems[index]["messages"][0]["content"][0]
        name = part["image"] if index == 0 else part["video"][1]
        with Image.open(io.BytesIO(answer.content)) as sent, Image.open(folder / name) as stored:
            np.testing.assert_array_equal(np.array(sent), np.array(stored.convert("RGB")))
    with Image.open(io.BytesIO(client.get(f"{BASE}/problems/0/media/0?width=40").content)) as small:
        assert small.size == (40, 30)
    media = get(client, "/problems/2")["media"]
    assert media[0]["frames"] == 2 and media[0]["seconds"] == [0.0, 0.5] and media[0]["kind"] == "video"
    for missing in ("/problems/0/media/1", "/problems/1/media/0", "/problems/2/media/0/2", "/problems/99/media/0"):
        assert client.get(BASE + missing).status_code == 404


def test_a_filtered_set_is_exported_as_lines(client: TestClient, rows: list[Row], written: WrittenRun) -> None:
    answer = client.get(f"{BASE}/rollouts.jsonl", params={"correct": "true", "domain": "gui", "order": "oldest"})
    wanted = [row for row in rows if row["correct"] and row["domain"] == "gui"]
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [(line["step"], line["id"], line["sample"]) for line in lines] == [
        (row["step"], row["id"], row["sample"]) for row in wanted
    ]
    for line, row in zip(lines, wanted, strict=True):
        assert line["messages"] == [
            *written.problems[row["index"]]["messages"],
            {"role": "assistant", "content": row["response"]},
        ]
        assert line["answer"] == json.loads(row["answer"]) and line["reward"] == row["reward"]
    assert "attachment" in answer.headers["content-disposition"]
    assert len(client.get(f"{BASE}/rollouts.jsonl?limit=3").text.splitlines()) == 3
    found = client.get(f"{BASE}/rollouts.jsonl?search=so 3 1<&limit=100").text.splitlines()
    assert len(found) == sum("so 3 1<" in row["response"] for row in rows)


@pytest.mark.parametrize(
    "query",
    [
        "limit=501",
        "limit=-1",
        "offset=x",
        "order=best",
        "correct=yes",
        "reward_min=nan",
        "index=1e9",
        "step_from=99999999999",
        "limit=1' OR 1",
    ],
)
def test_bad_parameters_are_refused(client: TestClient, query: str) -> None:
    answer = client.get(f"{BASE}/rollouts?{query}")
    assert answer.status_code == 400 and query.split("=")[0] in answer.json()["error"]


def test_a_look_while_files_are_read_counts_nothing_twice(growing: WrittenRun) -> None:
    run = Run("rl", growing.path)
    run.refresh()
    files = run.files["rollouts"]

    class Interrupted(RolloutIndex):
        """Between reading a file and taking it in, the watching thread lists the files anew."""

        looks: ClassVar[list[dict[int, StepFile]]] = []

        def _read(self, file: StepFile) -> Any:
            found = super()._read(file)
            if self.looks:
                self.expect(self.looks.pop(0))
            return found

    with closing(Database()) as database:
        index = Interrupted(database, 0)
        changed = StepFile((1, str(files[1].path), files[1][2], files[1][3] + 1))
        for looks, left in (([files] * 4, [0, 1]), ([{0: files[0]}], [0]), ([{0: files[0], 1: changed}] * 3, [0, 1])):
            index.expect({})
            index.expect(files)
            index.looks[:] = looks
            while index.read_some():
                pass
            assert sorted(index.files) == left
            assert index.total_rows == 24 * len(left) == sum(find_rollouts(index, Filter(), "newest", 0, 0).by_step.values())
