"""Accuracy against the thinking budget: the sweep's figures, files and errors."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from rich.console import Console

from rlcs.budget_eval import budget_rows, parse_budgets, run_budget_eval
from rlcs.eval_config import EvalConfig
from rlcs.eval_summary import RESPONSES
from rlcs.evaluate import Evaluation
from rlcs.nano.build import build_model, build_processor


def response(id: str, domain: str, sample: int, *, correct: bool | None, forced: bool, tokens: int) -> dict[str, Any]:
    blank = dict.fromkeys(("question", "answer", "response", "reason", "extracted"), "")
    known = {"id": id, "domain": domain, "tier": "1", "mode": "thinking", "sample": sample, "media": [], "status": "ok"}
    verdict = {"score": None if correct is None else float(correct), "correct": correct}
    return {**blank, **known, **verdict, "tokens": tokens, "finish_reason": "stop", "forced": forced}


def test_rows_count_cut_thoughts_and_how_often_the_cut_ones_are_right() -> None:
    rows = [
        response("m", "math", 0, correct=True, forced=True, tokens=4),
        response("m", "math", 1, correct=False, forced=True, tokens=4),
        response("m", "math", 2, correct=True, forced=False, tokens=2),
        response("m", "math", 3, correct=None, forced=True, tokens=2),
        response("o", "ocr", 0, correct=True, forced=False, tokens=8),
    ]
    evaluation = Evaluation(None, {}, pa.Table.from_pylist(rows, schema=RESPONSES))  # type: ignore[arg-type]
    math, ocr, pooled = budget_rows(evaluation, 16)
    assert (math["domain"], ocr["domain"], pooled["domain"]) == ("math", "ocr", "all")
    assert (math["budget"], math["forced"], math["forced_pass_rate"], math["tokens"]) == (16, 0.75, 0.5, 3.0)
    assert math["pass_at_1"]["mean"] == pytest.approx(2 / 3)
    assert (ocr["forced"], ocr["forced_pass_rate"]) == (0.0, None)
    assert pooled["pass_at_1"]["mean"] == pytest.approx((2 / 3 + 1) / 2)  # problems count alike
    assert pooled["forced"] == pytest.approx(3 / 5)


def test_budgets_are_read_in_any_order_and_faults_are_named() -> None:
    assert parse_budgets("64,0, 32,32") == [0, 32, 64]
    with pytest.raises(ValueError, match="'0,x': expected numbers of tokens"):
        parse_budgets("0,x")
    with pytest.raises(ValueError, match="-1 is below 0"):
        parse_budgets("-1,5")


def test_the_sweep_holds_every_response_to_its_budget_and_writes_plot_and_figures(tmp_path: Path) -> None:
    build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1).save_pretrained(tmp_path / "policy")
    build_processor().save_pretrained(tmp_path / "policy")
    line = {"id": "p", "domain": "math", "messages": [{"role": "user", "content": "1 + 1"}], "answer": "2"}
    (tmp_path / "problems.jsonl").write_text(json.dumps(line) + "\n")
    config = EvalConfig(
        model=str(tmp_path / "policy"),
        problems=tmp_path / "problems.jsonl",
        out=tmp_path / "out",
        samples=4,
        answer_tokens=5,
        verifier_workers=1,
    )
    rows = run_budget_eval(config, [0, 3], console=Console(quiet=True))
    assert [row["budget"] for row in rows] == [0, 3]
    assert json.loads((tmp_path / "out" / "budgets.json").read_text()) == rows
    with Image.open(tmp_path / "out" / "budgets.png") as plot:
        assert plot.size[0] > 1000
    for budget in (0, 3):
        found = Evaluation.read(tmp_path / "out" / f"budget-{budget}").responses.to_pylist()
        assert len(found) == 4 and all(row["tokens"] <= 1 + budget + 2 + 5 for row in found)
