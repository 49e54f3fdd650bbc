"""`rlcs check FILE`: everything wrong with a file of problems or SFT examples, and a table of what is in it.

Beyond what the loaders look at: media are decoded, references are put to their own verifiers in processes with a time
limit, responses must keep the format, and questions that stand twice are pointed out. A line is an SFT example when its last
message is the assistant's, or when its messages cannot be read and it has no answer; otherwise it is a problem.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rewards import ScorePool, known_domains
from rewards.api import response_with
from rewards.format import Style
from rewards.registry import find
from rlcs.media_check import MediaFacts, Source, inspect, sources_of
from rlcs.problems import Issue, ProblemFileError, example_issues, id_of, problem_issues, read_lines, repeated_id, shown
from rollout.messages import parts_of, text_of
from sft.data import judge_format

CHUNK = 1024
"""Lines checked at a time: memory does not grow with the length of references and responses."""
_MAX_SHOWN = 5  # issues of each field that are printed
_NEEDED_TO_SCORE = {"id", "domain", "messages", "answer", "verifier", "verifier_args"}

Line = tuple[int, Mapping[str, Any], set[str | None]]  # number, object, fields found faulty


@dataclass(slots=True)
class Tally:
    """Counts of one domain and tier."""

    lines: int = 0
    with_image: int = 0
    with_video: int = 0
    with_pass_rate: int = 0
    pass_rate_sum: float = 0.0
    verifiers: set[str] = field(default_factory=set)

    @property
    def mean_pass_rate(self) -> float | None:
        """Mean over the problems that state one."""
        return self.pass_rate_sum / self.with_pass_rate if self.with_pass_rate else None


@dataclass(slots=True)
class CheckReport:
    """What was found in a file, issues in the order of its lines; `tallies` is by (domain, tier)."""

    path: Path
    problems: int = 0
    examples: int = 0
    errors: list[Issue] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)
    tallies: dict[tuple[str, str | None], Tally] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the file can be used; warnings do not count."""
        return not self.errors


def check_file(
    path: str | Path,
    *,
    console: Console | None = None,
    style: Style = "box",
    workers: int | None = None,
    timeout_s: float = 5.0,
    plugins: Sequence[str] = (),
) -> CheckReport:
    """Every error of a JSON Lines file, with its line, id, field, what was found and the mend.

    `console` shows a progress bar. `style` is the response format of SFT examples. A reference that its verifier cannot
    judge within `timeout_s` is an error as well: in training each of its samples would abstain. `plugins` are modules that
    register verifiers of your own.
    """
    report = CheckReport(Path(path))
    try:
        with (
            ScorePool(workers, timeout_s=timeout_s, plugins=plugins) as pool,
            ThreadPoolExecutor() as threads,
            _progress(report.path, console) as advance,
        ):
            checker = _Checker(report, style)  # the pool has loaded the plug-ins
            lines = read_lines(report.path)
            while chunk := list(islice(lines, CHUNK)):
                checker.check(chunk, pool, threads)
                advance(chunk[-1][0])
    except ProblemFileError as error:
        report.errors.extend(error.issues)
    if report.problems and report.examples:
        found = f"{report.problems} problems and {report.examples} SFT examples in one file; expected one kind"
        report.errors.append(Issue(0, None, None, found, "write them to a file each"))
    report.errors.sort(key=lambda issue: issue.line)
    return report


class _Checker:
    """Goes through a file in chunks; holds what must be remembered from one to the next."""

    def __init__(self, report: CheckReport, style: Style) -> None:
        self.report, self.style, self.root = report, style, report.path.parent
        self._verifiers = known_domains()
        self._line_of_id: dict[str, int] = {}
        self._line_of_content: dict[bytes, tuple[int, int]] = {}
        self._media: dict[Source, MediaFacts] = {}

    def check(self, chunk: Sequence[tuple[int, dict[str, Any] | Issue]], pool: ScorePool, threads: ThreadPoolExecutor) -> None:
        """Adds what is wrong with these lines to the report."""
        problems: list[Line] = []
        examples: list[Line] = []
        for number, line in chunk:
            if isinstance(line, Issue):
                self.report.errors.append(line)
                continue
            is_example = _is_example(line)
            found = example_issues(line, number) if is_example else problem_issues(line, number)
            found += repeated_id(line, number, self._line_of_id)
            self.report.errors.extend(found)
            self._count(line, is_example)
            (examples if is_example else problems).append((number, line, {issue.field for issue in found}))
        readable = [item for item in [*problems, *examples] if "messages" in item[1] and "messages" not in item[2]]
        self._check_media(readable, threads)
        for item in sorted(readable, key=lambda item: item[0]):
            self._compare_content(item)
        self._check_responses([item for item in examples if "messages" in item[1] and "messages" not in item[2]])
        self._check_references([item for item in problems if not item[2] & _NEEDED_TO_SCORE], pool)

    def _count(self, line: Mapping[str, Any], is_example: bool) -> None:
        self.report.examples += is_example
        self.report.problems += not is_example
        domain, tier, rate = line.get("domain"), line.get("tier"), line.get("pass_rate")
        domain = domain if isinstance(domain, str) else "?"
        tally = self.report.tallies.setdefault((domain, tier if isinstance(tier, str) else None), Tally())
        tally.lines += 1
        kinds = _media_kinds(line.get("messages"))
        tally.with_image += "image" in kinds
        tally.with_video += "video" in kinds
        if not is_example:
            verifier = line.get("verifier") or self._verifiers.get(domain)
            tally.verifiers |= {verifier} if isinstance(verifier, str) else set()
            if isinstance(rate, int | float) and 0 <= rate <= 1:
                tally.with_pass_rate += 1
                tally.pass_rate_sum += rate

    def _check_media(self, lines: Sequence[Line], threads: ThreadPoolExecutor) -> None:
        sources = [source for _, line, _ in lines for source in sources_of(line["messages"], self.root)]
        new = list(dict.fromkeys(source for source in sources if source not in self._media))
        self._media.update(zip(new, threads.map(inspect, new), strict=True))
        for number, line, _ in lines:
            for source in sources_of(line["messages"], self.root):
                fault = self._media[source].fault
                if fault is not None:
                    self.report.errors.append(Issue(number, id_of(line), source.kind, *fault))

    def _compare_content(self, item: Line) -> None:
        number, line, _ = item
        facts = iter([self._media[source] for source in sources_of(line["messages"], self.root)])
        content: list[Any] = []
        for message in line["messages"]:
            content.append(message["role"])
            for part in parts_of(message):
                content.append(part["text"] if part["type"] == "text" else [part["type"], part.get("fps"), next(facts).digest])
        if any(isinstance(part, list) and part[-1] is None for part in content):
            return  # media that could not be read equal nothing
        key = hashlib.sha256(json.dumps(content).encode()).digest()
        answer = hash(json.dumps(line.get("answer"), sort_keys=True))
        first, first_answer = self._line_of_content.setdefault(key, (number, answer))
        if first != number:
            differs = "" if answer == first_answer else ", with another answer"
            found = f"the same messages and media stand on line {first}{differs}; expected each question once"
            self.report.warnings.append(Issue(number, id_of(line), "messages", found, "remove one of them"))

    def _check_responses(self, examples: Sequence[Line]) -> None:
        for number, line, _ in examples:
            reason, _ = judge_format(line["messages"], self.style)
            if reason is not None:
                found = f"the response breaks the format: {reason}; expected style {self.style!r}"
                mend = "mend the response (docs/rewards.md explains each reason), or `rlcs sft` leaves it out"
                self.report.errors.append(Issue(number, id_of(line), "messages", found, mend))

    def _check_references(self, problems: Sequence[Line], pool: ScorePool) -> None:
        """Puts each reference, boxed as a response, to its own verifier."""
        rows = [_reference_row(line) for _, line, _ in problems]
        for (number, line, _), verdict in zip(problems, pool.score_batch(rows), strict=True):
            if verdict.status == "ok" and (verdict.correct or not isinstance(line["answer"], str)):
                continue
            if verdict.status == "abstained":
                found = f"its verifier could not judge {shown(line['answer'])}: {verdict.reason}"
                mend = "give a simpler reference, or another verifier"
            else:
                reason = verdict.reason if verdict.status != "ok" else "self-mismatch"
                found = f"its verifier cannot accept {shown(line['answer'])}: {reason}"
                mend = "correct the reference, or name another verifier or other verifier_args"
            self.report.errors.append(Issue(number, id_of(line), "answer", found, mend))


def _is_example(line: Mapping[str, Any]) -> bool:
    messages = line.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    role = last.get("role") if isinstance(last, dict) else None
    return role == "assistant" or (role not in ("user", "system") and "answer" not in line)


def _media_kinds(messages: Any) -> set[Any]:
    """Types of the parts of whatever stands in the place of messages."""
    contents = [m.get("content") for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return {part["type"] for part in parts if isinstance(part, dict) and isinstance(part.get("type"), str)}


def _reference_row(line: Mapping[str, Any]) -> dict[str, Any]:
    # A reference in text must be a right answer to itself; of others the verdict says whether they can be read.
    answer = line["answer"] if isinstance(line["answer"], str) else "-"
    question = next(message for message in reversed(line["messages"]) if message["role"] == "user")
    return {
        "id": line["id"],
        "domain": line["domain"],
        "answer": line["answer"],
        "response": response_with(answer, find(line["domain"], line.get("verifier"))),
        "question": text_of(question),
        "verifier": line.get("verifier"),
        "verifier_args": line.get("verifier_args"),
    }


@contextmanager
def _progress(path: Path, console: Console | None) -> Iterator[Callable[[int], None]]:
    """A bar over the lines of the file, with the time left; call what it yields with the number of lines done."""
    if console is None or not path.is_file():
        yield lambda done: None
        return
    with path.open("rb") as file:
        total = sum(1 for _ in file)
    columns = (
        f"checking {escape(path.name)}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        "left",
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("check", total=total)
        yield lambda done: bar.update(task, completed=done)


def print_report(report: CheckReport, console: Console) -> None:
    """A table per domain and tier, then the issues by field: the first few of each, and how many there are.

    Columns image and video count lines; pass rate is the mean over the problems that state one, and how many do.
    """
    if report.tallies:
        console.print(_table(report))
    for name, colour, issues in (("error", "red", report.errors), ("warning", "yellow", report.warnings)):
        for field_name, group in _by_field(issues).items():
            about = f"field {field_name!r}" if field_name else "the file"
            console.print(f"[{colour}]{_count(len(group), name)}[/] in {escape(about)}", highlight=False)
            for issue in group[:_MAX_SHOWN]:
                console.print(escape(f"  {report.path}, {issue}"), highlight=False, soft_wrap=True)
            if len(group) > _MAX_SHOWN:
                console.print(f"  … and {len(group) - _MAX_SHOWN} more", highlight=False)
    kinds = [_count(report.problems, "problem")] if report.problems else []
    kinds += [_count(report.examples, "SFT example")] if report.examples else []
    verdict = "[green]ok[/]" if report.ok else "[red]not usable[/]"
    parts = [*kinds, _count(len(report.errors), "error"), _count(len(report.warnings), "warning")]
    console.print(f"{escape(str(report.path))}: {verdict}: {', '.join(parts)}", highlight=False, soft_wrap=True)


def _table(report: CheckReport) -> Table:
    unit = "lines" if report.problems and report.examples else "problems" if report.problems else "examples"
    table = Table("domain", "tier", unit, "image", "video", "pass rate", "verifier")
    for column in table.columns[2:6]:
        column.justify = "right"
    for (domain, tier), tally in sorted(report.tallies.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        rate = "-" if tally.mean_pass_rate is None else f"{tally.mean_pass_rate:.3f} ({tally.with_pass_rate:,})"
        counts = [f"{count:,}" for count in (tally.lines, tally.with_image, tally.with_video)]
        table.add_row(escape(domain), escape(tier or "-"), *counts, rate, escape(", ".join(sorted(tally.verifiers)) or "-"))
    return table


def _by_field(issues: Sequence[Issue]) -> dict[str | None, list[Issue]]:
    groups: dict[str | None, list[Issue]] = {}
    for issue in issues:
        groups.setdefault(issue.field, []).append(issue)
    return groups


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
