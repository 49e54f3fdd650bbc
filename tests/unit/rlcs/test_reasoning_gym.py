"""The reasoning-gym benchmark without its package and its model: problem files, predictions and what they are worth, replay."""

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from scipy.stats import betabinom, binom
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "reasoning_gym"))

from grade import counts
from model import TEMPLATE, TWINS, grow_embeddings
from predictions import (
    Answers,
    Prediction,
    calibration_error,
    folded_beliefs,
    losses,
    others_rate,
    reliability,
    thinned,
)
from problems import FAMILIES, Question, divided, example_line, problem_line
from replay import from_nothing, one_draw

from rewards import check_reference, score
from rlcs.check import check_file

REFERENCES = {"spell_backward": "nus", "chain_sum": "-4"}


def question(index: int, dataset: str = "chain_sum", level: int = 1) -> Question:
    family = next(family for family in FAMILIES if family.dataset == dataset)
    entry = {"question": f"Question {dataset} {level} {index}?\n", "answer": REFERENCES.get(dataset, "3")}
    return Question(family, level, index, entry)


def answers(right: Any, cells: int = 1) -> Answers:
    return Answers([f"set{n % cells}" for n in range(len(right))], ["level-1"] * len(right), np.array(right), 8)


def test_every_dataset_gives_problems_and_examples_that_check_accepts(tmp_path: Path) -> None:
    found = [question(index, family.dataset, level) for index, (family, level) in enumerate(product(FAMILIES, (1, 2)))]
    for name, line in (("problems", problem_line), ("sft", example_line)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line(one)) + "\n" for one in found))
        report = check_file(tmp_path / f"{name}.jsonl")
        assert not report.errors and not report.warnings
    for one in found:
        line = problem_line(one)
        args = line.get("verifier_args", {})
        assert check_reference(line["answer"], domain=line["domain"], verifier=line["verifier"], args=args) is None
        response = example_line(one)["messages"][-1]["content"]
        assert score(response, line["answer"], domain=line["verifier"], args=args).correct


def test_a_level_is_divided_into_distinct_questions_in_order() -> None:
    parts = divided((question(index) for index in range(9)), {"problems": 5, "sft": 3}).values()
    assert [[one.number for one in part] for part in parts] == [[0, 1, 2, 3, 4], [5, 6, 7]]


def test_a_level_with_too_few_questions_is_refused() -> None:
    with pytest.raises(ValueError, match="chain_sum, level 1: 2 distinct questions left for sft, 3 wanted"):
        divided((question(index) for index in range(7)), {"problems": 5, "sft": 3})


@pytest.mark.parametrize("nothink", [True, False])
def test_the_chat_template_prefills_an_empty_thought_only_without_thinking(nothink: bool) -> None:
    messages = [
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2/nothink" if nothink else "2+2"},
    ]
    rendered = ImmutableSandboxedEnvironment().from_string(TEMPLATE)
    text = rendered.render(messages=messages, add_generation_prompt=True, enable_thinking=not nothink)
    switch, thought = ("/nothink", "<think></think>\n") if nothink else ("", "")
    assert text == (
        f"<|im_start|>user\n1+1{switch}<|im_end|>\n<|im_start|>assistant\n<think></think>\n2<|im_end|>\n"
        f"<|im_start|>user\n2+2{switch}<|im_end|>\n<|im_start|>assistant\n{thought}"
    )


def test_new_tokens_take_the_rows_of_their_twins_times_a_factor() -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=6, **sizes))
    known = {"a": 0, "[": 1, "]": 2, "Ċ": 3}
    vocabulary = known | {token: 6 + place for place, token in enumerate(TWINS)}
    tokenizer = MagicMock(convert_tokens_to_ids=vocabulary.__getitem__)
    tokenizer.__len__.return_value = 6 + len(TWINS)
    before = model.get_input_embeddings().weight.detach().clone()
    grow_embeddings(model, tokenizer)
    after = model.get_input_embeddings().weight
    assert torch.equal(after[:6], before)
    for token, (twin, factor) in TWINS.items():
        assert torch.allclose(after[vocabulary[token]], factor * before[vocabulary[twin]])


def line(id: str, right: int, k: int = 8, abstained: int = 0) -> dict[str, Any]:
    return {"id": id, "domain": "gcd", "tier": "level-1", "grade": {"k": k, "right": right, "abstained": abstained}}


def test_counts_are_by_dataset_and_level_and_leave_out_what_was_not_judged() -> None:
    assert counts([line("a", 3), line("b", 0, 7, 1), line("c", 8)]) == {"gcd": {"level-1": [3, 8]}}


def test_counts_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4, 8\] answers"):
        counts([line("a", 3), line("b", 3, k=4)])


def test_halves_share_out_all_answers_evenly() -> None:
    first, second = answers(right := [16, 0, *[6] * 20_000]).halves(np.random.default_rng(0))
    assert (first + second).tolist() == right and first[:2].tolist() == [8, 0]
    assert first[2:].max() == 6 and first[2:].mean() == pytest.approx(3.0, abs=0.03)


def test_predictions_of_a_belief_are_those_of_the_beta_binomial() -> None:
    alpha, beta = np.array([0.3, 2.0, 9.0]), np.array([0.4, 5.0, 1.0])
    found, exact = Prediction.of_beta(alpha, beta, 8), betabinom(8, alpha, beta)
    assert found.pass_rate == pytest.approx(exact.mean() / 8)
    assert found.pass_at_g == pytest.approx(1 - exact.pmf(0))
    assert found.mixed == pytest.approx(1 - exact.pmf(0) - exact.pmf(8))


def test_predictions_of_a_certain_rate_are_those_of_the_binomial() -> None:
    rate = np.array([0.0, 0.3, 1.0])
    found, exact = Prediction.of_rate(rate, 8), binom(8, rate)
    assert found.pass_at_g == pytest.approx(1 - exact.pmf(0))
    assert found.mixed == pytest.approx(1 - exact.pmf(0) - exact.pmf(8))


def test_the_pass_rate_loss_has_the_squared_error_to_the_true_rate_as_its_mean() -> None:
    right, true, said = np.arange(9), 0.3, 0.45
    loss = losses(Prediction.of_rate(np.full(9, said), 8), right, 8)["pass_rate"]
    assert binom(8, true).pmf(right) @ loss == pytest.approx((said - true) ** 2)


def test_brier_scores_compare_with_what_came() -> None:
    found = losses(Prediction.of_rate(np.array([0.5, 0.5, 0.5]), 2), np.array([0, 1, 2]), 2)
    assert found["pass_at_g"] == pytest.approx([0.75**2, 0.25**2, 0.25**2])
    assert found["mixed"] == pytest.approx([0.25, 0.25, 0.25])


def test_thinning_keeps_the_expected_share_of_right_answers() -> None:
    rng, right = np.random.default_rng(0), np.full(20_000, 6)
    assert thinned(right, 8, 0, rng).sum() == 0
    assert (thinned(right, 8, 8, rng) == right).all()
    kept = thinned(right, 8, 4, rng)
    assert kept.min() == 2 and kept.mean() == pytest.approx(3.0, abs=0.02)


def test_a_cell_mean_leaves_the_problem_itself_out() -> None:
    found = others_rate(np.array([8, 0, 4, 2]), np.array([0, 0, 0, 1]), 8)
    assert found == pytest.approx([4 / 16, 12 / 16, 8 / 16, 0.0])


@pytest.mark.parametrize("learn", [True, False])
def test_without_own_answers_a_problems_own_evidence_has_no_part_in_its_belief(learn: bool) -> None:
    right = np.random.default_rng(1).integers(0, 9, 60)
    changed = right.copy()
    changed[7] = 0 if right[7] else 8
    before = np.array(folded_beliefs(answers(right), right, 0, np.random.default_rng(2), learn=learn))
    after = np.array(folded_beliefs(answers(right), changed, 0, np.random.default_rng(2), learn=learn))
    assert np.array_equal(before[:, 7], after[:, 7])
    assert not np.array_equal(before, after)


def test_own_answers_move_a_belief_towards_them() -> None:
    right = np.array([8, 0] * 30)
    alpha, beta = folded_beliefs(answers(right), right, 4, np.random.default_rng(0), learn=True)
    mean = alpha / (alpha + beta)
    assert mean[::2].min() > 0.8 and mean[1::2].max() < 0.2


def test_reliability_bins_hold_mean_prediction_and_mean_outcome() -> None:
    predicted, came = np.array([0.05, 0.09, 0.55, 0.97, 1.0]), np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    bins = reliability(predicted, came, binary=True)
    assert [one.predicted for one in bins] == pytest.approx([0.07, 0.55, 0.985])
    assert [one.came.mean for one in bins] == [0.5, 1.0, 0.5]
    assert calibration_error(bins) == pytest.approx((2 * 0.43 + 0.45 + 2 * 0.485) / 5)


def test_replay_prefers_problems_known_to_be_moderate() -> None:
    recorded = answers([8, 16, 0] * 60, cells=2)  # a third of the problems is mixed, the others never
    assert one_draw("rlcs", recorded, 0, 24, as_rates=False) > 0.9
    assert one_draw("rlcs", recorded, 0, 24, as_rates=True) > 0.9
    assert one_draw("uniform", recorded, 0, 180, as_rates=False) == pytest.approx(1 / 3, abs=0.01)


def test_replay_from_nothing_first_gives_the_two_halves() -> None:
    # One of sixteen answers is wrong: exactly one of the two halves is mixed, whichever comes first.
    curve = from_nothing("uniform", answers([15] * 32), 0, steps=2, groups=32)
    assert curve[-1] == 0.5
