"""Shards of FSDP2 checkpoints become the Hugging Face directories they were sharded from."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
import yaml
from fsdp_processes import LORA, NANO, adapted, save_shards
from transformers import AutoConfig, AutoModelForImageTextToText
from typer.testing import CliRunner

from rlcs.cli import app
from rlcs.verl.export import export_run, merge_checkpoint
from rollout.chat import ChatRenderer


def sharded(shards: Path, port: int, *, ranks: int = 2, copies: int = 1, lora: bool = False) -> Path:
    shards.mkdir(parents=True)
    shutil.copytree(NANO, shards / "huggingface", ignore=shutil.ignore_patterns("*.safetensors"))
    (shards / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": ranks}))
    if lora:
        (shards / "lora_train_meta.json").write_text(json.dumps(LORA))
    mp.spawn(save_shards, (str(shards), ranks, copies, lora, port), nprocs=ranks)
    return shards


def weights(path: Path) -> dict[str, torch.Tensor]:
    return AutoModelForImageTextToText.from_pretrained(path, dtype="auto").state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sharded(tmp_path_factory.mktemp("two") / "run" / "verl" / "global_step_7" / "actor", 29611)


def test_shards_of_two_ranks_become_the_model_bit_by_bit(two_ranks: Path, tmp_path: Path) -> None:
    out = merge_checkpoint(two_ranks, tmp_path / "out")
    assert same(weights(out), weights(NANO))
    text, expected = (AutoConfig.from_pretrained(path).to_dict()["text_config"] for path in (out, NANO))
    assert text | {"dtype": None} == expected
    question = [{"role": "user", "content": "2+2"}]
    prompts = [ChatRenderer.from_pretrained(path).prompt(question, root=tmp_path, thinking=True) for path in (out, NANO)]
    assert prompts[0].encoded.input_ids.tolist() == prompts[1].encoded.input_ids.tolist()


def test_copies_of_the_weights_are_read_once(tmp_path: Path) -> None:
    shards = sharded(tmp_path / "shards", 29612, ranks=4, copies=2)
    for rank in (2, 3):
        (shards / f"model_world_size_4_rank_{rank}.pt").unlink()  # the second copy
    assert same(weights(merge_checkpoint(shards, tmp_path / "out")), weights(NANO))


def test_adapters_are_merged_as_peft_merges_them(tmp_path: Path) -> None:
    shards = sharded(tmp_path / "shards", 29613, lora=True)
    found = weights(merge_checkpoint(shards, tmp_path / "out"))
    expected = adapted().merge_and_unload().state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    changed = {name for name, value in weights(NANO).items() if not torch.equal(value, found[name])}
    assert changed and all(name.endswith(("q_proj.weight", "down_proj.weight")) and "visual" not in name for name in changed)


def test_a_run_is_exported_in_the_dtype_it_computed_in(two_ranks: Path, tmp_path: Path) -> None:
    run = two_ranks.parents[2]
    (run / "verl" / "latest_checkpointed_iteration.txt").write_text("7")
    (run / "config.yaml").write_text(yaml.safe_dump({"dtype": "bfloat16"}))
    own = export_run(run)
    assert own == run / "checkpoints" / "step-000007" == export_run(run)
    assert {value.dtype for name, value in weights(own).items()} == {torch.bfloat16}
    answer = CliRunner().invoke(app, ["export", str(run), str(tmp_path / "out"), "--dtype", "float32"])
    assert answer.exit_code == 0, answer.output
    assert same(weights(tmp_path / "out"), weights(NANO))


def test_a_local_checkpoint_is_copied_without_its_training_state(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000003"
    shutil.copytree(NANO, checkpoint)
    for name in ("optimizer.pt", "state.pt"):
        (checkpoint / name).write_bytes(b"x")
    out = export_run(tmp_path / "run", tmp_path / "out")
    assert {file.name for file in out.iterdir()} == {file.name for file in NANO.iterdir()}
    assert same(weights(out), weights(NANO))


def test_what_is_missing_or_in_the_way_is_named(two_ranks: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        export_run(tmp_path, tmp_path / "out")
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    with pytest.raises(FileExistsError, match="there already"):
        merge_checkpoint(two_ranks, full)
    torn = tmp_path / "torn"
    shutil.copytree(two_ranks, torn, ignore=shutil.ignore_patterns("*rank_1.pt"))
    with pytest.raises(FileNotFoundError, match="copy the checkpoint's files from all nodes"):
        merge_checkpoint(torn, tmp_path / "out")
    assert not (tmp_path / "out").exists()
