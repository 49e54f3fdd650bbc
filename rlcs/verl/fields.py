"""What becomes of every field of an `RlConfig` under verl: a setting of verl's, work of our plug-ins, or a refusal.

Imports neither verl nor torch: a configuration is checked before anything starts. Tests hold the table to `RlConfig` and to
verl's own configuration, so that a new field cannot be forgotten.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlcs.rl_config import RlConfig

_MODEL, _ACTOR, _ROLLOUT = (f"actor_rollout_ref.{part}" for part in ("model", "actor", "rollout"))
_FSDP, _OPTIM = f"{_ACTOR}.fsdp_config", f"{_ACTOR}.optim"
_REFERENCE = "actor_rollout_ref.ref.fsdp_config"
_ENVIRONMENT = "ray_kwargs.ray_init.runtime_env.env_vars"

MAPPED: dict[str, tuple[str, ...]] = {
    "model": (f"{_MODEL}.path",),
    "problems": ("data.train_files", "data.val_files"),
    "out": ("trainer.default_local_dir", "trainer.experiment_name"),
    "seed": ("data.seed", f"{_ACTOR}.data_loader_seed", f"{_FSDP}.seed", f"{_REFERENCE}.seed", f"{_ROLLOUT}.seed"),
    "device": ("trainer.device",),
    "dtype": (f"{_FSDP}.mixed_precision", f"{_REFERENCE}.mixed_precision", f"{_ROLLOUT}.dtype"),
    "threads": (f"{_ENVIRONMENT}.OMP_NUM_THREADS",),
    "lora.rank": (f"{_MODEL}.lora_rank",),
    "lora.alpha": (f"{_MODEL}.lora_alpha",),
    "lora.targets": (f"{_MODEL}.target_modules", f"{_MODEL}.exclude_modules"),
    "gradient_checkpointing": (f"{_MODEL}.enable_gradient_checkpointing",),
    "steps": ("trainer.total_training_steps", "trainer.total_epochs"),
    "groups_per_step": ("data.train_batch_size", f"{_ACTOR}.ppo_mini_batch_size"),
    "group_size": (f"{_ROLLOUT}.n",),
    "updates_per_step": (f"{_ACTOR}.ppo_mini_batch_size",),
    "epochs_per_step": (f"{_ACTOR}.ppo_epochs",),
    "rollout": (f"{_ROLLOUT}.name",),
    "vllm.max_sequences": (f"{_ROLLOUT}.max_num_seqs",),
    "vllm.max_length": ("data.max_prompt_length", f"{_ROLLOUT}.max_model_len", f"{_ROLLOUT}.max_num_batched_tokens"),
    "vllm.gpu_memory": (f"{_ROLLOUT}.gpu_memory_utilization",),
    "vllm.cpu_cache_gib": (f"{_ENVIRONMENT}.VLLM_CPU_KVCACHE_SPACE",),
    "vllm.tensor_parallel": (f"{_ROLLOUT}.tensor_model_parallel_size",),
    "vllm.eager": (f"{_ROLLOUT}.enforce_eager",),
    "vllm.dtype": (f"{_ROLLOUT}.dtype",),
    "vllm.sleep": (f"{_ROLLOUT}.free_cache_engine", f"{_ROLLOUT}.enable_sleep_mode"),
    "vllm.quiet": (f"{_ENVIRONMENT}.VLLM_LOGGING_LEVEL", f"{_ROLLOUT}.disable_log_stats"),
    "temperature": (f"{_ROLLOUT}.temperature", f"{_ROLLOUT}.val_kwargs.temperature"),
    "top_p": (f"{_ROLLOUT}.top_p", f"{_ROLLOUT}.val_kwargs.top_p"),
    "think_tokens": ("data.max_response_length", "data.max_prompt_length"),
    "answer_tokens": ("data.max_response_length", "data.max_prompt_length"),
    "advantage": ("algorithm.norm_adv_by_std_in_grpo", "algorithm.adv_estimator", "critic.enable"),
    "critic.lr": ("critic.optim.lr",),
    "critic.warmup_steps": ("trainer.critic_warmup",),
    "critic.epochs": ("critic.ppo_epochs",),
    "critic.value_clip": ("critic.cliprange_value",),
    "critic.gamma": ("algorithm.gamma",),
    "critic.lam": ("algorithm.lam",),
    "loss_aggregation": (f"{_ACTOR}.loss_agg_mode", f"{_ACTOR}.loss_scale_factor"),
    "dual_clip": (f"{_ACTOR}.clip_ratio_c",),
    "entropy_coef": (f"{_ACTOR}.calculate_entropy",),
    "kl_coef": (f"{_ACTOR}.use_kl_loss", f"{_ACTOR}.kl_loss_coef"),
    "kl_estimator": (f"{_ACTOR}.kl_loss_type",),
    "clip_low": (f"{_ACTOR}.clip_ratio_low",),
    "clip_high": (f"{_ACTOR}.clip_ratio_high",),
    "old_logprobs": ("algorithm.rollout_correction.bypass_mode",),
    "lr": (f"{_OPTIM}.lr",),
    "warmup_steps": (f"{_OPTIM}.lr_warmup_steps",),
    "schedule": (f"{_OPTIM}.min_lr_ratio",),
    "min_lr_ratio": (f"{_OPTIM}.min_lr_ratio",),
    "weight_decay": (f"{_OPTIM}.weight_decay",),
    "betas": (f"{_OPTIM}.betas",),
    "grad_clip": (f"{_OPTIM}.clip_grad",),
    "token_budget": (f"{_ACTOR}.ppo_max_token_len_per_gpu",),
    "heldout.problems": ("data.val_files", "data.val_max_samples", "trainer.val_before_train", "trainer.test_freq"),
    "heldout.samples": (f"{_ROLLOUT}.val_kwargs.n",),
    "save_every": ("trainer.save_freq",),
    "keep_checkpoints": ("trainer.max_actor_ckpt_to_keep", "trainer.max_critic_ckpt_to_keep"),
    "verl.nodes": ("trainer.nnodes", "reward.num_workers", f"{_ROLLOUT}.agent.num_workers"),
    "verl.gpus_per_node": ("trainer.n_gpus_per_node",),
    "verl.shard_size": (f"{_FSDP}.fsdp_size", f"{_REFERENCE}.fsdp_size"),
    "verl.sequence_parallel": (
        f"{_ACTOR}.ulysses_sequence_parallel_size",
        f"{_FSDP}.ulysses_sequence_parallel_size",
        f"{_REFERENCE}.ulysses_sequence_parallel_size",
    ),
    "verl.master_dtype": (f"{_FSDP}.model_dtype", f"{_REFERENCE}.model_dtype"),
    "verl.offload": (f"{_FSDP}.param_offload", f"{_FSDP}.optimizer_offload"),
    "verl.attention": (f"{_MODEL}.override_config.attn_implementation", f"{_MODEL}.use_remove_padding"),
    "verl.expert_parallel": (f"{_ROLLOUT}.expert_parallel_size",),
    "verl.agent_workers": (f"{_ROLLOUT}.agent.num_workers",),
    "verl.reward_workers": ("reward.num_workers",),
    "verl.weight_bucket_mib": (f"{_ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes",),
    "verl.ray_address": ("ray_kwargs.ray_init.address",),
    "verl.ray_cpus": ("ray_kwargs.ray_init.num_cpus",),
}
"""Field -> verl's settings that it decides."""

PLUGGED = (
    "trainer.v1.trainer_mode",
    "trainer.use_v1",
    "data.custom_cls",
    "data.shuffle",
    "data.dataloader_num_workers",
    "data.gen_batch_size",
    "algorithm.filter_groups",
    f"{_MODEL}.external_lib",
    f"{_ROLLOUT}.agent.default_agent_loop",
    f"{_ROLLOUT}.agent.agent_loop_manager_class",
    f"{_ROLLOUT}.engine_kwargs.vllm.logits_processors",
    f"{_ROLLOUT}.engine_kwargs.vllm.additional_config",
    f"{_ENVIRONMENT}.VERL_ENGINE_VENDOR",
    "reward.reward_manager",
    "reward.custom_reward_function",
)
"""Settings of verl's by which our plug-ins stand where verl's own parts would."""

OURS: dict[str, str] = {
    "engine": "chooses verl",
    "max_rollouts": "trainer",
    "decay_ratio": "trainer",
    "max_skipped_updates": "trainer",
    "sampler": "trainer",
    "domain_weights": "trainer",
    "difficulty": "trainer",
    "curriculum": "trainer",
    "dapo": "trainer",
    "glm_tiers": "trainer",
    "pools": "trainer",
    "greso": "trainer",
    "mopps": "trainer",
    "dps": "trainer",
    "surrogate": "loss",
    "importance_cap": "loss",
    "importance": "loss",
    "nothink_ratio": "dataset",
    "stop_repetition": "agent loop",
    "verifier_workers": "reward",
    "verifier_timeout_s": "reward",
    "verifier_plugins": "reward",
    "style_checks": "reward",
    "heldout.every_rollouts": "trainer",
    "heldout.max_per_domain": "dataset",
    "difficulty_every": "run log",
    "log_tokens": "run log",
    "table_every": "run log",
    "loggers": "run log",
    "verl.max_restarts": "the command itself",
    "verl.overrides": "the command itself",
}
"""Field -> which of our plug-ins reads it from the node `rlcs`. The agent loop reads the token budgets there as well."""

REFUSED: dict[str, str] = {
    "reference_decay": "its reference policy keeps the weights that it was loaded with",
    "optimizer": "8-bit moments have not been run with weights that FSDP2 shards",
    "max_staleness": "its synchronous trainer, which ours is made of, updates and generates in turn",
    "rollout_batch": "it is the transformers engine's; vLLM has vllm.max_sequences",
    "vllm.max_restarts": "verl does not start a vLLM again that died; the whole run starts again, verl.max_restarts times",
    "vllm.server": "verl starts its own vLLM servers beside the training workers",
    "vllm.share": "it goes with vllm.server",
    "vllm.patience_s": "it goes with vllm.server",
    "guard.problems": "its trainer asks no audit problems yet",
    "guard.as_trained": "it goes with guard.problems",
    "guard.every_steps": "it goes with guard.problems",
    "guard.samples": "it goes with guard.problems",
    "guard.max_per_domain": "it goes with guard.problems",
    "guard.false_alarms": "it goes with guard.problems",
    "guard.least_fall": "it goes with guard.problems",
    "guard.on_collapse": "it goes with guard.problems",
    "lora.dropout": "log-probabilities would be those of another policy than the one that was sampled",
}
"""Field -> why another value than the default is refused."""


def faults(config: "RlConfig") -> list[str]:
    """What in the configuration verl cannot do, each with its mend; nothing for a configuration that it can run."""
    found = [
        f"{field} is {value!r}, which verl cannot honour: {why}; leave it out"
        for field, why in REFUSED.items()
        if (value := _value(config, field)) != _default(config, field)
    ]
    return found + _placement(config) + _lengths(config) + _kinds(config) + _overridden(config)


def _placement(config: "RlConfig") -> list[str]:
    verl, found = config.verl, []
    if config.groups_per_step % config.updates_per_step:
        found.append(
            f"updates_per_step is {config.updates_per_step}, but verl cuts a step's {config.groups_per_step} groups into equal "
            "parts; let it divide groups_per_step"
        )
    for field, value in {
        "verl.sequence_parallel": verl.sequence_parallel,
        "verl.shard_size": verl.shard_size,
        "vllm.tensor_parallel": config.vllm.tensor_parallel,
    }.items():
        if value and verl.gpus % value:
            found.append(f"{field} is {value}, which does not divide the {verl.gpus} GPUs (verl.nodes x verl.gpus_per_node)")
    samples = config.groups_per_step // config.updates_per_step * config.group_size
    ranks = max(1, verl.gpus // verl.sequence_parallel)
    if samples % ranks:
        found.append(
            f"an update has {samples} responses (groups_per_step / updates_per_step x group_size), which cannot be dealt "
            f"evenly to {ranks} data-parallel ranks (GPUs / verl.sequence_parallel); choose a multiple of {ranks}"
        )
    if verl.nodes > 1 and verl.ray_address is None:
        found.append(f"verl.nodes is {verl.nodes}, but verl.ray_address names no Ray cluster to join; set it, to auto say")
    if verl.ray_cpus is not None and verl.ray_address is not None:
        found.append(
            "verl.ray_cpus is of a Ray that the run starts, verl.ray_address of one that is there already; leave one out"
        )
    return found


def _lengths(config: "RlConfig") -> list[str]:
    pack, length = config.token_budget * config.verl.sequence_parallel, config.vllm.max_length
    response = config.most_response_tokens
    if length is not None and length > pack:
        return [
            f"vllm.max_length is {length}, but verl packs whole sequences into token_budget x verl.sequence_parallel = {pack} "
            "tokens; raise token_budget, or lower vllm.max_length"
        ]
    if (length or pack) <= response:
        return [
            f"a response may have {response} tokens (think_tokens + answer_tokens + 4), which leaves no room for a prompt in "
            f"{'vllm.max_length' if length else 'token_budget'} = {length or pack}; raise it"
        ]
    return []


def _kinds(config: "RlConfig") -> list[str]:
    found = []
    if config.rollout != "vllm":
        found.append(f"rollout is {config.rollout!r}; verl samples with vLLM: set rollout: vllm")
    if config.device not in ("cpu", "cuda"):
        found.append(f"device is {config.device!r}; expected cuda, or cpu for a test: verl places its workers itself")
    if config.device == "cpu" and "bfloat16" in (config.dtype, config.vllm.dtype, config.verl.master_dtype):
        found.append("verl is run in bfloat16 on GPUs alone; on the CPU set dtype, vllm.dtype and verl.master_dtype to float32")
    flash = config.verl.attention == "flash_attention_2" or (config.verl.attention is None and config.device == "cuda")
    if config.verl.attention == "flash_attention_2" and (config.dtype == "float32" or config.device == "cpu"):
        found.append(
            "verl.attention: flash_attention_2 computes in bfloat16 on GPUs alone; set dtype: bfloat16, or attention: sdpa"
        )
    if config.verl.sequence_parallel > 1 and not (flash and config.dtype == "bfloat16"):
        found.append("verl.sequence_parallel needs flash_attention_2: set device: cuda, dtype: bfloat16 and no other attention")
    if config.lora is not None and config.lora.alpha != int(config.lora.alpha):
        found.append(f"lora.alpha is {config.lora.alpha}; verl takes a whole number")
    return found


def _overridden(config: "RlConfig") -> list[str]:
    deciding = {key: field for field, keys in MAPPED.items() for key in keys}
    found = []
    for override in config.verl.overrides:
        key = override.lstrip("+").partition("=")[0]
        field = next((deciding[own] for own in deciding if _overlap(own, key)), None)
        if any(_overlap(own, key) for own in PLUGGED):
            found.append(f"verl.overrides: {override!r} would put a part of verl's in the place of ours; leave it out")
        elif key == "rlcs" or key.startswith("rlcs."):
            found.append(
                f"verl.overrides: {override!r} would change our own configuration behind its back; set the field itself"
            )
        elif field is not None:
            found.append(f"verl.overrides: {override!r} sets what {field} decides; set {field}")
    return found


def _overlap(one: str, other: str) -> bool:
    """Whether one of two dotted keys is the other or stands above it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _value(config: Any, field: str) -> Any:
    for name in field.split("."):
        config = None if config is None else getattr(config, name)
    return config


def _default(config: Any, field: str) -> Any:
    """The field's default, or None where the section it stands in is absent."""
    *sections, name = field.split(".")
    for section in sections:
        config = None if config is None else getattr(config, section)
    return None if config is None else type(config).model_fields[name].get_default(call_default_factory=True)
