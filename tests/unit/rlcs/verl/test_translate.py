"""Every field of an RL configuration reaches verl, is read by our plug-ins, or is refused; verl takes what comes out."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from rlcs.config import load_config
from rlcs.critic_options import CriticConfig
from rlcs.guard_config import GuardConfig
from rlcs.rl_config import DifficultyConfig, HeldoutConfig, RlConfig
from rlcs.verl.fields import MAPPED, OURS, PLUGGED, REFUSED, faults
from rlcs.verl.options import VerlOptions
from rlcs.verl.overrides import compose, hydra_value
from rlcs.verl.translate import LAUNCH, NAME, verl_command, verl_config, verl_overrides
from rollout.options import VllmOptions
from sft.config import LoraConfig

ROOT = Path(__file__).parents[4]
NANO = ROOT / "assets" / "nano"
SECTIONS: dict[str, type[BaseModel]] = {
    "vllm": VllmOptions,
    "lora": LoraConfig,
    "heldout": HeldoutConfig,
    "verl": VerlOptions,
    "critic": CriticConfig,
    "guard": GuardConfig,
}

CPU = {"engine": "verl", "model": str(NANO), "problems": "problems.jsonl", "out": "run", "rollout": "vllm"}
GPU = {**CPU, "device": "cuda", "dtype": "bfloat16", "verl": {"gpus_per_node": 8}}
LORA = {**GPU, "lora": {"rank": 8, "alpha": 16}}
HELDOUT = {**CPU, "heldout": {"problems": "heldout.jsonl", "every_rollouts": 1024}}
JOINED = {**GPU, "verl": {"gpus_per_node": 8, "ray_address": "auto"}}
TRAINER = {**CPU, "old_logprobs": "trainer"}
GAE = {**CPU, "advantage": "gae"}
CHANGES: dict[str, tuple[dict[str, Any], Any]] = {  # field -> configuration, another value of the field
    "model": (CPU, "elsewhere"),
    "problems": (CPU, "others.jsonl"),
    "out": (CPU, "another"),
    "seed": (CPU, 7),
    "dtype": ({**GPU, "verl": {"gpus_per_node": 8, "attention": "sdpa"}}, "float32"),
    "threads": (CPU, 2),
    "lora.rank": (LORA, 4),
    "lora.alpha": (LORA, 8),
    "lora.targets": (LORA, ["q_proj"]),
    "gradient_checkpointing": (CPU, True),
    "steps": (CPU, 5),
    "groups_per_step": (CPU, 16),
    "group_size": (CPU, 4),
    "updates_per_step": (CPU, 2),
    "epochs_per_step": (CPU, 3),
    "vllm.max_sequences": (CPU, 16),
    "vllm.max_length": ({**GPU, "token_budget": 20000}, 9000),
    "vllm.gpu_memory": (CPU, 0.7),
    "vllm.cpu_cache_gib": (CPU, 3),
    "vllm.tensor_parallel": (GPU, 4),
    "vllm.eager": (GPU, True),
    "vllm.dtype": (GPU, "float32"),
    "vllm.sleep": (CPU, True),
    "vllm.quiet": (CPU, False),
    "temperature": (CPU, 0.9),
    "top_p": (TRAINER, 0.9),
    "think_tokens": (CPU, [10, 40]),
    "answer_tokens": (CPU, 11),
    "advantage": (CPU, "gae"),
    "loss_aggregation": (CPU, "constant"),
    "dual_clip": (CPU, 3.0),
    "entropy_coef": (GPU, 0.1),
    "kl_coef": (CPU, 0.1),
    "kl_estimator": (CPU, "k2"),
    "clip_low": (CPU, 0.1),
    "clip_high": (CPU, 0.4),
    "old_logprobs": (CPU, "trainer"),
    "lr": (CPU, 1e-6),
    "warmup_steps": (CPU, 0),
    "schedule": (CPU, "cosine"),
    "min_lr_ratio": ({**CPU, "schedule": "cosine"}, 0.3),
    "weight_decay": (CPU, 0.1),
    "betas": (CPU, [0.8, 0.9]),
    "grad_clip": (CPU, 0.5),
    "token_budget": ({**CPU, "vllm": {"max_length": 1024}}, 4096),
    "heldout.problems": (HELDOUT, "more.jsonl"),
    "heldout.samples": (HELDOUT, 3),
    "save_every": (CPU, 3),
    "keep_checkpoints": (CPU, 5),
    "verl.nodes": (JOINED, 2),
    "verl.gpus_per_node": (JOINED, 4),
    "verl.shard_size": (GPU, 4),
    "verl.sequence_parallel": ({**GPU, "vllm": {"max_length": 1024}}, 2),
    "verl.master_dtype": (GPU, "bfloat16"),
    "verl.offload": (GPU, "all"),
    "verl.attention": (GPU, "sdpa"),
    "verl.expert_parallel": ({**GPU, "vllm": {"tensor_parallel": 8}}, True),
    "critic.lr": (GAE, 1e-3),
    "critic.warmup_steps": (GAE, 3),
    "critic.epochs": (GAE, 2),
    "critic.value_clip": (GAE, None),
    "critic.gamma": (CPU, 0.99),
    "critic.lam": (CPU, 0.9),
    "verl.agent_workers": (CPU, 3),
    "verl.reward_workers": (CPU, 3),
    "verl.weight_bucket_mib": (GPU, 64),
    "verl.ray_address": (GPU, "10.0.0.1:6379"),
    "verl.ray_cpus": (CPU, 4),
}
UNTRIED = {"device", "rollout"}  # tests of their own
ELSEWHERE = {"heldout.problems": {"data.val_max_samples", "trainer.val_before_train", "trainer.test_freq"}}


def changed(values: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    *sections, name = field.split(".")
    if not sections:
        return {**values, name: value}
    return {**values, sections[0]: {**values.get(sections[0], {}), name: value}}


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        whole = f"{prefix}{key}"
        found |= flat(value, f"{whole}.") if isinstance(value, dict) and key != "mixed_precision" else {whole: value}
    return found


def settings(values: dict[str, Any]) -> dict[str, Any]:
    found = verl_config(RlConfig.model_validate(values), planned=True)
    del found[NAME]
    return flat(found)


def all_fields() -> set[str]:
    names = {name for name in RlConfig.model_fields if name not in SECTIONS}
    return names | {f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields}


def test_every_field_is_mapped_or_ours_or_refused_and_one_of_them_only() -> None:
    known = [*MAPPED, *OURS, *REFUSED]
    assert sorted(known) == sorted(all_fields())


def test_every_mapped_field_has_a_trial() -> None:
    assert CHANGES.keys() | UNTRIED == MAPPED.keys()


@pytest.mark.parametrize("field", CHANGES)
def test_a_mapped_field_changes_exactly_the_settings_it_is_said_to_decide(field: str) -> None:
    values, value = CHANGES[field]
    before, after = settings(values), settings(changed(values, field, value))
    moved = {key for key in before.keys() | after.keys() if before.get(key, "absent") != after.get(key, "absent")}
    if field == "advantage":
        moved -= {key for key in moved if key.startswith("critic.")} - {"critic.enable"}
    assert moved == set(MAPPED[field]) - ELSEWHERE.get(field, set())


@pytest.mark.parametrize(
    ("advantage", "estimator"),
    [("grpo", "rlcs"), ("dr_grpo", "rlcs"), ("rloo", "rlcs"), ("reinforce++", "rlcs"), ("gae", "gae")],
)
def test_every_kind_of_advantage_has_an_estimator_in_verls_registry(advantage: str, estimator: str) -> None:
    found = settings({**CPU, "advantage": advantage})
    assert found["algorithm.adv_estimator"] == estimator
    assert found["algorithm.norm_adv_by_std_in_grpo"] == (advantage == "grpo")
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")
    import rlcs.verl.objective  # noqa: F401  (registers ours)

    assert core_algos.get_adv_estimator_fn(estimator) is not None


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_an_estimator_of_the_divergence_is_verls_of_that_name(estimator: Any) -> None:
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")
    import torch

    from rlcs.objective import kl_estimate

    logprobs, reference = 0.5 * torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    name = settings({**CPU, "kl_estimator": estimator})["actor_rollout_ref.actor.kl_loss_type"]
    theirs = core_algos.kl_penalty_forward(logprobs, reference, name)
    torch.testing.assert_close(kl_estimate(logprobs, reference, estimator), theirs)


@pytest.mark.parametrize("values", [CPU, {**GPU, "verl": {"gpus_per_node": 8, "shard_size": 4, "offload": "all"}}])
def test_the_reference_computes_as_the_policy_does(values: dict[str, Any]) -> None:
    found = settings({**values, "kl_coef": 0.1})
    own = {key: value for key, value in found.items() if key.startswith("actor_rollout_ref.ref.fsdp_config.")}
    assert own.keys() >= {
        f"actor_rollout_ref.ref.fsdp_config.{name}" for name in ("fsdp_size", "model_dtype", "mixed_precision")
    }
    assert all(value == found[key.replace(".ref.", ".actor.")] for key, value in own.items())
    assert not any(key.endswith("_offload") for key in own), "verl keeps it in main memory in any case"


def test_heldout_problems_switch_verls_validation_on() -> None:
    without, with_it = settings(CPU), settings(HELDOUT)
    assert (
        without["data.val_max_samples"] == 1 and not without["trainer.val_before_train"] and without["trainer.test_freq"] == -1
    )
    assert with_it["data.val_max_samples"] == -1 and with_it["trainer.val_before_train"]
    assert with_it["trainer.test_freq"] == 1  # our trainer decides which steps are followed by an evaluation


@pytest.mark.parametrize("field", [name for name in OURS if name not in ("engine", "verl.overrides")])
def test_what_our_plugins_read_travels_in_our_own_node(field: str) -> None:
    values = HELDOUT if field.startswith("heldout.") else CPU
    node = verl_config(RlConfig.model_validate(values), planned=True)[NAME]
    for name in field.split("."):
        assert name in node
        node = node[name]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reference_decay", 0.9),
        ("rollout_batch", 7),
        ("vllm.max_restarts", 1),
        ("vllm.server", "http://host:8300"),
        ("vllm.share", "shared"),
        ("vllm.patience_s", 3.0),
        ("guard.problems", "audit.jsonl"),
    ],
)
def test_a_field_that_verl_cannot_honour_is_refused_with_the_reason(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=rf"{field} is .*, which verl cannot honour: {REFUSED[field][:20]}"):
        RlConfig.model_validate(changed({**CPU, "kl_coef": 0.1}, field, value))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**CPU, "rollout": "transformers"}, "set rollout: vllm"),
        ({**CPU, "device": "cuda:1"}, "expected cuda, or cpu"),
        ({**CPU, "dtype": "bfloat16"}, "on the CPU set dtype"),
        ({**CPU, "updates_per_step": 3}, "let it divide groups_per_step"),
        ({**CPU, "vllm": {"max_length": 9000}}, "raise token_budget"),
        ({**CPU, "token_budget": 200}, "leaves no room for a prompt in token_budget"),
        ({**GPU, "vllm": {"tensor_parallel": 3}}, "does not divide the 8 GPUs"),
        ({**GPU, "verl": {"gpus_per_node": 7}}, "choose a multiple of 7"),
        ({**GPU, "verl": {"gpus_per_node": 4, "nodes": 2}}, "names no Ray cluster"),
        ({**JOINED, "verl": {"gpus_per_node": 8, "ray_address": "auto", "ray_cpus": 3}}, "leave one out"),
        ({**GPU, "verl": {"gpus_per_node": 8, "sequence_parallel": 2, "attention": "sdpa"}}, "needs flash_attention_2"),
        ({**GPU, "dtype": "float32", "verl": {"gpus_per_node": 8, "attention": "flash_attention_2"}}, "attention: sdpa"),
        ({**LORA, "lora": {"rank": 8, "alpha": 1.5}}, "whole number"),
        ({**CPU, "verl": {"overrides": ["data.train_batch_size=3"]}}, "set groups_per_step"),
        ({**CPU, "verl": {"overrides": ["++actor_rollout_ref.actor.optim={lr: 1}"]}}, "sets what lr decides"),
        ({**CPU, "verl": {"overrides": ["rlcs.lr=3"]}}, "behind its back"),
        ({**CPU, "verl": {"overrides": ["trainer.v1.trainer_mode=sync"]}}, "in the place of ours"),
        ({**CPU, "verl": {"overrides": ["reward.reward_manager.name=naive"]}}, "in the place of ours"),
    ],
)
def test_what_verl_cannot_run_is_refused_with_the_mend(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RlConfig.model_validate(values)


def test_a_critic_begins_with_the_policys_learning_rate_and_its_warm_up_ends_before_the_run() -> None:
    assert settings({**GAE, "lr": 3e-6})["critic.optim.lr"] == 3e-6
    assert settings(GAE)["trainer.critic_warmup"] == 1
    with pytest.raises(ValidationError, match="leaves none to the policy"):
        RlConfig.model_validate({**GAE, "steps": 4, "critic": {"warmup_steps": 4}})


def test_what_puts_our_plugins_in_is_what_the_table_of_such_settings_holds() -> None:
    found = settings(CPU)
    names = [key for key, value in found.items() if isinstance(value, str) and ("rlcs.verl" in value or value == "rlcs")]
    plugged = [key for key in names if any(key == one or key.startswith(f"{one}.") for one in PLUGGED)]
    others = {"algorithm.adv_estimator", "actor_rollout_ref.actor.policy_loss.loss_mode", "trainer.project_name", "data.rlcs"}
    assert set(names) - set(plugged) <= others and len(plugged) >= 6


def test_all_faults_are_reported_at_once() -> None:
    config = RlConfig.model_validate(
        {**CPU, "engine": "local", "rollout": "transformers", "rollout_batch": 7, "updates_per_step": 3}
    )
    assert len(faults(config)) == 3


def test_paths_are_absolute_and_a_run_directory_means_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "sft" / "checkpoints" / "step-000020"
    checkpoint.mkdir(parents=True)
    found = verl_config(RlConfig.model_validate({**HELDOUT, "model": "sft"}), planned=True)
    assert found["actor_rollout_ref"]["model"]["path"] == found[NAME]["model"] == str(checkpoint)
    assert found["data"]["train_files"] == found[NAME]["problems"] == str(tmp_path / "problems.jsonl")
    assert found[NAME]["heldout"]["problems"] == str(tmp_path / "heldout.jsonl")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(-1e6, 1e6)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab_/-: ={},()[]\\", min_size=1).map(lambda key: f"k{key}k"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_hydra_reads_back_the_values_that_are_written_for_it(value: Any) -> None:
    parser = pytest.importorskip("hydra.core.override_parser.overrides_parser")
    (override,) = parser.OverridesParser.create().parse_overrides([f"+key={hydra_value(value)}"])
    assert override.value() == value


MANY = {
    **LORA,
    "heldout": {"problems": "heldout.jsonl"},
    "old_logprobs": "trainer",
    "importance_cap": 2.0,
    "domain_weights": {"math": 1.0, "ocr/hex": 2.0},
    "style_checks": ["repetition"],
    "think_tokens": [16, 64],
    "kl_coef": 0.01,
}


@pytest.mark.parametrize(
    "case", [CPU, GPU, MANY, JOINED, GAE, {**GPU, "advantage": "gae"}], ids=["cpu", "gpu", "many", "joined", "gae", "gae-gpu"]
)
def test_verl_composes_and_validates_the_overrides(case: dict[str, Any]) -> None:
    pytest.importorskip("verl")
    from omegaconf import OmegaConf
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = RlConfig.model_validate(case)
    composed = compose(verl_overrides(config, planned=True))
    validate_config(composed, use_reference_policy=need_reference_policy(composed), use_critic=need_critic(composed))
    assert need_critic(composed) == (config.advantage == "gae")
    assert need_reference_policy(composed) == (config.kl_coef > 0)
    node = OmegaConf.to_container(composed[NAME], resolve=True)
    assert node == verl_config(config, planned=True)[NAME] == OmegaConf.to_container(composed.data, resolve=True)[NAME]
    assert RlConfig.model_validate(node).model_dump(mode="json") == node
    for key, value in settings(case).items():
        found = OmegaConf.select(composed, key)
        plain = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
        assert plain == (node if key == f"data.{NAME}" else value), key


def test_overrides_of_ones_own_come_last_and_a_key_unknown_to_verl_is_refused() -> None:
    pytest.importorskip("verl")
    own = RlConfig.model_validate({**CPU, "verl": {"overrides": ["trainer.balance_batch=false"]}})
    assert compose(verl_overrides(own, planned=True)).trainer.balance_batch is False
    wrong = RlConfig.model_validate({**CPU, "verl": {"overrides": ["trainer.balance_batches=false"]}})
    with pytest.raises(ValueError, match="balance_batches"):
        compose(verl_overrides(wrong, planned=True))


def test_the_printed_command_is_the_whole_run() -> None:
    config = RlConfig.model_validate(MANY)
    python, flag, module, *overrides = shlex.split(shlex.join(verl_command(config, resume=True, planned=True)))
    assert (python, flag, module) == ("python", "-m", LAUNCH)
    assert overrides == verl_overrides(config, resume=True, planned=True)
    assert "trainer.resume_mode=auto" in overrides


def test_sections_that_no_engine_option_touches_stay_whole() -> None:
    assert DifficultyConfig().model_dump() == verl_config(RlConfig.model_validate(CPU), planned=True)[NAME]["difficulty"]


def test_the_nano_recipe_becomes_a_verl_run_by_a_few_settings() -> None:
    path = ROOT / "configs" / "rl" / "nano.yaml"
    config = load_config(RlConfig, path, ["engine=verl", "rollout=vllm", f"model={NANO}"])
    assert verl_config(config, planned=True)["trainer"]["device"] == "cpu"


def test_what_only_the_checkpoint_can_tell_reaches_vllm() -> None:
    pytest.importorskip("vllm")
    pytest.importorskip("verl")
    from omegaconf import OmegaConf

    config = RlConfig.model_validate(CPU)
    composed = compose(verl_overrides(config))
    found = OmegaConf.to_container(composed.actor_rollout_ref.rollout.engine_kwargs.vllm)
    assert found == verl_config(config)["actor_rollout_ref"]["rollout"]["engine_kwargs"]["vllm"]
    assert isinstance(found, dict) and found["logits_processors"] == ["rollout.vllm_budget:BudgetProcessor"]


def test_a_model_that_is_not_there_is_named_unless_the_run_is_only_planned() -> None:
    pytest.importorskip("vllm")
    config = RlConfig.model_validate({**CPU, "model": "nowhere"})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        verl_config(config)
    assert verl_config(config, planned=True)[NAME]["model"].endswith("nowhere")


def test_what_is_not_installed_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlcs.verl import installed

    found = {"verl": None, "ray": object(), "transfer_queue": None}
    monkeypatch.setattr(installed.importlib.util, "find_spec", found.__getitem__)
    with pytest.raises(ModuleNotFoundError, match=r"verl, transfer_queue: not installed; install rlcs\[verl,vllm\]"):
        installed.require_verl()
