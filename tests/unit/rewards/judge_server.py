"""A local HTTP server that stands for a judge: it answers each request as a test's script says, and remembers them all."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[[dict[str, Any], int], "Answer"]


@dataclass
class Answer:
    """What the server does with one request: the reply, or one of the ways to fail."""

    text: str | None = None
    status: int = 200
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    probability_log: float | None = None
    hang: bool = False
    reset: bool = False
    drip: bool = False


class JudgeServer:
    """Serves POST /v1/chat/completions on a free port; a context manager. `bodies` and `headers` are what it received."""

    def __init__(self, script: Script | str) -> None:
        self.script: Script = (lambda body, n: Answer(script)) if isinstance(script, str) else script
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.at_once = self.most_at_once = 0
        self.released = threading.Event()
        self.lock = threading.Lock()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                judge.handle(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self) -> JudgeServer:
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self.paths.append(request.path)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = self.script(body, number)
        finally:
            with self.lock:  # before the answer is out: whoever has it may send the next request at once
                self.at_once -= 1
        with suppress(BrokenPipeError, ConnectionResetError):
            self.reply(request, answer)

    def reply(self, request: BaseHTTPRequestHandler, answer: Answer) -> None:
        if answer.hang:
            self.released.wait(10)
            return
        if answer.reset:
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.connection.close()
            return
        data = answer.raw if answer.raw is not None else completion(answer.text, answer.probability_log)
        request.send_response(answer.status)
        for name, value in answer.headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if answer.drip:
            for byte in data:
                request.wfile.write(bytes([byte]))
                request.wfile.flush()
                if self.released.wait(0.05):
                    return
        request.wfile.write(data)


def completion(text: str | None, probability_log: float | None = None) -> bytes:
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
    if probability_log is not None:
        choice["logprobs"] = {"content": [{"token": text, "logprob": probability_log}]}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice]}).encode()


def user_text(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"]
