"""The groups of a step, generated when they are wanted or beside the update before it."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import PreTrainedModel

from rewards import ScorePool, Verdict
from rlcs.engines import build_engine
from rlcs.generation import GroupSource
from rlcs.nano.build import build_model, build_processor
from rlcs.problems import Problem
from rlcs.progress import Clock, mismatch_notice
from rlcs.rl import build_sampler
from rlcs.rl_config import RlConfig
from rlcs.rollout_columns import from_columns, to_columns
from rlcs.scoring import ScoredRollouts
from rollout.attention import VARLEN
from rollout.chat import ChatRenderer
from rollout.encoded import Encoded, Prompt
from rollout.engine import Completion, Engine
from rollout.lora import adapter_parameters, add_adapters, plain_parameters
from rollout.transformers_engine import TransformersEngine
from sft.checkpoint import load_training_state, save_checkpoint

PROBLEMS = [
    Problem(id=f"p{n}", domain="math", messages=[{"role": "user", "content": f"pick {n}"}], answer="1", root=Path())
    for n in range(12)
]


def settings(**changes: Any) -> RlConfig:
    fixed = {"model": "m", "problems": "p", "out": "o", "groups_per_step": 3, "group_size": 2, "sampler": "uniform"}
    return RlConfig(**(fixed | {"think_tokens": 3, "answer_tokens": 5, "nothink_ratio": 0.0} | changes))


def tiny_model() -> PreTrainedModel:
    model = build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1)
    model.config._attn_implementation = VARLEN
    return model


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return ChatRenderer(build_processor())


@pytest.fixture(scope="module")
def pool() -> Iterator[ScorePool]:
    with ScorePool(1) as pool:
        yield pool


def source_of(config: RlConfig, renderer: ChatRenderer, pool: ScorePool, problems: list[Problem] = PROBLEMS) -> GroupSource:
    """Over a policy that nobody trains; with `max_staleness: 1` its engine has weights of its own."""
    modes, model = np.ones(len(problems), bool), tiny_model()
    engine = TransformersEngine(tiny_model() if config.max_staleness else model, renderer, shared=not config.max_staleness)
    sampler, rng = build_sampler(config, problems, modes), np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    return GroupSource(config, problems, modes, sampler, model, engine, renderer, pool, rng, generator)


def tokens(rollouts: ScoredRollouts) -> list[list[int]]:
    return [completion.token_ids.tolist() for group in rollouts.completions for completion in group]


def steps_of(source: GroupSource, count: int) -> list[ScoredRollouts]:
    found = []
    for step in range(count):
        clock = Clock()
        found.append(source.of_step(step, clock))
        source.start(clock)
        with source.updating(step):
            pass
    return found


def test_a_policy_that_does_not_change_has_the_same_rollouts_ahead_but_for_their_version(
    renderer: ChatRenderer, pool: ScorePool
) -> None:
    """Drawn budgets too: every random number is drawn in the order of the steps."""
    found = {}
    for staleness in (0, 1):
        with source_of(settings(max_staleness=staleness, think_tokens=[1, 4]), renderer, pool) as source:
            found[staleness] = steps_of(source, 3)
    for exact, ahead in zip(found[0], found[1], strict=True):
        assert exact.indices.tolist() == ahead.indices.tolist()
        assert tokens(exact) == tokens(ahead)
        assert exact.verdicts == ahead.verdicts
    versions = {mode: [step.completions[0][0].weight_version for step in steps] for mode, steps in found.items()}
    assert versions == {0: [0, 1, 2], 1: [0, 0, 1]}


def test_metrics_say_how_old_rollouts_are_and_who_waited(renderer: ChatRenderer, pool: ScorePool) -> None:
    with source_of(settings(max_staleness=1), renderer, pool) as source:
        for step in range(2):
            clock = Clock()
            rollouts = source.of_step(step, clock)
            source.start(clock)
            assert source._under_way is not None
            source._under_way.result()
            found = source.metrics(step, rollouts, clock)
            assert found["staleness/mean"] == found["staleness/max"] == step
            whole = found["seconds/learner_idle"] / found["time/learner_idle"]
            assert found["time/engine_idle"] == pytest.approx(found["seconds/engine_idle"] / whole)
            assert found["time/engine_idle"] < 1  # it generated within this step
            # The learner waited for the first step's rollouts only.
            assert (found["seconds/learner_idle"] >= clock.parts["generate"]) == (step == 0)


def test_rollouts_of_a_policy_that_is_too_old_are_refused(renderer: ChatRenderer, pool: ScorePool) -> None:
    with source_of(settings(max_staleness=1), renderer, pool) as source:
        rollouts = source.of_step(0, Clock())
        with pytest.raises(RuntimeError, match=r"step 2: rollouts of policies of \[0\] updates; expected .* at most 1"):
            source._checked_version(rollouts, 2)


def test_an_error_of_the_thread_comes_up_in_the_step_it_was_for_and_names_the_problem(
    renderer: ChatRenderer, pool: ScorePool
) -> None:
    long = Problem(id="too-long", domain="math", messages=[{"role": "user", "content": "x " * 3000}], answer="1", root=Path())
    with source_of(settings(max_staleness=1), renderer, pool) as source:
        clock = Clock()
        source.of_step(0, clock)
        source._problems = [long] * len(PROBLEMS)
        source.start(clock)
        with pytest.raises(ValueError, match="too-long: ") as caught:
            source.of_step(1, Clock())
        assert caught.value.__notes__ == ["while the rollouts of step 1 were generated ahead"]


def test_a_run_that_ends_breaks_off_what_is_generated_ahead(renderer: ChatRenderer, pool: ScorePool) -> None:
    config = settings(max_staleness=1, think_tokens=900, answer_tokens=900)
    begun = threading.Event()
    with pytest.raises(KeyboardInterrupt), source_of(config, renderer, pool) as source:
        source.serve(0)
        decode = source._engine._decode  # type: ignore[attr-defined]

        def noticed(*arguments: Any) -> torch.Tensor:
            begun.set()
            return decode(*arguments)

        source._engine._decode = noticed  # type: ignore[attr-defined]
        source.start(Clock())
        assert begun.wait(60)
        raise KeyboardInterrupt
    assert source._under_way is not None and isinstance(source._under_way.exception(), CancelledError)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_rollouts_survive_a_checkpoint(tmp_path: Path, renderer: ChatRenderer) -> None:
    """With samples that nothing is known of, an empty response and groups of different sizes."""
    verdicts = [Verdict(1.0, True, "ok", "2"), Verdict.abstained("timeout"), Verdict.format_error("two-boxes", "3")]
    completions = [
        Completion(
            np.arange(length, dtype=np.int32),
            np.linspace(-1, 0, length, dtype=np.float32),
            np.arange(length) % 2 == 1,
            reason,
            f"<think>é{length}",
            4,
            0.25 * length,
        )
        for length, reason in ((3, "stop"), (0, "length"), (2, "repetition"))
    ]
    prompt = Prompt(Encoded(np.zeros(1, np.int64), np.zeros((3, 1), np.int64), np.zeros(1, bool), ()), "", True, "p")
    rollouts = ScoredRollouts(
        np.array([5, 2]), PROBLEMS[:2], [prompt] * 2, [completions[:2], completions[2:]], [verdicts[:2], verdicts[2:]]
    )
    model, state = tiny_model(), {"ahead": to_columns(rollouts)}
    save_checkpoint(tmp_path / "c", model, renderer.processor, torch.optim.SGD(model.parameters()), state)
    _, loaded = load_training_state(tmp_path / "c")
    found = from_columns(loaded["ahead"], PROBLEMS[:2], [prompt] * 2)
    assert found.indices.tolist() == [5, 2] and found.verdicts == rollouts.verdicts
    for group, again in zip(rollouts.completions, found.completions, strict=True):
        for one, other in zip(group, again, strict=True):
            for name in ("token_ids", "logprobs", "forced"):
                np.testing.assert_array_equal(getattr(other, name), getattr(one, name), strict=True)
            for name in ("finish_reason", "text", "weight_version", "seconds"):
                assert getattr(other, name) == getattr(one, name)


def test_an_engine_of_its_own_takes_new_weights_whole_or_says_what_is_missing(
    renderer: ChatRenderer, tmp_path: Path, pool: ScorePool
) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    renderer.processor.save_pretrained(tmp_path)
    engine: Engine = build_engine(settings(), tmp_path, renderer)
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(1.5)
    engine.update_weights(model.named_parameters(), 3)
    assert isinstance(engine, TransformersEngine) and engine.weight_version == 3
    own = dict(engine._model.named_parameters())
    assert all(torch.equal(own[name], value) and own[name] is not value for name, value in model.named_parameters())
    with pytest.raises(ValueError, match="1 parameters are missing, the first of them lm_head"):
        engine.update_weights([pair for pair in model.named_parameters() if pair[0] != "lm_head.weight"], 4)
    with pytest.raises(ValueError, match=r"lm_hood\.weight is given twice, or is none"):
        engine.update_weights([("lm_hood.weight", torch.zeros(1))], 4)


def test_adapters_are_served_merged(renderer: ChatRenderer, pool: ScorePool) -> None:
    """The engine's model is a plain one: each step it has the weights of the policy with its adapters merged."""
    with source_of(settings(max_staleness=1), renderer, pool) as source:
        policy: Any = source._model
        add_adapters(policy, rank=2, alpha=4.0, dropout=0.0, targets="decoder", seed=0)
        own = dict(source._engine._model.named_parameters())  # type: ignore[attr-defined]
        for step in range(2):
            with torch.no_grad():
                for _, value in adapter_parameters(policy):
                    value.add_(0.1)
            former = {name: value.clone() for name, value in plain_parameters(policy)}
            source.of_step(step, Clock())
            assert all(torch.equal(own[name], value) for name, value in former.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"old_logprobs": "trainer"}, "set importance_cap"),
        ({"rollout": "vllm", "vllm": {"sleep": True}}, "leave one of them out"),
    ],
)
def test_settings_that_would_be_wrong_ahead_are_refused(changes: dict[str, Any], message: str) -> None:
    settings(**changes)
    with pytest.raises(ValidationError, match=message):
        settings(max_staleness=1, **changes)
    settings(max_staleness=1, old_logprobs="trainer", importance_cap=2.0)


def test_a_policy_that_has_moved_since_is_not_taken_for_an_engine_that_disagrees() -> None:
    metrics = {"policy/rollout_kl": 0.02, "policy/logprob_gap_max": 0.5}
    assert "disagree" in (mismatch_notice(3, metrics) or "")
    assert "has moved far" in (mismatch_notice(3, metrics | {"staleness/max": 1.0}) or "")
