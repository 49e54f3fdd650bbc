"""What becomes of responses that the engine broke off."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rewards import ScorePool
from rlcs.eval_config import EvalConfig
from rlcs.evaluate import run_eval
from rlcs.nano.build import build_model, build_processor
from rlcs.problems import Problem
from rlcs.scoring import PendingScores, ScoredRollouts, score_rollouts
from rollout.encoded import Encoded, Prompt
from rollout.engine import Completion, FinishReason

BOXED = "<think>a</think>\n<|begin_of_box|>2<|end_of_box|>"
PROBLEM = Problem(id="p", domain="math", messages=[{"role": "user", "content": "1 + 1"}], answer="2", root=Path())


def completion(text: str, reason: FinishReason) -> Completion:
    return Completion(np.zeros(3, np.int32), np.zeros(3, np.float32), np.zeros(3, bool), reason, text, 0)


def together(*arguments: Any) -> ScoredRollouts:
    return score_rollouts(*arguments)


def one_by_one(
    pool: ScorePool, indices: np.ndarray, problems: list[Problem], prompts: list[Prompt], groups: list[list[Completion]]
) -> ScoredRollouts:
    pending = PendingScores(pool, problems, prompts)
    for position, group in enumerate(groups):
        pending.add(position, group)
    return pending.collect(indices)


@pytest.mark.parametrize("score", [together, one_by_one])
def test_a_response_ended_for_repetition_is_wrong_whatever_it_had_answered(score: Any) -> None:
    encoded = Encoded(np.arange(3), np.tile(np.arange(3), (3, 1)), np.zeros(3, bool), ())
    group = [completion(BOXED, "stop"), completion(BOXED + " 2 2 2", "repetition"), completion("<think>a a a", "repetition")]
    with ScorePool(1) as pool:
        scored = score(pool, np.arange(1), [PROBLEM], [Prompt(encoded, "", True)], [group])
    assert scored.outcomes_PG.tolist() == scored.rewards_PG.tolist() == [[1, 0, 0]]
    right, boxed, open_ended = scored.verdicts[0]
    assert (right.status, right.reason) == ("ok", None)
    assert (boxed.status, boxed.reason, boxed.extracted) == ("format_error", "repetition", "2")
    assert (open_ended.status, open_ended.reason) == ("format_error", "repetition")


def test_an_evaluation_ends_loops_where_it_is_told_to(tmp_path: Path) -> None:
    """Greedy decoding of random weights loops."""
    build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1).save_pretrained(tmp_path / "policy")
    build_processor().save_pretrained(tmp_path / "policy")
    shared = {"domain": "math", "answer": "2"}
    lines = [{"id": f"p{n}", "messages": [{"role": "user", "content": f"1 + {n}"}], **shared} for n in range(8)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    fixed: dict[str, Any] = {"model": str(tmp_path / "policy"), "problems": tmp_path / "problems.jsonl", "samples": 1}
    rows = {}
    for stop in (None, 16):
        options = {"out": tmp_path / f"{stop}", "modes": ["nothink"], "answer_tokens": 200, "verifier_workers": 1}
        evaluation = run_eval(EvalConfig(**fixed, **options, stop_repetition=stop), console=Console(quiet=True))
        rows[stop] = [row for row in evaluation.responses.to_pylist() if row["sample"] < 0]
    cut = [(row, whole) for row, whole in zip(rows[16], rows[None], strict=True) if row["finish_reason"] == "repetition"]
    assert cut
    for row, whole in cut:
        assert row["reason"] == "repetition" and row["tokens"] < whole["tokens"]
        assert whole["response"].startswith(row["response"].rstrip("\ufffd"))
