"""Configurations that are shipped: each is valid, and those of one chain go together."""

from pathlib import Path

import pytest

from rlcs.config import load_config
from rlcs.eval_config import EvalConfig
from rlcs.grade_config import GradeConfig
from rlcs.rl_config import RlConfig
from sft.config import SftConfig

CONFIGS = Path(__file__).parents[3] / "configs"
KINDS = {"sft": SftConfig, "rl": RlConfig, "grade": GradeConfig, "eval": EvalConfig}
SHIPPED = sorted(path for verb in KINDS for path in (CONFIGS / verb).glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    load_config(KINDS[path.parent.name], path)


def test_the_smollm2_configurations_are_one_chain_with_one_way_of_sampling() -> None:
    name = "smollm2_reasoning_gym.yaml"
    sft = load_config(SftConfig, CONFIGS / "sft" / name)
    grade, rl = load_config(GradeConfig, CONFIGS / "grade" / name), load_config(RlConfig, CONFIGS / "rl" / name)
    evaluation = load_config(EvalConfig, CONFIGS / "eval" / name)
    assert Path(grade.model) == Path(rl.model) == sft.out and rl.problems == grade.out and Path(evaluation.model) == rl.out
    for other in (grade, evaluation):
        for setting in ("temperature", "think_tokens", "answer_tokens", "rollout"):
            assert getattr(other, setting) == getattr(rl, setting)
        assert list(other.modes) == ["nothink"]
    assert rl.nothink_ratio == sft.nothink_ratio == 1.0


@pytest.mark.parametrize("stem", ["glm41v_9b_lora", "qwen3_4b_lora", "qwen3_1b7_full"])
def test_the_pairs_for_a_gpu_agree_on_model_type_and_adapters(stem: str) -> None:
    sft = load_config(SftConfig, CONFIGS / "sft" / f"{stem}.yaml")
    rl = load_config(RlConfig, CONFIGS / "rl" / f"{stem}.yaml")
    assert (sft.model, sft.device, sft.dtype, sft.lora) == (rl.model, rl.device, rl.dtype, rl.lora)
    assert rl.rollout == "vllm" and rl.importance_cap is not None
    assert rl.most_think_tokens + rl.answer_tokens + 4 < (rl.vllm.max_length or 0)
