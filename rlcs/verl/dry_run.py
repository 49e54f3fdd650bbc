"""What a verl run would do, for `--dry-run`: where it runs, what a GPU will hold, the command. On paper: no weights, no Ray.

Memory follows FSDP2: weights, gradients and optimiser are sharded over the GPUs of one copy; a layer is gathered while it
computes, the embeddings and the head as long as a pass lasts. The sizes of a pass are `rlcs.memory_model`'s.
"""

import importlib.util
import math
import shlex
from collections.abc import Sequence

import torch
from rich.table import Table

from rlcs.memory_model import Architecture, Trained, activation_bytes, vision_bytes
from rlcs.memory_plan import NOMINAL_GPU, MemoryPlan, Row, config_of, gib, memory_table
from rlcs.rl_config import RlConfig
from rlcs.verl.sft import sft_command
from rlcs.verl.translate import sequence_length, verl_command
from sft.checkpoint import resolve_model
from sft.config import LoraConfig, SftConfig
from sft.verl_options import VerlTraining

_FLOAT = 4
_LOGIT_COPIES = 2  # logits and their gradient; flash-attention's cross entropy works in place
_CUDA = 3 << 30  # context, kernels, NCCL's buffers
_VLLM_OWN = 3 << 30  # vLLM's activations and CUDA graphs


def placement_table(config: RlConfig | SftConfig) -> Table:
    """Machines, GPUs, and what is spread over them how."""
    verl = config.verl
    shards, ranks = verl.shard_size or verl.gpus, max(1, verl.gpus // verl.sequence_parallel)
    kind = "processes" if config.device == "cpu" else "GPUs"
    rows = [
        ("training workers", f"{verl.gpus}: {verl.nodes} nodes x {verl.gpus_per_node} {kind}"),
        ("copies of the weights", f"{max(1, verl.gpus // shards)}, sharded over {shards} {kind} (FSDP2)"),
        ("data-parallel ranks", f"{ranks}, {verl.sequence_parallel} {kind} to a sequence"),
    ]
    if isinstance(config, RlConfig):
        replicas, each = verl.gpus // config.vllm.tensor_parallel, config.vllm.tensor_parallel
        responses = config.groups_per_step * config.group_size
        share = responses // config.updates_per_step // ranks
        rows += [
            ("vLLM servers", f"{replicas} of {each} {kind}, on those of the training workers"),
            (
                "responses a step",
                f"{responses:,}, {responses / replicas:,.0f} to a server; an update has {share:,} of each rank",
            ),
            *([("reference policy", _reference(config))] if config.kl_coef else []),
            ("agent loops", f"{config.verl.agent_workers or verl.nodes} processes"),
            ("reward workers", f"{config.verl.reward_workers or verl.nodes} processes"),
            ("Ray", config.verl.ray_address or "started here"),
        ]
    table = Table(title="placement", show_header=False)
    for row in rows:
        table.add_row(*row)
    return table


def _reference(config: RlConfig) -> str:
    return "the policy without its adapters" if config.lora is not None else "the model, in the training workers, sharded alike"


def verl_memory(config: RlConfig | SftConfig, prompt_share: float = 0.5) -> tuple[MemoryPlan, MemoryPlan]:
    """(what one GPU holds, what the main memory of one node holds). `prompt_share`: part of a pack's tokens that is taken to be
    of images. Raises FileNotFoundError for a model that is neither there nor described.
    """
    found, source = config_of(config.model)
    model = Architecture.of(found)
    parts = _State(model, config.lora, config.verl, config.dtype)
    weights, gradients, optimiser = parts.rows()
    rows = [weights, gradients, optimiser, *parts.gathered(), *_pass_rows(config, model, prompt_share)]
    warnings = parts.warnings(config.lr)
    total = sum(row.size for row in rows)
    if isinstance(config, RlConfig):
        engine, warning = _vllm(config, model)
        rows.append(engine)
        warnings += warning
        waiting = {"none": weights.size + optimiser.size, "optimizer": weights.size, "all": 0.0}[config.verl.offload]
        total = max(total, waiting + engine.size) if config.vllm.sleep else total + engine.size
    on_gpu = config.device != "cpu"
    if on_gpu:
        rows.append(Row("CUDA, NCCL", _CUDA, "context, kernels, buffers"))
        total += _CUDA
        if total > NOMINAL_GPU:
            warnings.append(
                f"{gib(total)} do not fit on a card of 80 GB ({gib(NOMINAL_GPU)}): more GPUs, verl.offload, vllm.sleep, "
                "gradient_checkpointing, lora, or a smaller token_budget"
            )
    one = f"{source}, one {'GPU' if on_gpu else 'process'} of {config.verl.gpus}"
    return MemoryPlan(one, tuple(rows), total, None, config.device, tuple(warnings)), _host(config, parts, source)


def verl_tables(config: RlConfig | SftConfig, prompt_share: float = 0.5) -> Sequence[Table]:
    """Placement and memory. Raises as `verl_memory`."""
    gpu, node = verl_memory(config, prompt_share)
    placement = placement_table(config)
    stored = (config.verl.shard_size or config.verl.gpus) * (gpu.rows[0].size + gpu.rows[2].size)
    placement.add_row("checkpoint", f"{gib(stored)} each: weights and optimiser, a file for each rank")
    return [placement, memory_table(gpu), memory_table(node)]


def command_lines(config: RlConfig | SftConfig) -> str:
    """The full command for a shell, an override a line."""
    if isinstance(config, SftConfig):
        return _lines(sft_command(config))
    if _is_there(config.model) and importlib.util.find_spec("vllm"):
        return _lines(verl_command(config))
    lines = _lines(verl_command(config, planned=True))
    return f"{lines}\n(without engine_kwargs.vllm, which the tokenizer of {config.model} decides once it and vLLM are there)"


def _lines(command: Sequence[str]) -> str:
    module = len(command) - command[::-1].index("-m")  # the last -m: torchrun's command has two
    return " \\\n  ".join([shlex.join(command[: module + 1]), *(shlex.quote(one) for one in command[module + 1 :])])


def _is_there(model: str) -> bool:
    try:
        resolve_model(model)
    except FileNotFoundError:
        return False
    return True


class _State:
    """Weights, gradients and optimiser of one model over the shards."""

    def __init__(self, model: Architecture, lora: LoraConfig | None, verl: VerlTraining, dtype: str) -> None:
        self.model, self.lora, self.verl = model, lora, verl
        self.master, self.computed = _itemsize(verl.master_dtype), _itemsize(dtype)
        self.trained = Trained.of(model, lora, self.master)
        self.shards = verl.shard_size or verl.gpus

    def rows(self) -> list[Row]:
        """Weights, gradients, optimiser of one GPU. verl casts adapters to the type of the frozen weights."""
        numel = self.model.parameters + (self.trained.numel if self.lora else 0)
        over = f"over {self.shards} GPUs, {self.verl.master_dtype}"
        return [
            Row("weights", numel * self.master / self.shards, f"{self.model.parameters:,} parameters {over}"),
            Row("gradients", self.trained.numel * self.master / self.shards, f"{self.trained.numel:,} trained {over}"),
            Row("optimiser", 2 * self.trained.numel * self.master / self.shards, f"two moments (AdamW) {over}"),
        ]

    def gathered(self) -> list[Row]:
        """Whole weights that a pass needs: the root's, two layers' (one computes, the next comes), and a layer's gradient."""
        layers = [sum(one.numel() for one in layer.parameters()) for layer in _layers(self.model)]
        root = self.model.parameters - sum(layers)
        size = self.computed * (root + 2 * max(layers)) + (self.computed * (root + max(layers)) if self.lora is None else 0)
        return [Row("gathered", size, f"embeddings and head ({root:,}), layers of up to {max(layers):,}")]

    def warnings(self, lr: float) -> list[str]:
        if self.verl.master_dtype == "bfloat16":
            return [
                f"weights and optimiser are kept in bfloat16 at lr {lr:g}: steps below 1/256 of a weight round to nothing; "
                "set verl.master_dtype: float32"
            ]
        return []


def _layers(model: Architecture) -> list[torch.nn.Module]:
    """The modules that verl's FSDP2 wraps: decoder layers and vision blocks."""
    names = set(model.skeleton._no_split_modules or ())
    return [module for module in model.skeleton.modules() if type(module).__name__ in names]


def _pass_rows(config: RlConfig | SftConfig, model: Architecture, prompt_share: float) -> list[Row]:
    itemsize, again = _itemsize(config.dtype), config.gradient_checkpointing
    trained = Trained.of(model, config.lora, _itemsize(config.verl.master_dtype))
    tokens = config.token_budget
    rows = [
        Row(
            "activations",
            activation_bytes(model, trained, tokens, itemsize, checkpointing=again),
            f"{tokens:,} tokens a GPU, {'computed anew' if again else 'kept'} in {model.layers} layers",
        ),
        Row(
            "logits",
            tokens * model.vocabulary * (_LOGIT_COPIES * itemsize + (_FLOAT if itemsize < _FLOAT else 0)),
            f"{tokens:,} rows x {model.vocabulary:,} and their gradient: verl does not cut them in chunks",
        ),
    ]
    if model.vision_layers:
        visual = round(prompt_share * tokens)
        size = vision_bytes(model, trained, visual, itemsize, checkpointing=again)
        rows.append(Row("vision tower", size, f"{visual * model.merge_area:,} patches if {prompt_share:.0%} is images"))
    return rows


def _vllm(config: RlConfig, model: Architecture) -> tuple[Row, list[str]]:
    options, length = config.vllm, sequence_length(config)
    itemsize = _itemsize(options.dtype or config.dtype)
    weights = model.parameters * itemsize / options.tensor_parallel
    keys = max(1, math.ceil(model.key * itemsize / options.tensor_parallel))
    sequence = 2 * model.layers * keys * length
    if config.device == "cpu":
        cache = options.cpu_cache_gib << 30
        return Row("vLLM", weights + cache, f"weights {gib(weights)}, cache {gib(cache)}"), []
    reserved = options.gpu_memory * NOMINAL_GPU
    room = max(0, int((reserved - weights - _VLLM_OWN) / sequence))
    why = (
        f"vllm.gpu_memory {options.gpu_memory:g}: weights {gib(weights)}, and cache for {room} of {length:,} tokens in a server"
    )
    if room >= config.group_size:
        return Row("vLLM", reserved, why), []
    return Row("vLLM", reserved, why), [
        f"a vLLM server has room for {room} sequences of {length:,} tokens, fewer than a group; raise vllm.gpu_memory or "
        "vllm.tensor_parallel, or lower the token budgets"
    ]


def _host(config: RlConfig | SftConfig, parts: _State, source: str) -> MemoryPlan:
    """Main memory of a node. The first rank of each copy of the weights loads all of them before they are dealt out."""
    loading = parts.model.parameters * parts.master
    rows = [Row("loading", loading, f"all weights once, {config.verl.master_dtype}, on the node of the first rank")]
    state = parts.rows()
    waiting = {"none": [], "optimizer": state[2:], "all": state}[config.verl.offload]
    size = config.verl.gpus_per_node * sum(row.size for row in waiting)
    if waiting:
        rows.append(Row("off-loaded", size, f"verl.offload: {config.verl.offload}, of {config.verl.gpus_per_node} GPUs"))
    reference = 0.0
    if isinstance(config, RlConfig) and config.kl_coef and config.lora is None:
        reference = config.verl.gpus_per_node * state[0].size
        rows.append(Row("reference", reference, "shards of the policy that kl_coef holds to, kept here always"))
    return MemoryPlan(f"{source}, main memory of a node", tuple(rows), reference + max(loading, size), None, "node", ())


def _itemsize(dtype: str) -> int:
    kind: torch.dtype = getattr(torch, dtype)
    return kind.itemsize
