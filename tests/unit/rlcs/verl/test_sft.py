"""An SFT configuration becomes verl's, and its batches are those of our own trainer, tensor by tensor."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoConfig

from rlcs.tasks import write_tasks
from rlcs.verl.overrides import compose
from rlcs.verl.sft import SFT_TRAINER, run_verl_sft, sft_command, sft_environment, sft_faults, sft_overrides, sft_settings
from rollout.chat import ChatRenderer
from sft.config import SftConfig
from sft.data import DataError, load_examples
from sft.rendering import Renderings
from sft.stream import ExampleStream

NANO = Path(__file__).parents[4] / "assets" / "nano"
BASE = {"engine": "verl", "model": str(NANO), "data": "sft.jsonl", "out": "run", "token_budget": 8192}
GPU = {**BASE, "device": "cuda", "dtype": "bfloat16", "verl": {"gpus_per_node": 8}}
READ_BY_OUR_DATASET = {"epochs", "steps", "cache_mb", "style", "nothink_ratio"}
READ_BY_OUR_WORKER = {"schedule", "decay_ratio"}  # rates are those of `sft.schedule`, whatever verl's would be
OF_THE_RUN_DIRECTORY = {"engine", "log_every", "loggers"}
CHANGES: dict[str, tuple[dict[str, Any], Any, set[str]]] = {
    "model": (BASE, "elsewhere", {"model.path"}),
    "data": (BASE, "more.jsonl", {"data.train_files"}),
    "eval_data": (BASE, "held.jsonl", {"data.val_files", "trainer.test_freq"}),
    "out": (BASE, "another", {"trainer.default_local_dir", "trainer.experiment_name"}),
    "seed": (BASE, 5, {"trainer.seed", "engine.seed"}),
    "dtype": ({**GPU, "verl": {"gpus_per_node": 8, "attention": "sdpa"}}, "float32", {"engine.mixed_precision"}),
    "gradient_checkpointing": (BASE, True, {"model.enable_gradient_checkpointing"}),
    "batch_size": (BASE, 8, {"data.train_batch_size"}),
    "token_budget": (BASE, 9000, {"data.max_token_len_per_gpu"}),
    "max_length": (BASE, 512, {"data.max_length"}),
    "lr": (BASE, 1.0, {"optim.lr"}),
    "warmup_steps": (BASE, 0, {"optim.lr_warmup_steps"}),
    "min_lr_ratio": (BASE, 1.0, {"optim.min_lr_ratio"}),
    "weight_decay": (BASE, 0.5, {"optim.weight_decay"}),
    "betas": (BASE, [0.1, 0.2], {"optim.betas"}),
    "grad_clip": (BASE, 2.0, {"optim.clip_grad"}),
    "eval_every": ({**BASE, "eval_data": "held.jsonl"}, 0, {"trainer.test_freq"}),
    "save_every": (BASE, 7, {"trainer.save_freq"}),
    "keep_checkpoints": (BASE, 7, {"trainer.max_ckpt_to_keep"}),
}
ELSEWHERE = {"device", "threads", "lora", "verl", "optimizer", "max_skipped_updates"}  # tests of their own


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "rlcs":
            continue
        whole = f"{prefix}{key}"
        found |= flat(value, f"{whole}.") if isinstance(value, dict) and key != "mixed_precision" else {whole: value}
    return found


def settings(values: dict[str, Any]) -> dict[str, Any]:
    return flat(sft_settings(SftConfig.model_validate(values)))


def test_every_field_has_its_place() -> None:
    assert CHANGES.keys() | READ_BY_OUR_DATASET | READ_BY_OUR_WORKER | OF_THE_RUN_DIRECTORY | ELSEWHERE == set(
        SftConfig.model_fields
    )


@pytest.mark.parametrize("field", CHANGES)
def test_a_field_changes_exactly_the_settings_it_decides(field: str) -> None:
    values, value, decided = CHANGES[field]
    before, after = settings(values), settings({**values, field: value})
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == decided


@pytest.mark.parametrize(
    "values",
    [
        BASE,
        GPU,
        {**GPU, "lora": {"rank": 4, "alpha": 8}, "eval_data": "held.jsonl"},
        {**GPU, "verl": {"gpus_per_node": 8, "overrides": ["checkpoint.save_contents=[model]"]}},
    ],
    ids=["cpu", "gpu", "lora", "overrides"],
)
def test_verl_composes_the_overrides_and_builds_its_own_settings_of_them(values: dict[str, Any]) -> None:
    pytest.importorskip("verl")
    from omegaconf import OmegaConf
    from verl.utils.config import omega_conf_to_dataclass

    config = SftConfig.model_validate(values)
    composed = compose(sft_overrides(config), name=SFT_TRAINER)
    assert OmegaConf.to_container(composed.data.rlcs) == sft_settings(config)["data"]["rlcs"]
    for key, value in settings(values).items():
        found = OmegaConf.select(composed, key)
        assert (OmegaConf.to_container(found) if OmegaConf.is_config(found) else found) == value, key
    engine, optim = omega_conf_to_dataclass(composed.engine), omega_conf_to_dataclass(composed.optim)
    assert engine.strategy == "fsdp2" and optim.clip_grad == config.grad_clip


def test_the_command_is_torchruns_and_holds_the_whole_run() -> None:
    one = SftConfig.model_validate(GPU)
    words = shlex.split(shlex.join(sft_command(one, resume=True)))
    head = "python -m torch.distributed.run --nnodes 1 --nproc-per-node 8 --standalone -m rlcs.verl.sft_worker"
    assert words == [*shlex.split(head), *sft_overrides(one, resume=True)]
    many = SftConfig.model_validate({**GPU, "verl": {"gpus_per_node": 4, "nodes": 2, "rendezvous": "host:29500"}})
    assert "--rdzv-endpoint host:29500" in shlex.join(sft_command(many))


def test_threads_and_the_platform_go_into_the_environment() -> None:
    cpu = sft_environment(SftConfig.model_validate({**BASE, "threads": 3}))
    assert cpu["OMP_NUM_THREADS"] == "3" and cpu["VERL_PLATFORM"] == "cpu"
    assert "VERL_PLATFORM" not in sft_environment(SftConfig.model_validate(GPU))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**BASE, "device": "cuda:0"}, "expected cuda, or cpu"),
        ({**BASE, "dtype": "bfloat16"}, "on the CPU set dtype"),
        ({**GPU, "dtype": "float32", "verl": {"attention": "flash_attention_2"}}, "attention: sdpa"),
        ({**GPU, "verl": {"gpus_per_node": 8, "sequence_parallel": 2, "attention": "sdpa"}}, "needs flash_attention_2"),
        ({**GPU, "verl": {"gpus_per_node": 8, "shard_size": 3}}, "does not divide the 8 GPUs"),
        ({**GPU, "batch_size": 12}, "cannot be dealt evenly to 8"),
        ({**BASE, "max_length": 9000}, "raise token_budget"),
        ({**BASE, "verl": {"nodes": 2}}, "several nodes need it"),
        ({**GPU, "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}, "set it to 0"),
        ({**GPU, "lora": {"rank": 4, "alpha": 8.5}}, "whole number"),
        ({**GPU, "optimizer": "adamw_8bit"}, "weights that FSDP2 shards"),
        ({**GPU, "max_skipped_updates": 5}, "leave it out"),
    ],
)
def test_what_verl_cannot_run_is_refused_with_the_mend(values: dict[str, Any], message: str) -> None:
    config = SftConfig.model_validate(values)
    (fault,) = sft_faults(config)
    assert message in fault
    with pytest.raises(ValueError, match="engine: verl cannot run this configuration"):
        sft_settings(config)


@pytest.mark.parametrize("override", ["data.train_batch_size=3", "+data.rlcs.lr=3", "optim={lr: 1}"])
def test_an_override_of_what_a_field_decides_is_refused(override: str) -> None:
    config = SftConfig.model_validate({**BASE, "verl": {"overrides": [override]}})
    with pytest.raises(ValueError, match="sets what a field of our own decides"):
        sft_overrides(config)


def test_a_rendezvous_is_a_host_and_a_port() -> None:
    with pytest.raises(ValidationError, match="rendezvous"):
        SftConfig.model_validate({**BASE, "verl": {"nodes": 2, "rendezvous": "host"}})


def test_weights_decay_as_our_own_optimiser_makes_them() -> None:
    from rlcs.verl.optimizer import MatrixDecayAdamW
    from sft.optimizers import build_optimizer
    from sft.update import trained_groups

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))

    config = SftConfig.model_validate({**BASE, "weight_decay": 0.5, "lr": 0.1})
    ours, verls = model(), model()
    optimisers = [
        build_optimizer(trained_groups(ours, config), config),  # type: ignore[arg-type]
        MatrixDecayAdamW(verls.parameters(), lr=0.1, betas=config.betas, weight_decay=0.5),
    ]
    for _ in range(3):
        for module, optimiser in zip((ours, verls), optimisers, strict=True):
            optimiser.zero_grad()
            module(torch.ones(2, 3)).square().sum().backward()
            optimiser.step()
    for one, other in zip(ours.parameters(), verls.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("sft") / "data"
    write_tasks(out, domains=["math", "ocr"], train=0, heldout=0, sft=6, sft_heldout=3, seed=0)
    return out


def dataset(written: Path, tmp_path: Path, file: str, **values: Any) -> Any:
    pytest.importorskip("verl")
    from omegaconf import OmegaConf

    from rlcs.verl.sft_dataset import ExampleDataset

    base = {**BASE, "data": written / "sft.jsonl", "eval_data": written / "sft_heldout.jsonl", "out": tmp_path / "run"}
    config = SftConfig.model_validate({**base, "batch_size": 4, "steps": 5, **values})
    node = OmegaConf.create({"rlcs": config.model_dump(mode="json")})
    return ExampleDataset(str(written / file), None, node)


def test_batches_are_those_of_our_own_trainer(written: Path, tmp_path: Path) -> None:
    pytest.importorskip("verl")
    from rlcs.verl.engine import batch_positions

    found = dataset(written, tmp_path, "sft.jsonl", nothink_ratio=0.5)
    examples = load_examples(written / "sft.jsonl").examples
    renderings = Renderings(ChatRenderer.from_pretrained(NANO), cache_bytes=1 << 28)
    stream = ExampleStream([example.thinks for example in examples], 0.5, np.random.default_rng([0, 0]))
    model = AutoConfig.from_pretrained(NANO)
    assert len(found) == 5 * 4
    pictures = 0
    for step in range(5):
        for place, (index, nothink) in enumerate(stream.draw(4)):
            expected = renderings.sample(examples[index], nothink=nothink).encoded
            item = found[4 * step + place]
            assert item["input_ids"].tolist() == expected.input_ids.tolist()
            assert item["loss_mask"].tolist() == expected.loss_mask.astype(int).tolist()
            (positions,) = batch_positions([item["input_ids"]], [item["multi_modal_inputs"]], model).unbind()
            assert item["position_ids"].tolist() == positions[0].tolist() == list(range(len(expected.input_ids)))
            assert np.array_equal(positions[1:].numpy(), expected.position_ids)
            pictures += bool(item["multi_modal_inputs"])
            if expected.media:
                (media,) = expected.media
                assert np.array_equal(item["multi_modal_inputs"]["pixel_values"].numpy(), media.pixel_values)
                assert item["multi_modal_inputs"]["image_grid_thw"].tolist() == [media.grid_thw.tolist()]
    assert pictures


def test_faults_of_the_data_are_found_before_anything_is_started(written: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n")
    config = SftConfig.model_validate({**BASE, "data": written / "sft.jsonl", "eval_data": broken, "out": tmp_path / "run"})
    with pytest.raises(DataError, match=r"broken\.jsonl, line 1"):
        run_verl_sft(config)
    assert not (tmp_path / "run").exists()


def test_heldout_examples_are_evaluated_in_every_form(written: Path, tmp_path: Path) -> None:
    examples = load_examples(written / "sft_heldout.jsonl").examples
    found = dataset(written, tmp_path, "sft_heldout.jsonl", nothink_ratio=0.5)
    assert len(found) == len(examples) + sum(example.thinks for example in examples)
    assert len(dataset(written, tmp_path, "sft_heldout.jsonl", nothink_ratio=0.0)) == len(examples)


def test_examples_that_are_too_long_are_left_out_and_recorded(written: Path, tmp_path: Path) -> None:
    lengths = sorted(
        max(
            len(form.encoded.input_ids)
            for form in Renderings(ChatRenderer.from_pretrained(NANO), cache_bytes=0).forms(one, nothink=True)
        )
        for one in load_examples(written / "sft.jsonl").examples
    )
    limit = lengths[len(lengths) // 2]
    found = dataset(written, tmp_path, "sft.jsonl", max_length=limit, nothink_ratio=0.5)
    assert max(len(item["input_ids"]) for item in (found[place] for place in range(len(found)))) <= limit
    recorded = json.loads((tmp_path / "run" / "rejected.json").read_text())
    assert len(recorded["data"]["over-max-length"]) == sum(length > limit for length in lengths) > 0
