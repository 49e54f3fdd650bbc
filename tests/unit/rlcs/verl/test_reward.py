"""Rewards as verl's reward workers compute them, with a real pool of scoring processes."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

from omegaconf import OmegaConf

from rlcs.problems import Problem
from rlcs.rl_config import RlConfig
from rlcs.verl.agent_loop import score_row
from rlcs.verl.reward import ProblemRewardManager, score_request

BOXED = "<think>so</think>It is <|begin_of_box|>{}<|end_of_box|>."


@pytest.fixture(scope="module")
def manager() -> Iterator[ProblemRewardManager]:
    settings = RlConfig(model="m", problems=Path("p"), out=Path("o"), verifier_workers=1, verifier_timeout_s=1.0)
    made = ProblemRewardManager(OmegaConf.create({"rlcs": settings.model_dump(mode="json")}), None, None)
    yield made
    made._pool.close()


def scored(manager: ProblemRewardManager, response: str, *, repeated: bool = False, **problem: Any) -> dict[str, Any]:
    fields = {"id": "p", "domain": "math", "answer": "7", "messages": [{"role": "user", "content": "3+4"}]}
    row = score_row(Problem(**{**fields, **problem}), response)
    return asyncio.run(manager.run_single(score_request(row, repeated=repeated)))


def test_a_right_and_a_wrong_answer(manager: ProblemRewardManager) -> None:
    right, wrong = scored(manager, BOXED.format("7.0")), scored(manager, BOXED.format("8"))
    assert right["reward_score"] == 1.0
    assert right["reward_extra_info"] == {"score": 1.0, "correct": 1.0, "status": "ok", "reason": "", "extracted": "7.0"}
    assert wrong["reward_score"] == 0.0 and wrong["reward_extra_info"]["correct"] == 0.0


def test_what_the_verifier_cannot_tell_is_no_zero(manager: ProblemRewardManager) -> None:
    unknown = scored(manager, BOXED.format("7"), answer={"no": "number"})
    assert math.isnan(unknown["reward_score"]) and math.isnan(unknown["reward_extra_info"]["correct"])
    assert unknown["reward_extra_info"]["status"] == "bad_reference"


def test_a_response_that_was_ended_for_repetition_is_a_format_error(manager: ProblemRewardManager) -> None:
    ended = scored(manager, BOXED.format("7"), repeated=True)
    assert ended["reward_score"] == 0.0
    assert ended["reward_extra_info"]["status"] == "format_error" and ended["reward_extra_info"]["reason"] == "repetition"


def test_many_at_once_keep_their_places(manager: ProblemRewardManager) -> None:
    async def all_of_them() -> list[dict[str, Any]]:
        problem = Problem(id="p", domain="math", answer="7", messages=[{"role": "user", "content": "3+4"}])
        requests = [score_request(score_row(problem, BOXED.format(n)), repeated=False) for n in range(20)]
        return await asyncio.gather(*(manager.run_single(request) for request in requests))

    assert [found["reward_score"] for found in asyncio.run(all_of_them())] == [float(n == 7) for n in range(20)]
