"""How verl's trainer is spread over GPUs: fields that `rlcs sft engine=verl` and `rlcs rl engine=verl` share (docs/verl.md)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

HydraOverride = Annotated[str, Field(pattern=r"^\+{0,2}[A-Za-z_][\w.@]*=")]


class VerlTraining(BaseModel):
    """Training workers of verl's FSDP2 engine, one for each GPU (with `device: cpu`, one process each)."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    nodes: int = Field(default=1, ge=1)
    """Machines."""
    gpus_per_node: int = Field(default=1, ge=1)
    """GPUs of each machine."""
    shard_size: int | None = Field(default=None, ge=1)
    """GPUs that one copy of the weights is sharded over; absent, all. Fewer keep the gathering of weights inside a machine."""
    sequence_parallel: int = Field(default=1, ge=1)
    """GPUs that share each sequence (Ulysses): `token_budget` is then that of a GPU, not of a sequence."""
    master_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type in which the sharded weights and the optimiser are kept; layers compute in `dtype`."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What waits in main memory while it is not used: nothing, the optimiser, or weights and gradients as well."""
    attention: Literal["flash_attention_2", "sdpa"] | None = None
    """Attention of the trainer; absent, flash_attention_2 on GPUs in bfloat16 and sdpa elsewhere. Only the former computes
    without padding."""
    overrides: list[HydraOverride] = []
    """Further settings of verl's own in Hydra's notation, such as `trainer.balance_batch=false`; those that a field of ours
    decides are refused."""

    @property
    def gpus(self) -> int:
        """GPUs of all machines."""
        return self.nodes * self.gpus_per_node


class VerlSft(VerlTraining):
    """Placement of an SFT run: torchrun starts a process for each GPU."""

    rendezvous: str | None = Field(default=None, pattern=r"^[^\s/]+:\d+$")
    """host:port at which the processes of several nodes meet, on one of them; `rlcs sft` is then started on every node."""
