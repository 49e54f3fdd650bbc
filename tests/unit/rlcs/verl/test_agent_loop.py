"""What an agent loop makes of a response: forced tokens, its end, its seed and budget; and which positions the trainer gets."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

import torch
from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.workers.rollout.replica import TokenOutput

from rlcs.problems import Problem
from rlcs.rl_config import RlConfig
from rlcs.verl.agent_loop import ProblemAgentLoop, drawn_budget, limits_of, response_seed
from rlcs.verl.dataset import problem_row
from rlcs.verl.prompts import renderer_of
from rollout.budget import initial_phase
from rollout.engine import ThinkingBudget
from rollout.limits import replayed

NANO = str(Path(__file__).parents[4] / "assets" / "nano")


def settings(**changes: Any) -> RlConfig:
    return RlConfig(
        **{"model": NANO, "problems": Path("p"), "out": Path("o"), "think_tokens": 3, "answer_tokens": 8, **changes}
    )


class Server:
    """The end of a vLLM server's line: keeps what it is asked and answers what it is given."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens, self.asked = tokens, dict[str, Any]()

    async def generate(self, **asked: Any) -> TokenOutput:
        self.asked = asked
        logprobs = [-0.5 - 0.01 * place for place in range(len(self.tokens))]
        return TokenOutput(token_ids=self.tokens, log_probs=logprobs, extra_fields={"global_steps": 4})


def answered(
    text: str, *, thinking: bool = True, heldout: bool = False, longest: int = 100, **changes: Any
) -> tuple[Any, Server]:
    config = settings(**changes)
    server = Server(renderer_of(NANO).special.encode(text))
    verl = {
        "rlcs": config.model_dump(mode="json"),
        "actor_rollout_ref": {"model": {"path": NANO}, "rollout": {"prompt_length": longest}},
    }
    posed = Problem(id="p", domain="math", answer="7", messages=[{"role": "user", "content": "3+4"}])
    more = {"global_steps": 2, "visit": 0, "session_id": 1, "uid": "u"}
    row = {**problem_row(posed, 5, thinking=thinking, heldout=heldout), **more}
    loop = ProblemAgentLoop(DictConfigWrap(OmegaConf.create(verl)), server)
    sampling = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, "logprobs": True}
    return asyncio.run(loop.run(sampling, **row)), server


def test_forced_tokens_carry_no_gradient_and_no_logprob() -> None:
    output, _ = answered("<think>abc</think>\nit is<|user|>")
    forced = [place for place, mask in enumerate(output.response_mask) if not mask]
    ids = renderer_of(NANO).special.encode("</think>\n")
    assert [output.response_ids[place] for place in forced] == ids
    assert all(
        output.response_logprobs[place] == (0.0 if place in forced else -0.5 - 0.01 * place) for place in range(len(forced))
    )
    assert output.extra_fields["finish_reason"] == "stop"
    assert output.extra_fields["text"] == "<think>abc</think>\nit is"
    assert output.extra_fields["score_row"]["response"] == output.extra_fields["text"]


def test_a_thought_within_its_budget_is_all_the_policys() -> None:
    output, _ = answered("<think>ab</think>\nit<|user|>")
    assert all(output.response_mask)


def test_what_follows_the_end_of_the_answers_budget_is_left_out() -> None:
    output, _ = answered("<think>a</think>\nabcdefghi<|user|>", answer_tokens=8)
    assert output.extra_fields["finish_reason"] == "length"
    assert output.extra_fields["text"] == "<think>a</think>\nabcdefg"


def test_a_nothink_response_begins_with_the_thought_its_prompt_holds() -> None:
    output, _ = answered("it<|user|>", thinking=False)
    assert output.extra_fields["text"] == "<think></think>\nit"
    assert all(output.response_mask)
    assert renderer_of(NANO).decode(output.prompt_ids).endswith("<think></think>\n")


def test_a_response_that_repeats_itself_ends_as_repetition() -> None:
    output, _ = answered("<think>a</think>\n" + "x" * 6 + "<|user|>", stop_repetition=4, answer_tokens=50)
    assert output.extra_fields["finish_reason"] == "repetition"
    assert output.extra_fields["text"] == "<think>a</think>\n" + "x" * 4


def test_vllm_is_told_the_limits_the_stop_tokens_and_a_seed() -> None:
    _, server = answered("it<|user|>")
    sampling = server.asked["sampling_params"]
    assert sampling["extra_args"]["rlcs"]["think_tokens"] == 3 and sampling["extra_args"]["rlcs"]["answer_tokens"] == 8
    assert sampling["stop_token_ids"] == list(renderer_of(NANO).stop_ids)
    assert sampling["max_tokens"] == 3 + 8 + 4
    assert sampling["seed"] == response_seed(0, "train", 2, 5, 0, 1)


def test_held_out_answers_have_the_largest_budget_and_their_own_seeds() -> None:
    _, server = answered("it<|user|>", heldout=True, think_tokens=[1, 9])
    sampling = server.asked["sampling_params"]
    assert sampling["extra_args"]["rlcs"]["think_tokens"] == 9
    assert sampling["seed"] == response_seed(0, "heldout", 2, 5, 0, 1)


def test_a_prompt_that_is_too_long_names_its_problem_and_the_mend() -> None:
    with pytest.raises(ValueError, match=r"p: the prompt has \d+ tokens, the run takes 3.*vllm.max_length"):
        answered("it<|user|>", longest=3)


def test_a_group_shares_the_budget_it_draws() -> None:
    config = settings(think_tokens=[10, 500])
    budgets = {(step, index): drawn_budget(config, step, index, 0).think_tokens for step in range(20) for index in range(20)}
    assert budgets[3, 7] == drawn_budget(config, 3, 7, 0).think_tokens
    assert min(filter(None, budgets.values())) < 60 and max(filter(None, budgets.values())) > 450
    assert len(set(budgets.values())) > 150
    assert len({drawn_budget(config, 3, 7, visit).think_tokens for visit in range(9)}) > 5, "posed again, it is another group"


def test_seeds_of_a_run_are_as_good_as_all_different() -> None:
    seeds = {
        response_seed(0, use, step, index, visit, g)
        for use in ("train", "heldout")
        for step in range(20)
        for index in range(10)
        for visit in range(2)
        for g in range(8)
    }
    assert len(seeds) >= 6398 and all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("think_tokens", [0, 1, 3, 40])
def test_replaying_agrees_with_the_limits_token_by_token(think_tokens: int) -> None:
    """A response made as vLLM makes one, the limits deciding each next token, comes back with what they forced."""
    renderer = renderer_of(NANO)
    rules = (renderer, initial_phase("", thinking=True), ThinkingBudget(think_tokens, 6), None)
    wanted = renderer.special.encode("<think>1+2 is 3</think>\nso three and more<|user|>")
    limits, tokens, forced = limits_of(*rules), list[int](), list[bool]()
    while not tokens or tokens[-1] not in renderer.stop_ids:
        due = limits.due()
        token = wanted[min(len(tokens), len(wanted) - 1)] if due is None else due
        forced.append(limits.push(token))
        tokens.append(token)
    length, mask, reason = replayed(tokens, limits_of(*rules), renderer.stop_ids)
    assert mask.tolist() == forced[:length]
    assert (reason, length) in (("stop", len(tokens)), ("length", len(tokens) - 1))
    assert mask.sum() == (0 if think_tokens == 40 else len(renderer.budget_tokens().forced_ids))
    assert np.array_equal(
        torch.tensor(tokens[:length])[torch.from_numpy(mask)], renderer.budget_tokens().forced_ids[: int(mask.sum())]
    )
