"""The pool in each kind of process that trainers score from: threads, asyncio, multiprocessing, Ray actors.

In every host a hanging, a greedy and a dying answer must cost themselves only, and no worker may outlive the host.
"""

import asyncio
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rewards import ScorePool

pytestmark = pytest.mark.integration

PLUGINS = Path(__file__).parents[1] / "unit" / "rewards"
sys.path.insert(0, str(PLUGINS))

ANSWERS = ["right", "hang", "right", "allocate", "wrong", "die", "right", "raise"]
EXPECTED = [None, "timeout", None, "memory", None, "worker-died", None, "verifier-error"]
CORRECT = [True, None, True, None, False, None, True, None]


def rows() -> list[dict[str, Any]]:
    return [
        {
            "id": answer,
            "domain": "test-hurried" if answer == "hang" else "test-hostile",
            "answer": "right",
            "response": f"<think></think><|begin_of_box|>{answer}<|end_of_box|>",
        }
        for answer in ANSWERS
    ]


def make_pool() -> ScorePool:
    # The greedy answer takes a while to fill its memory where other tests share the cores; the hanging one has its own limit.
    return ScorePool(2, timeout_s=60.0, memory_mb=512, plugins=("hostile_verifiers",))


def score_here(path: str = str(PLUGINS)) -> tuple[list[str | None], list[bool | None], list[int]]:
    """Reasons, outcomes and the process ids of the workers, scored in a pool of this process's own."""
    if path not in sys.path:
        sys.path.insert(0, path)
    with make_pool() as pool:
        verdicts = pool.score_batch(rows())
        pids = [worker.process.pid for worker in pool._dispatcher.running]
    return [verdict.reason for verdict in verdicts], [verdict.correct for verdict in verdicts], pids


def score_with(pool: ScorePool) -> list[str | None]:
    return [verdict.reason for verdict in pool.score_batch(rows())]


def all_gone(pids: list[int], within_s: float = 15) -> bool:
    deadline = time.monotonic() + within_s
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_thread() -> None:
    with ThreadPoolExecutor(3) as threads:
        for found in threads.map(lambda _: score_here(), range(3)):
            assert found[:2] == (EXPECTED, CORRECT) and all_gone(found[2])


def test_asyncio_tasks_in_a_thread_that_is_not_the_main_one() -> None:
    found: list[list[str | None]] = []

    async def main() -> None:
        with make_pool() as pool:
            batches = await asyncio.gather(*(pool.score_async(rows()) for _ in range(3)))
        found.extend([verdict.reason for verdict in batch] for batch in batches)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(120)
    assert found == [EXPECTED] * 3


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str) -> None:
    """Processes of a multiprocessing pool are daemons, which may not have multiprocessing children; ours are not such."""
    with multiprocessing.get_context(method).Pool(2) as processes:
        for found in processes.map(score_here, [str(PLUGINS)] * 3):
            assert found[:2] == (EXPECTED, CORRECT) and all_gone(found[2])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pool_handed_to_other_processes_while_in_use_here(method: str) -> None:
    with make_pool() as pool, ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as processes:
        pool.score_batch(rows()[:1])
        futures = [processes.submit(score_with, pool) for _ in range(2)]
        assert score_with(pool) == EXPECTED
        assert [future.result(120) for future in futures] == [EXPECTED] * 2


def test_ray_actor() -> None:
    """An ordinary actor, an actor with threads and an asynchronous one; then one that is killed while its pool is busy."""
    import ray

    class Plain:
        def score(self, path: str) -> tuple[list[str | None], list[bool | None], list[int]]:
            return score_here(path)

    class Shared:
        def __init__(self, path: str) -> None:
            sys.path.insert(0, path)
            self.pool = make_pool()
            self.pool.score_batch(rows()[:1] * 2)

        def score(self) -> list[str | None]:
            return score_with(self.pool)

        def workers(self) -> list[int]:
            return [os.getpid(), *(worker.process.pid for worker in self.pool._dispatcher.running)]

        def hang(self) -> None:
            self.pool.score_batch([rows()[1]] * 4)

    class Asynchronous(Shared):
        async def score(self) -> list[str | None]:  # type: ignore[override]
            return [verdict.reason for verdict in await self.pool.score_async(rows())]

    # Workers import this module, and the plug-in, by name.
    path = os.pathsep.join([str(Path(__file__).parent), str(PLUGINS), *filter(None, sys.path)])
    ray.init(num_cpus=4, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path, "HOSTILE_GRACE_S": "1"}})
    try:
        found = ray.get(ray.remote(Plain).remote().score.remote(str(PLUGINS)), timeout=120)
        assert found[:2] == (EXPECTED, CORRECT) and all_gone(found[2])
        for kind in (Shared, Asynchronous):
            actor = ray.remote(kind).options(max_concurrency=4).remote(str(PLUGINS))
            assert ray.get([actor.score.remote() for _ in range(3)], timeout=120) == [EXPECTED] * 3
        host, *workers = ray.get(actor.workers.remote(), timeout=60)
        actor.hang.remote()
        time.sleep(0.5)
        ray.kill(actor)
        assert workers and all_gone([host, *workers], within_s=30)  # 2 s of the item's and 1 s of grace
    finally:
        ray.shutdown()
