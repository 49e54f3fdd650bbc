"""Groups in a real TransferQueue on a real Ray: waiting, failures, processes that die."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("verl", reason="the verl extra is not installed")
pytest.importorskip("transfer_queue", reason="the verl extra is not installed")

import ray
import transfer_queue as tq
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from rlcs.verl import replay_buffer
from rlcs.verl.collected import Asked
from rlcs.verl.replay_buffer import GroupBuffer

pytestmark = pytest.mark.integration

SAMPLER = OmegaConf.create({"max_off_policy_threshold": 8, "max_off_policy_strategy": "drop", "sampler_kwargs": {}})


@pytest.fixture(scope="module", autouse=True)
def queue() -> Iterator[None]:
    # Ray's actors reserve logical CPUs, of which a small machine has too few for a TransferQueue.
    ray.init(num_cpus=16, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
    yield
    tq.close()
    ray.shutdown()


@pytest.fixture
def buffer() -> GroupBuffer:
    return GroupBuffer(lambda: KVBatchMeta(), SAMPLER)


def ask(*uids: str) -> list[Asked]:
    tq.kv_batch_put(
        keys=list(uids), partition_id="train", tags=[{"is_prompt": True, "status": "pending", "global_steps": 1}] * len(uids)
    )
    return [Asked(uid, place) for place, uid in enumerate(uids)]


def deliver(uid: str, lengths: list[int], *, status: str = "finished") -> None:
    """The samples of a group, as an agent loop worker of verl's stores them."""
    fields: list[dict[str, Any]] = [
        {
            "responses": torch.arange(length),
            "response_mask": torch.ones(length, dtype=torch.int64),
            "rollout_log_probs": torch.full((length,), -0.5),
            "extra_fields": {"text": f"{uid} {length}"},
        }
        for length in lengths
    ]
    if fields:
        keys = [f"{uid}_{session}_0" for session in range(len(lengths))]
        tags = [{"seq_len": length, "max_global_steps": 3} for length in lengths]
        tq.kv_batch_put(keys=keys, partition_id="train", fields=list_of_dict_to_tensordict(fields), tags=tags)
    tq.kv_put(key=uid, partition_id="train", tag={"is_prompt": True, "status": status, "global_steps": 1})


def test_a_step_waits_for_all_of_its_groups_and_takes_nothing_else(buffer: GroupBuffer) -> None:
    asked = ask("aa", "bb")
    ask("other")
    deliver("other", [2])
    deliver("aa", [3, 5])

    def later() -> None:
        time.sleep(1.0)
        deliver("bb", [4, 4])

    began = time.monotonic()
    thread = threading.Thread(target=later)
    thread.start()
    arrived = buffer.wait(asked, "train")
    thread.join()
    assert time.monotonic() - began >= 1.0
    assert sorted(arrived.rows) == ["aa_0_0", "aa_1_0", "bb_0_0", "bb_1_0"]
    assert arrived.rows["aa_1_0"]["responses"].tolist() == [0, 1, 2, 3, 4]
    assert arrived.rows["bb_0_0"]["extra_fields"] == {"text": "bb 4"}
    assert set(arrived.versions.values()) == {3}
    buffer.release(asked, ["aa_0_0", "bb_0_0", "bb_1_0"], "train")
    assert sorted(tq.kv_list("train")["train"]) == ["aa_1_0", "other", "other_0_0"]
    tq.kv_clear(keys=["aa_1_0", "other", "other_0_0"], partition_id="train")


def test_a_group_that_failed_gives_the_samples_there_are(buffer: GroupBuffer) -> None:
    asked = ask("cc", "dd")
    deliver("cc", [3], status="failure")
    deliver("dd", [], status="failure")
    arrived = buffer.wait(asked, "train")
    assert list(arrived.rows) == ["cc_0_0"]
    buffer.release(asked, arrived.tags, "train")
    assert not tq.kv_list("train").get("train")


def test_a_worker_that_died_ends_the_wait_with_a_message(buffer: GroupBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    @ray.remote
    class Worker:
        def alive(self) -> bool:
            return True

    monkeypatch.setattr(replay_buffer, "_LOOK_AFTER_S", 0.5)
    workers = [Worker.remote(), Worker.remote()]  # type: ignore[attr-defined]
    ray.get([worker.alive.remote() for worker in workers])
    buffer.workers = workers
    asked = ask("ee")
    ray.kill(workers[1])
    with pytest.raises(RuntimeError, match=r"agent loop worker 1 has died.*--resume"):
        buffer.wait(asked, "train")
    tq.kv_clear(keys=["ee"], partition_id="train")
