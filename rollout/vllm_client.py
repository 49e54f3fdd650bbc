"""Rollout engine whose vLLM runs elsewhere: the client of `rlcs serve`. Needs no vLLM itself."""

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx
import torch

from rollout.budget import budgets_of
from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import Completion, Engine, SamplingParams, ThinkingBudget
from rollout.options import VllmOptions
from rollout.tensor_stream import tensor_stream
from rollout.vllm_engine import EngineDied, group_seeds
from rollout.vllm_protocol import BINARY, HEARTBEAT_S, KEY_VARIABLE, PROTOCOL, Call, Health, read_group, vocabulary_digest

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_ERRORS: dict[str, type[Exception]] = {"ValueError": ValueError, "EngineDied": EngineDied}


class VllmClient(Engine):
    """`rollout.engine.Engine` on the server at `options.server`, with the semantics of `VllmEngine`.

    Seeds are drawn here, so that a call asks for the same tokens whoever serves it. A server that does not answer is
    waited for, up to `patience_s`; one that was started again is given the last weights; then unfinished prompts are
    generated again, with the same seeds. More than `max_restarts` losses in one call raise EngineDied. The tensors of
    the last update are kept by reference for that: they must not be changed before the next.

    Raises ValueError when the server has another vocabulary or version, PermissionError when it wants another key.
    """

    def __init__(self, renderer: ChatRenderer, options: VllmOptions) -> None:
        if options.server is None:
            raise ValueError("vllm.server is missing; expected the address of `rlcs serve`, http://host:port")
        self._options, self._url = options, options.server.rstrip("/")
        key = os.environ.get(KEY_VARIABLE, "").strip()
        self._http = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(60.0, connect=10.0, read=12 * HEARTBEAT_S),
            limits=httpx.Limits(max_keepalive_connections=0),  # between calls a server drops idle connections
            trust_env=False,  # a proxy for the internet is none for the next machine
        )
        self._weights: list[tuple[str, torch.Tensor, int]] = []
        self._file: Path | None = None
        self._cancelled = threading.Event()
        self.restarts = 0
        health = self._patiently(self._health)
        if health.vocabulary != vocabulary_digest(renderer):
            raise ValueError(
                f"the server at {self._url} serves {health.model}, whose vocabulary is not this run's; serve the run's model"
            )
        self._boot, self._stamp, self.weight_version = health.boot, health.stamp, health.weight_version
        self._confirmed = health.stamp

    def stream(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: SamplingParams,
        budget: ThinkingBudget | Sequence[ThinkingBudget] | None = None,
        *,
        generator: torch.Generator,
    ) -> Iterator[tuple[int, list[Completion]]]:
        """(index of the prompt, its `n` completions) as groups finish, so that scoring need not wait for the slowest."""
        seeds = group_seeds(len(prompts), n, generator)
        budgets = budgets_of(budget, len(prompts))
        left, losses = list(range(len(prompts))), 0
        self._cancelled.clear()
        while left:
            call = Call(
                [prompts[index] for index in left],
                n,
                sampling,
                [budgets[index] for index in left],
                [seeds[index] for index in left],
                self._stamp,
            )
            asked = tuple(left)
            try:
                with closing(self._groups(call)) as groups:
                    for position, group in groups:
                        left.remove(asked[position])
                        yield asked[position], group
            except httpx.TransportError as error:
                if not left:
                    return
                losses += 1
                if losses > self._options.max_restarts:
                    raise EngineDied(
                        f"the server at {self._url} was lost {losses} times while generating {len(left)} of {len(prompts)} "
                        f"prompts, the first of them {prompts[left[0]].id or f'prompt {left[0]}'} ({error!r}); what it printed "
                        "says why"
                    ) from error
                self._patiently(self._settle)

    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Sends the policy's parameters over, or the name of a file with them; the server serves all of them or none."""
        self._weights = [(name, tensor, _changes(tensor)) for name, tensor in named_tensors]
        self._stamp, self.weight_version = secrets.token_hex(8), version
        former, self._file = self._file, None
        if self._options.share is not None:
            # A name of its own each time: network file systems go on showing what a name meant before.
            self._file = self._options.share / f"rlcs-weights-{self._stamp}.safetensors"
            self._write(self._file)
            self._weights = []
        if former is not None:
            former.unlink(missing_ok=True)
        self._patiently(self._settle)

    def sleep(self) -> None:
        self._patiently(lambda: self._post("/sleep", {}))

    def wake(self) -> None:
        self._patiently(lambda: self._post("/wake", {}))

    def cancel(self) -> None:
        """Breaks off the call in progress with the server's next line, a heartbeat at the latest."""
        self._cancelled.set()

    def close(self) -> None:
        """Leaves the server running, for the next run."""
        self._http.close()
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _patiently(self, action: Callable[[], _T]) -> _T:
        """What `action` returns, tried again with growing pauses while the server cannot be reached."""
        patience = self._options.patience_s
        end, pause = time.monotonic() + patience, _FIRST_PAUSE_S
        while True:
            try:
                return action()
            except httpx.TransportError as error:
                if time.monotonic() + pause > end:
                    raise EngineDied(
                        f"the server at {self._url} could not be reached for {patience:g} s ({error!r}); start "
                        "`rlcs serve` there, or raise vllm.patience_s"
                    ) from error
                if pause == _FIRST_PAUSE_S:
                    _log.warning("no answer from the server at %s; waiting up to %g s (%r)", self._url, patience, error)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _health(self) -> Health:
        answer = self._http.get("/health")
        self._check(answer)
        try:
            found = answer.json()
            if found["protocol"] != PROTOCOL:
                raise ValueError(f"{self._url} speaks version {found['protocol']} of the protocol, this rlcs {PROTOCOL}")
            return Health(**found)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{self._url} is no `rlcs serve` of this version ({error!r})") from error

    def _settle(self) -> None:
        """Sees to it that the server serves this run's weights."""
        health = self._health()
        if health.boot != self._boot:
            self.restarts += 1
            self._boot = health.boot
        elif health.stamp not in ("", self._confirmed, self._stamp):
            raise ValueError(f"another run has given the server at {self._url} its weights; give each run a server of its own")
        if health.stamp != self._stamp:
            self._send_weights()
        self._confirmed = self._stamp

    def _send_weights(self) -> None:
        target = f"/update_weights?version={self.weight_version}&stamp={self._stamp}"
        if self._file is not None:
            self._post(target, {"path": self._file.name})
            return
        if not self._weights:
            raise EngineDied(f"the server at {self._url} no longer serves the weights that this run found there")
        length, pieces = tensor_stream(self._unchanged())
        headers = {"Content-Type": BINARY, "Content-Length": str(length)}
        self._check(self._http.post(target, content=pieces, headers=headers, timeout=self._slow))

    def _unchanged(self) -> list[tuple[str, torch.Tensor]]:
        for name, tensor, version in self._weights:
            if _changes(tensor) != version:
                raise EngineDied(
                    f"the server at {self._url} lost weights of version {self.weight_version}, and {name} has been trained "
                    "since; call update_weights before generating"
                )
        return [(name, tensor) for name, tensor, _ in self._weights]

    def _write(self, file: Path) -> None:
        _, pieces = tensor_stream(self._unchanged())
        partial = file.with_suffix(".partial")
        with partial.open("wb") as out:
            out.writelines(pieces)
        partial.replace(file)

    def _post(self, path: str, content: dict[str, Any]) -> None:
        self._check(self._http.post(path, json=content, timeout=self._slow))

    @property
    def _slow(self) -> httpx.Timeout:
        """For answers without heartbeats: a large model takes a while to load weights."""
        return httpx.Timeout(60.0, connect=10.0, read=max(60.0, self._options.patience_s))

    def _groups(self, call: Call) -> Generator[tuple[int, list[Completion]], None, None]:
        length, pieces = call.pieces()
        headers = {"Content-Type": BINARY, "Content-Length": str(length)}
        with self._http.stream("POST", "/generate", content=pieces, headers=headers) as answer:
            self._check(answer)
            for text in answer.iter_lines():
                if self._cancelled.is_set():
                    raise CancelledError
                line = json.loads(text) if text else {}
                if "index" in line:
                    yield self._of_this_version(*read_group(line))
                elif "error" in line:
                    self._raise(line["type"], line["error"])
                elif "stale" in line:
                    raise httpx.RemoteProtocolError(
                        "it serves other weights"
                    )  # started again, unless `_settle` finds otherwise
                elif "done" in line:
                    return
        raise httpx.RemoteProtocolError("the answer broke off")

    def _of_this_version(self, index: int, group: list[Completion]) -> tuple[int, list[Completion]]:
        for completion in group:
            if completion.weight_version != self.weight_version:
                raise RuntimeError(
                    f"the server at {self._url} answered with weights of version {completion.weight_version}; expected "
                    f"{self.weight_version}"
                )
        return index, group

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code == 200:
            return
        if answer.status_code in (502, 503, 504):  # what a proxy says of a server that is down
            raise httpx.RemoteProtocolError(f"status {answer.status_code}")
        try:
            message = str(json.loads(answer.read())["error"])
        except (ValueError, KeyError, TypeError):
            message = f"status {answer.status_code} without a reason; is it `rlcs serve`? What it printed may say more"
        if answer.status_code == 401:
            raise PermissionError(f"{self._url}: {message}")
        self._raise("ValueError" if answer.status_code < 500 else "", message)

    def _raise(self, kind: str, message: str) -> NoReturn:
        if kind in _ERRORS:
            raise _ERRORS[kind](message if kind == "ValueError" else f"{self._url}: {message}")
        raise RuntimeError(f"the server at {self._url} failed: {kind} {message}")


def _changes(tensor: torch.Tensor) -> int:
    """How often the tensor was changed in place; tensors made in inference mode do not count."""
    return -1 if tensor.is_inference() else tensor._version
