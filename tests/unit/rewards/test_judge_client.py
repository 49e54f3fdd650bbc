"""The judge's HTTP client against a real local server that works, fails, hangs and lies."""

from __future__ import annotations

import email.utils
import json
import logging
import math
import os
import socket
import threading
import time

import pytest
from judge_server import Answer, JudgeServer, completion

from rewards import judge_client
from rewards.judge_client import Limits, Reply, complete, endpoint, read_reply
from rewards.registry import Abstain

BODY = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
QUICK = Limits(timeout_s=2.0, deadline_s=5.0, retries=3)


class Clock:
    """Time that passes only when slept through."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def ask(server: JudgeServer, limits: Limits = QUICK, clock: Clock | None = None) -> Reply:
    clock = clock or Clock()
    return complete(endpoint(server.url), BODY, limits, sleep=clock.sleep, clock=clock)


def reason(server: JudgeServer, limits: Limits = QUICK, clock: Clock | None = None) -> str:
    with pytest.raises(Abstain) as caught:
        ask(server, limits, clock)
    return str(caught.value)


def test_reply_comes_back_and_request_reaches_the_chat_completions_address() -> None:
    with JudgeServer("yes") as server:
        assert ask(server) == Reply("yes")
        assert server.bodies == [BODY]
        assert server.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(status=500, raw=b"oops"), "judge-http-500"),
        (Answer(status=503, raw=b""), "judge-http-503"),
        (Answer(status=429, raw=b"slow down"), "judge-busy"),
        (Answer(raw=b"<html>it works</html>"), "judge-bad-reply"),
        (Answer(raw=b"{}"), "judge-bad-reply"),
        (Answer(raw=b'{"choices": []}'), "judge-bad-reply"),
        (Answer(raw=b'{"choices": [{"message": {"content": 7}}]}'), "judge-bad-reply"),
        (Answer(raw=b"[" * 100_000), "judge-bad-reply"),
        (Answer(raw=b"\xff\xfe\x00"), "judge-bad-reply"),
        (Answer(raw=b"x" * (judge_client.MAX_REPLY_BYTES + 1)), "judge-bad-reply"),
        (Answer(reset=True), "judge-down"),
    ],
)
def test_failure_that_may_pass_is_tried_again_and_then_abstains_with_its_reason(answer: Answer, expected: str) -> None:
    with JudgeServer(lambda body, n: answer) as server:
        assert reason(server) == expected
        assert len(server.bodies) == QUICK.retries + 1


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_failure_of_the_request_itself_is_not_tried_again(status: int) -> None:
    with JudgeServer(lambda body, n: Answer(status=status, raw=b"", headers={"Location": "/elsewhere"})) as server:
        assert reason(server) == f"judge-http-{status}"
        assert len(server.bodies) == 1


def test_server_that_recovers_is_heard() -> None:
    script = [Answer(status=500, raw=b""), Answer(reset=True), Answer(raw=b"?"), Answer("no")]
    with JudgeServer(lambda body, n: script[n]) as server:
        assert ask(server) == Reply("no")
        assert len(server.bodies) == 4


def test_nobody_listening_is_judge_down() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1/chat/completions"
        with pytest.raises(Abstain, match="judge-down"):
            complete(url, BODY, QUICK, sleep=lambda seconds: None)


@pytest.mark.parametrize("answer", [Answer(hang=True), Answer("yes", drip=True)])
def test_hanging_or_dripping_server_costs_no_more_than_the_time_limit(answer: Answer) -> None:
    with JudgeServer(lambda body, n: answer) as server:
        began = time.monotonic()
        with pytest.raises(Abstain, match="judge-timeout"):
            complete(endpoint(server.url), BODY, Limits(timeout_s=0.3, deadline_s=5.0, retries=0))
        assert time.monotonic() - began < 3.0


def test_deadline_ends_the_tries_of_a_hanging_server() -> None:
    with JudgeServer(lambda body, n: Answer(hang=True)) as server:
        began = time.monotonic()
        with pytest.raises(Abstain, match="judge-timeout"):
            complete(endpoint(server.url), BODY, Limits(timeout_s=30.0, deadline_s=0.5, retries=20))
        assert time.monotonic() - began < 3.0


def test_pauses_double_have_seeded_jitter_and_a_cap() -> None:
    with JudgeServer(lambda body, n: Answer(status=500, raw=b"")) as server:
        clocks = [Clock(), Clock()]
        for clock in clocks:
            reason(server, Limits(2.0, 1000.0, 8), clock)
    assert clocks[0].sleeps == clocks[1].sleeps
    for attempt, pause in enumerate(clocks[0].sleeps):
        full = min(8.0, 0.5 * 2**attempt)
        assert 0.5 * full <= pause <= full
    assert len(set(clocks[0].sleeps)) == 8


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_honoured(status: int) -> None:
    script = [Answer(status=status, raw=b"", headers={"Retry-After": "7"}), Answer("yes")]
    clock = Clock()
    with JudgeServer(lambda body, n: script[n]) as server:
        assert ask(server, Limits(2.0, 60.0, 3), clock) == Reply("yes")
    assert clock.sleeps == [7.0]


def test_retry_after_as_a_date_is_honoured() -> None:
    when = email.utils.formatdate(time.time() + 30, usegmt=True)
    script = [Answer(status=429, raw=b"", headers={"Retry-After": when}), Answer("yes")]
    clock = Clock()
    with JudgeServer(lambda body, n: script[n]) as server:
        assert ask(server, Limits(2.0, 60.0, 3), clock) == Reply("yes")
    assert 20.0 < clock.sleeps[0] <= 30.0


@pytest.mark.parametrize("value", ["soon", "nan", "inf", "-5", "1e400", "Wed, 99 Foo 2026"])
def test_senseless_retry_after_is_an_ordinary_pause(value: str) -> None:
    script = [Answer(status=429, raw=b"", headers={"Retry-After": value}), Answer("yes")]
    clock = Clock()
    with JudgeServer(lambda body, n: script[n]) as server:
        assert ask(server, QUICK, clock) == Reply("yes")
    assert 0.25 <= clock.sleeps[0] <= 0.5


def test_wait_beyond_the_deadline_abstains_at_once() -> None:
    clock = Clock()
    with JudgeServer(lambda body, n: Answer(status=429, raw=b"", headers={"Retry-After": "3600"})) as server:
        assert reason(server, QUICK, clock) == "judge-busy"
        assert len(server.bodies) == 1
    assert clock.sleeps == []


def test_no_more_requests_are_in_flight_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(judge_client.CONCURRENCY_VARIABLE, "2")

    def slow(body: object, n: int) -> Answer:
        time.sleep(0.05)
        return Answer("yes")

    with JudgeServer(slow) as server:
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.bodies) == 8
        assert server.most_at_once == 2


def test_waiting_for_a_turn_counts_against_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(judge_client.CONCURRENCY_VARIABLE, "1")
    gate = judge_client._gate(os.getpid(), 1)
    with JudgeServer("yes") as server, gate, pytest.raises(Abstain, match="judge-timeout"):
        complete(endpoint(server.url), BODY, Limits(0.2, 0.2, 0))


@pytest.mark.parametrize("value", ["", "0", "-3", "many", "²"])
def test_senseless_concurrency_is_the_default(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(judge_client.CONCURRENCY_VARIABLE, value)
    assert judge_client._concurrency() == judge_client.DEFAULT_CONCURRENCY


def test_key_goes_to_the_configured_server_and_to_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(judge_client.KEY_VARIABLE, "secret-key")
    with JudgeServer("yes") as own, JudgeServer("yes") as other:
        monkeypatch.setenv(judge_client.URL_VARIABLE, own.url)
        ask(own)
        ask(other)
        assert own.headers[0]["authorization"] == "Bearer secret-key"
        assert "authorization" not in other.headers[0]


def test_key_is_in_no_log_and_no_reason(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(judge_client.KEY_VARIABLE, "secret-key")
    with JudgeServer(lambda body, n: Answer(status=401, raw=b"bad key secret-key")) as server:
        monkeypatch.setenv(judge_client.URL_VARIABLE, server.url)
        assert reason(server) == "judge-http-401"
        assert server.headers[0]["authorization"] == "Bearer secret-key"
    assert "secret-key" not in caplog.text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:8000/v1", "http://h:8000/v1/chat/completions"),
        ("http://h:8000/v1/", "http://h:8000/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
    ],
)
def test_address_is_the_base_url_and_the_path(url: str, expected: str) -> None:
    assert endpoint(url) == expected


@pytest.mark.parametrize("url", ["ftp://h/v1", "file:///etc/passwd", "h:8000/v1", "", "http://", "http://user:secret@h/v1"])
def test_address_of_another_kind_or_with_a_password_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="judge url") as caught:
        endpoint(url)
    assert "secret" not in str(caught.value)


def test_probability_is_the_exponential_of_the_first_token_s_log() -> None:
    assert read_reply(completion("yes", math.log(0.75))) == Reply("yes", pytest.approx(0.75))


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"content": []}, {"content": [{"logprob": "much"}]}, {"content": [{"logprob": math.nan}]}]
)
def test_unreadable_probability_is_none(logprobs: object) -> None:
    data = json.dumps({"choices": [{"message": {"content": "yes"}, "logprobs": logprobs}]}).encode()
    assert read_reply(data) == Reply("yes", None)


def test_reply_without_content_is_empty_text() -> None:
    assert read_reply(completion(None)) == Reply("")
