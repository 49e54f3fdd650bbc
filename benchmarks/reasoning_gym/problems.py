"""Problems nobody here wrote: datasets of `reasoning-gym` as problem files, a dataset a domain, a level a tier.

    python benchmarks/reasoning_gym/problems.py [--out runs/reasoning_gym/data] [--problems 6 6 8] [--seed 5]

Writes `problems.jsonl` (to grade and to train on; further parts are `problems-2.jsonl` and so on), `heldout.jsonl` (to evaluate
on) and `sft.jsonl` (worked examples that teach the response format), all of distinct questions. `reasoning-gym`
(PyPI, Apache-2.0) makes questions and answers; the verifiers are ours, and agreement.py compares their verdicts with
reasoning-gym's own.
"""

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "runs" / "reasoning_gym" / "data"
_SPARE = 8  # questions looked at for each one wanted: easy levels repeat theirs


@dataclass(frozen=True)
class Family:
    """A dataset of reasoning-gym: our verifier of its answers, and the options that make each of its levels, easiest first."""

    dataset: str
    verifier: str
    levels: Sequence[Mapping[str, Any]]
    verifier_args: Mapping[str, Any] = field(default_factory=dict)


FAMILIES = (
    Family(
        "chain_sum",
        "math",
        [
            {"min_terms": terms, "max_terms": terms, "min_digits": digits, "max_digits": digits}
            for terms, digits in ((2, 1), (3, 1), (2, 2), (4, 1), (3, 2))
        ],
    ),
    Family(
        "simple_equations",
        "math",
        [{"min_terms": 2, "max_terms": 2, "max_value": value} for value in (5, 10, 20, 40, 80)],
    ),
    Family("gcd", "math", [{"min_value": 2, "max_value": value} for value in (12, 24, 50, 120, 400)]),
    Family(
        "count_bits",
        "counting",
        [{"min_n": low, "max_n": high} for low, high in ((1, 99), (100, 500), (501, 2000), (2001, 20000), (20001, 500000))],
    ),
    Family("letter_counting", "counting", [{"min_words": words, "max_words": words} for words in (1, 2, 4, 7, 11)]),
    Family(
        "spell_backward",
        "ocr",
        [{"min_word_len": length, "max_word_len": length} for length in (3, 4, 5, 6, 7)],
        {"whitespace": "collapse"},
    ),
)
"""Levels were set so that a model of 135 M parameters has a chance at the easier ones, before any answer was graded."""


@dataclass(frozen=True)
class Question:
    """One entry of a dataset: `entry` is reasoning-gym's own, `number` its place at this level and seed."""

    family: Family
    level: int
    number: int
    entry: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.family.dataset}-{self.level}-{self.number:04d}"

    @property
    def text(self) -> str:
        return str(self.entry["question"]).strip()

    @property
    def answer(self) -> str:
        return str(self.entry["answer"])


def entries(family: Family, level: int, size: int, seed: int) -> Any:
    """reasoning-gym's dataset of one level (from 1), `size` entries. Entry n depends on the seed, the level and n only."""
    import reasoning_gym  # here, so that the rest of this folder runs where it is not installed

    # Entry n is drawn from seed + n: seeds lie far apart, or neighbouring ones would share their entries.
    return reasoning_gym.create_dataset(family.dataset, size=size, seed=seed * 1_000_000, **family.levels[level - 1])


def questions(family: Family, level: int, size: int, seed: int, seen: set[str]) -> Iterator[Question]:
    """Questions of the first `size` entries of a level whose texts are not in `seen`, to which they are added."""
    for number, entry in enumerate(itertools.islice(entries(family, level, size, seed), size)):
        question = Question(family, level, number, entry)
        if question.text not in seen:
            seen.add(question.text)
            yield question


def question_of_id(id: str, seed: int) -> Question:
    """The question that has this id in files written with this seed."""
    dataset, level, number = id.rsplit("-", 2)
    family = next(family for family in FAMILIES if family.dataset == dataset)
    return Question(family, int(level), int(number), entries(family, int(level), int(number) + 1, seed)[int(number)])


def divided(found: Iterable[Question], sizes: Mapping[str, int]) -> dict[str, list[Question]]:
    """The first questions to the first name of `sizes`, the next ones to the next. Raises ValueError when they run out."""
    source, parts = iter(found), {}
    for name, size in sizes.items():
        parts[name] = list(itertools.islice(source, size))
        if len(parts[name]) < size:
            where = f"{parts[name][0].family.dataset}, level {parts[name][0].level}" if parts[name] else "a level"
            raise ValueError(
                f"{where}: {len(parts[name])} distinct questions left for {name}, {size} wanted; widen its options"
            )
    return parts


def problem_line(question: Question) -> dict[str, Any]:
    """A line of a problem file (docs/data.md)."""
    line: dict[str, Any] = {
        "id": question.id,
        "domain": question.family.dataset,
        "messages": [{"role": "user", "content": question.text}],
        "answer": question.answer,
        "verifier": question.family.verifier,
        "verifier_args": dict(question.family.verifier_args),
        "tier": f"level-{question.level}",
        "source": "reasoning-gym",
    }
    return {key: value for key, value in line.items() if value != {}}


def example_line(question: Question) -> dict[str, Any]:
    """A line of an SFT file: the answer at once, in its box, after an empty thought."""
    response = f"<think></think>\n<|begin_of_box|>{question.answer}<|end_of_box|>"
    messages = [{"role": "user", "content": question.text + "/nothink"}, {"role": "assistant", "content": response}]
    return {
        "id": question.id,
        "domain": question.family.dataset,
        "messages": messages,
        "tier": f"level-{question.level}",
        "source": "reasoning-gym",
    }


def write_files(out: Path, sizes: Mapping[str, int], seed: int) -> dict[str, int]:
    """Writes `NAME.jsonl` for each name of `sizes` (questions a level) under `out`; "sft" holds examples. -> lines of each."""
    lines: dict[str, list[dict[str, Any]]] = {name: [] for name in sizes}
    for family in FAMILIES:
        seen: set[str] = set()
        for level in range(1, len(family.levels) + 1):
            parts = divided(questions(family, level, _SPARE * sum(sizes.values()), seed, seen), sizes)
            for name, chosen in parts.items():
                lines[name] += [example_line(question) if name == "sft" else problem_line(question) for question in chosen]
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in lines.items():
        (out / f"{name}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    return {name: len(rows) for name, rows in lines.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--problems", type=int, nargs="+", default=[6, 6, 8], help="problems to grade, a level, in one file or in parts"
    )
    parser.add_argument("--heldout", type=int, default=5, help="held-out problems, a level")
    parser.add_argument("--examples", type=int, default=14, help="SFT examples, a level")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    parts = {f"problems-{place}" if place > 1 else "problems": size for place, size in enumerate(options.problems, 1)}
    sizes = parts | {"heldout": options.heldout, "sft": options.examples}
    for name, count in write_files(options.out, sizes, options.seed).items():
        print(f"{options.out / name}.jsonl: {count:,} lines")


if __name__ == "__main__":
    main()
