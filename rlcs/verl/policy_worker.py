"""The policy's training worker: it outlives the vLLM server that it sends weights to.

With verl's own nothing can be done any more once a server has died meanwhile, though it holds the weights and the optimiser's
state of a finished step. This one leaves off sending and goes on beside the other ranks, so that the step can be saved.
"""

from typing import Any

from verl.single_controller.base.decorator import Dispatch, register
from verl.workers.engine_workers import ActorRolloutRefWorker

from rlcs.verl.schedule import ScheduledWorker


class PolicyWorker(ScheduledWorker, ActorRolloutRefWorker):
    """verl's, with a `WatchedAdapter` to its server."""

    rollout: Any

    @property
    def engine_in_training(self) -> Any:
        return self.actor.engine

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[untyped-decorator]
    def init_model(self) -> None:
        super().init_model()
        from rlcs.verl.weight_sending import WatchedAdapter

        made = self.rollout
        self.rollout = WatchedAdapter(config=made.config, model_config=made.model_config, device_mesh=made.device_mesh)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)  # type: ignore[untyped-decorator]
    async def update_weights(self, global_steps: int | None = None, mode: str = "auto") -> None:
        """As verl's. Raises what it could not be done for, DeadProcessError for a server that has died, once this rank has
        taken part in all that the others wait for.
        """
        await super().update_weights(global_steps=global_steps, mode=mode)
        self.rollout.raise_failure()
