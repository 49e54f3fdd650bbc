"""`score_file`: output in input order, atomic, with clear errors for rows that cannot be scored."""

import json
from pathlib import Path

import pytest

from rewards import cli
from rewards.cli import score_file
from rewards.rows import RowError


def box(text: str) -> str:
    return f"<think></think><|begin_of_box|>{text}<|end_of_box|>"


ROWS = [
    {"id": "a", "domain": "math", "answer": "1/2", "response": box("0.5")},
    {"id": 2, "domain": "ocr", "answer": "abcd", "response": box("abcx"), "question": None},
    {"id": "c", "domain": "math", "answer": "1/2", "response": "0.5"},
    {"id": "d", "domain": "math", "answer": "", "response": box("5")},
    {"id": "e", "domain": "math", "answer": "100", "response": box("101"), "verifier_args": {"rtol": 0.01}, "note": 1},
]


def write(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_output_has_one_line_a_row_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "CHUNK", 2)  # several batches
    tallies = score_file(write(tmp_path / "in.jsonl", ROWS), tmp_path / "new" / "out.jsonl", workers=1, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "new" / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a", 2, "c", "d", "e"]
    assert [set(line) for line in lines] == [{"id", "score", "correct", "status", "extracted", "reason"}] * 5
    assert [line["status"] for line in lines] == ["ok", "ok", "format_error", "bad_reference", "ok"]
    assert [line["score"] for line in lines] == [1.0, 0.75, 0.0, None, 1.0]
    assert lines[2]["reason"] == "no-think" and lines[0]["extracted"] == "0.5"
    math = tallies["math"]
    assert (math.rows, math.scored, math.mean_score, math.accuracy) == (4, 3, 2 / 3, 2 / 3)
    assert math.statuses == {"ok": 2, "format_error": 1, "abstained": 0, "bad_reference": 1}


def test_summary_and_progress_go_to_stderr_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    score_file(write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl", workers=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "accuracy" in err and "math" in err and "0.667" in err


@pytest.mark.parametrize(
    "line,message",
    [
        ("{not json", "line 2: not JSON"),
        ('["a"]', "line 2: found a list"),
        ('{"id": "b", "domain": "math", "answer": "5"}', "line 2, id 'b': field 'response' is missing"),
        ('{"id": "b", "domain": "mat", "answer": "5", "response": "x"}', "did you mean 'math'"),
    ],
)
def test_bad_line_is_named_and_nothing_is_written(tmp_path: Path, line: str, message: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    (tmp_path / "out.jsonl").write_text("earlier")
    with pytest.raises(RowError, match=message) as caught:
        score_file(source, tmp_path / "out.jsonl", quiet=True)
    assert str(source) in str(caught.value)
    assert (tmp_path / "out.jsonl").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(RowError, match="not UTF-8"):
        score_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", quiet=True)


def test_failure_half_way_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.ScorePool, "score_batch", fail)
    with pytest.raises(KeyboardInterrupt):
        score_file(write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl", quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_lone_surrogate_in_a_response_is_written_as_valid_json(tmp_path: Path) -> None:
    rows = [{"id": "a", "domain": "ocr", "answer": "x", "response": box("\ud800")}]
    score_file(write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", workers=1, quiet=True)
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["extracted"] == "\ud800"


def test_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("")
    assert score_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", quiet=True) == {}
    assert (tmp_path / "out.jsonl").read_text() == ""
