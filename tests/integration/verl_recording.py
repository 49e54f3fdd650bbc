"""`rlcs rl` that also writes down what verl's trainer hands to its workers (dump-STEP.pt in the run directory), marks when
responses are asked for (asked-STEP), and saves a checkpoint after the first step whatever `save_every` says.

What lies beside the run directory as events.json happens to it, each at a 0-based step: `engine_killed` (the last rank kills
the engine of its vLLM server while it sends the step's weights), `nothing_to_train` (as if no group carried signal),
`not_finite` (the advantages are NaN), `worker_killed` (a training worker is killed, once, when the step's responses have been
asked for; the rollouts of the steps before are copied beside the run directory, to rollouts-before).

    python verl_recording.py CONFIG [--resume]

Imported by the trainer's process as well, where it puts the recording trainer in the place of ours.
"""

import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from verl_runs import EVENTS

FIELDS = [
    "prompts", "responses", "response_mask", "rollout_log_probs", "old_log_probs", "advantages", "index", "loss_weight",
    "rm_scores", "values", "returns",
]  # fmt: skip


def register() -> None:
    import ray
    import torch
    import transfer_queue as tq
    from tensordict import TensorDict
    from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY

    importlib.import_module("rlcs.verl.plugins")
    from rlcs.verl.trainer import CurriculumTrainer, policy_role

    class Recording(CurriculumTrainer):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            events = self.settings.out.parent / EVENTS
            self.events = json.loads(events.read_text()) if events.exists() else {}

        def _init_resource_pool_mgr(self) -> None:
            super()._init_resource_pool_mgr()
            if (step := self.events.get("engine_killed")) is not None:
                self.role_worker_mapping[policy_role(self.role_worker_mapping)] = ray.remote(killing_worker(step))

        def _balance_batch(self, batch: Any, *args: Any, **settings: Any) -> Any:
            if self._updates == self.events.get("nothing_to_train"):
                self._trained = {}
            return super()._balance_batch(batch, *args, **settings)

        def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
            batch = super()._compute_advantage(batch, metrics)
            if self._updates == self.events.get("not_finite"):
                found = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["advantages"])
                broken = TensorDict({"advantages": found["advantages"] * torch.nan}, batch_size=len(batch))
                batch = tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=broken)
            return batch

        def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
            data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=FIELDS)
            columns = {name: list(data[name]) for name in FIELDS if name in data.keys()}  # noqa: SIM118
            rows = [{name: values[place] for name, values in columns.items()} for place in range(len(batch))]
            for row in rows:
                row["index"] = int(getattr(row["index"], "data", row["index"]))
            torch.save(rows, self.settings.out / f"dump-{self._updates}.pt")
            return super()._update_actor(batch, metrics)

        def prepare_step(self) -> dict[str, float]:
            found = super().prepare_step()
            (self.settings.out / f"asked-{self._updates}").touch()
            before = self.settings.out.parent / "rollouts-before"
            if self._updates == self.events.get("worker_killed") and not before.exists():
                shutil.copytree(self.settings.out / "rollouts", before)
                os.kill(ray.get(self.actor_rollout_wg.workers[0].__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
            return found

        def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> Any:
            batch = super().step(metrics, timing_raw)
            if self.global_steps == 1:
                self._save_checkpoint()
            return batch

    TRAINER_REGISTRY["rlcs"] = Recording


def killing_worker(step: int) -> type:
    """Made here, so that Ray hands it on by value."""
    import ray
    from verl.single_controller.base.decorator import Dispatch
    from verl.single_controller.base.decorator import register as dispatched

    from rlcs.verl.policy_worker import PolicyWorker

    def engine_processes(server: Any) -> list[int]:
        import psutil

        return [child.pid for child in psutil.Process().children(recursive=True) if "EngineCore" in " ".join(child.cmdline())]

    class Killing(PolicyWorker):
        @dispatched(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
        async def update_weights(self, global_steps: int | None = None, mode: str = "auto") -> None:
            if global_steps == step + 1 and self.rank == self.world_size - 1:
                engine = self.actor.engine
                given = engine.get_per_tensor_param
                server = ray.get_actor(f"vllm_server_{self.rollout.replica_rank}_0")

                def under_way(weights: Iterable[Any]) -> Iterator[Any]:
                    for number, weight in enumerate(weights):
                        if number == 3:  # the engine has answered the first message and waits for weights
                            killed = ray.get(server.__ray_call__.remote(engine_processes))
                            assert killed
                            for pid in killed:
                                os.kill(pid, signal.SIGKILL)
                        yield weight

                def watched(**settings: Any) -> tuple[Iterator[Any], Any]:
                    weights, adapter = given(**settings)
                    return under_way(weights), adapter

                engine.get_per_tensor_param = watched
            await super().update_weights(global_steps=global_steps, mode=mode)

    return Killing


def main() -> None:
    from rlcs import cli
    from rlcs.verl import launch

    launch.PLUGINS = "verl_recording"
    sys.argv = [sys.argv[0], "rl", *sys.argv[1:]]  # Ray has its processes import from where the first one lies
    cli.main()


if __name__ == "__main__":
    main()
elif "ray" in sys.modules:
    register()
