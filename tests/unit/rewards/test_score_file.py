"""`score_file`: output in input order, atomic, with clear errors for rows that cannot be scored."""

import json
from pathlib import Path

import pytest

from rewards import cli
from rewards.cli import explain_rows, score_file
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


def test_style_checks_hold_for_every_row(tmp_path: Path) -> None:
    loop = "<think>" + "the answer is three because it is three and so " * 200 + "</think>"
    rows = [
        {"id": "a", "domain": "math", "answer": "3", "response": loop + box("3").removeprefix("<think></think>")},
        {"id": "b", "domain": "math", "answer": "3", "response": box("3")},
    ]
    source = write(tmp_path / "in.jsonl", rows)
    reasons = []
    for checks in ((), ("repetition",)):
        score_file(source, tmp_path / "out.jsonl", workers=1, checks=checks, quiet=True)
        reasons.append([json.loads(line)["reason"] for line in (tmp_path / "out.jsonl").read_text().splitlines()])
    assert reasons == [[None, None], ["repetition", None]]


def test_unknown_style_check_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'repetition'"):
        score_file(write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl", checks=("repetitions",), quiet=True)
    assert not (tmp_path / "out.jsonl").exists()


def test_row_is_explained_without_an_output_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    assert [found.verdict.score for found in explain_rows(source, "2")] == [0.75]
    assert "domain ocr" in capfd.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_each_response_of_an_id_is_explained(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [{**ROWS[0], "response": box(answer)} for answer in ("0.5", "0.6")]
    explanations = explain_rows(write(tmp_path / "in.jsonl", [*rows, *ROWS[1:]]), "a")
    assert [found.verdict.correct for found in explanations] == [True, False]
    assert "response 2 of 2, line 2" in capfd.readouterr().out


def test_unknown_id_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no row with the id 'aa' in .*in.jsonl; did you mean 'a'"):
        explain_rows(write(tmp_path / "in.jsonl", ROWS), "aa")
    with pytest.raises(ValueError, match="its first ids are 'a', '2', 'c'"):
        explain_rows(tmp_path / "in.jsonl", "xyz")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="it has no rows with an id"):
        explain_rows(tmp_path / "empty.jsonl", "a")


def test_only_the_rows_to_explain_must_be_usable(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [["no row"], {"id": "x"}, *ROWS])
    assert explain_rows(source, "a")[0].verdict.correct is True
    with pytest.raises(RowError, match="line 2, id 'x'"):
        explain_rows(source, "x")


def test_bomb_is_explained_under_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    rows = [{"id": "a", "domain": "test-hostile", "answer": "x", "response": box("hold-the-interpreter")}]
    found = explain_rows(write(tmp_path / "in.jsonl", rows), "a", timeout_s=0.5, plugins=("hostile_verifiers",))
    assert found[0].verdict.reason == "timeout"


def test_command_explains_a_row_or_scores_the_file_but_not_both(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from rlcs.cli import app

    source, out = str(write(tmp_path / "in.jsonl", ROWS)), str(tmp_path / "out.jsonl")
    shown = CliRunner().invoke(app, ["score", source, "--explain", "e", "--check", "repetition"])
    assert shown.exit_code == 0 and "rtol=0.01" in shown.output and "repetition" in shown.output
    for options in ([], ["-o", out, "--explain", "a"]):
        refused = CliRunner().invoke(app, ["score", source, *options])
        assert refused.exit_code != 0 and "either -o OUT.jsonl" in str(refused.exception)
    assert CliRunner().invoke(app, ["score", source, "-o", out, "--quiet", "--workers", "1"]).exit_code == 0


def test_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("")
    assert score_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", quiet=True) == {}
    assert (tmp_path / "out.jsonl").read_text() == ""
