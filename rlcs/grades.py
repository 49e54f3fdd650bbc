"""What grading says of a problem, and how a graded problem is written: counts, interval, tier. No torch.

A grade in a problem file is `{"model", "k", "right", "interval": [low, high], "abstained", "modes": {mode: {"k", "right"}}}`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlcs.estimates import wilson_interval
from rlcs.media_check import sources_of
from rlcs.problems import Problem, read_lines
from sft.rundir import RunDir

DEFAULT_TIERS: list[str | float] = ["very hard", 0.1, "hard", 0.35, "medium", 0.65, "easy", 0.9, "very easy"]
"""The tiers of the sampler `glm-tiers`. Of 8 answers the outer ones hold none right and all right; beyond their bounds the
rlcs sampler defers and retires."""

_ON_BOUND = 1e-9  # weighted pass rates meet a bound up to rounding


@dataclass(frozen=True)
class Tiers:
    """Names of tiers, the hardest first, and the pass rates at which one ends and the next begins."""

    names: tuple[str, ...]
    bounds: tuple[float, ...]

    @classmethod
    def of(cls, axis: Sequence[str | float]) -> "Tiers":
        """From names and bounds by turns, as they lie between 0 and 1: ["hard", 0.3, "medium", 0.7, "easy"].

        Raises ValueError for anything else.
        """
        names, bounds = tuple(axis[::2]), tuple(axis[1::2])
        named = [name for name in names if isinstance(name, str) and name.strip()]
        rates = [bound for bound in bounds if isinstance(bound, float)]
        rising = all(low < high for low, high in zip([0.0, *rates], [*rates, 1.0], strict=True))
        if len(named) < len(names) or len(rates) < len(bounds) or len(axis) % 2 == 0 or not rising:
            raise ValueError(
                f"tiers is {json.dumps(list(axis))}; expected names and rising pass rates between 0 and 1 by turns, from a "
                'name to a name, such as ["hard", 0.3, "medium", 0.7, "easy"]'
            )
        if len(set(named)) < len(named):
            raise ValueError(f"tiers is {json.dumps(list(axis))}; expected each name once")
        return cls(tuple(named), tuple(rates))

    @classmethod
    def parse(cls, text: str) -> "Tiers":
        """From the axis with commas, "hard,0.3,medium,0.7,easy". Raises ValueError as `of`."""
        parts = [part.strip() for part in text.split(",")]
        return cls.of([_number(part) if place % 2 else part for place, part in enumerate(parts)])

    def of_rate(self, rate: float) -> str:
        """The tier of a pass rate. A rate on a bound belongs to the tier nearer the middle, 0.5."""
        passed = [rate > bound - _ON_BOUND if bound < 0.5 else rate > bound + _ON_BOUND for bound in self.bounds]
        return self.names[sum(passed)]


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text  # `Tiers.of` shows it


@dataclass(frozen=True)
class Grade:
    """Of `k` responses of `model` that the verifier could judge `right` were right; it `abstained` from others.

    `modes`: mode -> (right, k), where it is known.
    """

    model: str
    k: int
    right: int
    abstained: int = 0
    modes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for right, k in ((self.right, self.k), *self.modes.values()):
            if not 0 <= right <= k:
                raise ValueError(f"{right} right of {k}; expected 0 <= right <= k")

    @property
    def rate(self) -> float | None:
        """Share of right responses; None when the verifier abstained from all."""
        return self.right / self.k if self.k else None

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "k": self.k,
            "right": self.right,
            "interval": interval(self.right, self.k),
            "abstained": self.abstained,
            "modes": {mode: {"k": k, "right": right} for mode, (right, k) in self.modes.items()},
        }

    @classmethod
    def from_json(cls, value: Any) -> "Grade":
        """Raises ValueError saying what was found; `model`, `k` and `right` suffice, so that others can write grades."""
        if not isinstance(value, Mapping):
            raise ValueError("no grade; expected one as `rlcs grade` writes it")
        if "graders" in value:
            raise ValueError("the grade is merged already; merge the files it was made of")
        model = value.get("model")
        counts: dict[str, Any] = {name: value.get(name) for name in ("k", "right")}
        modes = value.get("modes") or {}
        counts["abstained"] = value.get("abstained", 0)
        if not isinstance(model, str):
            raise ValueError(f"grade: model is {json.dumps(model)}; expected text")
        if not isinstance(modes, Mapping) or not all(isinstance(found, Mapping) for found in modes.values()):
            raise ValueError(f"grade: modes is {json.dumps(modes)}; expected an object of objects with k and right")
        for mode, found in modes.items():
            counts |= {f"{mode}: {name}": found.get(name) for name in ("k", "right")}
        for name, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ValueError(f"grade: {name} is {json.dumps(count)}; expected a whole number >= 0")
        by_mode = {str(mode): (found["right"], found["k"]) for mode, found in modes.items()}
        return cls(model, value["k"], value["right"], counts["abstained"], by_mode)


def interval(right: float, k: float) -> list[float] | None:
    """Wilson's 95% interval, to four digits, of `right` in `k` responses, numbers that weights may have made fractional."""
    if not k:
        return None
    found = wilson_interval(right, k)
    return [round(found.low, 4), round(found.high, 4)]


def graded_line(
    line: Mapping[str, Any], grade: Mapping[str, Any], rate: float | None, tier: str | None, *, keep_tier: bool
) -> dict[str, Any]:
    """A line of a problem file with its grade. Without a `rate` it has no pass_rate, without a `tier` none, unless kept."""
    new = {"tier": line.get("tier") if keep_tier else tier, "pass_rate": rate, "grade": grade}
    found = {**line, **new}
    return {key: value for key, value in found.items() if key not in new or value is not None}


def raw_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a problem file that `load_problems` accepted, as they stand in it."""
    return [line for _, line in read_lines(path) if isinstance(line, dict)]


def write_problems(out: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Writes a problem file so that it is there in full or not at all."""
    RunDir(out.parent).atomic_write(out.name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def refuse_lost_media(problems: Sequence[Problem], path: Path, out: Path) -> None:
    """Raises ValueError if `out` lies in another directory than `path`, relative to which media are named."""
    if out.parent.resolve() == path.parent.resolve():
        return
    sources = ((problem, source) for problem in problems for source in sources_of(problem.messages, Path()))
    for problem, source in sources:
        if not all(named.is_absolute() for named in source.paths):
            raise ValueError(
                f"{path}, id {problem.id!r}: its {source.kind} {source.paths[0]} is named relative to the file, and would not"
                f" be found from {out}; write to the same directory, such as out={path.with_suffix('.graded.jsonl')}"
            )
