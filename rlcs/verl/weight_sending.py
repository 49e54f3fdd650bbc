"""What sends a training worker's weights to its vLLM server, and notices that the server dies meanwhile.

verl's own waits for ever then (0.9.1: a blocking receive in `BucketedWeightSender`). Imports verl's part for vLLM, which wants
vLLM installed.
"""

import threading
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import torch
import zmq
from verl.workers.rollout.vllm_rollout import ServerAdapter

from rlcs.verl import watch

_TERM_S = 5.0  # it takes longer only where somebody else has sockets in the context, which then stays


class WatchedAdapter(ServerAdapter):
    """A failure in one call is kept for `raise_failure`; until then the others do nothing but keep in step with other ranks."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._watch: watch.Watch | None = None
        self._failure: Exception | None = None

    async def resume(self, tags: list[str]) -> None:
        await self._attempt(super().resume(tags))

    @torch.no_grad()
    async def update_weights(self, weights: Iterable[tuple[str, torch.Tensor]], *args: Any, **settings: Any) -> None:
        left = iter(weights)
        await self._attempt(super().update_weights(left, *args, **settings))
        for _ in left:  # where sending was left off: each is gathered by all ranks
            pass

    def raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _attempt(self, call: Coroutine[Any, Any, None]) -> None:
        if self._failure is not None:
            call.close()
            return
        try:
            with self._watching():
                await call
        except Exception as error:  # noqa: BLE001 (raised by `raise_failure`)
            self._failure = error

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Looks after the server while it is waited for. Raises DeadProcessError if it has died.

        A socket's wait can only be ended from another thread by terminating its context, which is freed once it has no socket
        left: one of ours keeps it there until nobody makes sockets in it any more.
        """
        lock, done, died = threading.Lock(), threading.Event(), list[watch.DeadProcessError]()
        if self._watch is None:
            self._watch = self._of_server()
        looks = self._watch
        context: Any = zmq.Context.instance()  # in which verl's sender makes its socket
        keeper = context.socket(zmq.PAIR)

        def look() -> None:
            while not done.wait(watch.LOOK_AFTER_S):
                try:
                    looks.look()
                except watch.DeadProcessError as error:
                    with lock:
                        if done.is_set():
                            return
                        died.append(error)
                    context.term()
                    return

        thread = threading.Thread(target=look, name="watch", daemon=True)
        thread.start()
        try:
            yield
        except zmq.ContextTerminated as error:
            raise died[0] from error
        except ray.exceptions.RayError:
            looks.look()  # if it was not for the server that the call failed, its own error says what it was for
            raise
        finally:
            with lock:
                done.set()
            keeper.close(linger=0)
            if died:
                thread.join(_TERM_S)

    def _of_server(self) -> watch.Watch:
        """Over the server of this rank's replica: its engine is behind the part on the replica's first node."""
        nodes = sorted({0, self.node_rank})
        servers = [ray.get_actor(f"{self._get_server_name_prefix()}server_{self.replica_rank}_{node}") for node in nodes]
        return watch.Watch((), servers, names=[f"vLLM server of replica {self.replica_rank}"] * len(servers))
