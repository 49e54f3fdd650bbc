"""`rlcs check`: what it finds beyond the loaders, and how it reports."""

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from rlcs import media_check
from rlcs.check import CheckReport, check_file, print_report
from rlcs.media_check import Source, inspect
from rlcs.problems import Issue

PROBLEM: dict[str, Any] = {"id": "a", "domain": "math", "messages": [{"role": "user", "content": "1+1"}], "answer": "2"}
RESPONSE = "<think>1 and 1</think>\n<|begin_of_box|>2<|end_of_box|>"


def example(response: str = RESPONSE, *, question: Any = "1+1", **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
    return {"id": "a", "domain": "math", "messages": messages, **fields}


def asking(*media: dict[str, Any], text: str = "?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]


def write(root: Path, *lines: dict[str, Any] | str) -> Path:
    """The lines as a file, each dictionary with an id of its own unless it is already numbered."""
    texts = [line if isinstance(line, str) else json.dumps({**line, "id": f"p{n}"}) for n, line in enumerate(lines, 1)]
    (root / "data.jsonl").write_text("".join(f"{text}\n" for text in texts))
    return root / "data.jsonl"


def check(root: Path, *lines: dict[str, Any] | str, **options: Any) -> CheckReport:
    return check_file(write(root, *lines), workers=1, **options)


def only_error(root: Path, *lines: dict[str, Any] | str, **options: Any) -> Issue:
    (issue,) = check(root, *lines, **options).errors
    return issue


def picture(path: Path, size: tuple[int, int] = (28, 28), seed: int = 0) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path.name


def test_a_sound_file_is_counted_by_domain_and_tier(tmp_path: Path) -> None:
    image = {"type": "image", "image": picture(tmp_path / "a.png")}
    report = check(
        tmp_path,
        {**PROBLEM, "tier": "1", "pass_rate": 0.25},
        {**PROBLEM, "tier": "1", "pass_rate": 0.75, "messages": asking(image)},
        {**PROBLEM, "tier": "2", "verifier": "ocr", "messages": asking(text="2")},
        {**PROBLEM, "domain": "ocr", "messages": asking(image, text="read")},
    )
    assert report.ok and not report.warnings and (report.problems, report.examples) == (4, 0)
    first = report.tallies["math", "1"]
    assert (first.lines, first.with_image, first.with_pass_rate, first.mean_pass_rate) == (2, 1, 2, 0.5)
    assert report.tallies["math", "2"].verifiers == {"ocr"}
    assert report.tallies["ocr", None].verifiers == {"ocr"} and report.tallies["ocr", None].mean_pass_rate is None


def test_every_error_of_every_line_is_reported_in_order(tmp_path: Path) -> None:
    missing = asking({"type": "image", "image": "none.png"})
    report = check(
        tmp_path,
        {**PROBLEM, "messages": missing, "tier": 3, "answer": "10^10^10^10"},
        "{",
        {**PROBLEM, "domain": "maths"},
        {**PROBLEM, "messages": missing},
    )
    found = [(issue.line, issue.id, issue.field) for issue in report.errors]
    assert sorted(found[:3], key=str) == [(1, "p1", "answer"), (1, "p1", "image"), (1, "p1", "tier")]
    assert found[3:] == [(2, None, None), (3, "p3", "domain"), (4, "p4", "image")]
    assert not report.ok


def test_ids_must_be_unique_over_the_chunks_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlcs.check.CHUNK", 2)
    lines = [json.dumps({**PROBLEM, "id": str(index % 5), "messages": asking(text=str(index))}) for index in range(6)]
    issue = only_error(tmp_path, *lines)
    assert (issue.line, issue.field) == (6, "id") and "line 1" in issue.found


# References


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": "10^10^10^10"}, "too-complex"),
        ({"answer": ""}, "empty"),
        ({"domain": "gui", "answer": {"text": "x"}}, "no-action-type"),
        ({"domain": "ocr", "answer": ["x"]}, "not-text"),
        ({"domain": "ocr", "answer": "a <|end_of_box|> b"}, "unopened-box"),
    ],
)
def test_a_reference_its_own_verifier_rejects_is_an_error(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    issue = only_error(tmp_path, PROBLEM, {**PROBLEM, "messages": asking(), **change})
    assert (issue.line, issue.field) == (2, "answer") and reason in issue.found
    assert "cannot accept" in issue.found and "correct the reference" in issue.mend


def test_the_arguments_of_a_problem_count_for_its_reference(tmp_path: Path) -> None:
    line = {**PROBLEM, "answer": "5", "verifier_args": {"require_unit": True}}
    assert check(tmp_path, {**line, "answer": "5 cm"}).ok


@pytest.mark.parametrize("domain", ["general", "open", "judge"])
def test_references_are_checked_without_the_judge_that_answers_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, domain: str
) -> None:
    monkeypatch.delenv("RLCS_JUDGE_URL", raising=False)
    assert not check(tmp_path, {**PROBLEM, "domain": domain, "answer": "A calm lake"}).errors


def test_a_reference_that_hangs_its_verifier_is_an_error_after_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "rewards"))
    began = time.monotonic()
    lines = [
        {**PROBLEM, "domain": "test-hostile", "answer": answer, "messages": asking(text=answer)} for answer in ("hang", "x")
    ]
    issue = only_error(tmp_path, *lines, timeout_s=0.5, plugins=("hostile_verifiers",))
    assert (issue.line, issue.field) == (1, "answer") and "could not judge" in issue.found and "timeout" in issue.found
    assert time.monotonic() - began < 20


# Media


def test_an_image_that_is_missing_or_no_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    whole = (tmp_path / picture(tmp_path / "whole.png", (200, 200))).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    names = ("none.png", "text.png", "cut.png", ".")
    report = check(tmp_path, *({**PROBLEM, "messages": asking({"type": "image", "image": name})} for name in names))
    assert [(issue.line, issue.field) for issue in report.errors] == [(n, "image") for n in (1, 2, 3, 4)]
    assert "No such file" in report.errors[0].found and "relative to the data file" in report.errors[0].mend
    assert all("not a readable image" in issue.found for issue in report.errors[1:3])


def test_an_image_beyond_the_limits_of_the_processors_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_check, "MAX_PIXELS", 10_000)
    for name, size in {"long.png": (1005, 5), "large.png": (101, 100), "fine.png": (1000, 5)}.items():
        picture(tmp_path / name, size)
    names = ("long.png", "large.png", "fine.png")
    report = check(tmp_path, *({**PROBLEM, "messages": asking({"type": "image", "image": name})} for name in names))
    assert [issue.line for issue in report.errors] == [1, 2]
    assert "1005 x 5 pixels; expected sides within 1:200" in report.errors[0].found
    assert "101 x 100 pixels; expected at most 10,000" in report.errors[1].found


def test_an_image_is_opened_once_however_often_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Source] = []
    monkeypatch.setattr("rlcs.check.inspect", lambda source: opened.append(source) or inspect(source))
    monkeypatch.setattr("rlcs.check.CHUNK", 2)
    image = {"type": "image", "image": picture(tmp_path / "a.png")}
    assert check(tmp_path, *({**PROBLEM, "messages": asking(image, text=str(n))} for n in range(5))).ok
    assert len(opened) == 1


@pytest.mark.parametrize("listed", [True, False])
def test_all_frames_of_a_video_are_looked_at(tmp_path: Path, listed: bool) -> None:
    for index in range(3):
        picture(tmp_path / "clip" / f"{index}.png", seed=index)
    video = [f"clip/{index}.png" for index in range(3)] if listed else "clip"
    line = {**PROBLEM, "messages": asking({"type": "video", "video": video})}
    report = check(tmp_path, line)
    assert report.ok and report.tallies["math", None].with_video == 1
    picture(tmp_path / "clip" / "2.png", (56, 28))
    assert "frames of 2 sizes" in only_error(tmp_path, line).found
    (tmp_path / "clip" / "2.png").write_bytes(b"")
    assert "2.png: not a readable image" in only_error(tmp_path, line).found


def test_a_video_may_be_an_animation_and_no_film(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (28, 28), (shade, 0, 0)) for shade in (0, 100, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=500)
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (tmp_path / "empty").mkdir()
    lines = [{**PROBLEM, "messages": asking({"type": "video", "video": name})} for name in ("a.gif", "a.mp4", "empty")]
    report = check(tmp_path, *lines)
    assert [(issue.line, issue.field) for issue in report.errors] == [(2, "video"), (3, "video")]
    assert "expected an animated GIF or WebP, or a directory of frames" in report.errors[0].found
    assert "a directory without frames" in report.errors[1].found


def test_no_damage_to_an_image_file_breaks_the_check(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for suffix in ("png", "jpg", "gif", "webp", "bmp"):
        data = (tmp_path / picture(tmp_path / f"a.{suffix}")).read_bytes()
        for _ in range(40):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 4):
                damaged[place] = int(rng.integers(256))
            (tmp_path / "b").write_bytes(damaged[: int(rng.integers(1, len(data) + 1))])
            for kind in ("image", "video"):
                inspect(Source(kind, (tmp_path / "b",)))  # type: ignore[arg-type]


# SFT examples


def test_examples_are_told_from_problems_by_their_last_message(tmp_path: Path) -> None:
    report = check(tmp_path, example(), example(question="1 + 1", tier="easy", domain="chat"))
    assert report.ok and (report.problems, report.examples) == (0, 2)
    (tmp_path / "other").mkdir()
    unanswered = {key: value for key, value in PROBLEM.items() if key != "answer"}
    assert only_error(tmp_path / "other", unanswered).field == "answer"
    assert only_error(tmp_path / "other", {**unanswered, "messages": 3}).field == "messages"


@pytest.mark.parametrize(
    ("response", "question", "reason"),
    [
        ("2", "1+1", "no-think"),
        ("<think>a</think>2", "1+1", "no-box"),
        (RESPONSE * 2, "1+1", "two-thinks"),
        (RESPONSE, "1+1/nothink", "thought-after-nothink"),
        ("<think></think>\n<|begin_of_box|>2<|end_of_box|>", "1+1/nothink", None),
    ],
)
def test_a_response_that_sft_would_leave_out_is_an_error(
    tmp_path: Path, response: str, question: str, reason: str | None
) -> None:
    report = check(tmp_path, example(response, question=question))
    assert [f"breaks the format: {reason};" in issue.found for issue in report.errors] == [True] * (reason is not None)


def test_the_response_style_is_a_setting(tmp_path: Path) -> None:
    line = example("<think>a</think><answer>2</answer>")
    assert not check(tmp_path, line).ok
    assert check(tmp_path, line, style="answer").ok


def test_an_example_with_media_in_the_response_is_an_error(tmp_path: Path) -> None:
    line = example()
    line["messages"][1]["content"] = [{"type": "image", "image": "a.png"}]
    assert "image in an assistant's message" in only_error(tmp_path, line).found


def test_problems_and_examples_in_one_file_are_an_error(tmp_path: Path) -> None:
    issue = only_error(tmp_path, PROBLEM, PROBLEM | {"messages": asking()}, example())
    assert issue.line == 0 and "2 problems and 1 SFT examples in one file" in issue.found


# Repeated content


def test_a_question_that_stands_twice_is_a_warning(tmp_path: Path) -> None:
    for name, seed in (("a.png", 0), ("same.png", 0), ("other.png", 1)):
        picture(tmp_path / name, seed=seed)
    images = [asking({"type": "image", "image": name}) for name in ("a.png", "same.png", "other.png")]
    joined = [{"role": "user", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "+1"}]}]
    lines = [
        PROBLEM,
        *({**PROBLEM, "messages": messages} for messages in images),
        {**PROBLEM, "messages": joined, "answer": "3"},
    ]
    report = check(tmp_path, *lines)
    assert report.ok and [issue.line for issue in report.warnings] == [3, 5]
    assert "stand on line 2;" in report.warnings[0].found
    assert "stand on line 1, with another answer" in report.warnings[1].found


# The report


def printed(report: CheckReport) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    print_report(report, console)
    return console.export_text()


def test_the_printed_report_groups_and_caps_the_errors(tmp_path: Path) -> None:
    lines = [{**PROBLEM, "tier": index, "domain": "ma[b]th", "messages": asking(text=str(index))} for index in range(8)]
    text = printed(check(tmp_path, *lines))
    assert "8 errors in field 'tier'" in text and "8 errors in field 'domain'" in text
    assert text.count("found 0; expected text") == 1 and "found 6; expected text" not in text
    assert text.count("… and 3 more") == 2
    assert "ma[b]th" in text
    assert text.rstrip().endswith("data.jsonl: not usable: 8 problems, 16 errors, 0 warnings")


def test_the_printed_report_of_a_sound_file_is_a_table(tmp_path: Path) -> None:
    text = printed(check(tmp_path, {**PROBLEM, "tier": "level-1", "pass_rate": 0.5}))
    row = next(line for line in text.splitlines() if "level-1" in line)
    assert row.replace("│", " ").split() == ["math", "level-1", "1", "0", "0", "0.500", "(1)", "math"]
    assert "data.jsonl: ok: 1 problem, 0 errors, 0 warnings" in text


def test_a_file_that_cannot_be_read_or_is_empty_is_a_report_too(tmp_path: Path) -> None:
    report = check_file(tmp_path / "none.jsonl", console=Console(quiet=True))
    assert not report.ok and "cannot be read" in printed(report)
    assert "the file has no lines" in printed(check(tmp_path))


def test_progress_is_shown_while_checking(tmp_path: Path) -> None:
    console = Console(width=100, file=io.StringIO(), force_terminal=True)
    check(tmp_path, PROBLEM, console=console)
    assert "checking data.jsonl" in console.file.getvalue() and "1/1" in console.file.getvalue()  # type: ignore[attr-defined]


def test_checking_needs_no_torch() -> None:
    import subprocess

    code = "import sys, rlcs.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
