"""Problems as a verl dataset."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from rlcs.modes import thinking_mask
from rlcs.problems import ProblemFileError, load_problems
from rlcs.rl_config import RlConfig
from rlcs.verl.dataset import ProblemDataset, problem_of, settings_of


def write(path: Path, count: int, domain: str = "math") -> Path:
    rows = [
        {"id": f"{path.stem}-{i}", "domain": domain, "messages": [{"role": "user", "content": f"{i}+1"}], "answer": str(i + 1)}
        for i in range(count)
    ]
    rows[0]["verifier_args"] = {"atol": 0.1}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def data_config(tmp_path: Path, **changes: Any) -> Any:
    settings = RlConfig(model="m", problems=tmp_path / "train.jsonl", out=tmp_path / "run", **changes)
    root = OmegaConf.create({"rlcs": settings.model_dump(mode="json"), "data": {"rlcs": "${rlcs}"}})
    return root.data


def test_a_row_holds_the_whole_problem_and_its_place_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", 5)
    dataset = ProblemDataset([str(path)], None, data_config(tmp_path))
    for index, problem in enumerate(load_problems(path)):
        row = dataset[index]
        assert problem_of(row) == problem
        assert row["index"] == row["extra_info"]["index"] == index
        assert row["data_source"] == "math" and not row["heldout"]


def test_training_problems_have_the_modes_of_the_local_engine(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", 40)
    dataset = ProblemDataset(str(path), None, data_config(tmp_path, nothink_ratio=0.3, seed=5))
    expected = thinking_mask(load_problems(path), 0.3, np.random.default_rng([5, 2]))
    assert [dataset[index]["thinking"] for index in range(40)] == expected.tolist()
    assert expected.sum() == 28


def test_held_out_problems_are_posed_in_every_mode_of_the_run(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", 3)
    path = write(tmp_path / "heldout.jsonl", 4)
    heldout = {"problems": path, "max_per_domain": 2}
    dataset = ProblemDataset([str(path)], None, data_config(tmp_path, nothink_ratio=0.5, heldout=heldout))
    rows = [dataset[index] for index in range(len(dataset))]
    assert all(row["heldout"] for row in rows)
    assert sorted(row["thinking"] for row in rows) == [False, False, True, True]
    assert len({row["problem"]["id"] for row in rows}) == 2


def test_one_mode_alone_is_asked_where_the_run_trains_one(tmp_path: Path) -> None:
    path = write(tmp_path / "heldout.jsonl", 4)
    config = data_config(tmp_path, nothink_ratio=0.0, heldout={"problems": path})
    dataset = ProblemDataset([str(path)], None, config)
    assert [dataset[index]["thinking"] for index in range(len(dataset))] == [True] * 4


def test_a_faulty_file_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"id": "a", "domain": "math"}\n', encoding="utf-8")
    with pytest.raises(ProblemFileError, match="line 1"):
        ProblemDataset([str(path)], None, data_config(tmp_path))


def test_a_configuration_without_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="no node 'rlcs'"):
        settings_of(OmegaConf.create({"data": {}}))
