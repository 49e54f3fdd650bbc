"""Problem files are read strictly: every error at once, each with line, id, field, what was found and the mend."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rlcs.problems import Issue, Problem, ProblemFileError, load_problems, parse_line, problem_issues

GOOD: dict[str, Any] = {"id": "a", "domain": "math", "messages": [{"role": "user", "content": "1+1"}], "answer": "2"}


def write(path: Path, *lines: dict[str, Any] | str | bytes) -> Path:
    encoded = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode() for line in lines
    ]
    path.write_bytes(b"".join(line + b"\n" for line in encoded))
    return path


def issues(tmp_path: Path, *lines: dict[str, Any] | str | bytes) -> list[Issue]:
    with pytest.raises(ProblemFileError) as caught:
        load_problems(write(tmp_path / "p.jsonl", *lines))
    return caught.value.issues


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def test_problems_come_in_the_order_of_the_file_with_its_directory_as_root(tmp_path: Path) -> None:
    full = {
        **GOOD,
        "id": "b",
        "domain": "letters",
        "answer": {"any": ["json", 1.5, None]},
        "verifier": "ocr",
        "verifier_args": {"case": "exact"},
        "tier": "hard",
        "pass_rate": 0.25,
        "source": "book",
    }
    problems = load_problems(write(tmp_path / "p.jsonl", GOOD, "", full))
    assert [problem.id for problem in problems] == ["a", "b"]
    assert problems[0] == Problem(**GOOD, root=tmp_path)
    assert problems[1] == Problem(**full, root=tmp_path)
    assert (problems[0].verifier, problems[0].verifier_args, problems[0].tier, problems[0].pass_rate) == (None, {}, None, None)


def test_null_stands_for_an_absent_optional_field(tmp_path: Path) -> None:
    line = {**GOOD, "verifier": None, "verifier_args": None, "tier": None, "pass_rate": None, "source": None}
    assert load_problems(write(tmp_path / "p.jsonl", line)) == [Problem(**GOOD, root=tmp_path)]


def test_media_parts_are_accepted_as_paths_and_a_video_as_frames(tmp_path: Path) -> None:
    parts = [
        {"type": "image", "image": "a.png"},
        {"type": "video", "video": "clip", "fps": 2},
        {"type": "video", "video": ["1.png", "2.png"]},
        {"type": "text", "text": "?"},
    ]
    assert load_problems(write(tmp_path / "p.jsonl", {**GOOD, "messages": user(parts)}))[0].messages == user(parts)


def test_a_problem_cannot_be_changed_or_given_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        Problem(**GOOD).tier = "x"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Problem(**GOOD, colour="red")


BAD: list[tuple[dict[str, Any], str | None, str, str]] = [
    ({"id": 7}, "id", "found 7; expected text", 'quote it: "id": "7"'),
    ({"id": " "}, "id", 'found " "; expected text', "not empty"),
    ({"tier": 3}, "tier", "found 3; expected text", 'quote it: "tier": "3"'),
    ({"source": ["x"]}, "source", 'found ["x"]; expected text', "JSON string"),
    ({"answer": None}, "answer", "found null; expected the reference answer", "write it"),
    ({"pass_rate": 1.5}, "pass_rate", "found 1.5; expected a number from 0 to 1", "correct or remove"),
    ({"pass_rate": True}, "pass_rate", "found true", "correct or remove"),
    ({"pass_rate": "0.5"}, "pass_rate", 'found "0.5"', "correct or remove"),
    ({"domain": "maths"}, "domain", "unknown domain 'maths'; did you mean 'math'?", "name one of these in 'verifier'"),
    ({"verifier": "orc"}, "verifier", "unknown verifier 'orc'; did you mean 'ocr'?", "known one"),
    ({"verifier": 3}, "verifier", "found 3; expected text", "quote it"),
    ({"verifier_args": {"rtoll": 0.1}}, "verifier_args", "did you mean 'rtol'?", "correct or remove"),
    ({"verifier_args": {"rtol": "x"}}, "verifier_args", "argument 'rtol' is 'x'", "correct or remove"),
    ({"verifier_args": [1]}, "verifier_args", "found [1]; expected an object", "correct or remove"),
    ({"teir": "x"}, "teir", "unknown; the fields are id, domain", "rename it to 'tier'"),
    ({"colour": "x"}, "colour", "unknown", "remove it"),
    ({"messages": "hi"}, "messages", "found text; expected [", "as a list"),
    ({"messages": []}, "messages", "no messages", "correct"),
    ({"messages": ["hi"]}, "messages", 'message 0: found "hi"', "as an object"),
    ({"messages": [{"role": "usr", "content": "x"}]}, "messages", "message 0: role 'usr'", "correct"),
    ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages", "unknown key 'name'", "remove"),
    ({"messages": user(None)}, "messages", "content part None", "correct"),
    ({"messages": user(" ")}, "messages", "the user's last message is empty", "write its content"),
    ({"messages": user([{"type": "text", "text": " "}])}, "messages", "the user's last message is empty", "write its content"),
    ({"messages": user([{"type": "audio", "audio": "x"}])}, "messages", "content part", "correct"),
    ({"messages": user([{"type": "image", "image": 3}])}, "messages", "part 0: image is 3; expected a path", "relative to"),
    ({"messages": user([{"type": "image", "image": ["a"]}])}, "messages", "expected a path", "relative to"),
    ({"messages": user([{"type": "video", "video": []}])}, "messages", "expected a path, or a list", "relative to"),
    ({"messages": user([{"type": "video", "video": "v", "fps": 0}])}, "messages", "fps is 0", "correct or remove"),
    ({"messages": user([{"type": "text", "text": "x", "txt": 1}])}, "messages", "unknown key 'txt'", "remove"),
    (
        {"messages": [*user("x"), {"role": "assistant", "content": "y"}]},
        "messages",
        "the last message is the assistant's; expected the user's",
        "an SFT example ends in the assistant's message",
    ),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages", "no message is the user's", "add"),
]


@pytest.mark.parametrize(("change", "field", "found", "mend"), BAD, ids=[f"{field}-{found[:24]}" for _, field, found, _ in BAD])
def test_a_bad_field_is_reported_with_its_mend(
    tmp_path: Path, change: dict[str, Any], field: str, found: str, mend: str
) -> None:
    (issue,) = issues(tmp_path, {**GOOD, "id": "first"}, {**GOOD, **change})
    assert (issue.line, issue.field) == (2, field)
    assert found in issue.found and mend in issue.mend
    assert issue.id == ("7" if change.get("id") == 7 else change.get("id", "a"))


def test_a_missing_field_names_the_one_that_may_be_meant(tmp_path: Path) -> None:
    line = {key: value for key, value in GOOD.items() if key != "answer"}
    (issue,) = issues(tmp_path, {**line, "anwser": "2"})
    assert str(issue) == (
        "line 1, id 'a', field 'answer': missing; found the fields id, domain, messages, anwser; rename 'anwser' to 'answer'"
    )
    (issue,) = issues(tmp_path, line)
    assert issue.mend == "add the field 'answer'"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "not JSON (Expecting property name"),
        ("[1]", "found a list; expected an object"),
        ("3", "found a number; expected an object"),
        (b'{"id": "\xff"}', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "begins with a byte-order mark"),
        ('{"id": "a", "id": "b"}', "the key 'id' stands twice"),
        ('{"answer": NaN}', "NaN is no JSON number"),
        ('{"answer": ' + "9" * 5000 + "}", "not usable JSON"),
        ("[" * 100_000, "not usable JSON"),
        ('{"answer": ' + "[" * 70 + "]" * 70 + "}", "nested more than 64 levels deep"),
        ('{"id": "a\\ud800"}', "half of a surrogate pair"),
    ],
)
def test_a_line_that_is_no_json_object_is_reported(tmp_path: Path, line: str | bytes, found: str) -> None:
    (issue,) = issues(tmp_path, GOOD, line)
    assert issue.line == 2 and found in issue.found


def test_characters_beyond_the_basic_plane_may_be_written_as_pairs(tmp_path: Path) -> None:
    (problem,) = load_problems(write(tmp_path / "p.jsonl", {**GOOD, "answer": "\U0001f600"}))
    assert problem.answer == "\U0001f600"


def test_a_repeated_id_names_both_lines(tmp_path: Path) -> None:
    (issue,) = issues(tmp_path, GOOD, {**GOOD, "id": "b"}, "", GOOD)
    assert issue.line == 4 and "line 1" in issue.found and issue.field == "id"


def test_all_errors_of_a_file_are_reported_the_first_twenty_in_full(tmp_path: Path) -> None:
    lines = [{**GOOD, "id": str(index), "tier": 1, "pass_rate": 2} for index in range(30)]
    path = write(tmp_path / "p.jsonl", *lines, "{")
    with pytest.raises(ProblemFileError) as caught:
        load_problems(path)
    message = str(caught.value)
    assert len(caught.value.issues) == 61
    assert f"{path}: 61 errors" in message and "and 41 more" in message
    assert message.count("\n") == 21
    assert f"{path}, line 1, id '0', field 'tier': found 1; expected text; quote it" in message


def test_an_empty_or_missing_file_is_an_error(tmp_path: Path) -> None:
    for content in ("", "\n \n"):
        (tmp_path / "p.jsonl").write_text(content)
        with pytest.raises(ProblemFileError, match="the file has no lines"):
            load_problems(tmp_path / "p.jsonl")
    with pytest.raises(ProblemFileError, match=re.escape(f"{tmp_path / 'none.jsonl'}: cannot be read")):
        load_problems(tmp_path / "none.jsonl")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "image", "x"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*Problem.model_fields, "extra"]), json_values))
def test_no_object_breaks_the_check_and_one_without_issues_makes_a_problem(changes: dict[str, Any]) -> None:
    line = {**GOOD, **changes}
    if not problem_issues(line, 1):
        Problem(**{key: value for key, value in line.items() if value is not None})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_break_the_reading_of_a_line(line: bytes) -> None:
    assert isinstance(parse_line(line, 1), Issue | dict)
