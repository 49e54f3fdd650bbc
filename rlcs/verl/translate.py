"""An `RlConfig` as verl's configuration: nested settings, Hydra overrides, and the command that runs them (docs/verl.md).

What becomes of every field of ours stands in `rlcs.verl.fields`; what verl cannot do is refused there, so that nothing here has
to be left out. Imports neither verl nor Ray.
"""

from collections.abc import Mapping
from typing import Any

from rlcs.rl_config import RlConfig
from rlcs.verl.overrides import overrides_of
from rlcs.verl.training import absolute, attention, fsdp_settings, located, lora_settings, reference_settings, schedule_settings

NAME = "rlcs"
"""Under which our trainer, agent loop, advantages and loss are registered, and the node that holds our own configuration."""
PLUGINS = "rlcs.verl.plugins"
"""Module that every process of verl's imports, so that its registries hold ours."""
CHECKPOINTS = "verl"
"""Directory of a run that holds verl's own checkpoints, global_step_N."""
LAUNCH = "rlcs.verl.launch"
"""Module that runs a command made here."""

_AGGREGATIONS = {"sample": "seq-mean-token-mean", "token": "token-mean", "constant": "seq-mean-token-sum-norm"}
_UNCLIPPED = 1e9  # out of reach: verl's bound of the ratio for negative advantages (dual clip), and of a value's move


def verl_config(config: RlConfig, *, resume: bool = False, planned: bool = False) -> dict[str, Any]:
    """What of verl's configuration the run sets, nested. Paths are absolute: verl's processes have directories of their own.

    The node `rlcs` holds the whole configuration, for our plug-ins to read. `resume` continues from the last checkpoint.
    `planned`: for a look ahead; leaves out the settings of vLLM that only the checkpoint can tell (`rlcs.verl.server`). Raises
    FileNotFoundError for a model that is not there, unless planned.
    """
    heldout = config.heldout and absolute(config.heldout, "problems")
    config = absolute(config, "problems", "out").model_copy(update={"model": located(config.model), "heldout": heldout})
    settings: dict[str, Any] = {
        "data": _data(config),
        "actor_rollout_ref": {
            "model": _model(config),
            "actor": _actor(config),
            "ref": {"fsdp_config": reference_settings(config.verl, config.dtype, config.seed)},
            "rollout": _rollout(config),
        },
        "critic": _critic(config) if config.advantage == "gae" else {"enable": False},
        "algorithm": _algorithm(config),
        "reward": {
            "num_workers": config.verl.reward_workers or config.verl.nodes,
            "reward_manager": {
                "source": "importlib",
                "name": "ProblemRewardManager",
                "module": {"path": "pkg://rlcs.verl.reward"},
            },
        },
        "trainer": _trainer(config, resume),
        "ray_kwargs": {"ray_init": _ray(config)},
        "transfer_queue": {"backend": {"SimpleStorage": {"total_storage_size": max(100_000, 16 * _rollouts(config))}}},
        NAME: config.model_dump(mode="json"),
    }
    if not planned:
        from rlcs.verl.server import vllm_engine_kwargs

        settings["actor_rollout_ref"]["rollout"]["engine_kwargs"] = {"vllm": vllm_engine_kwargs(config)}
    return _merged(settings, _cpu(config)) if config.device == "cpu" else settings


def verl_overrides(config: RlConfig, *, resume: bool = False, planned: bool = False) -> list[str]:
    """The same as Hydra overrides, those of `verl.overrides` last."""
    return overrides_of(verl_config(config, resume=resume, planned=planned)) + config.verl.overrides


def verl_command(config: RlConfig, *, resume: bool = False, planned: bool = False) -> list[str]:
    """The command that runs verl on the whole of it, one argument each: `shlex.join` makes a line for a shell."""
    return ["python", "-m", LAUNCH, *verl_overrides(config, resume=resume, planned=planned)]


def _data(config: RlConfig) -> dict[str, Any]:
    heldout = config.heldout
    return {
        "custom_cls": {"path": "pkg://rlcs.verl.dataset", "name": "ProblemDataset"},
        "train_files": str(config.problems),
        "val_files": str(heldout.problems if heldout else config.problems),  # verl wants one; a single problem stays unused
        "val_max_samples": -1 if heldout else 1,
        "train_batch_size": config.groups_per_step,
        "max_prompt_length": sequence_length(config) - response_length(config),
        "max_response_length": response_length(config),
        "seed": config.seed,
        "shuffle": False,  # our sampler draws
        "validation_shuffle": False,
        "dataloader_num_workers": 0,  # the sampler's state must be that of what was drawn, nothing ahead
        NAME: f"${{{NAME}}}",  # a dataset is handed the node `data` alone
    }


def response_length(config: RlConfig) -> int:
    """Most tokens of a response: thought, answer, and what a thinking budget inserts (`rlcs.engines.sampling_of`)."""
    return config.most_response_tokens


def sequence_length(config: RlConfig) -> int:
    """Most tokens of a prompt with its response: `vllm.max_length`, or what fits into a pack."""
    return config.vllm.max_length or config.token_budget * config.verl.sequence_parallel


def _model(config: RlConfig) -> dict[str, Any]:
    kind = attention(config.verl, config.device, config.dtype)
    settings = {
        "path": config.model,
        "external_lib": PLUGINS,
        "enable_gradient_checkpointing": config.gradient_checkpointing,
        "use_remove_padding": kind == "flash_attention_2",  # packed sequences need its kernels to keep apart
        "override_config": {"attn_implementation": kind},
    }
    return settings | lora_settings(config.lora)


def _actor(config: RlConfig) -> dict[str, Any]:
    return {
        "strategy": "fsdp2",
        "ppo_mini_batch_size": config.groups_per_step // config.updates_per_step,
        "ppo_epochs": config.epochs_per_step,
        "use_dynamic_bsz": True,
        "ppo_max_token_len_per_gpu": config.token_budget,
        "policy_loss": {"loss_mode": NAME},
        "clip_ratio_low": config.clip_low,
        "clip_ratio_high": config.clip_high,
        "clip_ratio_c": config.dual_clip or _UNCLIPPED,
        "loss_agg_mode": _AGGREGATIONS[config.loss_aggregation],
        "loss_scale_factor": response_length(config) if config.loss_aggregation == "constant" else None,
        "calculate_entropy": config.device == "cpu" or config.entropy_coef > 0,  # on a GPU it takes one more copy of the logits
        "use_kl_loss": config.kl_coef
        > 0,  # whether there is a reference policy; our loss takes the other two from our own node
        "kl_loss_coef": config.kl_coef,
        "kl_loss_type": config.kl_estimator,
        "shuffle": False,  # the trainer divides a step into its updates
        "data_loader_seed": config.seed,
        "optim": _optimiser(config, config.lr),
        "ulysses_sequence_parallel_size": config.verl.sequence_parallel,
        "fsdp_config": fsdp_settings(config.verl, config.dtype, config.seed),
    }


def _optimiser(config: RlConfig, lr: float) -> dict[str, Any]:
    return {
        "lr": lr,
        "betas": list(config.betas),
        "weight_decay": config.weight_decay,
        "clip_grad": config.grad_clip,
        **schedule_settings(config.warmup_steps, 1.0 if config.schedule == "constant" else config.min_lr_ratio),
    }


def _rollout(config: RlConfig) -> dict[str, Any]:
    options, verl = config.vllm, config.verl
    return {
        "name": config.rollout,
        "n": config.group_size,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "dtype": options.dtype or config.dtype,
        "seed": config.seed,
        "tensor_model_parallel_size": options.tensor_parallel,
        "expert_parallel_size": options.tensor_parallel if verl.expert_parallel else 1,
        "gpu_memory_utilization": options.gpu_memory,
        "max_model_len": sequence_length(config),
        "max_num_seqs": options.max_sequences,
        "max_num_batched_tokens": max(8192, sequence_length(config)),
        "enforce_eager": options.eager,
        "free_cache_engine": options.sleep,
        "enable_sleep_mode": options.sleep,
        "disable_log_stats": options.quiet,
        "calculate_log_probs": True,
        "val_kwargs": {
            "do_sample": True,
            "temperature": config.temperature,
            "top_p": config.top_p,
            "n": config.heldout.samples if config.heldout else 1,
        },
        "agent": {
            "num_workers": verl.agent_workers or verl.nodes,
            "default_agent_loop": NAME,
            "agent_loop_manager_class": "rlcs.verl.rollout_worker.RolloutManager",
        },
        "checkpoint_engine": {"update_weights_bucket_megabytes": verl.weight_bucket_mib},
    }


def _algorithm(config: RlConfig) -> dict[str, Any]:
    return {
        "adv_estimator": "gae" if config.advantage == "gae" else NAME,  # verl's own, or that of our trainer, which knows which
        "norm_adv_by_std_in_grpo": config.advantage == "grpo",
        "gamma": config.critic.gamma,
        "lam": config.critic.lam,
        "rollout_correction": {"bypass_mode": config.old_logprobs == "rollout"},  # importance weights are our loss's
    }


def _critic(config: RlConfig) -> dict[str, Any]:
    return {
        "enable": True,
        "strategy": "fsdp2",
        "model": _model(config),
        "optim": _optimiser(config, config.critic.lr or config.lr),
        "ppo_epochs": config.critic.epochs,
        "cliprange_value": config.critic.value_clip or _UNCLIPPED,
        "ppo_mini_batch_size": config.groups_per_step // config.updates_per_step,
        "use_dynamic_bsz": True,
        "ppo_max_token_len_per_gpu": config.token_budget,
        "data_loader_seed": config.seed,
        "ulysses_sequence_parallel_size": config.verl.sequence_parallel,
        "fsdp": fsdp_settings(config.verl, config.dtype, config.seed),
    }


def _trainer(config: RlConfig, resume: bool) -> dict[str, Any]:
    heldout = config.heldout
    kept = max(2, config.keep_checkpoints)  # verl removes the older one before the newer is whole
    return {
        "device": config.device,
        "nnodes": config.verl.nodes,
        "n_gpus_per_node": config.verl.gpus_per_node,
        "v1": {"trainer_mode": NAME},
        "total_training_steps": config.steps,
        "total_epochs": config.steps + 1,  # no epoch ends the run: the sampler knows none
        "critic_warmup": 1 + config.policy_starts,  # verl counts from 1, and names the first step of the policy
        "save_freq": config.save_every,
        "max_actor_ckpt_to_keep": kept,
        "max_critic_ckpt_to_keep": kept,
        "val_before_train": heldout is not None,
        "test_freq": 1 if heldout else -1,  # the trainer knows after which steps `every_rollouts` are behind
        "default_local_dir": str(config.out / CHECKPOINTS),
        "resume_mode": "auto" if resume else "disable",
        "project_name": NAME,
        "experiment_name": config.out.name,
        "logger": [],  # the run directory, its loggers and the console are ours
    }


def _rollouts(config: RlConfig) -> int:
    return config.groups_per_step * config.group_size


def _ray(config: RlConfig) -> dict[str, Any]:
    environment = {"VERL_ENGINE_VENDOR": NAME, "VLLM_LOGGING_LEVEL": "WARNING" if config.vllm.quiet else "INFO"}
    if config.threads:
        environment["OMP_NUM_THREADS"] = str(config.threads)
    settings: dict[str, Any] = {"runtime_env": {"env_vars": environment}}
    if config.verl.ray_address is not None:
        settings["address"] = config.verl.ray_address
    elif config.verl.ray_cpus is not None:
        settings["num_cpus"] = config.verl.ray_cpus
    return settings


def _cpu(config: RlConfig) -> dict[str, Any]:
    """What verl needs on top where there is no GPU: the platform plug-in, no compilation, small stores, and a Ray that counts
    workers as GPUs. For testing (docs/verl.md).
    """
    ray: dict[str, Any] = {
        "runtime_env": {
            "env_vars": {
                "VERL_PLATFORM": "cpu",
                "VLLM_CPU_KVCACHE_SPACE": str(config.vllm.cpu_cache_gib),
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else vLLM pins its threads to cores that others use as well
                "TORCHDYNAMO_DISABLE": "1",
            }
        }
    }
    if config.verl.ray_address is None:
        cpus = config.verl.ray_cpus or 16  # TransferQueue's actors reserve more than a small machine has
        ray |= {
            "num_gpus": config.verl.gpus_per_node,
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": 500_000_000,
        }
    no_compilation = {"use_torch_compile": False, "fsdp_config": {"use_torch_compile": False}}
    rollout = {
        "load_format": "auto",
        "enforce_eager": True,
        "max_num_batched_tokens": max(512, sequence_length(config)),
        "checkpoint_engine": {"update_weights_bucket_megabytes": min(256, config.verl.weight_bucket_mib)},
    }
    settings: dict[str, Any] = {
        "actor_rollout_ref": {
            "actor": no_compilation,
            "ref": {"fsdp_config": no_compilation["fsdp_config"]},
            "rollout": rollout,
        },
        "ray_kwargs": {"ray_init": ray},
        "transfer_queue": {"backend": {"SimpleStorage": {"num_data_storage_units": 1}}},
    }
    if config.advantage == "gae":
        settings["critic"] = {"fsdp": {"use_torch_compile": False}}
    return settings


def _merged(settings: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with those of `over` put over them, level by level."""
    both = {key: _merged(settings[key], over[key]) for key in settings.keys() & over.keys() if isinstance(over[key], Mapping)}
    return {**settings, **over, **both}
