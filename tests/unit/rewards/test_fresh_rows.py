"""Rows of every domain with the label its rule asks for, written before they were first scored.

`given` is the text in the box. Labels of `ocr`, `document`, `table` and `grounding` were computed from the definition of
the measure. Rows whose label may be disputed are left out (log without a base, 11:30 as a ratio).
"""

import json
from pathlib import Path
from typing import Any

import pytest

from rewards import score

ROWS = [json.loads(line) for line in (Path(__file__).parent / "fresh_rows.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['domain']}-{number}" for number, row in enumerate(ROWS)])
def test_fresh_row_scores_as_labelled(row: dict[str, Any]) -> None:
    verdict = score(
        f"<think></think><|begin_of_box|>{row['given']}<|end_of_box|>",
        row["answer"],
        domain=row["domain"],
        question=row.get("question"),
        args=row.get("verifier_args"),
    )
    assert verdict.score == pytest.approx(row["expected"], abs=1e-6), (row["answer"], row["given"], verdict.reason)
