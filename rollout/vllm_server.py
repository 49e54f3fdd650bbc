"""The server of a policy: a process with a `VllmEngine` in it, for runs whose trainer is elsewhere (`rlcs serve`).

One run at a time: whatever weights came last are served, and a run that expects others is told so.
"""

import asyncio
import hmac
import json
import secrets
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import anyio
import torch
import uvicorn
from safetensors import SafetensorError
from safetensors.torch import load_file
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import Completion, SamplingParams, ThinkingBudget
from rollout.options import VllmOptions
from rollout.tensor_stream import TensorReceiver
from rollout.vllm_protocol import (
    BINARY,
    FRESH,
    HEARTBEAT_S,
    KEY_VARIABLE,
    LINES,
    PROTOCOL,
    Call,
    Health,
    group_line,
    vocabulary_digest,
)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_Handler = Callable[[Request], Awaitable[Response]]


class ServedEngine(Protocol):
    """What the server needs of `VllmEngine`."""

    weight_version: int

    @property
    def longest(self) -> int: ...

    def stream_seeded(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: SamplingParams,
        budgets: Sequence[ThinkingBudget],
        seeds: Sequence[int],
    ) -> Iterator[tuple[int, list[Completion]]]: ...

    def cancel(self) -> None: ...

    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None: ...

    def sleep(self) -> None: ...

    def wake(self) -> None: ...


class Shapes:
    """Name and shape of every parameter of a checkpoint's model, without its weights."""

    def __init__(self, checkpoint: Path) -> None:
        config = AutoConfig.from_pretrained(checkpoint)
        family = AutoModelForCausalLM if getattr(config, "vision_config", None) is None else AutoModelForImageTextToText
        with torch.device("meta"):
            model = family.from_config(config)
        model.tie_weights()
        self._known = {name: tensor.shape for name, tensor in model.state_dict().items()}
        self._needed = {name for name, _ in model.named_parameters()}

    def check(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Raises ValueError for other tensors than this model's, so that an update is applied in full or not at all."""
        for name, tensor in tensors.items():
            if self._known.get(name) != tensor.shape:
                known = self._known.get(name)
                expected = "no such parameter" if known is None else f"shape {list(known)}"
                raise ValueError(f"{name}: shape {list(tensor.shape)}, but the model served has {expected}")
        missing = sorted(self._needed - tensors.keys())
        if missing:
            raise ValueError(f"{len(missing)} of {len(self._needed)} parameters are missing, the first {missing[0]}")


class PolicyServer:
    """The HTTP side of `engine`, an ASGI application in `app` (`rollout.vllm_protocol` lists its paths).

    `shapes`: what an update must hold. `share`: the only folder that weights are read from; None refuses files. `key`:
    what a caller must present as a bearer token.
    """

    def __init__(
        self,
        engine: ServedEngine,
        renderer: ChatRenderer,
        *,
        model: str,
        shapes: Shapes,
        share: Path | None = None,
        key: str | None = None,
    ) -> None:
        self._engine, self._model, self._shapes, self._share, self._key = engine, model, shapes, share, key
        self._vocabulary = vocabulary_digest(renderer)
        self._boot = secrets.token_hex(8)
        self._stamp, self._asleep = FRESH, False
        self._busy = asyncio.Lock()  # one call or update at a time
        paths: list[tuple[str, str, _Handler]] = [
            ("GET", "/health", self._health),
            ("POST", "/generate", self._generate),
            ("POST", "/update_weights", self._update_weights),
            ("POST", "/sleep", self._sleep),
            ("POST", "/wake", self._wake),
        ]
        self.app = Starlette(routes=[Route(path, self._guarded(handler), methods=[method]) for method, path, handler in paths])

    def _guarded(self, handler: _Handler) -> _Handler:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if self._key and not hmac.compare_digest(given.encode(), f"Bearer {self._key}".encode()):
                return _refusal(401, f"wrong or missing key; set {KEY_VARIABLE} as on the server")
            # A page in a browser on this machine cannot send these types without asking first.
            if request.method == "POST" and request.headers.get("content-type") not in (BINARY, "application/json"):
                return _refusal(415, f"expected content of type {BINARY} or application/json")
            try:
                return await handler(request)
            except ValueError as error:
                return _refusal(400, str(error))
            except ClientDisconnect:
                return _refusal(400, "the request broke off")

        return guarded

    async def _health(self, _: Request) -> Response:
        version, longest = self._engine.weight_version, self._engine.longest
        health = Health(PROTOCOL, self._model, version, self._stamp, self._boot, longest, self._vocabulary)
        return JSONResponse(asdict(health))

    async def _generate(self, request: Request) -> Response:
        call = Call.read(*await _received(request))
        return _Lines(self._groups(call), media_type=LINES)

    async def _groups(self, call: Call) -> AsyncIterator[bytes]:
        async with self._busy:
            if call.stamp != self._stamp:
                yield _line({"stale": True})
                return
            await self._rouse()
            lines: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
            thread, stop = _pumping(self._engine, call, asyncio.get_running_loop(), lines)
            last = False
            try:
                while not last:
                    try:
                        line, last = await asyncio.wait_for(lines.get(), HEARTBEAT_S)
                    except TimeoutError:
                        line = b"\n"
                    yield line
            finally:
                stop.set()
                with anyio.CancelScope(shield=True):
                    while thread.is_alive():
                        if not last:  # the caller went away
                            self._engine.cancel()
                        await asyncio.to_thread(thread.join, 0.05)

    async def _update_weights(self, request: Request) -> Response:
        try:
            version, stamp = int(request.query_params["version"]), request.query_params["stamp"]
        except (KeyError, ValueError) as error:
            raise ValueError("an update needs a version, a whole number, and a stamp") from error
        if request.headers["content-type"] == BINARY:
            tensors, _ = await _received(request)
        else:
            tensors = await asyncio.to_thread(self._from_file, await request.body())
        self._shapes.check(tensors)
        async with self._busy:
            await self._rouse()
            self._stamp = ""  # nobody's, should the engine fail half-way
            await asyncio.to_thread(self._engine.update_weights, tensors.items(), version)
            self._stamp = stamp
        return JSONResponse({"weight_version": version})

    async def _sleep(self, _: Request) -> Response:
        async with self._busy:
            self._asleep = True
            await asyncio.to_thread(self._engine.sleep)
        return JSONResponse({})

    async def _wake(self, _: Request) -> Response:
        async with self._busy:
            await self._rouse()
        return JSONResponse({})

    async def _rouse(self) -> None:
        """Wakes the engine, which a run that died may have left asleep."""
        if self._asleep:
            await asyncio.to_thread(self._engine.wake)
            self._asleep = False

    def _from_file(self, body: bytes) -> dict[str, torch.Tensor]:
        if self._share is None:
            raise ValueError("this server reads no files; start it with --share FOLDER, or leave out vllm.share")
        try:
            name = json.loads(body)["path"]
            if not isinstance(name, str) or Path(name).name != name:
                raise ValueError(f"found {name!r}; expected the name of a file in the shared folder")
            return load_file(self._share / name)
        except (KeyError, TypeError, OSError, SafetensorError) as error:
            raise ValueError(f"no weights to read in the shared folder {self._share} ({error!r})") from error


class _Lines(StreamingResponse):
    async def stream_response(self, send: Send) -> None:
        # Closed at once when the caller goes away, not when the garbage collector comes by: generation stops then.
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().stream_response(send)


def _pumping(
    engine: ServedEngine, call: Call, loop: asyncio.AbstractEventLoop, lines: "asyncio.Queue[tuple[bytes, bool]]"
) -> tuple[threading.Thread, threading.Event]:
    """A thread that generates, and puts (line, whether it is the last) into `lines`, until the event is set."""
    stop = threading.Event()

    def put(line: dict[str, Any] | bytes, *, last: bool = False) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, (line if isinstance(line, bytes) else _line(line), last))

    def pump() -> None:
        try:
            for index, group in engine.stream_seeded(call.prompts, call.n, call.sampling, call.budgets, call.seeds):
                if stop.is_set():
                    return
                put(group_line(index, group))
            put({"done": True}, last=True)
        except Exception as error:  # noqa: BLE001  (goes to the caller, who raises it)
            put({"error": str(error), "type": type(error).__name__}, last=True)

    thread = threading.Thread(target=pump, name="rlcs-generate", daemon=True)
    thread.start()
    return thread, stop


async def _received(request: Request) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise ValueError("expected a Content-Length")
    receiver = TensorReceiver(int(length))
    async for piece in request.stream():
        receiver.feed(piece)
    return receiver.finish()


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)


def serve(
    checkpoint: Path,
    options: VllmOptions,
    *,
    dtype: str,
    host: str,
    port: int,
    share: Path | None,
    key: str | None,
    ready: Callable[[str], None],
) -> None:
    """Serves the policy in `checkpoint` until it is interrupted; `ready` is called with the address. Port 0: any free one.

    Raises ValueError for an address that other machines reach without a key, OSError for one in use.
    """
    if host not in _LOOPBACK and not key:
        raise ValueError(
            f"{host} can be reached from other machines, and whoever reaches it could replace the weights; set {KEY_VARIABLE} "
            "here and for the run, or serve 127.0.0.1"
        )
    if share is not None and not share.is_dir():
        raise FileNotFoundError(f"{share}: no such folder; make it where the run and the server both see it")
    shown, family = (f"[{host}]", socket.AF_INET6) if ":" in host else (host, socket.AF_INET)
    with socket.socket(family) as address:
        address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address.bind((host, port))  # an address in use is told before the engine starts
        from rollout.vllm_engine import VllmEngine

        renderer = ChatRenderer.from_pretrained(checkpoint)
        engine = VllmEngine(checkpoint, renderer, options, dtype=dtype)
        try:
            shapes = Shapes(checkpoint)
            server = PolicyServer(engine, renderer, model=str(checkpoint), shapes=shapes, share=share, key=key)
            ready(f"http://{shown}:{address.getsockname()[1]}")
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the engine is closed
            config = uvicorn.Config(server.app, log_level="warning", access_log=False, timeout_graceful_shutdown=3)
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[address])
        finally:
            engine.close()
