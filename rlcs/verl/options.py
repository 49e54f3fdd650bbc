"""Fields of `rlcs rl engine=verl` that only verl knows: placement, Ray (docs/verl.md)."""

from pydantic import Field

from sft.verl_options import VerlTraining


class VerlOptions(VerlTraining):
    """Placement and Ray of an RL run."""

    expert_parallel: bool = False
    """Spread a mixture of experts over the GPUs of a vLLM replica expert by expert, instead of cutting each in slices."""
    agent_workers: int | None = Field(default=None, ge=1)
    """Processes that render prompts and follow requests; absent, one for each node."""
    reward_workers: int | None = Field(default=None, ge=1)
    """Processes that hand responses to scoring processes (`verifier_workers` of them each); absent, one for each node."""
    max_restarts: int = Field(default=2, ge=0)
    """Times in a row that a run starts again by itself, from its last checkpoint, when one of its processes died or a node was
    lost; counted anew whenever it got further than before. Steps since the checkpoint are done again."""
    weight_bucket_mib: int = Field(default=2048, ge=1)
    """Weights that go to vLLM at once, MiB; on the CPU no tensor may be larger."""
    ray_address: str | None = None
    """Ray cluster to join: `auto` for one that runs on this machine, `host:port`, or `ray://host:port`; absent, one is started
    here for the run."""
    ray_cpus: int | None = Field(default=None, ge=1)
    """CPUs that a Ray started here counts with; absent, those of the machine (16 with `device: cpu`: actors reserve them, and
    few of them work at a time)."""
