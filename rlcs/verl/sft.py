"""`rlcs sft engine=verl`: the same examples, masks and batches through verl's SFT trainer under torchrun (docs/verl.md).

Here an `SftConfig` becomes verl's configuration and a command; `rlcs.verl.sft_worker` is what the command runs.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from rlcs.verl.overrides import flat, overrides_of
from rlcs.verl.training import absolute, attention, fsdp_settings, located, lora_settings, schedule_settings
from rlcs.verl.translate import CHECKPOINTS, NAME
from sft.config import SftConfig
from sft.data import load_examples
from sft.rundir import RunDir

WORKER = "rlcs.verl.sft_worker"
SFT_TRAINER = "sft_trainer_engine"
"""verl's name of the configuration of its SFT trainer."""


def run_verl_sft(config: SftConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Fine-tunes through verl; returns the final checkpoint, a Hugging Face directory.

    With several nodes the same command runs on each, and they share the run directory; the process of rank 0 writes it. Raises
    DataError and ValueError for bad input, FileExistsError for a directory that holds a run already when not resuming, and
    ChildProcessError where the training processes fail.
    """
    console = console or Console()
    command = sft_command(config, resume=resume)
    for path in filter(None, (config.data, config.eval_data)):
        load_examples(path, style=config.style)  # its faults, before anything is started
    run = RunDir(config.out, resume=resume)
    if not resume and (config.out / CHECKPOINTS).exists():
        raise FileExistsError(
            f"{config.out} already holds a run; go on with it by --resume, or name another directory as `out`"
        )
    if not resume:
        run.rewind(0)
    console.print(escape(f"training processes: {config.verl.gpus}; verl's own checkpoints: {config.out / CHECKPOINTS}"))
    finished = subprocess.run([sys.executable, *command[1:]], env={**os.environ, **sft_environment(config)}, check=False)
    if finished.returncode:
        raise ChildProcessError(
            f"verl's SFT processes ended with status {finished.returncode}; their messages stand above. --resume goes on from "
            "the last checkpoint"
        )
    return run.last_checkpoint() or config.out  # it appears when the process of rank 0, on whatever node, has written it


def sft_command(config: SftConfig, *, resume: bool = False) -> list[str]:
    """The command of one node, one argument each. Raises ValueError for a configuration that verl cannot run."""
    verl = config.verl
    meeting = ["--standalone"]
    if verl.rendezvous is not None:
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", verl.rendezvous, "--rdzv-id", config.out.name]
    launcher = [
        "python",
        "-m",
        "torch.distributed.run",
        "--nnodes",
        str(verl.nodes),
        "--nproc-per-node",
        str(verl.gpus_per_node),
    ]
    return [*launcher, *meeting, "-m", WORKER, *sft_overrides(config, resume=resume)]


def sft_environment(config: SftConfig) -> dict[str, str]:
    """Environment of the training processes."""
    environment = {"VERL_ENGINE_VENDOR": NAME, "OMP_NUM_THREADS": str(config.threads or os.environ.get("OMP_NUM_THREADS", "1"))}
    return environment | ({"VERL_PLATFORM": "cpu", "TORCHDYNAMO_DISABLE": "1"} if config.device == "cpu" else {})


def sft_overrides(config: SftConfig, *, resume: bool = False) -> list[str]:
    """The run as Hydra overrides of verl's SFT configuration, those of `verl.overrides` last; these may not change ours."""
    settings = sft_settings(config, resume=resume)
    for override in config.verl.overrides:
        key = override.lstrip("+").partition("=")[0]
        if any(f"{own}.".startswith(f"{key}.") or f"{key}.".startswith(f"{own}.") for own in flat(settings)):
            raise ValueError(
                f"verl.overrides: {override!r} sets what a field of our own decides (rlcs/verl/sft.py); set that field instead"
            )
    return overrides_of(settings) + config.verl.overrides


def sft_settings(config: SftConfig, *, resume: bool = False) -> dict[str, Any]:
    """What of verl's SFT configuration the run sets, nested; `data.rlcs` holds the whole of ours, with absolute paths."""
    if found := sft_faults(config):
        raise ValueError("engine: verl cannot run this configuration:\n  " + "\n  ".join(found))
    config = absolute(config, "data", "out", "eval_data").model_copy(update={"model": located(config.model)})
    kind = attention(config.verl, config.device, config.dtype)
    return {
        "model": {
            "path": config.model,
            "external_lib": "rlcs.verl.engine",
            "enable_gradient_checkpointing": config.gradient_checkpointing,
            "use_remove_padding": kind == "flash_attention_2",
            "override_config": {"attn_implementation": kind},
            **lora_settings(config.lora),
        },
        "engine": {
            "strategy": "fsdp2",
            "use_torch_compile": config.device != "cpu",
            **fsdp_settings(config.verl, config.dtype, config.seed),
        },
        "optim": {
            "optimizer_impl": "rlcs.verl.optimizer",
            "optimizer": "MatrixDecayAdamW",
            "lr": config.lr,
            "betas": list(config.betas),
            "weight_decay": config.weight_decay,
            "clip_grad": config.grad_clip,
            **schedule_settings(config.warmup_steps, config.min_lr_ratio),
        },
        "data": {
            "custom_cls": {"path": "pkg://rlcs.verl.sft_dataset", "name": "ExampleDataset"},
            "train_files": str(config.data),
            "val_files": str(config.eval_data) if config.eval_data else None,
            "train_batch_size": config.batch_size,
            "use_dynamic_bsz": True,
            "max_token_len_per_gpu": config.token_budget,
            "max_length": config.max_length,
            "num_workers": 0 if config.device == "cpu" else 2,
            NAME: config.model_dump(mode="json"),
        },
        "trainer": {
            "device": config.device,
            "nnodes": config.verl.nodes,
            "n_gpus_per_node": config.verl.gpus_per_node,
            "total_epochs": 1,  # the dataset holds every draw of the run, over as many epochs of ours as there are
            "seed": config.seed,
            "save_freq": config.save_every,
            "max_ckpt_to_keep": config.keep_checkpoints,
            "test_freq": (config.eval_every or -1) if config.eval_data else -1,
            "default_local_dir": str(config.out / CHECKPOINTS),
            "resume_mode": "auto" if resume else "disable",
            "project_name": NAME,
            "experiment_name": config.out.name,
            "logger": [],
        },
    }


def sft_faults(config: SftConfig) -> list[str]:
    """What in the configuration verl cannot do, each with its mend."""
    verl, found = config.verl, []
    if config.device not in ("cpu", "cuda"):
        found.append(f"device is {config.device!r}; expected cuda, or cpu for a test: torchrun places the processes itself")
    if config.device == "cpu" and "bfloat16" in (config.dtype, verl.master_dtype):
        found.append("verl is run in bfloat16 on GPUs alone; on the CPU set dtype and verl.master_dtype to float32")
    flash = attention(verl, config.device, config.dtype) == "flash_attention_2"
    if flash and (config.dtype == "float32" or config.device == "cpu"):
        found.append(
            "verl.attention: flash_attention_2 computes in bfloat16 on GPUs alone; set dtype: bfloat16, or attention: sdpa"
        )
    if verl.sequence_parallel > 1 and not flash:
        found.append("verl.sequence_parallel needs flash_attention_2: set device: cuda, dtype: bfloat16 and no other attention")
    for field, value in {"verl.sequence_parallel": verl.sequence_parallel, "verl.shard_size": verl.shard_size}.items():
        if value and verl.gpus % value:
            found.append(f"{field} is {value}, which does not divide the {verl.gpus} GPUs (verl.nodes x verl.gpus_per_node)")
    ranks = max(1, verl.gpus // verl.sequence_parallel)
    if config.batch_size % ranks:
        found.append(f"batch_size is {config.batch_size}, which cannot be dealt evenly to {ranks} data-parallel ranks")
    pack = config.token_budget * verl.sequence_parallel
    if config.max_length > pack:
        found.append(
            f"max_length is {config.max_length}, but verl packs whole sequences into token_budget x verl.sequence_parallel = "
            f"{pack} tokens; raise token_budget, or lower max_length"
        )
    if (verl.nodes > 1) != (verl.rendezvous is not None):
        found.append(
            f"verl.nodes is {verl.nodes} and verl.rendezvous {verl.rendezvous}; several nodes need it, one has no use for it"
        )
    if config.optimizer != "adamw":
        found.append(f"optimizer is {config.optimizer!r}: 8-bit moments have not been run with weights that FSDP2 shards")
    if config.max_skipped_updates != SftConfig.model_fields["max_skipped_updates"].default:
        found.append(
            "max_skipped_updates is the local engine's: verl's workers skip such an update by themselves; leave it out"
        )
    if config.lora is not None and config.lora.dropout:
        found.append(f"lora.dropout is {config.lora.dropout}, which verl's adapters do not have; set it to 0")
    if config.lora is not None and config.lora.alpha != int(config.lora.alpha):
        found.append(f"lora.alpha is {config.lora.alpha}; verl takes a whole number")
    return found
