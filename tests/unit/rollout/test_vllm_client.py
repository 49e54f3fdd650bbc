"""Client and server over real sockets; in place of vLLM an engine whose tokens say what reached it.

A server is a process of its own, so that it can be killed.
"""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from itertools import chain
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import uvicorn

from rollout.budget import initial_phase
from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import Completion, SamplingParams, ThinkingBudget
from rollout.options import VllmOptions
from rollout.tensor_stream import tensor_stream
from rollout.vllm_client import VllmClient
from rollout.vllm_engine import EngineDied, group_seeds
from rollout.vllm_protocol import BINARY, KEY_VARIABLE, Call
from rollout.vllm_server import PolicyServer, Shapes, serve

FORK = multiprocessing.get_context("fork")
ONE = SamplingParams(max_new_tokens=1)  # milliseconds that the engine below takes for a group


class EchoEngine:
    """Tokens of a response: its seed, what the prompt holds, its budget, and the weights served."""

    longest = 100

    def __init__(self) -> None:
        self.weight_version, self.weight, self.asleep, self.cancelled = 0, 0.0, False, threading.Event()

    def stream_seeded(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: SamplingParams,
        budgets: Sequence[ThinkingBudget],
        seeds: Sequence[int],
    ) -> Iterator[tuple[int, list[Completion]]]:
        for index in reversed(range(len(prompts))):
            prompt, budget = prompts[index], budgets[index]
            if prompt.id == "long":
                raise ValueError("long: too many tokens")
            if prompt.id == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.cancelled.wait(None if prompt.id == "endless" else sampling.max_new_tokens / 1000):
                self.cancelled.clear()
                raise CancelledError
            yield index, [self.completion(prompt, seeds[index] + sample, budget) for sample in range(n)]

    def completion(self, prompt: Prompt, seed: int, budget: ThinkingBudget) -> Completion:
        media = prompt.encoded.media
        pixels = sum(float(item.pixel_values.sum()) * (at + 1) for at, item in enumerate(media))
        shape = [int(item.grid_thw.prod()) for item in media] + [second for item in media for second in item.seconds]
        phase = initial_phase(prompt.prefill, thinking=prompt.thinking)
        facts = [
            seed,
            int(prompt.encoded.input_ids.sum()),
            phase,
            budget.think_tokens or -1,
            budget.answer_tokens or -1,
            *shape,
        ]
        logprobs = np.array([pixels, self.weight, -np.inf], np.float32)
        forced = np.array([True, False])
        text = f"{prompt.prefill}{prompt.id}\u2028ß{[item.kind for item in media]}"
        return Completion(np.array(facts, np.int32), logprobs, forced, "stop", text, self.weight_version)

    def cancel(self) -> None:
        self.cancelled.set()

    def update_weights(self, named_tensors: Any, version: int) -> None:
        assert not self.asleep
        self.weight, self.weight_version = float(dict(named_tensors)["a"].sum()), version

    def sleep(self) -> None:
        self.asleep = True

    def wake(self) -> None:
        self.asleep, self.weight = False, self.weight + 100.0


class Host:
    """Servers at one address, one after another."""

    def __init__(self, renderer: ChatRenderer, share: Path | None = None, key: str | None = None) -> None:
        self._arguments = {"renderer": renderer, "share": share, "key": key}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: BaseProcess | None = None

    def start(self, after_s: float = 0.0) -> None:
        self.process = FORK.Process(target=self._run, args=(after_s,), daemon=True)
        self.process.start()

    def _run(self, after_s: float) -> None:
        time.sleep(after_s)
        torch.set_num_threads(1)
        shapes = object.__new__(Shapes)
        shapes._known, shapes._needed = {"a": torch.Size([3]), "tied": torch.Size([3])}, {"a"}
        server = PolicyServer(EchoEngine(), model="echo", shapes=shapes, **self._arguments)  # type: ignore[arg-type]
        uvicorn.run(server.app, port=self.port, log_level="warning")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.join()


@pytest.fixture
def host(renderer) -> Iterator[Host]:
    host = Host(renderer)
    host.start()
    yield host
    host.kill()


def client(host: Host, renderer: ChatRenderer, **options: Any) -> VllmClient:
    return VllmClient(renderer, VllmOptions(server=host.url, **{"patience_s": 20.0, **options}))


@pytest.fixture
def prompts(renderer, root) -> list[Prompt]:
    parts: list[list[dict]] = [
        [],
        [{"type": "image", "image": "a.png"}],
        [{"type": "image", "image": "b.png"}, {"type": "image", "image": "a.png"}],
        [{"type": "video", "video": "clip.gif"}],
    ]
    return [
        renderer.prompt(
            [{"role": "user", "content": [*media, {"type": "text", "text": f"what is this, {index}?"}]}],
            root=root,
            thinking=bool(index % 2),
            id=f"problem-{index}",
        )
        for index, media in enumerate(parts)
    ]


def renamed(prompt: Prompt, id: str) -> Prompt:
    return Prompt(prompt.encoded, prompt.prefill, prompt.thinking, id)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters(value: float) -> list[tuple[str, torch.Tensor]]:
    return [("a", torch.nn.Parameter(torch.full((3,), value)))]


def assert_same(found: list[list[Completion]], expected: list[list[Completion]]) -> None:
    for one, other in zip(chain(*found), chain(*expected), strict=True):
        for name in ("token_ids", "logprobs", "forced"):
            left, right = getattr(one, name), getattr(other, name)
            assert (left.dtype, left.tolist()) == (right.dtype, right.tolist()), name
        assert (one.finish_reason, one.text, one.weight_version) == (other.finish_reason, other.text, other.weight_version)


def served_weight(engine: VllmClient, prompt: Prompt) -> float:
    return float(engine.generate([prompt], 1, ONE, generator=seeded())[0][0].logprobs[1])


def test_all_of_a_prompt_reaches_the_engine_and_all_of_a_completion_comes_back(host, renderer, prompts):
    budgets = [ThinkingBudget(index + 1, None if index else 9) for index in range(len(prompts))]
    found = client(host, renderer).generate(prompts, 3, ONE, budgets, generator=seeded(4))
    direct, expected = EchoEngine(), [[]] * len(prompts)
    for index, group in direct.stream_seeded(prompts, 3, ONE, budgets, group_seeds(len(prompts), 3, seeded(4))):
        expected[index] = group
    assert_same(found, expected)
    assert len({completion.text for group in found for completion in group}) == len(prompts)


def test_groups_come_as_they_finish(host, renderer, prompts):
    """The last of them never does."""
    stream = client(host, renderer).stream([renamed(prompts[0], "endless"), *prompts[1:]], 1, ONE, generator=seeded())
    assert [next(stream)[0] for _ in prompts[1:]] == [3, 2, 1]
    stream.close()


def test_a_prompt_the_engine_refuses_is_named_and_the_server_goes_on(host, renderer, prompts):
    engine = client(host, renderer)
    with pytest.raises(ValueError, match=r"^long: too many tokens"):
        engine.generate([prompts[0], renamed(prompts[1], "long")], 1, ONE, generator=seeded())
    assert len(engine.generate(prompts, 1, ONE, generator=seeded())) == len(prompts)


def test_no_completions_and_budgets_for_other_prompts_are_refused(host, renderer, prompts):
    engine = client(host, renderer)
    with pytest.raises(ValueError, match="n is 0"):
        engine.generate(prompts, 0, ONE, generator=seeded())
    with pytest.raises(ValueError, match="1 budgets for 4 prompts"):
        engine.generate(prompts, 1, ONE, [ThinkingBudget()], generator=seeded())
    assert engine.generate([], 1, ONE, generator=seeded()) == []


def test_weights_are_served_with_their_version(host, renderer, prompts):
    engine = client(host, renderer)
    assert (served_weight(engine, prompts[0]), engine.weight_version) == (0.0, 0)
    engine.update_weights(parameters(2.0), 7)
    (group,) = engine.generate(prompts[:1], 1, ONE, generator=seeded())
    assert (group[0].logprobs[1], group[0].weight_version) == (6.0, 7)


def test_weights_go_through_a_file_where_a_folder_is_shared(renderer, prompts, tmp_path):
    host = Host(renderer, share=tmp_path)
    host.start()
    engine = client(host, renderer, share=tmp_path)
    engine.update_weights(parameters(2.0), 7)
    (file,) = tmp_path.iterdir()
    assert (served_weight(engine, prompts[0]), file.suffix) == (6.0, ".safetensors")
    engine.update_weights(parameters(3.0), 8)
    assert served_weight(engine, prompts[0]) == 9.0
    assert len(list(tmp_path.iterdir())) == 1 and not file.exists()
    host.kill()
    host.start()
    assert served_weight(engine, prompts[0]) == 9.0
    engine.close()
    assert list(tmp_path.iterdir()) == []
    host.kill()


@pytest.mark.parametrize("path", ["../secret.safetensors", "/etc/passwd", "missing.safetensors", 3])
def test_no_file_outside_the_shared_folder_is_read(renderer, tmp_path, path):
    (tmp_path / "share").mkdir()
    (tmp_path / "secret.safetensors").write_bytes(b"".join(tensor_stream([("a", torch.ones(3))])[1]))
    host = Host(renderer, share=tmp_path / "share")
    host.start()
    engine = client(host, renderer)
    answer = httpx.post(f"{host.url}/update_weights?version=1&stamp=s", json={"path": path})
    assert answer.status_code == 400 and ("shared folder" in answer.json()["error"])
    assert engine._health().weight_version == 0
    host.kill()


def test_a_server_without_a_shared_folder_says_so(host, renderer, tmp_path):
    engine = client(host, renderer, share=tmp_path)
    with pytest.raises(ValueError, match="start it with --share"):
        engine.update_weights(parameters(2.0), 7)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([("a", torch.ones(4))], r"a: shape \[4\], but the model served has shape \[3\]"),
        ([("a", torch.ones(3)), ("b", torch.ones(1))], "b: .* has no such parameter"),
        ([("tied", torch.ones(3))], "1 of 1 parameters are missing, the first a"),
    ],
)
def test_weights_of_another_model_are_refused_and_the_old_ones_stay(host, renderer, tensors, message):
    engine = client(host, renderer)
    engine.update_weights(parameters(2.0), 7)
    with pytest.raises(ValueError, match=message):
        engine.update_weights(tensors, 8)
    health = engine._health()
    assert (health.weight_version, health.stamp) == (7, engine._confirmed)


def test_an_update_that_breaks_off_changes_nothing(host, renderer, prompts):
    engine = client(host, renderer)
    engine.update_weights(parameters(2.0), 7)
    length, pieces = tensor_stream(parameters(3.0))
    lines = ["POST /update_weights?version=8&stamp=x HTTP/1.1", f"Host: {host.url}", f"Content-Type: {BINARY}"]
    head = "\r\n".join([*lines, f"Content-Length: {length}", "\r\n"])
    with socket.create_connection(("127.0.0.1", host.port)) as sender:
        sender.sendall(head.encode() + b"".join(pieces)[:-1])
        time.sleep(0.2)
    assert (served_weight(engine, prompts[0]), engine._health().weight_version) == (6.0, 7)


def test_a_killed_server_that_is_started_again_gets_the_weights_and_only_what_is_unfinished(host, renderer, prompts):
    engine = client(host, renderer)
    engine.update_weights(parameters(2.0), 7)
    slow = SamplingParams(max_new_tokens=200)
    whole = engine.generate(prompts, 2, slow, generator=seeded(5))
    found: list[list[Completion]] = [[]] * len(prompts)
    order = []
    for index, group in engine.stream(prompts, 2, slow, generator=seeded(5)):
        order.append(index)
        found[index] = group
        if len(order) == 2:
            host.kill()
            host.start(after_s=1.0)
    assert order == [3, 2, 1, 0]  # each once
    assert_same(found, whole)
    assert engine.restarts == 1


def test_weights_are_sent_again_to_a_server_that_restarts_between_calls(host, renderer, prompts):
    engine = client(host, renderer)
    engine.update_weights(parameters(2.0), 7)
    host.kill()
    host.start()
    assert served_weight(engine, prompts[0]) == 6.0
    host.kill()
    host.start(after_s=0.5)
    engine.update_weights(parameters(3.0), 8)
    assert (served_weight(engine, prompts[0]), engine.restarts) == (9.0, 2)


def test_weights_that_were_trained_on_since_are_not_sent_again_under_the_old_version(host, renderer, prompts):
    engine = client(host, renderer)
    weights = parameters(2.0)
    engine.update_weights(weights, 7)
    with torch.no_grad():
        weights[0][1].add_(1.0)
    assert served_weight(engine, prompts[0]) == 6.0
    host.kill()
    host.start()
    with pytest.raises(EngineDied, match="lost weights of version 7, and a has been trained since"):
        engine.generate(prompts, 1, ONE, generator=seeded())


def test_a_prompt_that_kills_every_server_ends_the_call(host, renderer, prompts):
    engine = client(host, renderer, max_restarts=1)
    done = threading.Event()

    def supervise() -> None:
        while not done.is_set():
            assert host.process is not None
            host.process.join(0.1)
            if not host.process.is_alive():
                host.start()

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        with pytest.raises(EngineDied, match=r"was lost 2 times while generating \d of 4 prompts, the first of them poison"):
            engine.generate([renamed(prompts[0], "poison"), *prompts[1:]], 1, ONE, generator=seeded())
    finally:
        done.set()
        supervisor.join()


def test_a_server_that_stays_away_is_given_up_after_the_patience(host, renderer, prompts):
    client(host, renderer)  # waits until the server has come up
    engine = client(host, renderer, patience_s=0.5)
    host.kill()
    with pytest.raises(EngineDied, match=r"http://127.0.0.1:\d+ could not be reached for 0.5 s .* start `rlcs serve`"):
        engine.generate(prompts, 1, ONE, generator=seeded())
    with pytest.raises(EngineDied, match="could not be reached"):
        client(host, renderer, patience_s=0.0)


def test_generation_stops_when_its_caller_goes_away(host, renderer, prompts):
    engine = client(host, renderer)
    stream = engine.stream(prompts, 1, SamplingParams(max_new_tokens=1000), generator=seeded())
    next(stream)
    stream.close()
    for_ever = Call(prompts, 1, SamplingParams(max_new_tokens=60_000), [ThinkingBudget()] * 4, [0] * 4, engine._stamp)
    length, pieces = for_ever.pieces()
    headers = {"Content-Type": BINARY, "Content-Length": str(length)}
    with (
        pytest.raises(httpx.ReadTimeout),
        httpx.stream("POST", f"{host.url}/generate", content=pieces, headers=headers, timeout=1.0) as answer,
    ):
        next(answer.iter_lines())
    begin = time.monotonic()
    engine.generate(prompts, 1, ONE, generator=seeded())
    assert time.monotonic() - begin < 10


def test_another_runs_weights_are_not_taken_for_this_runs(host, renderer, prompts):
    one = client(host, renderer)
    one.update_weights(parameters(1.0), 1)
    intruder = client(host, renderer)
    intruder.update_weights(parameters(2.0), 1)
    for act in (
        lambda: one.generate(prompts, 1, ONE, generator=seeded()),
        lambda: one.update_weights(parameters(3.0), 2),
    ):
        with pytest.raises(ValueError, match="another run has given the server"):
            act()
    assert served_weight(intruder, prompts[0]) == 6.0


def test_a_wrong_key_is_refused_and_the_right_one_served(renderer, prompts, monkeypatch):
    host = Host(renderer, key="secret")
    host.start()
    for wrong in ("", "Secret"):
        monkeypatch.setenv(KEY_VARIABLE, wrong)
        with pytest.raises(PermissionError, match=f"wrong or missing key; set {KEY_VARIABLE}"):
            client(host, renderer)
    for path in ("/generate", "/update_weights?version=1&stamp=x", "/sleep", "/wake"):
        assert httpx.post(f"{host.url}{path}", json={}).status_code == 401
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    assert served_weight(client(host, renderer), prompts[0]) == 0.0
    host.kill()


def test_what_a_browser_sends_without_asking_is_refused(host, renderer):
    client(host, renderer)  # it is up
    answer = httpx.post(f"{host.url}/update_weights?version=1&stamp=x", content=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415


@pytest.mark.parametrize("body", [b"", b"junk" * 9, b"".join(tensor_stream([("ids.0", torch.ones(1))], {"call": "{}"})[1])])
def test_a_body_that_is_no_call_is_refused(host, renderer, body):
    client(host, renderer)
    answer = httpx.post(f"{host.url}/generate", content=body, headers={"Content-Type": BINARY})
    assert answer.status_code == 400 and answer.json()["error"]


def test_a_server_of_another_vocabulary_is_refused(host, text_renderer):
    with pytest.raises(ValueError, match="serves echo, whose vocabulary is not this run's"):
        client(host, text_renderer)


def test_an_address_that_is_no_server_of_ours_is_told(renderer):
    import http.server

    plain = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    address = SimpleNamespace(url=f"http://127.0.0.1:{plain.server_address[1]}")
    with pytest.raises(ValueError, match=r"status 404 without a reason; is it `rlcs serve`\?"):
        client(address, renderer)  # type: ignore[arg-type]
    plain.shutdown()
    plain.server_close()


def test_sleep_and_wake_reach_the_engine(host, renderer, prompts):
    engine = client(host, renderer)
    engine.update_weights(parameters(2.0), 7)
    engine.sleep()
    engine.wake()
    assert served_weight(engine, prompts[0]) == 106.0


def test_a_server_left_asleep_wakes_for_the_next_run(host, renderer, prompts):
    client(host, renderer).sleep()
    engine = client(host, renderer)
    engine.update_weights(parameters(2.0), 7)
    assert served_weight(engine, prompts[0]) == 6.0
    client(host, renderer).sleep()
    assert served_weight(engine, prompts[0]) == 106.0


def test_an_address_that_others_reach_is_not_served_without_a_key(tmp_path):
    def start(**changed: Any) -> None:
        given = {"dtype": "float32", "host": "127.0.0.1", "port": 0, "share": None, "key": None, "ready": print}
        serve(tmp_path, VllmOptions(), **{**given, **changed})

    with pytest.raises(ValueError, match=rf"0.0.0.0 can be reached from other machines.*set {KEY_VARIABLE}"):
        start(host="0.0.0.0")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        start(share=tmp_path / "missing")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        start(port=taken.getsockname()[1])


def test_the_shapes_of_a_checkpoint_are_those_of_its_model(nano, processor, tmp_path):
    nano.save_pretrained(tmp_path)
    shapes = Shapes(tmp_path)
    shapes.check(dict(nano.named_parameters()))
    shapes.check(nano.state_dict())
    name, tensor = next(iter(nano.named_parameters()))
    with pytest.raises(ValueError, match=r"1 of .* parameters are missing"):
        shapes.check({key: value for key, value in nano.named_parameters() if key != name})
    with pytest.raises(ValueError, match=name):
        shapes.check(dict(nano.named_parameters()) | {name: tensor[..., :-1]})
