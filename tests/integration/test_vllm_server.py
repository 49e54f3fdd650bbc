"""`rlcs serve` on vLLM's CPU build: a real server process, and the client's engine against the trainer's own model."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from test_vllm_engine import assert_same_tokens, assert_trainers_logprobs, flat, seeded
from typer.testing import CliRunner

from rlcs.cli import app
from rlcs.engines import build_engine
from rlcs.eval_config import EvalConfig
from rlcs.nano.build import build_model, build_processor
from rollout.chat import ChatRenderer
from rollout.encoded import Prompt
from rollout.engine import SamplingParams, ThinkingBudget
from rollout.forward import load_policy
from rollout.options import VllmOptions
from rollout.transformers_engine import TransformersEngine
from rollout.vllm_client import VllmClient
from rollout.vllm_protocol import KEY_VARIABLE

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=24)
KEY = "open sesame"


class Server:
    """`rlcs serve` of one checkpoint at one address."""

    def __init__(self, checkpoint: Path, share: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        options = ["vllm.eager=true", "vllm.max_length=512", "vllm.max_sequences=64"]
        self._command = [sys.executable, "-m", "rlcs.cli", "serve", str(checkpoint), *options]
        self._command += ["--port", str(self.port), "--share", str(share)]

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, env={**os.environ, KEY_VARIABLE: KEY})

    def engine_processes(self) -> list[int]:
        """Processes that the server has started, and those have."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return found[1:]

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """Random weights with a sharpened head, so that greedy choices have clear margins; in the coin policy's shape."""
    model = build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return ChatRenderer(build_processor())


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("share")


@pytest.fixture(scope="module")
def server(model, renderer, share, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    checkpoint = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(checkpoint)
    renderer.processor.save_pretrained(checkpoint)
    server = Server(checkpoint, share)
    server.start()
    yield server
    server.process.terminate()
    assert server.process.wait(30) == 0


@pytest.fixture(scope="module", autouse=True)
def key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, KEY)
        yield


@pytest.fixture(scope="module")
def engine(server, renderer) -> Iterator[VllmClient]:
    engine = VllmClient(renderer, VllmOptions(server=server.url))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts(renderer, tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    """Text, two images, a video."""
    root, rng = tmp_path_factory.mktemp("media"), np.random.default_rng(0)

    def picture(height: int, width: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

    picture(56, 84).save(root / "a.png")
    picture(84, 28).save(root / "b.png")
    first, *rest = (picture(56, 56) for _ in range(4))
    first.save(root / "clip.gif", save_all=True, append_images=rest, duration=500)
    parts: list[list[dict]] = [
        [],
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


def moved(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.1 * parameter.std() * torch.randn(parameter.shape, generator=seeded(seed)))
    return changed


def assert_serves(engine: VllmClient, model: torch.nn.Module, renderer: ChatRenderer, prompts: list[Prompt]) -> None:
    """Greedy tokens are those of the transformers engine, log-probabilities those of the trainer's forward pass."""
    found = engine.generate(prompts, 1, GREEDY, generator=seeded())
    assert_same_tokens(found, TransformersEngine(model, renderer).generate(prompts, 1, GREEDY, generator=seeded()))
    assert_trainers_logprobs(model, renderer, prompts, found)
    assert {one.weight_version for one in flat(found)} == {engine.weight_version}


def test_the_policy_is_served_and_so_are_weights_sent_over_http_and_in_a_file(engine, server, model, renderer, prompts, share):
    assert_serves(engine, model, renderer, prompts)
    processes = server.engine_processes()
    changed = moved(model, 1)
    engine.update_weights(changed.named_parameters(), 7)
    assert_serves(engine, changed, renderer, prompts)
    sharing = VllmClient(renderer, VllmOptions(server=server.url, share=share))
    changed = moved(model, 2)
    sharing.update_weights(changed.named_parameters(), 8)
    assert_serves(sharing, changed, renderer, prompts)
    sharing.close()
    assert (server.engine_processes(), list(share.iterdir())) == (processes, [])


def test_a_wrong_key_is_refused(engine, server, renderer, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "open barley")
    with pytest.raises(PermissionError, match="wrong or missing key"):
        VllmClient(renderer, VllmOptions(server=server.url))
    assert httpx.post(f"{server.url}/update_weights?version=1&stamp=x", json={"path": "x"}).status_code == 401


def test_a_prompt_too_long_for_the_engine_is_named(server, renderer, prompts):
    long = renderer.prompt([{"role": "user", "content": "x" * 600}], root=Path(), thinking=True, id="the-long-one")
    engine = VllmClient(renderer, VllmOptions(server=server.url))
    with pytest.raises(ValueError, match=r"the-long-one: 6\d\d tokens and up to 24 of response.* 512 in all"):
        engine.generate([*prompts, long], 1, GREEDY, generator=seeded())


def test_a_run_trains_on_a_servers_rollouts(server, coin_policy: Path, coin_problems: Path, tmp_path: Path) -> None:
    fixed = {"model": str(coin_policy), "problems": str(coin_problems), "out": str(tmp_path / "run"), "steps": 2}
    values = fixed | {"groups_per_step": 6, "group_size": 4, "lr": 0.003, "sampler": "rlcs", "loggers": []}
    (tmp_path / "config.yaml").write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items()))
    budgets = ["think_tokens=16", "answer_tokens=24"]
    found = CliRunner().invoke(app, ["rl", f"{tmp_path}/config.yaml", "rollout=vllm", f"vllm.server={server.url}", *budgets])
    assert found.exit_code == 0, found.output
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["groups_trained"]]
    assert len(rows) == 2 and trained
    # Were the weights of an earlier step served, so high a learning rate would show.
    assert max(row["policy/logprob_gap_max"] for row in trained) < 1e-2
    assert KEY not in (tmp_path / "run" / "config.yaml").read_text()


def test_an_engine_without_a_policy_of_its_own_gives_the_server_its_checkpoint(server, coin_policy, renderer, prompts):
    options = {"problems": "-", "out": "-", "rollout": "vllm", "vllm": VllmOptions(server=server.url)}
    engine = build_engine(EvalConfig(model=str(coin_policy), **options), coin_policy, renderer)
    groups = engine.generate(prompts, 2, SamplingParams(max_new_tokens=24), generator=seeded())
    assert_trainers_logprobs(load_policy(str(coin_policy))[0], renderer, prompts, groups)


def test_after_a_kill_the_next_server_gets_the_last_weights_and_nothing_is_lost(server, model, renderer, prompts):
    sampling, many = SamplingParams(max_new_tokens=200), prompts * 2
    budgets = [ThinkingBudget(120, 40) if index else ThinkingBudget(0, 1) for index in range(len(many))]
    changed = moved(model, 3)
    engine = VllmClient(renderer, VllmOptions(server=server.url))
    engine.update_weights(changed.named_parameters(), 11)
    whole = engine.generate(many, 2, sampling, budgets, generator=seeded(5))
    orphans = server.engine_processes()
    again, order = [[] for _ in many], []
    for index, group in engine.stream(many, 2, sampling, budgets, generator=seeded(5)):
        again[index] = group
        order.append(index)
        if len(order) == 1:
            server.kill()
            server.start()
    assert (engine.restarts, order[0], sorted(order)) == (1, 0, list(range(len(many))))  # each once
    assert orphans and not any(Path(f"/proc/{pid}").exists() for pid in orphans)
    matching = [one.token_ids.tolist() == two.token_ids.tolist() for one, two in zip(flat(whole), flat(again), strict=True)]
    assert np.mean(matching) > 0.9  # same seeds, same weights; sums of another batch may round a draw over an edge
    assert_serves(engine, changed, renderer, prompts)
