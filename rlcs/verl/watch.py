"""Whether the processes of a run are alive: agent loop workers, vLLM servers with their engines, training workers.

verl takes no notice of their death. The groups of a dead server fail one after the other while the run goes on without them,
and a server that is to sleep, or to take weights (`rlcs.verl.policy_worker`), is waited for without end.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

LOOK_AFTER_S = 10.0
"""Seconds between two looks while something is waited for."""

_ANSWER_S = 5.0  # a process that takes longer is busy


class DeadProcessError(RuntimeError):
    """A process of the run has died."""


class Watch:
    """Looks after actors of Ray: `workers`, and `servers` (verl's `vLLMHttpServer`) with their engines. `kind` of the workers
    and `names` of the servers stand in messages.
    """

    def __init__(
        self,
        workers: Sequence[Any] = (),
        servers: Sequence[Any] = (),
        *,
        kind: str = "agent loop worker",
        names: Sequence[str] | None = None,
    ) -> None:
        self._workers, self._servers, self._kind = workers, servers, kind
        self._names = [f"vLLM server {n}" for n in range(len(servers))] if names is None else names

    def look(self) -> None:
        """Raises DeadProcessError if one of them has died, or an engine behind a server."""
        asked = {worker.__ray_ready__.remote(): f"{self._kind} {n}" for n, worker in enumerate(self._workers)}
        servers = {
            server.__ray_call__.remote(engine_died): name for server, name in zip(self._servers, self._names, strict=True)
        }
        asked |= servers
        if not asked:
            return
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_S)
        for answer in answered:
            try:
                if ray.get(answer) is True and answer in servers:
                    raise DeadProcessError(
                        f"the engine of {asked[answer]} has died, and with it what it was doing; what it printed says "
                        "why. Out of memory: lower vllm.gpu_memory or vllm.max_sequences"
                    )
            except RayActorError as error:
                why = str(error).strip().splitlines()[-1]
                raise DeadProcessError(f"{asked[answer]} has died, and with it what it was doing: {why}") from error

    @contextmanager
    def guarding(self, waited_for: Sequence[Any]) -> Iterator[None]:
        """For a call that waits for the actors `waited_for`, and these for a server: if one that is watched has died, or dies
        meanwhile, they are ended, so that the wait is over. Raises DeadProcessError.
        """
        self.look()
        done, died = threading.Event(), list[DeadProcessError]()

        def watch() -> None:
            while not done.wait(LOOK_AFTER_S):
                try:
                    self.look()
                except DeadProcessError as error:
                    died.append(error)
                    for actor in waited_for:
                        ray.kill(actor)
                    return

        thread = threading.Thread(target=watch, name="watch", daemon=True)
        thread.start()
        try:
            yield
        except RayError as error:
            if died:  # another look would find those that were ended here
                raise died[0] from error
            self.look()  # if it was not for one of ours that the call failed, its own error says what it was for
            raise
        finally:
            done.set()
            thread.join()


def engine_died(server: Any) -> bool:
    """Called in the process of a server: whether its engine, a process of its own, is gone. Other nodes' parts have none."""
    engine = getattr(server, "engine", None)
    return engine is not None and bool(engine.errored)
