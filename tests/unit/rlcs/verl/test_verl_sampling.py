"""The sampler in verl: what its checkpoints keep, and how rows are dealt to updates and ranks."""

import copy
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("verl", reason="the verl extra is not installed")

from rlcs.rl_config import RlConfig
from rlcs.verl.dataset import ProblemDataset
from rlcs.verl.sampling import Curriculum, update_order, visits


def curriculum(folder: Path, *, problems: int = 60, **changes: Any) -> Curriculum:
    path = folder / "problems.jsonl"
    lines = [
        {
            "id": f"p{index}",
            "domain": "math" if index % 3 else "ocr",
            "messages": [{"role": "user", "content": f"{index} + 1?"}],
            "answer": str(index + 1),
        }
        for index in range(problems)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = RlConfig(model="m", problems=path, out=folder / "run", group_size=4, groups_per_step=8, **changes)
    dataset = ProblemDataset(str(path), None, {"rlcs": config.model_dump(mode="json")})
    return Curriculum(config, dataset, dataset.problems, dataset.thinking_N)


def steps(one: Curriculum, first: int, last: int) -> list[list[int]]:
    """Draws of steps, after each of which the sampler sees outcomes that depend on the problem alone."""
    drawn = []
    for step in range(first, last):
        indices = one.sampler.draw(8)
        outcomes = np.array([np.random.default_rng([int(index), step]).random(4) < 0.4 for index in indices], float)
        one.sampler.observe(indices, outcomes, policy_version=step, tokens_P=np.full(len(indices), 10.0))
        drawn.append([int(index) for index in indices])
    return drawn


def test_a_problem_posed_again_in_a_step_is_told_from_the_first_time() -> None:
    posed = Counter[int]()
    assert visits([4, 7, 4, 4], posed) == [0, 0, 1, 2]
    assert visits([7, 4, 9], posed) == [1, 3, 0], "drawn again after the first groups were scored"


def test_a_curriculum_goes_back_to_where_a_step_ended(tmp_path: Path) -> None:
    one = curriculum(tmp_path)
    steps(one, 0, 4)
    ended = copy.deepcopy(one.progress())
    wanted, number = steps(one, 4, 8), one.rng.random()
    one.go_back_to(ended)
    assert steps(one, 4, 8) == wanted and one.rng.random() == number


@pytest.mark.parametrize("sampler", ["rlcs", "uniform", "dapo", "glm-tiers", "pools", "greso", "mopps", "dps"])
def test_a_curriculum_restored_from_verls_file_draws_as_if_never_stopped(tmp_path: Path, sampler: str) -> None:
    whole = curriculum(tmp_path, sampler=sampler)
    wanted = steps(whole, 0, 12)
    stopped = curriculum(tmp_path, sampler=sampler)
    steps(stopped, 0, 5)
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)  # as verl writes data.pt
    resumed = curriculum(tmp_path, sampler=sampler)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=False))
    assert steps(resumed, 5, 12) == wanted[5:]
    assert resumed.rng.random() == whole.rng.random()


def test_state_of_other_problems_is_refused(tmp_path: Path) -> None:
    state = curriculum(tmp_path).state_dict()
    with pytest.raises(ValueError, match=r"other problems than those of this run.*same problem file"):
        curriculum(tmp_path, problems=50).load_state_dict(state)


def test_rows_are_the_problems_drawn_in_their_modes(tmp_path: Path) -> None:
    one = curriculum(tmp_path)
    indices = one.sampler.draw(8)
    rows = one.rows(indices)
    assert [row["index"] for row in rows] == indices.tolist()
    assert [row["problem"]["id"] for row in rows] == [f"p{index}" for index in indices]
    assert [row["thinking"] for row in rows] == one.thinking_N[indices].tolist()


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_rows_reach_the_update_and_rank_they_were_dealt_to(ranks: int, updates: int, each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(10, 1000, ranks * updates * each).tolist()
    order, update_B = update_order(lengths, ranks, updates, rng)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    for rank_rows in np.split(np.arange(len(order)), ranks):  # verl's dispatch, then its cut into mini-batches
        for update, part in enumerate(np.split(rank_rows, updates)):
            assert set(update_B[part]) == {update}


def test_ranks_get_about_equal_work_and_updates_a_random_part() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 4000, 256)
    order, update_B = update_order(lengths.tolist(), 4, 2, rng)
    work = [
        lengths[order[(np.arange(256) // 64 == rank) & (update_B == update)]].sum() for rank in range(4) for update in range(2)
    ]
    assert max(work[0::2]) - min(work[0::2]) < 100
    assert max(work[1::2]) - min(work[1::2]) < 100
    assert sorted(order[update_B == 0].tolist()) != list(range(128)), "not the first half of the batch"


def test_a_number_of_rows_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="7 rows; expected a multiple of 2 ranks times 2 updates"):
        update_order([5] * 7, 2, 2, np.random.default_rng(0))
