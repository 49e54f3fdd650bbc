"""From completions to fates, advantages, metrics and tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from rich.console import Console

from rewards import ScorePool, Verdict
from rlcs.difficulty import Difficulty
from rlcs.generation import draw_budgets
from rlcs.problems import Problem
from rlcs.progress import SignalWatch, mismatch_notice
from rlcs.rl import advantages_of, build_sampler, train_samples
from rlcs.rl_config import DifficultyConfig, RlConfig
from rlcs.rollout_log import TOKENS, console_table, difficulty_table, parquet_bytes, rollout_table, step_metrics
from rlcs.samplers import SAMPLERS, CurriculumSampler, options
from rlcs.scoring import PendingScores, ScoredRollouts, group_fates, score_rollouts, scoring_pool
from rollout.encoded import Encoded, Prompt
from rollout.engine import Completion, ThinkingBudget

RIGHT, WRONG = Verdict(1.0, True, "ok", "2"), Verdict(0.0, False, "ok", "3", "different")
HALF, SILENT = Verdict(0.5, False, "ok", "2x", "close"), Verdict.abstained("timeout")


def config(**changes: Any) -> RlConfig:
    return RlConfig(**{"model": "m", "problems": "p.jsonl", "out": "o", "group_size": 4, **changes})


def problem(index: int, domain: str) -> Problem:
    messages = [{"role": "user", "content": f"What is [b]{index}[/b]?"}]
    return Problem(id=f"p{index}", domain=domain, messages=messages, answer="2", tier="1")


def prompt(thinking: bool) -> Prompt:
    encoded = Encoded(np.arange(3), np.tile(np.arange(3), (3, 1)), np.zeros(3, bool), ())
    return Prompt(encoded, "" if thinking else "<think></think>\n", thinking)


def completion(tokens: int, *, forced: int = 0, text: str = "x") -> Completion:
    mask = np.arange(tokens) < forced
    logprobs = np.where(mask, 0, -0.5).astype(np.float32)
    return Completion(np.arange(tokens, dtype=np.int32), logprobs, mask, "stop", text, 3)


def rollouts(*groups: tuple[str, list[Verdict]]) -> ScoredRollouts:
    """Sample g of every group has g + 1 tokens, the first of the last sample's forced; even groups think."""
    return ScoredRollouts(
        np.arange(len(groups)),
        [problem(index, domain) for index, (domain, _) in enumerate(groups)],
        [prompt(index % 2 == 0) for index in range(len(groups))],
        [[completion(g + 1, forced=int(g == len(v) - 1)) for g in range(len(v))] for _, v in groups],
        [verdicts for _, verdicts in groups],
    )


STEP = rollouts(
    ("math", [RIGHT, WRONG, RIGHT, WRONG]),
    ("math", [RIGHT] * 4),
    ("ocr", [WRONG, HALF, HALF, WRONG]),
    ("ocr", [SILENT, SILENT, SILENT, RIGHT]),
    ("ocr", [RIGHT, HALF, SILENT, WRONG]),
    ("math", [RIGHT, WRONG, WRONG, WRONG]),
)


@pytest.fixture
def sampler() -> CurriculumSampler:
    domains = [item.domain for item in STEP.problems]
    return CurriculumSampler(domains, Difficulty(domains, ["1"] * 6, [None] * 6), group_size=4, seed=0)


def test_groups_are_filtered_on_the_raw_outcome_with_a_reason_for_each(sampler: CurriculumSampler) -> None:
    """The third group's rewards differ, but no answer is right; the fifth loses one sample and stays."""
    assert group_fates(STEP, sampler, 6) == ["trained", "all-right", "all-wrong", "abstained", "trained", "trained"]


def test_mixed_groups_beyond_the_share_of_their_domain_are_surplus_least_balanced_first(
    sampler: CurriculumSampler,
) -> None:
    assert group_fates(STEP, sampler, 2) == ["trained", "all-right", "all-wrong", "abstained", "trained", "surplus"]


def test_abstained_samples_have_no_reward_and_are_not_trained_on() -> None:
    assert np.isnan(STEP.rewards_PG[4]).tolist() == np.isnan(STEP.outcomes_PG[4]).tolist() == [False, False, True, False]
    fates = ["", "", "", "", "trained", ""]
    advantages = advantages_of(STEP, fates, config())
    samples = train_samples(STEP, fates, advantages)
    assert len(samples) == 3
    rewards = np.array([1.0, 0.5, 0.0])
    expected = (rewards - rewards.mean()) / rewards.std(ddof=1)
    np.testing.assert_allclose([sample.advantage for sample in samples], expected)


def test_dr_grpo_leaves_out_the_division() -> None:
    np.testing.assert_allclose(advantages_of(STEP, [""] * 6, config(advantage="dr_grpo"))[0], [0.5, -0.5, 0.5, -0.5])


def test_rloo_compares_with_the_others_of_the_group() -> None:
    np.testing.assert_allclose(advantages_of(STEP, [""] * 6, config(advantage="rloo"))[0], [2 / 3, -2 / 3, 2 / 3, -2 / 3])


def test_reinforce_plus_plus_whitens_over_the_groups_that_are_trained_on() -> None:
    fates = ["trained", "all-right", "all-wrong", "abstained", "trained", "surplus"]
    advantages = advantages_of(STEP, fates, config(advantage="reinforce++"))
    trained = np.array([[fate == "trained"] for fate in fates]) & ~np.isnan(STEP.rewards_PG)
    tokens = np.array([[int((~one.forced).sum()) for one in group] for group in STEP.completions])
    assert not advantages[~trained].any()
    spread = np.repeat(advantages[trained], tokens[trained])
    assert spread.mean() == pytest.approx(0, abs=1e-12) and spread.std(ddof=1) == pytest.approx(1)


def test_forced_tokens_are_context_without_loss_in_the_training_sample() -> None:
    fates = ["trained", *[""] * 5]
    sample = train_samples(STEP, fates, advantages_of(STEP, fates, config()))[3]
    assert sample.encoded.input_ids.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert sample.encoded.loss_mask.tolist() == [False] * 4 + [True] * 3
    assert len(sample.rollout_logprobs) == 3


def test_metrics_count_every_generated_group_pooled_by_domain_and_by_mode(sampler: CurriculumSampler) -> None:
    metrics = step_metrics(STEP, group_fates(STEP, sampler, 2))
    assert metrics["mixed_fraction"] == pytest.approx(3 / 6)
    assert metrics["math/mixed_fraction"] == pytest.approx(2 / 3)
    assert metrics["groups_generated"] == 6 and metrics["groups_trained"] == 2
    assert (metrics["groups/surplus"], metrics["groups/all-wrong"], metrics["groups/abstained"]) == (1, 1, 1)
    assert metrics["pass_rate"] == pytest.approx((2 + 4 + 0 + 1 + 1 + 1) / 20)
    assert metrics["ocr/reward"] == pytest.approx((1.0 + 1.0 + 1.5) / 8)
    assert metrics["abstained_fraction"] == pytest.approx(4 / 24)
    assert metrics["entropy"] == pytest.approx(0.5)  # forced tokens, reported with log-probability 0, do not dilute it
    assert metrics["response_length"] == pytest.approx(2.5)
    assert metrics["forced_fraction"] == pytest.approx(0.25)
    assert metrics["thinking/pass_rate"] == pytest.approx((2 + 0 + 1) / 11)
    assert metrics["nothink/pass_rate"] == pytest.approx((4 + 1 + 1) / 9)


def test_rollouts_and_tokens_not_trained_on_are_counted_as_wasted_by_domain_and_reason(sampler: CurriculumSampler) -> None:
    metrics = step_metrics(STEP, group_fates(STEP, sampler, 2))  # every group has 1 + 2 + 3 + 4 tokens
    assert (metrics["rollouts"], metrics["rollouts_wasted"]) == (24, 16)
    assert (metrics["tokens"], metrics["tokens_wasted"]) == (60, 40)
    assert metrics["math/rollouts_wasted"] + metrics["ocr/rollouts_wasted"] == 16 - metrics.get("gui/rollouts_wasted", 0)
    assert metrics["math/groups/all-right"] == 1 and metrics["math/groups/trained"] == 1


def test_a_domain_without_signal_is_named_after_five_steps_and_at_each_doubling() -> None:
    watch = SignalWatch(["gui", "math"])
    silent = {"gui/mixed_fraction": 0.0, "gui/groups/all-wrong": 3.0, "math/mixed_fraction": 0.5}
    said = {step: watch.notices(step, silent) for step in range(12)}
    assert {step for step, notices in said.items() if notices} == {4, 9}
    assert "domain gui for 5 steps (15 all-wrong groups)" in said[4][0]
    watch.notices(12, {**silent, "gui/mixed_fraction": 0.1})
    assert watch.notices(13, silent) == []


def test_a_rollout_engine_that_disagrees_with_the_trainer_is_reported_with_likely_causes() -> None:
    assert mismatch_notice(3, {"policy/rollout_kl": 1e-3, "policy/logprob_gap_max": 0.5}) is None
    assert mismatch_notice(3, {}) is None  # a step without anything to train on
    said = mismatch_notice(3, {"policy/rollout_kl": 0.02, "policy/logprob_gap_max": 1.5})
    assert said is not None and said.startswith("step 3:") and "0.02" in said and "another dtype" in said


def test_a_metric_without_a_single_known_value_is_left_out() -> None:
    metrics = step_metrics(rollouts(("math", [SILENT, SILENT])), ["abstained"])
    assert "reward" not in metrics and "math/pass_rate" not in metrics
    assert metrics["abstained_fraction"] == 1


def test_rollout_table_keeps_unknown_rewards_null_and_shows_the_fate(tmp_path: Path, sampler: CurriculumSampler) -> None:
    fates = group_fates(STEP, sampler, 2)
    advantages = advantages_of(STEP, fates, config())
    (tmp_path / "t.parquet").write_bytes(parquet_bytes(rollout_table(STEP, fates, advantages, step=7)))
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert len(rows) == 24
    assert [row["reward"] for row in rows[16:20]] == [1.0, 0.5, None, 0.0]
    assert [row["advantage"] for row in rows[:4]] == advantages[0].tolist()
    assert rows[4]["advantage"] is None and rows[4]["fate"] == "all-right"
    assert rows[3]["forced_tokens"] == 1 and rows[3]["tokens"] == 4 and rows[3]["mean_logprob"] == pytest.approx(-0.5)
    assert rows[0]["question"] == "What is [b]0[/b]?" and rows[0]["step"] == 7 and rows[0]["weight_version"] == 3


def test_a_rollout_row_has_every_token_of_its_response_with_log_probability_and_whether_it_was_forced(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    groups = [
        [
            Completion(
                rng.integers(0, 150_000, length).astype(np.int32),
                -rng.random(length).astype(np.float32),
                rng.random(length) < 0.5,
                "stop",
                "x",
                0,
            )
            for length in lengths
        ]
        for lengths in ([3, 0, 500], [1, 2, 0])
    ]
    step = ScoredRollouts(
        np.arange(2), STEP.problems[:2], STEP.prompts[:2], groups, [[RIGHT, WRONG, RIGHT], [WRONG, RIGHT, WRONG]]
    )
    table = rollout_table(step, ["trained"] * 2, np.zeros((2, 3)), 0)
    (tmp_path / "t.parquet").write_bytes(parquet_bytes(table))
    read = pq.read_table(tmp_path / "t.parquet")
    for row, one in zip(read.to_pylist(), [one for group in groups for one in group], strict=True):
        assert row["token_ids"] == one.token_ids.tolist()
        assert row["token_logprobs"] == one.logprobs.tolist()  # to the last bit
        assert row["token_forced"] == one.forced.tolist()
    without = rollout_table(step, ["trained"] * 2, np.zeros((2, 3)), 0, tokens=False)
    assert read.drop_columns(list(TOKENS)).equals(without)


def test_difficulty_table_has_a_row_for_every_problem(sampler: CurriculumSampler) -> None:
    table = difficulty_table(STEP.problems, sampler.snapshot(), 2)
    assert table.column("id").to_pylist() == [f"p{index}" for index in range(6)]
    assert {"mean", "mixed_probability", "state", "seen_at"} <= set(table.column_names)


def test_console_table_shows_markup_of_the_data_as_plain_text(sampler: CurriculumSampler) -> None:
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(console_table(STEP, group_fates(STEP, sampler, 2), 0))
    text = console.export_text()
    assert "What is [b]0[/b]?" in text
    assert "ocr 1" in text and "math 1" in text


def test_responses_are_scored_by_the_verifier_of_their_problem() -> None:
    problems = [problem(0, "math"), problem(1, "ocr")]
    texts = [
        ["<think>a</think>\n<|begin_of_box|>2<|end_of_box|>", "2"],
        ["<think></think>\n<|begin_of_box|>2<|end_of_box|>"] * 2,
    ]
    completions = [[completion(1, text=text) for text in group] for group in texts]
    with ScorePool(1) as pool:
        scored = score_rollouts(pool, np.arange(2), problems, [prompt(True), prompt(False)], completions)
    assert scored.outcomes_PG.tolist() == [[1, 0], [1, 1]]
    assert scored.verdicts[0][1].status == "format_error"


def test_configured_style_checks_make_a_looping_response_a_format_error() -> None:
    looping = "<think>" + "and so on, " * 200 + "</think>\n<|begin_of_box|>2<|end_of_box|>"
    verdicts = []
    for checks in ([], ["repetition"]):
        with scoring_pool(config(style_checks=checks, verifier_workers=1)) as pool:
            scored = score_rollouts(pool, np.arange(1), [problem(0, "math")], [prompt(True)], [[completion(1, text=looping)]])
        verdicts.append(scored.verdicts[0][0])
    assert [(v.correct, v.status, v.reason) for v in verdicts] == [
        (True, "ok", None),
        (False, "format_error", "repetition"),
    ]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_configured_sampler_is_built_over_the_problems_and_draws(name: str) -> None:
    problems, thinking = [problem(index, "math" if index < 4 else "ocr") for index in range(8)], np.ones(8, bool)
    sampler = build_sampler(config(sampler=name), problems, thinking)
    assert type(sampler) is SAMPLERS[name]
    drawn = sampler.draw(4)
    assert len(drawn) >= 4 and set(drawn.tolist()) <= set(range(8))


def test_options_of_a_sampler_reach_it() -> None:
    problems, thinking = [problem(index, "math") for index in range(8)], np.ones(8, bool)
    drawn = build_sampler(config(sampler="dapo", dapo={"batch_ratio": 2.0}), problems, thinking).draw(4)
    assert len(drawn) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_p": 0.9}, "set old_logprobs: trainer"),
        ({"importance_cap": 2.0}, "needs old_logprobs: trainer"),
        ({"updates_per_step": 64}, "more than the 32 groups"),
        ({"curriculum": {"window": [0.8, 0.2]}}, "lower end below its upper end"),
        ({"clip_hihg": 0.3}, "Extra inputs are not permitted"),
        ({"group_size": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_every_setting_is_documented() -> None:
    sections = [value for name, value in vars(options).items() if name.endswith("Config")]
    assert len(sections) == 7
    for model in (RlConfig, DifficultyConfig, *sections):
        assert all(field.description for field in model.model_fields.values()), model


def test_groups_scored_as_they_come_get_the_verdicts_of_one_batch_in_the_order_of_the_problems() -> None:
    problems, prompts = [problem(index, "math") for index in range(6)], [prompt(True)] * 6
    texts = [f"<think>.</think><|begin_of_box|>{2 + index % 2}<|end_of_box|>" for index in range(6)]
    completions = [[completion(3, text=text), completion(4, text="no box")] for text in texts]
    with ScorePool(2) as pool:
        whole = score_rollouts(pool, np.arange(6), problems, prompts, completions)
        pending = PendingScores(pool, problems, prompts)
        for position in (4, 0, 5, 2, 1, 3):
            pending.add(position, completions[position])
        found = pending.collect(np.arange(6))
    np.testing.assert_array_equal(found.rewards_PG, whole.rewards_PG)
    assert found.completions == completions and found.rewards_PG[:, 0].tolist() == [1, 0, 1, 0, 1, 0]


def test_thinking_budgets_are_fixed_or_drawn_over_the_whole_range() -> None:
    rng = np.random.default_rng(0)
    assert draw_budgets(config(think_tokens=7, answer_tokens=3), 2, rng) == [ThinkingBudget(7, 3)] * 2
    ranged = config(think_tokens=(2, 5), answer_tokens=3)
    drawn = draw_budgets(ranged, 200, rng)
    assert {budget.think_tokens for budget in drawn} == {2, 3, 4, 5} and ranged.most_think_tokens == 5
    with pytest.raises(ValidationError, match="lower budget first"):
        config(think_tokens=(5, 2))


def test_forced_answers_have_a_pass_rate_of_their_own() -> None:
    """The last sample of each group was forced: wrong, right, wrong, right, wrong, wrong."""
    metrics = step_metrics(STEP, ["trained"] * 6)
    assert metrics["forced_pass_rate"] == pytest.approx(2 / 6)
    assert metrics["math/forced_pass_rate"] == pytest.approx(1 / 3)
