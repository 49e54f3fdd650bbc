"""One question to an OpenAI-compatible server: retries with back-off, a deadline, a limit on requests in flight.

Every way it can fail is an Abstain with its own reason; nothing here is ever a zero. The key is read from the environment,
sent as a header to the server RLCS_JUDGE_URL names and to no other, and appears in no log, argument or verdict.
"""

from __future__ import annotations

import email.utils
import functools
import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rewards.registry import Abstain

if TYPE_CHECKING:
    import httpx

URL_VARIABLE, MODEL_VARIABLE, KEY_VARIABLE = "RLCS_JUDGE_URL", "RLCS_JUDGE_MODEL", "RLCS_JUDGE_KEY"
CONCURRENCY_VARIABLE = "RLCS_JUDGE_CONCURRENCY"
DEFAULT_CONCURRENCY = 8

MAX_REPLY_BYTES = 1 << 20
BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses worth another try; every other one says that the request itself is wrong."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The judge's words, and the probability it gave their first token (None when the server sends none)."""

    text: str
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Patience: seconds one request may take, seconds in all, and how many times to try again."""

    timeout_s: float
    deadline_s: float
    retries: int


class _Passing(Exception):
    """A failure that may pass: the abstention's reason, and the seconds the server asked to be left alone."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.wait_s = reason, wait_s


def endpoint(url: str) -> str:
    """The chat completions address under a base URL such as http://host:8000/v1.

    Raises ValueError for another scheme, and for a name or password in the URL (it would end up in logs).
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"judge url {_without_user(url)!r}: expected http://HOST[:PORT]/v1 or https://…")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"judge url {_without_user(url)!r} holds a name or password; put the key into {KEY_VARIABLE}")
    base = url.rstrip("/")
    return base if base.endswith("/chat/completions") else base + "/chat/completions"


def _without_user(url: str) -> str:
    scheme, mark, rest = url.rpartition("@")
    return f"…@{rest}" if mark else scheme + rest


def complete(
    url: str,
    body: dict[str, Any],
    limits: Limits,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Reply:
    """The reply to one chat completions request. Raises Abstain:

    `judge-down` (no connection, or it broke), `judge-timeout`, `judge-busy` (429 to the end), `judge-http-NNN`,
    `judge-bad-reply` (not the JSON of a completion).
    """
    data = json.dumps(body, sort_keys=True).encode()
    jitter = random.Random(data)  # seeded: the same run waits the same times
    end = clock() + limits.deadline_s
    failure = _Passing("judge-timeout")
    for attempt in range(limits.retries + 1):
        if attempt:
            pause = max(failure.wait_s, min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (attempt - 1)) * jitter.uniform(0.5, 1.0))
            if clock() + pause >= end:
                break
            sleep(pause)
        try:
            return _in_turn(url, data, limits.timeout_s, end, clock)
        except _Passing as error:
            failure = error
    raise Abstain(failure.reason)


def _in_turn(url: str, data: bytes, timeout_s: float, end: float, clock: Callable[[], float]) -> Reply:
    gate = _gate(os.getpid(), _concurrency())
    left = end - clock()
    if left <= 0 or not gate.acquire(timeout=left):
        raise _Passing("judge-timeout")
    try:
        return _request(url, data, min(end, clock() + timeout_s), clock)
    finally:
        gate.release()


def _request(url: str, data: bytes, end: float, clock: Callable[[], float]) -> Reply:
    import httpx

    headers = {"Content-Type": "application/json", **_authorization(url)}
    timeout = max(0.001, end - clock())
    received = bytearray()
    try:
        with _client(os.getpid()).stream("POST", url, content=data, headers=headers, timeout=timeout) as response:
            if response.status_code != 200:
                raise _status_fault(response.status_code, response.headers.get("retry-after"))
            # Read in pieces: the time-out of the library is for each piece, not for the whole.
            for piece in response.iter_bytes():
                received += piece
                if len(received) > MAX_REPLY_BYTES:
                    raise _Passing("judge-bad-reply")
                if clock() > end:
                    raise _Passing("judge-timeout")
    except httpx.TimeoutException as error:
        raise _Passing("judge-timeout") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise _Passing("judge-down") from error
    return read_reply(bytes(received))


def _status_fault(status: int, retry_after: str | None) -> Exception:
    reason = "judge-busy" if status == 429 else f"judge-http-{status}"
    return _Passing(reason, _seconds(retry_after)) if status in _PASSING else Abstain(reason)


def _seconds(retry_after: str | None) -> float:
    """The wait a Retry-After header asks for, given in seconds or as a date (RFC 9110, section 10.2.3); else 0."""
    if not retry_after:
        return 0.0
    try:
        wait = float(retry_after)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return wait if math.isfinite(wait) and wait > 0 else 0.0


def read_reply(data: bytes) -> Reply:
    """The first choice of a chat completion. Raises _Passing (`judge-bad-reply`) for anything else."""
    try:
        choice = json.loads(data)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise _Passing("judge-bad-reply") from error
    if text is None:
        text = ""  # a reasoning model that spent its token on thinking
    if not isinstance(text, str):
        raise _Passing("judge-bad-reply")
    try:
        log = float(choice["logprobs"]["content"][0]["logprob"])
    except (KeyError, IndexError, TypeError, ValueError):
        return Reply(text)
    return Reply(text, math.exp(min(0.0, log)) if math.isfinite(log) else None)


def _authorization(url: str) -> dict[str, str]:
    """The key's header, for the servers RLCS_JUDGE_URL names only: an address in a data file must not collect it."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    trusted = [_origin(own) for own in split_list(os.environ.get(URL_VARIABLE, ""))]
    return {"Authorization": f"Bearer {key}"} if key and _origin(url) in trusted else {}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def split_list(text: str) -> Sequence[str]:
    """The non-empty items of a comma-separated setting."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _concurrency() -> int:
    given = os.environ.get(CONCURRENCY_VARIABLE, "")
    return int(given) if given.isdecimal() and int(given) > 0 else DEFAULT_CONCURRENCY


# Keyed by process: sockets and locks must not be shared with a forked child.
@functools.lru_cache(maxsize=4)
def _gate(pid: int, limit: int) -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(limit)


@functools.lru_cache(maxsize=1)
def _client(pid: int) -> httpx.Client:
    import httpx

    return httpx.Client(follow_redirects=False)
