"""What `rlcs grade merge` is given: graded files of the same problems, and human labels. Read strictly. No torch."""

from collections.abc import Sequence
from pathlib import Path

from rlcs.grades import Grade
from rlcs.problems import Issue, Problem, ProblemFileError, read_lines, repeated_id, shown

COMPARED = ("domain", "messages", "answer", "verifier", "verifier_args")
"""Fields in which the graders' files must agree."""
_SHOWN = 5  # ids that an error names


def check_settings(paths: Sequence[Path], out: Path, weights: Sequence[float], human_weight: float | None) -> None:
    """Raises ValueError for files, weights or an output that cannot be meant."""
    places = [path.resolve() for path in paths]
    if not paths or len(set(places)) < len(places):
        raise ValueError(f"the graders are {', '.join(map(str, paths)) or 'none'}; expected graded files, each once")
    if out.resolve() in places:
        raise ValueError(f"{out} is one of the graders; name another file to write")
    if len(weights) != len(paths) or not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(f"weights {list(weights)} for {len(paths)} graders; expected one number above 0 for each")
    if human_weight is not None and not 0 <= human_weight < float("inf"):
        raise ValueError(f"the human weight is {human_weight}; expected a number of answers >= 0")


def check_same(path: Path, problems: Sequence[Problem], other_path: Path, others: Sequence[Problem]) -> None:
    """Raises ValueError where two files do not hold the same problems; their order may differ."""
    by_id = {problem.id: problem for problem in others}
    missing = [problem.id for problem in problems if problem.id not in by_id]
    extra = sorted(by_id.keys() - {problem.id for problem in problems})
    if missing or extra:
        raise ValueError(
            f"{path} and {other_path} are of different problems: {_count(missing)} only in the first, {_count(extra)} only in "
            "the second; grade the same file with every model"
        )
    for problem in problems:
        other = by_id[problem.id]
        for field in COMPARED:
            found, expected = getattr(other, field), getattr(problem, field)
            if found != expected:
                raise ValueError(
                    f"{other_path}, id {problem.id!r}, field {field!r}: found {shown(found)}, but {path} has {shown(expected)};"
                    " grade the same file with every model"
                )


def read_grades(path: Path, problems: Sequence[Problem]) -> dict[str, Grade]:
    """id -> grade of a file's problems. Raises ValueError naming what is not as `rlcs grade` writes it."""
    grades = {}
    for problem in problems:
        try:
            grades[problem.id] = Grade.from_json(problem.grade)
        except ValueError as error:
            raise ValueError(f"{path}, id {problem.id!r}: {error}") from error
    return grades


def read_labels(path: Path, problems: Sequence[Problem]) -> list[str | None]:
    """The human label of each of `problems`, from JSON Lines with `id` and `tier`; None for those without a line or with a
    null one. Other fields are not looked at, so a problem file will do. Raises ProblemFileError with every error.
    """
    labels: dict[str, str | None] = {}
    issues: list[Issue] = []
    seen: dict[str, int] = {}
    known = {problem.id for problem in problems}
    for number, line in read_lines(path):
        if isinstance(line, Issue):
            issues.append(line)
            continue
        id, label = line.get("id"), line.get("tier")
        issues += repeated_id(line, number, seen)
        if not isinstance(id, str):
            issues.append(Issue(number, None, "id", f"found {shown(id)}; expected text", "write the problem's id"))
        elif id not in known:
            issues.append(Issue(number, id, "id", "no graded problem has this id", "correct or remove the line"))
        elif "tier" not in line:
            found = f"missing; found the fields {', '.join(line)}"
            issues.append(Issue(number, id, "tier", found, "add the label, or null for none"))
        elif label is not None and not (isinstance(label, str) and label.strip()):
            issues.append(Issue(number, id, "tier", f"found {shown(label)}; expected text", "write the label in quotes"))
        else:
            labels[id] = label
    if issues:
        raise ProblemFileError(path, issues)
    return [labels.get(problem.id) for problem in problems]


def _count(ids: Sequence[str]) -> str:
    named = ", ".join(map(repr, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
    return f"{len(ids)} ({named})" if ids else "none"
