"""What every published sampler keeps to: shares of the domains, distinct problems in a step, an end, exact resume."""

import copy
import inspect
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcs.difficulty import Difficulty
from rlcs.samplers import SAMPLERS, GroupOutcomes, Sampler, group_outcome
from rlcs.samplers.options import DapoConfig, DpsConfig, GlmTiersConfig, GresoConfig, MoppsConfig, PoolsConfig

OPTIONS = {
    "dapo": DapoConfig,
    "glm-tiers": GlmTiersConfig,
    "pools": PoolsConfig,
    "greso": GresoConfig,
    "mopps": MoppsConfig,
    "dps": DpsConfig,
}
NAMES = ["uniform", *OPTIONS]
DOMAINS = ["math"] * 60 + ["ocr"] * 30 + ["gui"] * 10
BASE = {"alpha", "beta", "mean", "mixed_probability", "seen_at"}
Answer = Callable[[np.ndarray, int], np.ndarray]


def build(name: str, domains: list[str] = DOMAINS, seed: int = 0, **options: Any) -> Sampler:
    difficulty = Difficulty(domains, [str(index % 3) for index in range(len(domains))], [None] * len(domains))
    return SAMPLERS[name](domains, difficulty, group_size=4, seed=seed, **options)


def uneven(indices: np.ndarray, step: int) -> np.ndarray:
    """Groups of four that depend on problem and step alone: all right, all wrong, mixed, some with an abstention."""
    right = (indices * 7 + step * (1 + indices % 3)) % 5
    outcomes = (np.arange(4) < right[:, None]).astype(float)
    outcomes[(indices + step) % 11 == 0, 0] = np.nan
    return outcomes


def half(indices: np.ndarray, step: int) -> np.ndarray:
    return np.tile([1.0, 0.0, 1.0, 0.0], (len(indices), 1))


def wrong(indices: np.ndarray, step: int) -> np.ndarray:
    return np.zeros((len(indices), 4))


def run_step(sampler: Sampler, n: int, step: int, answer: Answer = uneven) -> tuple[np.ndarray, np.ndarray, int]:
    """One step as the training loop makes it: problems generated for, problems trained on, batches."""
    wanted, seen, outcomes, batches = sampler.draw(n), np.zeros(0, np.int64), np.zeros((0, 4)), 0
    assert len(wanted) >= n
    while len(wanted):
        assert wanted.dtype == np.int64
        assert batches < 100, "refill does not end"
        came, batches = answer(wanted, step), batches + 1
        sampler.observe(wanted, came, policy_version=step)
        seen, outcomes = np.concatenate([seen, wanted]), np.concatenate([outcomes, came])
        wanted = sampler.refill(n, seen, outcomes)
    mixed = np.flatnonzero(GroupOutcomes.of(outcomes).mixed_P)
    kept = sampler.select(seen[mixed], outcomes[mixed], n)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert len(kept) <= n
    return seen, seen[mixed][kept], batches


@given(st.lists(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, np.nan]), min_size=3, max_size=3), max_size=20))
def test_masks_of_group_outcomes_say_what_the_verdicts_say(rows: list[list[float]]) -> None:
    groups = GroupOutcomes.of(np.array(rows).reshape(-1, 3))
    for p, verdict in enumerate(group_outcome(np.array(rows).reshape(-1, 3))):
        masks = {"mixed": groups.mixed_P, "all-right": groups.right_P, "all-wrong": groups.wrong_P, "abstained": ~groups.told_P}
        assert [name for name, mask in masks.items() if mask[p]] == [verdict]
        known = [value for value in rows[p] if not np.isnan(value)]
        assert verdict == "abstained" or groups.mean_P[p] == pytest.approx(sum(known) / len(known))


@pytest.mark.parametrize("name", NAMES)
@given(n=st.integers(1, 100), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=8)
def test_no_problem_comes_twice_in_a_step_refills_included(name: str, n: int, seed: int) -> None:
    sampler = build(name, seed=seed)
    for step in range(8):
        seen, _, _ = run_step(sampler, n, step)
        assert len(set(seen.tolist())) == len(seen)


@pytest.mark.parametrize("name", NAMES)
def test_domains_keep_their_proportions_over_a_run(name: str) -> None:
    for weights, expected in ((None, (0.6, 0.3, 0.1)), ({"math": 1, "ocr": 1, "gui": 2}, (0.25, 0.25, 0.5))):
        sampler = build(name, domain_weights=weights)
        trained = Counter(DOMAINS[index] for step in range(60) for index in run_step(sampler, 8, step, half)[1])
        assert sum(trained.values()) == 480
        for domain, share in zip(("math", "ocr", "gui"), expected, strict=True):
            assert trained[domain] / 480 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_ends_when_no_group_is_ever_mixed(name: str) -> None:
    sampler = build(name)
    for step in range(12):
        seen, trained, batches = run_step(sampler, 8, step, wrong)
        assert len(trained) == 0
        assert batches <= 10
        assert len(seen) <= len(DOMAINS)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_over_the_whole_file_generates_for_each_problem_once(name: str) -> None:
    sampler = build(name)
    for step in range(3):
        seen, _, _ = run_step(sampler, 100, step, wrong)
        assert sorted(seen.tolist()) == list(range(100))


@pytest.mark.parametrize("name", NAMES)
def test_more_groups_than_problems_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower groups_per_step"):
        build(name).draw(101)


@pytest.mark.parametrize("name", NAMES)
@given(cut=st.integers(0, 15), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=8)
def test_a_split_run_is_the_whole_run(name: str, cut: int, seed: int) -> None:
    def play(sampler: Sampler, steps: range) -> list[list[list[int]]]:
        return [[part.tolist() for part in run_step(sampler, 9, step)[:2]] for step in steps]

    whole_sampler = build(name, seed=seed)
    whole = play(whole_sampler, range(15))
    first = build(name, seed=seed)
    before = play(first, range(cut))
    second = build(name, seed=seed + 1)  # whatever the new process was seeded with
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert before + play(second, range(cut, 15)) == whole
    assert second.metrics() == whole_sampler.metrics()
    for column, values in whole_sampler.snapshot().items():
        np.testing.assert_array_equal(second.snapshot()[column], values)


@pytest.mark.parametrize("name", ["dapo", "greso"])
def test_a_run_cut_within_a_step_goes_on_with_the_same_refills(name: str) -> None:
    first, second = build(name), build(name, seed=5)
    for step in range(15):
        run_step(first, 9, step)
    seen = first.draw(9)
    outcomes = wrong(seen, 15)
    first.observe(seen, outcomes, 15)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(12):
        wanted, other = (sampler.refill(9, seen, outcomes) for sampler in (first, second))
        assert wanted.tolist() == other.tolist()
        seen, outcomes = np.concatenate([seen, wanted]), np.concatenate([outcomes, wrong(wanted, 15)])
    assert len(wanted) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_state_later_changed_by_its_sampler_is_not_changed_with_it(name: str) -> None:
    sampler = build(name)
    for step in range(4):
        run_step(sampler, 9, step)
    state = sampler.state_dict()
    kept = pickle.dumps(state)
    run_step(sampler, 9, 4)
    assert pickle.dumps(state) == kept


@pytest.mark.parametrize("name", NAMES)
def test_seeds_decide_the_draws(name: str) -> None:
    runs = [[run_step(build(name, seed=seed), 9, 0)[0].tolist()] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("name", NAMES)
def test_groups_with_fewer_than_two_outcomes_teach_nothing(name: str) -> None:
    sampler, untouched = build(name), build(name)
    indices = np.array([3, 50, 70, 99])
    outcomes = np.full((4, 4), np.nan)
    outcomes[:2, 1] = 1.0, 0.0
    sampler.observe(indices, outcomes, 0)
    after, before = sampler.snapshot(), untouched.snapshot()
    for column in after.keys() - BASE:
        np.testing.assert_array_equal(after[column], before[column])
    for metric in ("expansion", "p_easy", "p_hard"):
        assert sampler.metrics().get(metric) == untouched.metrics().get(metric)


@pytest.mark.parametrize("name", NAMES)
def test_beliefs_fit_a_table_of_one_row_a_problem(name: str) -> None:
    sampler = build(name)
    run_step(sampler, 9, 0)
    columns = sampler.snapshot()
    assert columns.keys() >= BASE
    assert pa.table({key: pa.array(column) for key, column in columns.items()}).num_rows == len(DOMAINS)
    assert all(isinstance(value, float) and np.isfinite(value) for value in sampler.metrics().values())


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults_of_configuration_and_sampler_agree(name: str) -> None:
    parameters = inspect.signature(SAMPLERS[name]).parameters
    own = {
        key: parameter.default
        for key, parameter in parameters.items()
        if key not in inspect.signature(SAMPLERS["uniform"]).parameters
    }
    assert OPTIONS[name]().model_dump() == own
    build(name, **OPTIONS[name]().model_dump())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dapo", {"batch_ratio": 0.5}, "batch_ratio"),
        ("dapo", {"max_batches": 0}, "max_batches"),
        ("glm-tiers", {"edges": (0.1, 0.5, 0.4, 0.9)}, "edges"),
        ("glm-tiers", {"memory": 1.0}, "memory"),
        ("glm-tiers", {"floor": 0.0}, "floor"),
        ("pools", {"easy_fraction": 0.6, "hard_fraction": 0.6}, "easy_fraction"),
        ("pools", {"easy_threshold": 0.2, "hard_threshold": 0.5}, "hard_threshold"),
        ("greso", {"p_easy": 0.99}, "p_easy"),
        ("greso", {"safety": 0.5}, "safety"),
        ("mopps", {"candidates": 0.5}, "candidates"),
        ("mopps", {"prior": (0.0, 1.0)}, "prior"),
        ("dps", {"decay": 1.5}, "decay"),
    ],
)
def test_options_out_of_range_are_refused_by_name(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, **options)
    with pytest.raises(ValueError, match=message):
        OPTIONS[name](**options)
