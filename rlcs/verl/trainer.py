"""verl's synchronous trainer with our sampler, selection and objective: a step reads as one of `rlcs.rl.run_rl`.

What is verl's stays so: workers, servers, weight transfer, checkpoints, the critic. Axis suffixes: P groups, G samples, B rows
of a training batch (one sample each).
"""

import copy
import logging
import math
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch
import transfer_queue as tq
from omegaconf import open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.trainer.ppo.utils import Role, create_rl_dataset
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn

from rlcs.progress import Clock
from rlcs.rl import advantages_of
from rlcs.scoring import TRAINED, ScoredRollouts, group_fates
from rlcs.verl.collected import FAILED, Asked, scored_rollouts, session_of
from rlcs.verl.critic import CriticWorker
from rlcs.verl.dataset import settings_of
from rlcs.verl.objective import LOSS_WEIGHT, NAME, WeightedPolicyLoss, policy_metrics, row_weights
from rlcs.verl.policy_worker import PolicyWorker
from rlcs.verl.replay_buffer import Arrived, GroupBuffer
from rlcs.verl.run_log import RunLog
from rlcs.verl.sampling import Curriculum, update_order, visits
from rlcs.verl.training import NAMED_SCHEDULES
from rlcs.verl.watch import Watch
from rlcs.verl.worker_metrics import made_updates, named_metrics, refuse_skipped

_log = logging.getLogger(__name__)
_TRAIN, _VAL = "train", "val"  # verl's names of the TransferQueue's parts
_OF_THE_CRITIC = ("critic/loss", "critic/grad_norm", "critic/vpred_mean", "critic/vf_clipfrac")
_TRAINING = ("old_log_prob", "ref", "values", "adv", "update_critic", "update_actor")  # verl's clock's names


class _NothingToTrainError(Exception):
    """No group of the step carries signal; `batch` is what verl may clear at its end."""

    def __init__(self, batch: KVBatchMeta) -> None:
        super().__init__()
        self.batch = batch


@register_trainer(NAME)
class CurriculumTrainer(PPOTrainerSync):
    """One step: the sampler draws, all of its groups are generated and scored, it sees the outcome of every one, draws more if
    it wants, and the groups selected are trained on.
    """

    global_steps: int
    replay_buffer: GroupBuffer
    train_dataloader: Curriculum

    def __init__(self, config: Any) -> None:
        self.settings = settings_of(config)
        self.log = RunLog(self.settings, resume=config.trainer.resume_mode != "disable")
        super().__init__(config)

    # ------------------------------------------------------------------ set-up

    def _build_replay_buffer(self) -> GroupBuffer:
        self.trainer_mode = "sync"  # verl branches on it; ours is a synchronous trainer under a name of its own
        return GroupBuffer(self._collect, self.config.trainer.v1.sampler)

    def _init_dataloader(self) -> None:
        config = self.config
        dataset = create_rl_dataset(config.data.train_files, config.data, self.tokenizer, self.processor, is_train=True)
        self.curriculum = Curriculum(self.settings, dataset, dataset.problems, dataset.thinking_N)
        self.train_dataloader = self.curriculum  # verl keeps the state of what has this name in its checkpoints
        self.val_dataset: Any = None
        if self.settings.heldout is not None:
            self.val_dataset = create_rl_dataset(
                config.data.val_files, config.data, self.tokenizer, self.processor, is_train=False
            )
        self.total_training_steps = config.trainer.total_training_steps
        self.steps_per_epoch = self.total_training_steps + 1  # a sampler knows no epochs: the first one outlasts the run
        with open_dict(config):
            for section in (config.actor_rollout_ref.actor, config.critic):
                section.optim.total_training_steps = self.total_training_steps

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        self.role_worker_mapping[policy_role(self.role_worker_mapping)] = ray.remote(PolicyWorker)
        if self.use_critic:
            self.role_worker_mapping[Role.Critic] = ray.remote(CriticWorker)

    def _setup(self) -> None:
        super()._setup()
        if self.config.actor_rollout_ref.actor.policy_loss.loss_mode == NAME:
            self.actor_rollout_wg.set_loss_fn(WeightedPolicyLoss(self.settings))
        if self.settings.schedule not in NAMED_SCHEDULES:
            for group in (self.actor_rollout_wg, *([self.critic_wg] if self.use_critic else [])):
                group.follow_schedule(self.settings, self.settings.steps)

    def fit(self, agent_loop_manager: Any) -> None:
        workers = agent_loop_manager.agent_loop_workers
        servers = [server for replica in self.llm_server_manager.get_replicas() for server in replica.servers]
        self.replay_buffer.watch = self._watch = Watch(workers, servers)
        self._servers = servers
        ray.get([worker.__ray_ready__.remote() for worker in workers])  # their start-up is no part of the first step
        self._saved, self._finished = self.global_steps, (self.global_steps, self.curriculum.progress())
        self._updating = False
        self.log.begin(self.global_steps, sorted({problem.domain for problem in self.curriculum.problems}))
        self._rate = self.actor_rollout_wg.rate()[0]
        with open_dict(self.config):
            # verl is to ask after every step for held-out answers; whether they are due `_validate` decides.
            self.config.trainer.val_before_train = self.log.heldout_due(self.global_steps, last=False)
            self.config.trainer.test_freq = 1 if self.val_dataset is not None else -1
        try:
            super().fit(agent_loop_manager)
        except Exception:
            self._save_finished()
            # Where one of several training workers has died, the others' error may come first: a connection that was closed.
            Watch(self._training_workers(), kind="training worker").look()
            raise
        finally:
            self.log.close()

    def _training_workers(self) -> list[Any]:
        return [*self.actor_rollout_wg.workers, *(self.critic_wg.workers if self.use_critic else [])]

    def on_sample_end(self) -> None:
        with self._watch.guarding(self._servers):
            super().on_sample_end()

    def on_step_end(self) -> None:
        with self._watch.guarding(self._servers):
            super().on_step_end()

    # ------------------------------------------------------------------ generation

    def prepare_step(self) -> dict[str, float]:
        with self._clock("draw"):
            wanted = self.curriculum.sampler.draw(self.settings.groups_per_step)
            self._posed = Counter[int]()
            self._asked = self._ask(self.curriculum.rows(wanted), _TRAIN)
        return {}

    def _ask(self, rows: Sequence[dict[str, Any]], partition: str) -> list[Asked]:
        """Hands problems to the agent loops and does not wait for them."""
        asked = [Asked(str(uuid.uuid4()), int(row["index"])) for row in rows]
        names = {"uid": [group.uid for group in asked], "visit": visits([group.index for group in asked], self._posed)}
        batch = tu.get_tensordict({**collate_fn(list(rows)), **names})
        tu.assign_non_tensor_data(batch, "global_steps", self.global_steps)
        if partition == _VAL:
            tu.assign_non_tensor_data(batch, "validate", True)
        tag = {"is_prompt": True, "status": "pending", "global_steps": self.global_steps}
        tq.kv_batch_put(keys=[group.uid for group in asked], partition_id=partition, tags=[dict(tag) for _ in asked])
        self.agent_loop_manager.generate_sequences(batch)
        return asked

    def _collect(self) -> KVBatchMeta:
        """All of the step's groups, as far as the sampler goes on drawing -> the rows to train on. Called by `GroupBuffer`."""
        clock, settings, sampler = self._clock, self.settings, self.curriculum.sampler
        asked, tags, rollouts = list[Asked](), dict[str, dict[str, Any]](), None
        new = self._asked
        while new:
            asked += new
            with clock("generate"):
                arrived = self.replay_buffer.wait(new, _TRAIN)
            with clock("score"):
                scored = self._scored(new, arrived)
                rollouts = scored if rollouts is None else rollouts + scored
                tags |= arrived.tags
            with clock("select"):
                sampler.observe(scored.indices, scored.outcomes_PG, policy_version=self._updates, tokens_P=scored.tokens_P)
                wanted = sampler.refill(settings.groups_per_step, rollouts.indices, rollouts.outcomes_PG)
            with clock("draw"):
                new = self._ask(self.curriculum.rows(wanted), _TRAIN) if len(wanted) else []
        assert rollouts is not None, "a sampler draws at least one problem"
        with clock("select"):
            fates = group_fates(rollouts, sampler, settings.groups_per_step)
            places = {group.uid: p for p, group in enumerate(asked)}
            advantages_PG = advantages_of(rollouts, fates, settings)
            self._trained, self._advantages = {}, {}
            for key in tags:
                uid, g = session_of(key)
                p = places[uid]
                own = int((~rollouts.completions[p][g].forced).sum())
                if fates[p] == TRAINED and rollouts.verdicts[p][g].score is not None and own:
                    self._trained[key], self._advantages[key] = own, float(advantages_PG[p, g])
            keys = list(self._trained) or list(tags)[:1]  # verl cannot end a step with no sample at all
            self.replay_buffer.release(asked, tags.keys() - set(keys), _TRAIN)
        self._rollouts, self._fates = rollouts, fates
        return KVBatchMeta(keys, [tags[key] for key in keys], partition_id=_TRAIN)

    def _scored(self, asked: Sequence[Asked], arrived: Arrived) -> ScoredRollouts:
        curriculum = self.curriculum
        if not arrived.rows:
            raise RuntimeError(
                f"step {self._updates}: all {len(asked)} groups failed in generation or scoring; the agent loop workers' log "
                "says why"
            )
        size = self.settings.group_size
        return scored_rollouts(asked, curriculum.problems, curriculum.thinking_N, arrived.rows, arrived.versions, size)

    # ------------------------------------------------------------------ training

    @property
    def _updates(self) -> int:
        """Steps that the policy has behind it; verl counts the running one."""
        return self.global_steps - 1

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> KVBatchMeta:
        """As verl's; and the step is in the run directory before its checkpoint is written."""
        self._clock = Clock()
        batch = super().step(metrics, timing_raw)
        generated = sum(len(group) for group in self._rollouts.completions)
        limit = self.settings.max_rollouts or math.inf
        last = self.global_steps >= self.total_training_steps or self.log.spent.rollouts + generated >= limit
        learned = policy_metrics(metrics)
        if self._policy_learns:
            learned |= {"lr": self._rate, "skipped_updates": metrics.get("actor/skipped_updates", 0.0)}
            self._rate = metrics["actor/lr"]  # that of the next step, says verl
        for notice in self.curriculum.skipped.notices():
            self.log.warn(notice)
        if self._trained:
            learned["trained_tokens"] = float(sum(self._trained.values()))
            learned["packed_tokens"] = float(sum(tag["seq_len"] for tag in batch.tags))
        self.log.step(
            self._updates,
            self._rollouts,
            self._fates,
            self.curriculum,
            learned,
            self._clock,
            last=last,
            more=self._further(metrics, timing_raw, learned.get("packed_tokens", 0.0)),
        )
        self._finished, self._updating = (self.global_steps, copy.deepcopy(self.curriculum.progress())), False
        if last and self.global_steps < self.total_training_steps:
            self._end_here()
        return batch

    def _further(self, metrics: dict[str, Any], timing_raw: dict[str, float], packed_tokens: float) -> dict[str, float]:
        """Metrics of which verl's workers, not this process, have the figures."""
        seconds = sum(timing_raw.get(part, 0.0) for part in _TRAINING)
        found = {
            "seconds/train": seconds,
            "tokens_per_s/train": packed_tokens / max(seconds, 1e-9),
            "rollouts_failed": float(sum(verdict.reason == FAILED for group in self._rollouts.verdicts for verdict in group)),
        }
        if memory := metrics.get("actor/perf/max_memory_allocated_gb"):
            found["peak_memory_mb"] = 1024.0 * memory
        return found | {name: metrics[name] for name in _OF_THE_CRITIC if name in metrics}

    def _save_checkpoint(self) -> None:
        super()._save_checkpoint()
        self._saved = self.global_steps

    def _save_finished(self) -> None:
        """Saves the last finished step if it was not to be saved yet and the training workers still hold it: all of them live,
        and none has begun with the next one's update.
        """
        step, progress = self._finished
        if step == self._saved or self._updating:
            return
        self.global_steps = step
        self.curriculum.go_back_to(progress)
        try:
            self._save_checkpoint()
        except (ray.exceptions.RayError, OSError) as failure:  # what the run ended for is raised; `kept_by` counts what is lost
            why = str(failure).strip().splitlines()[-1]
            _log.error("steps from %d on could not be saved: %s", self._saved, why)

    def _end_here(self) -> None:
        """Makes the running step the last one. verl has asked already whether it is, and would not save it."""
        self.total_training_steps = self.global_steps
        if self.global_steps % self.config.trainer.save_freq:
            self._save_checkpoint()

    def _step_once(self, metrics: dict[str, Any], timing_raw: dict[str, float], sample_batch_size: int) -> KVBatchMeta:
        try:
            return super()._step_once(metrics, timing_raw, sample_batch_size)
        except _NothingToTrainError as stop:
            if self.use_critic:
                self.critic_wg.pass_step()
            if self._policy_learns:
                metrics["actor/lr"] = self.actor_rollout_wg.pass_step()[0]
            return stop.batch

    @property
    def _policy_learns(self) -> bool:
        """Whether the running step is one of the policy, and not of the critic alone."""
        return bool(self._updates >= self.settings.policy_starts)

    def _balance_batch(
        self, batch: KVBatchMeta, metrics: dict[str, Any], logging_prefix: str = "global_seqlen", keep_minibatch: bool = False
    ) -> KVBatchMeta:
        """Rows in the order in which ranks and updates take them, `update_order`; a few empty ones make their number fit."""
        if not self._trained:
            raise _NothingToTrainError(batch)
        self._updating = True
        group = self.actor_rollout_wg
        if "actor" not in group._dispatch_info:
            group._dispatch_info["actor"] = group._query_dispatch_info("actor")
        ranks, updates = max(group._dispatch_info["actor"]) + 1, self.settings.updates_per_step
        batch = upsample_batch_to_divisible_size(batch, ranks * updates, self.tokenizer.eos_token_id)
        seq_lens = [tag["seq_len"] for tag in batch.tags]
        order, self._update_B = update_order(seq_lens, ranks, updates, self.curriculum.rng)
        batch.reorder(order.tolist())
        return batch

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._compute_ref_log_prob(batch, metrics)
        batch.extra_info.pop(
            "no_lora_adapter", None
        )  # of this pass alone: else the critic would leave its adapters out as well
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._compute_advantage(batch, metrics)
        lengths_B = torch.tensor([self._trained.get(key, 0) for key in batch.keys])
        fields = {LOSS_WEIGHT: row_weights(lengths_B, self._update_B, self.settings)}
        if self.settings.advantage != "gae":
            # verl's estimators see rows and the names of their groups; the local engine's see the step.
            rows = [
                torch.full((tag["response_len"],), self._advantages.get(key, 0.0))
                for key, tag in zip(batch.keys, batch.tags, strict=True)
            ]
            fields["advantages"] = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        return tq.kv_batch_put(
            keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(fields, batch_size=len(batch))
        )

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        actor = self.config.actor_rollout_ref.actor
        entropy = actor.calculate_entropy or actor.entropy_coeff != 0.0 or self.settings.entropy_coef > 0.0
        batch.extra_info.update(self._pass(batch, actor), calculate_entropy=entropy)
        output = self.actor_rollout_wg.update_actor(batch)
        made = made_updates(output["metrics"], self.curriculum.skipped, self._updates)
        metrics.update(named_metrics(made, "actor"))
        return batch

    def _update_critic(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch.extra_info.update(self._pass(batch, self.config.critic))
        output = self.critic_wg.train_mini_batch(batch).get()
        refuse_skipped(output["metrics"])
        metrics.update(named_metrics(output["metrics"], "critic"))
        return batch

    def _pass(self, batch: KVBatchMeta, section: Any) -> dict[str, Any]:
        """What verl's workers are told of a step: `updates_per_step` updates in the order of the rows.

        `global_batch_size`, by which verl's own losses divide, counts the rows that are samples.
        """
        updates = self.settings.updates_per_step
        return {
            "mini_batch_size": len(batch) // updates,
            "global_batch_size": len(self._trained) / updates,
            "epochs": section.ppo_epochs,
            "seed": section.data_loader_seed,
            "dataloader_kwargs": {"shuffle": False},
            "temperature": self.config.actor_rollout_ref.rollout.temperature,
        }

    def _compute_metrics(self, batch: KVBatchMeta, *args: Any, **kwargs: Any) -> None:
        if self._trained:
            super()._compute_metrics(batch, *args, **kwargs)

    # ------------------------------------------------------------------ held-out problems

    def _validate(self) -> dict[str, float]:
        """Held-out problems, if they are due -> metrics."""
        if not self.log.heldout_due(self.global_steps, last=self.global_steps >= self.total_training_steps):
            return {}
        self._posed = Counter()
        dataset, samples = self.val_dataset, self.config.actor_rollout_ref.rollout.val_kwargs.n
        asked = self._ask([dataset[index] for index in range(len(dataset))], _VAL)
        arrived = self.replay_buffer.wait(asked, _VAL)
        rollouts = scored_rollouts(asked, dataset.problems, dataset.thinking_N, arrived.rows, arrived.versions, samples)
        self.replay_buffer.release(asked, arrived.tags, _VAL)
        return self.log.heldout(self.global_steps, rollouts)


def policy_role(roles: Mapping[Role, Any]) -> Role:
    """Under which verl has the policy's worker, which holds the reference policy as well where there is one beside it."""
    return next(role for role in (Role.ActorRollout, Role.ActorRolloutRef) if role in roles)
