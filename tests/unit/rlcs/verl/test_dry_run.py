"""`--dry-run engine=verl`: memory against what FSDP2 really shards, placement, the whole command; and the shipped recipes."""

import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing as mp
from fsdp_processes import NANO, train_step
from rich.console import Console
from typer.testing import CliRunner

from rlcs import cli
from rlcs.config import load_config
from rlcs.memory_plan import NOMINAL_GPU, MemoryPlan
from rlcs.plan import print_plan, rl_plan
from rlcs.rl_config import RlConfig
from rlcs.verl.dry_run import command_lines, placement_table, verl_memory
from rlcs.verl.sft import sft_overrides
from rlcs.verl.translate import verl_overrides
from sft.config import SftConfig

ROOT = Path(__file__).parents[4]
RECIPES = [*sorted((ROOT / "configs" / "rl").glob("verl_*.yaml")), *sorted((ROOT / "configs" / "sft").glob("verl_*.yaml"))]
ON_GPU = [path for path in RECIPES if "nano" not in path.stem]
TINY = {"engine": "verl", "model": str(NANO), "problems": "none.jsonl", "out": "run", "rollout": "vllm", "token_budget": 1024}


def recipe(path: Path) -> RlConfig | SftConfig:
    return load_config(RlConfig, path) if path.parent.name == "rl" else load_config(SftConfig, path)


def sizes(plan: MemoryPlan) -> dict[str, float]:
    return {row.name: row.size for row in plan.rows}


def test_a_gpu_holds_what_fsdp2_shards_to_it(tmp_path: Path) -> None:
    mp.spawn(train_step, (29621, str(tmp_path / "held.json")), nprocs=2)
    held = json.loads((tmp_path / "held.json").read_text())
    config = RlConfig.model_validate({**TINY, "verl": {"gpus_per_node": 2}})
    gpu, _ = verl_memory(config)
    for name in ("weights", "gradients", "optimiser"):
        assert sizes(gpu)[name] == pytest.approx(held[name], rel=0.02), name  # FSDP2 gives uneven rows to the first ranks
    assert sizes(gpu)["gathered"] == 4 * (2 * held["root"] + 3 * held["layer"])


def test_more_gpus_hold_less_each_and_a_copy_is_sharded_over_shard_size() -> None:
    def weights(gpus: int, **verl: Any) -> float:
        config = RlConfig.model_validate({**TINY, "verl": {"gpus_per_node": gpus, **verl}})
        return sizes(verl_memory(config)[0])["weights"]

    assert weights(8) == weights(4) / 2 == weights(8, shard_size=4) / 2
    assert weights(4, master_dtype="float32") == weights(8, shard_size=4)


def test_vllm_that_sleeps_takes_turns_with_training() -> None:
    path = ROOT / "configs" / "rl" / "verl_glm41v_9b.yaml"
    (asleep, _), (awake, _) = (verl_memory(load_config(RlConfig, path, [f"vllm.sleep={value}"])) for value in ("true", "false"))
    training = sum(row.size for row in awake.rows if row.name != "vLLM")
    assert awake.total == pytest.approx(training + sizes(awake)["vLLM"]) and awake.warnings
    assert asleep.total == pytest.approx(
        max(training, sizes(asleep)["weights"] * 3 + sizes(asleep)["vLLM"] + sizes(asleep)["CUDA, NCCL"])
    )


def test_what_is_off_loaded_waits_in_main_memory() -> None:
    path = ROOT / "configs" / "rl" / "verl_glm45v.yaml"
    gpu, node = verl_memory(load_config(RlConfig, path))
    assert sizes(node)["off-loaded"] == 8 * sizes(gpu)["optimiser"]
    _, whole = verl_memory(load_config(RlConfig, path, ["verl.offload=all"]))
    assert sizes(whole)["off-loaded"] == 8 * (sizes(gpu)["weights"] + sizes(gpu)["gradients"] + sizes(gpu)["optimiser"])
    assert sizes(node)["loading"] == 64 * sizes(gpu)["weights"]


def test_a_reference_policy_waits_in_main_memory_unless_it_is_the_policy_without_adapters() -> None:
    path = ROOT / "configs" / "rl" / "verl_glm41v_9b.yaml"
    (without, before), (gpu, after) = (verl_memory(load_config(RlConfig, path, [f"kl_coef={value}"])) for value in (0, 0.001))
    assert gpu.total == without.total
    assert after.total - before.total == sizes(after)["reference"] == 8 * sizes(gpu)["weights"]
    _, adapted = verl_memory(load_config(RlConfig, path, ["kl_coef=0.001", "lora={rank: 8, alpha: 16}"]))
    assert "reference" not in sizes(adapted)


def test_the_mixture_of_experts_has_the_published_parameters() -> None:
    gpu, _ = verl_memory(load_config(RlConfig, ROOT / "configs" / "rl" / "verl_glm45v.yaml"))
    assert gpu.rows[0].why.startswith("107,710,927,360 parameters")


@pytest.mark.parametrize("path", ON_GPU, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recipe_for_gpus_fits_its_cards_and_says_that_it_has_not_run(path: Path) -> None:
    gpu, _ = verl_memory(recipe(path))
    assert not gpu.warnings and gpu.total < NOMINAL_GPU
    assert path.read_text().startswith("# Not yet run on GPU.")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recipe_is_one_that_verl_composes(path: Path) -> None:
    pytest.importorskip("verl")
    from rlcs.verl.overrides import compose
    from rlcs.verl.sft import SFT_TRAINER

    config = recipe(path)
    if isinstance(config, RlConfig):
        assert compose(verl_overrides(config, planned=True)).trainer.total_training_steps == config.steps
    else:
        assert compose(sft_overrides(config), name=SFT_TRAINER).data.train_batch_size == config.batch_size


def test_placement_counts_ranks_servers_and_responses() -> None:
    def text(config: RlConfig) -> str:
        console = Console(file=io.StringIO(), width=200)
        console.print(placement_table(config))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    found = text(load_config(RlConfig, ROOT / "configs" / "rl" / "verl_glm45v.yaml"))
    for phrase in (
        "64: 8 nodes x 8 GPUs",
        "1, sharded over 64 GPUs",
        "8 of 8 GPUs",
        "1,024, 128 to a server",
        "16 of each rank",
        "auto",
    ):
        assert phrase in found


def test_the_plan_ends_with_a_command_that_a_shell_reads_back() -> None:
    config = RlConfig.model_validate({**TINY, "model": "models/GLM-4.5V"})
    console = Console(file=io.StringIO(), width=100)
    print_plan(console, config, rl_plan(config))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    command, note = printed[printed.index("python -m rlcs.verl.launch") :].rstrip().rsplit("\n", 1)
    assert "without engine_kwargs.vllm" in note
    assert shlex.split(command.replace("\\\n", " "))[3:] == verl_overrides(config, planned=True)


def test_the_command_line_shows_placement_memory_and_command_of_both_verbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for verb, stem in (("rl", "verl_glm41v_9b"), ("sft", "verl_glm41v_9b")):
        found = CliRunner().invoke(cli.app, [verb, str(ROOT / "configs" / verb / f"{stem}.yaml"), "--dry-run"])
        assert found.exit_code == 0, found.output
        for phrase in ("placement", "memory, estimated from", "sharded over 8 GPUs", "python -m "):
            assert phrase in found.output
    assert "torch.distributed.run" in command_lines(load_config(SftConfig, ROOT / "configs" / "sft" / "verl_nano.yaml"))
    assert not list(tmp_path.iterdir())
