"""verl's rollout workers with our prompts: which pixels reach the trainer, and who scores a response.

Plugged in as `actor_rollout_ref.rollout.agent.agent_loop_manager_class`; the agent loop itself is registered by
`rlcs.verl.plugins`.
"""

import logging
import random
from typing import Any

import ray
import torch
import transfer_queue as tq
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from rlcs.verl.replay_buffer import FAULT
from rlcs.verl.reward import score_request

_log = logging.getLogger(__name__)
_MAX_DEATHS = 3  # of reward workers over one response
_Worker: Any = AgentLoopWorkerTQ.__ray_metadata__.modified_class  # what verl made an actor of


class RolloutWorker(_Worker):
    """Where verl would run the checkpoint's processor on the decoded response again, this takes what the renderer made.

    A reward worker that died is replaced and its response scored again. A fault of the input is told the trainer, which verl
    tells only that the group failed.
    """

    def __init__(self, config: Any, llm_client: Any, teacher_client: Any, reward_loop_worker_handles: list[Any]) -> None:
        super().__init__(config, llm_client, teacher_client, reward_loop_worker_handles)
        self._rewarding = list(reward_loop_worker_handles)

    async def _run_agent_loop(
        self, sampling_params: dict[str, Any], trajectory: dict[str, Any], *, uid: str, **row: Any
    ) -> Any:
        try:
            return await super()._run_agent_loop(sampling_params, trajectory, uid=uid, **row)
        except (ValueError, OSError) as error:
            found = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            partition = "val" if trajectory["validate"] else "train"
            await tq.async_kv_put(key=uid, partition_id=partition, tag={FAULT: str(found)})
            raise

    def _compute_multi_modal_inputs(self, output: AgentLoopOutput, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(output.multi_modal_data or {})

    def _compute_position_ids(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, multi_modal_inputs: dict[str, torch.Tensor], *_: Any
    ) -> torch.Tensor:
        return torch.arange(input_ids.shape[1])[None]  # [1, T]; `rlcs.verl.engine` makes those of M-RoPE of it

    async def _compute_score(self, outputs: list[AgentLoopOutput], kwargs: dict[str, Any]) -> None:
        output = outputs[-1]
        repeated = output.extra_fields["finish_reason"] == "repetition"
        request = score_request(output.extra_fields.pop("score_row"), repeated=repeated)
        deaths = 0
        while True:
            worker = random.choice(self._rewarding)
            try:
                result = await worker.compute_score.remote(request)
                break
            except ray.exceptions.RayActorError as error:
                deaths += 1
                if deaths > _MAX_DEATHS:
                    raise RuntimeError(
                        f"{deaths} reward workers died one after the other over one response ({error}); their log says why. "
                        "Out of memory: lower verifier_workers or verl.reward_workers"
                    ) from error
                self._replace(worker, error)
        output.reward_score = result["reward_score"]
        output.extra_fields["reward_extra_info"] = result["reward_extra_info"]

    def _replace(self, worker: Any, error: Exception) -> None:
        if worker in self._rewarding:  # another response has not done so yet
            _log.error("a reward worker died (%s); another takes its place", error)
            self._rewarding.remove(worker)
            self._rewarding.append(ray.remote(RewardLoopWorker).remote(self.config, None))


class RolloutManager(AgentLoopManagerTQ):
    """Starts `RolloutWorker`s where verl would start its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(RolloutWorker)
