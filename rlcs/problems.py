"""Problem files: JSON Lines in the schema of docs/data.md, read strictly. `rlcs.check` looks at media and references too."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rewards import check_reference, registry
from rollout.messages import check_messages

REQUIRED = ("id", "domain", "messages", "answer")
OPTIONAL = ("verifier", "verifier_args", "tier", "pass_rate", "grade", "source")
EXAMPLE_REQUIRED = ("id", "domain", "messages")
EXAMPLE_OPTIONAL = ("tier", "source")

MAX_NESTING = 64
"""Levels of brackets in one line: what reads it further on must not run out of stack."""
_MAX_LISTED = 20  # issues a ProblemFileError spells out
_MAX_REFERENCES = 5  # rejected references it spells out
_MAX_FOUND = 60  # characters of an offending value shown


class Problem(BaseModel):
    """A question with a reference answer and the verifier that compares answers with it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    id: str
    """Unique in its file."""
    domain: str
    """Subject; curriculum and metrics are kept by it, and it has a default verifier."""
    messages: list[dict[str, Any]]
    """Chat messages, the last one the user's; media paths are relative to `root`."""
    answer: Any
    """Reference answer, in the form the verifier takes."""
    verifier: str | None = None
    """Verifier to use in place of the domain's default."""
    verifier_args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the verifier."""
    tier: str | None = None
    """Label of a difficulty level."""
    pass_rate: float | None = Field(default=None, ge=0, le=1)
    """Pass rate measured beforehand; seeds the curriculum's prior."""
    grade: dict[str, Any] | None = None
    """What `rlcs grade` counted to measure it (docs/grade.md); not read by training."""
    source: str | None = None
    """Where the problem comes from."""
    root: Path = Path()
    """Directory of the file."""


@dataclass(frozen=True, slots=True)
class Issue:
    """What is wrong on one line: `found` says what stands there and what was expected, `mend` what to do."""

    line: int
    id: str | None
    field: str | None
    found: str
    mend: str

    def __str__(self) -> str:
        parts = [f"line {self.line}" if self.line else "", f"id {self.id!r}" if self.id is not None else ""]
        parts.append(f"field {self.field!r}" if self.field else "")
        where = ", ".join(part for part in parts if part)
        return f"{where}: {self.found}; {self.mend}" if where else f"{self.found}; {self.mend}"


class ProblemFileError(ValueError):
    """A problem file cannot be used; `issues` are all its faults, and the message spells out the first of them."""

    def __init__(self, path: Path, issues: Sequence[Issue]) -> None:
        self.issues = list(issues)
        shown = [f"{path}, {issue}" if issue.line else f"{path}: {issue}" for issue in issues[:_MAX_LISTED]]
        if len(issues) > 1:
            shown.insert(0, f"{path}: {len(issues)} errors")
        if len(issues) > _MAX_LISTED:
            shown.append(f"and {len(issues) - _MAX_LISTED} more; `rlcs check {path}` sums them up")
        super().__init__("\n  ".join(shown))


def load_problems(path: str | Path) -> list[Problem]:
    """The problems of a JSON Lines file, in its order. Raises ProblemFileError with every error of the file."""
    path = Path(path)
    problems: list[Problem] = []
    issues: list[Issue] = []
    seen: dict[str, int] = {}
    root = path.parent
    for number, line in read_lines(path):
        found = [line] if isinstance(line, Issue) else [*problem_issues(line, number), *repeated_id(line, number, seen)]
        issues.extend(found)
        if not issues and not isinstance(line, Issue):
            problems.append(Problem(**{key: value for key, value in line.items() if value is not None}, root=root))
    if issues:
        raise ProblemFileError(path, issues)
    return problems


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | Issue]]:
    """Number and object of each line that is not blank, or the issue why it is none. An empty file is an issue, too.

    Raises ProblemFileError when the file cannot be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ProblemFileError(path, [Issue(0, None, None, f"cannot be read ({error.strerror})", "check the path")]) from error
    empty = True
    with file:
        for number, line in enumerate(file, 1):
            if not line.isspace():
                empty = False
                yield number, parse_line(line, number)
    if empty:
        yield 0, Issue(0, None, None, "the file has no lines; expected one JSON object a line", "write problems to it")


def parse_line(line: bytes, number: int) -> dict[str, Any] | Issue:
    """The JSON object of one line, or the issue why there is none."""
    try:
        value = _DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Issue(number, None, None, f"not UTF-8 ({error.reason} at byte {error.start})", "save the file as UTF-8")
    except json.JSONDecodeError as error:
        what = "begins with a byte-order mark" if line.startswith(b"\xef\xbb\xbf") else f"{error.msg} at column {error.colno}"
        return Issue(number, None, None, f"not JSON ({what})", "write one JSON object a line")
    except (ValueError, RecursionError) as error:  # repeated keys, NaN, numbers of thousands of digits, deep nesting
        return Issue(number, None, None, f"not usable JSON ({error})", "mend the line")
    if not isinstance(value, dict):
        return Issue(number, None, None, f"found {kind_of(value)}; expected an object", "write one JSON object a line")
    if line.count(b"[") + line.count(b"{") > MAX_NESTING and _nesting(value) > MAX_NESTING:
        found = f"nested more than {MAX_NESTING} levels deep"
        return Issue(number, None, None, found, "write the line without so many brackets")
    if b"\\ud" in line or b"\\uD" in line:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            found = "half of a surrogate pair (\\ud800 to \\udfff) in a text; expected whole characters"
            return Issue(number, id_of(value), None, found, "write the character itself or remove it")
    return value


def problem_issues(line: Mapping[str, Any], number: int) -> list[Issue]:
    """Everything wrong with one line as a problem, its media and reference not looked at."""
    issues = [*common_issues(line, number, REQUIRED, OPTIONAL), *_message_issues(line, number, "user")]
    if "answer" in line and line["answer"] is None:
        found = "found null; expected the reference answer"
        issues.append(Issue(number, id_of(line), "answer", found, "write it, or remove the line"))
    rate = line.get("pass_rate")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1):
        found = f"found {shown(rate)}; expected a number from 0 to 1"
        issues.append(Issue(number, id_of(line), "pass_rate", found, "correct or remove it"))
    if not isinstance(grade := line.get("grade"), dict | None):
        found = f"found {shown(grade)}; expected an object as `rlcs grade` writes it"
        issues.append(Issue(number, id_of(line), "grade", found, "remove it"))
    issues.extend(_verifier_issues(line, number))
    return issues


def check_references(problems: Sequence[Problem], path: Path) -> None:
    """Raises ValueError naming the problems whose reference answer their own verifier rejects."""
    faults = []
    for problem in problems:
        reason = check_reference(problem.answer, domain=problem.domain, verifier=problem.verifier, args=problem.verifier_args)
        if reason:
            faults.append(f"  {problem.id}: answer {json.dumps(problem.answer, ensure_ascii=False)}: {reason}")
    if faults:
        more = [f"  and {len(faults) - _MAX_REFERENCES} more"] if len(faults) > _MAX_REFERENCES else []
        head = (
            f"{path}: {len(faults)} of {len(problems)} references are rejected by their own verifier;"
            f" mend or delete them (all of them: rlcs check {path})"
        )
        raise ValueError("\n".join([head, *faults[:_MAX_REFERENCES], *more]))


def example_issues(line: Mapping[str, Any], number: int) -> list[Issue]:
    """Everything wrong with one line as an SFT example, its media and its response's format not looked at."""
    issues = common_issues(line, number, EXAMPLE_REQUIRED, EXAMPLE_OPTIONAL)
    return [*issues, *_message_issues(line, number, "assistant")]


def repeated_id(line: Mapping[str, Any], number: int, seen: dict[str, int]) -> list[Issue]:
    """The issue that an earlier line has the same id; `seen` holds the line of each id so far."""
    name = line.get("id")
    if not isinstance(name, str) or (first := seen.setdefault(name, number)) == number:
        return []
    return [Issue(number, name, "id", f"the same id stands on line {first}; expected a unique one", "rename one of them")]


def common_issues(line: Mapping[str, Any], number: int, required: Sequence[str], optional: Sequence[str]) -> list[Issue]:
    """Missing and unknown fields, and fields that should be text and are not."""
    issues = []
    name = id_of(line)
    unknown = [key for key in line if key not in required and key not in optional]
    for key in required:
        if key not in line:
            near = difflib.get_close_matches(key, unknown, n=1)
            mend = f"rename {near[0]!r} to {key!r}" if near else f"add the field {key!r}"
            issues.append(Issue(number, name, key, f"missing; found the fields {', '.join(line)}", mend))
            unknown = [other for other in unknown if other not in near]
    for key in unknown:
        known = [*required, *optional]
        near = difflib.get_close_matches(key, [other for other in known if other not in line], n=1)
        mend = f"rename it to {near[0]!r} or remove it" if near else "remove it"
        issues.append(Issue(number, name, key, f"unknown; the fields are {', '.join(known)}", mend))
    for key in ("id", "domain"):
        if key in line and not (isinstance(line[key], str) and line[key].strip()):
            issues.append(_not_text(line, number, key))
    for key in ("tier", "source"):
        if line.get(key) is not None and not isinstance(line[key], str):
            issues.append(_not_text(line, number, key))
    return issues


def _not_text(line: Mapping[str, Any], number: int, key: str) -> Issue:
    value = line[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        mend = f'quote it: "{key}": "{value}"'
    else:
        mend = "write it as a JSON string" + (" that is not empty" if key in ("id", "domain") else " or remove it")
    return Issue(number, id_of(line), key, f"found {shown(value)}; expected text", mend)


def _message_issues(line: Mapping[str, Any], number: int, last: str) -> list[Issue]:
    if "messages" not in line:
        return []
    fault = _message_fault(line["messages"], last)
    return [] if fault is None else [Issue(number, id_of(line), "messages", *fault)]


def _message_fault(messages: Any, last: str) -> tuple[str, str] | None:
    """(found, mend) of the first fault of `messages`, whose last message should have the role `last`."""
    shape = 'expected [{"role": ..., "content": ...}, ...]'
    if not isinstance(messages, list):
        return f"found {kind_of(messages)}; {shape}", "write the messages as a list"
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            return f"message {index}: found {shown(message)}; {shape}", "write the message as an object"
        extra = message.keys() - {"role", "content"}
        if extra:
            return f"message {index}: unknown key {min(extra)!r}; {shape}", "remove it"
    try:
        check_messages(messages, media=("image", "video"))
    except ValueError as error:
        return str(error), "correct the message"
    for index, message in enumerate(messages):
        for place, part in enumerate(message["content"] if isinstance(message["content"], list) else ()):
            fault = _part_fault(part, message["role"])
            if fault is not None:
                return f"message {index}, part {place}: {fault[0]}", fault[1]
    if not any(message["role"] == "user" for message in messages):
        return "no message is the user's; expected one", "add the user's message"
    role, content = messages[-1]["role"], messages[-1]["content"]
    if role != last:
        other = "an SFT example ends in the assistant's message, a problem in the user's"
        return f"the last message is the {role}'s; expected the {last}'s", f"add or remove a message: {other}"
    if not (content.strip() if isinstance(content, str) else any(part.get("text", "x").strip() for part in content)):
        return f"the {last}'s last message is empty; expected text or media", "write its content"
    return None


def _part_fault(part: Mapping[str, Any], role: str) -> tuple[str, str] | None:
    kind = part["type"]
    extra = part.keys() - {"type", kind} - ({"fps"} if kind == "video" else set())
    if extra:
        return f"unknown key {min(extra)!r} in a part of type {kind}", "remove it"
    if kind == "text":
        return None
    if role == "assistant":
        return f"{kind} in an assistant's message; expected text only", "move it to a user's message"
    value = part[kind]
    paths = value if isinstance(value, list) and kind == "video" else [value]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        wanted = "a path, or a list of paths of frames" if kind == "video" else "a path"
        return f"{kind} is {shown(value)}; expected {wanted}", "write paths relative to this file"
    fps = part.get("fps")
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float) or fps <= 0):
        return f"fps is {shown(fps)}; expected a number above 0", "correct or remove it"
    return None


def _verifier_issues(line: Mapping[str, Any], number: int) -> list[Issue]:
    name, domain, verifier, args = id_of(line), line.get("domain"), line.get("verifier"), line.get("verifier_args")
    issues = []
    if verifier is not None and not isinstance(verifier, str):
        issues.append(_not_text(line, number, "verifier"))
    if args is not None and not isinstance(args, dict):
        found = f"found {shown(args)}; expected an object of arguments"
        issues.append(Issue(number, name, "verifier_args", found, "correct or remove it"))
    if issues or not isinstance(domain, str) or not domain.strip():
        return issues
    try:
        entry = registry.find(domain, verifier)
    except registry.UnknownNameError as error:
        mend = "use a known one, or name one of these in 'verifier': " + ", ".join(registry.known_verifiers())
        return (
            [Issue(number, name, "domain", str(error), mend)]
            if verifier is None
            else [Issue(number, name, "verifier", str(error), "use a known one, or remove it for the domain's default")]
        )
    try:
        registry.build_args(entry, args)
    except ValueError as error:
        issues.append(Issue(number, name, "verifier_args", str(error), "correct or remove it"))
    return issues


def id_of(line: Mapping[str, Any]) -> str | None:
    """The line's id for messages, whatever its type."""
    name = line.get("id")
    return name if name is None or isinstance(name, str) else shown(name)


def shown(value: Any) -> str:
    """A value as JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_FOUND else f"{text[:_MAX_FOUND]}…"


def kind_of(value: Any) -> str:
    """The JSON type of a value."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "an object")


def _nesting(value: Any) -> int:
    """Levels of objects and lists in each other."""
    depth, level = 0, [value]
    while level := [inner for outer in level if isinstance(outer, dict | list) for inner in _items(outer)]:
        depth += 1
    return depth + 1


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in names if names.count(key) > 1)!r} stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


# Made once: `json.loads` makes a decoder for every call with hooks.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant)
