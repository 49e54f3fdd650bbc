"""The step's groups as they lie in verl's TransferQueue: waiting for them, reading them, letting them go."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from rlcs.verl import watch
from rlcs.verl.collected import FIELDS, Asked, session_of

_LEAST_PAUSE_S = 0.05
_SHARE = 10.0  # a pause lasts as many times as long as asking took, so that asking about many samples costs little

FAULT = "fault"
"""Tag of a group that failed for its input's fault: what is wrong with it."""


@dataclass(frozen=True)
class Arrived:
    """Samples of finished groups: `FIELDS` of each key, and the tags that verl keeps with it."""

    rows: dict[str, dict[str, Any]]
    tags: dict[str, dict[str, Any]]

    @property
    def versions(self) -> dict[str, int]:
        """Policy updates behind the weights that each sample was drawn with."""
        return {key: int(tag["max_global_steps"] or 0) for key, tag in self.tags.items()}


class GroupBuffer(ReplayBuffer):
    """verl's replay buffer, from which a training batch is not the first groups that are done but what `next_batch` makes of
    all of them. `watch`: over the processes that generate, once there are any.
    """

    def __init__(self, next_batch: Callable[[], KVBatchMeta], sampler_config: Any) -> None:
        super().__init__(
            trainer_mode="sync",
            trainer_config=DictConfig({}),
            max_off_policy_threshold=sampler_config.max_off_policy_threshold,
            max_off_policy_strategy=sampler_config.max_off_policy_strategy,
            sampler_kwargs=sampler_config.sampler_kwargs,
        )
        self.watch = watch.Watch()
        self._next_batch = next_batch

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict[str, Any]]:
        """The rows to train on; `batch_size` is verl's count of groups, which a curriculum does not keep to."""
        if partition_id != "train":
            return super().sample(global_steps, partition_id, batch_size)
        return self._next_batch(), {}

    def wait(self, asked: Sequence[Asked], partition: str) -> Arrived:
        """The samples of these groups, once all of them are done or have failed.

        Raises DeadProcessError when a process that should deliver them has died, for which verl would wait for ever, and
        ValueError for a group whose input is at fault.
        """
        wanted, looked, failed = {group.uid for group in asked}, time.monotonic(), set[str]()
        while True:
            began = time.monotonic()
            self._sync_metadata_from_transfer_queue()
            if new := (wanted & self.failure_keys[partition]) - failed:
                failed |= new
                self._explain(new, partition)
            if wanted <= self.finished_keys[partition] | self.failure_keys[partition]:
                break
            if time.monotonic() - looked > watch.LOOK_AFTER_S:
                self.watch.look()
                looked = time.monotonic()
            time.sleep(max(_LEAST_PAUSE_S, _SHARE * (time.monotonic() - began)))
        tags = {key: tag for key, tag in self.partitions[partition].items() if session_of(key)[0] in wanted}
        return Arrived(_rows(list(tags), partition), tags)

    def release(self, asked: Sequence[Asked], keys: Collection[str], partition: str) -> None:
        """Clears the groups' own entries and the samples `keys`."""
        tq.kv_clear(keys=[*(group.uid for group in asked), *keys], partition_id=partition)

    def _explain(self, failed: Collection[str], partition: str) -> None:
        """Raises what groups have failed for, where the run cannot go on with it."""
        tags = tq.kv_list(partition)[partition]
        for uid in sorted(failed):
            if FAULT in tags[uid]:
                raise ValueError(tags[uid][FAULT])
        self.watch.look()


def _rows(keys: list[str], partition: str) -> dict[str, dict[str, Any]]:
    if not keys:
        return {}
    return rows_of(keys, tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=FIELDS))


def rows_of(keys: Sequence[str], data: TensorDict) -> dict[str, dict[str, Any]]:
    """`FIELDS` of each key, as the TransferQueue gave them: tensors of one row, and dicts out of their wrapping."""
    columns = {
        name: [getattr(value, "data", value) if name == "extra_fields" else value for value in data[name]] for name in FIELDS
    }
    return {key: {name: columns[name][place] for name in FIELDS} for place, key in enumerate(keys)}
